//! The revisioned key space of etcd: an [`Engine`] that makes writes durable, and the state in memory that it feeds.
//!
//! A write is a [`Txn`]. The [`Embedded`] engine compares it with the newest state, gives it the next revision, appends it
//! to the [`log`](mod@log), and acknowledges it when it is on disk; concurrent writes share one flush. It then appears in
//! its [`Topic`], where snapshots are taken in O(1) and watchers read events that exist once for all of them.
//!
//! ```
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use trireme_store::{Store, Template, Txn};
//! let dir = tempfile::tempdir()?;
//! let store = Store::open(dir.path())?;
//! let done = store.commit(Txn::create("pods/default/web", Template::plain("{}"))).await?;
//! let mut events = store.topic("pods").watch("pods/", 0)?;
//! assert_eq!(events.next().await?.revision, done.revision);
//! # Ok(()) }
//! ```
//!
//! Keys are `TOPIC/...`; a topic is what is listed and watched as one (a resource). Nothing here knows what a value is.

mod cache;
mod embedded;
mod engine;
mod error;
mod expiry;
pub mod log;
mod record;
mod replay;
mod seal;
mod store;
mod topic;
mod txn;
mod writer;

pub use embedded::Embedded;
pub use engine::{Batch, Engine, Page, Range};
pub use error::{CommitError, Damage, OpenError, ReadError, TooOld};
pub use record::{Record, Template};
pub use seal::Seal;
pub use store::Store;
pub use topic::{Change, Event, Snapshot, Topic, Watch};
pub use txn::{Committed, Compare, Op, Txn};

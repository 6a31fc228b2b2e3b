//! The revisioned key space of etcd, on local disk.
//!
//! A write is a [`Txn`]: it is compared with the newest state, gets the next revision, is appended to the [`log`](mod@log),
//! and is acknowledged when it is on disk; concurrent writes share one flush. It then appears in its [`Topic`], where
//! snapshots are taken in O(1) and watchers read events that exist once for all of them.
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

mod engine;
mod error;
mod expiry;
pub mod log;
mod record;
mod store;
mod topic;
mod txn;

pub use engine::Engine;
pub use error::{CommitError, OpenError, TooOld};
pub use record::{Record, Template};
pub use store::Store;
pub use topic::{Change, Event, Snapshot, Topic, Watch};
pub use txn::{Committed, Compare, Op, Txn};

//! How every component talks to the API: in process or over HTTPS.
//!
//! The path of a call, in the order in which data meets the types:
//!
//! - [`Kind`] and [`Resource`] name what is talked about; every `k8s-openapi` type is a [`Kind`], and a component can
//!   declare a smaller view of its own.
//! - [`Client`] and [`Api`] make typed calls; [`Patch`], [`ListOptions`] and [`DeleteOptions`] say how.
//! - [`Transport`] carries them: the API server implements it in process, [`Https`] over the network.
//! - [`Informer`] keeps the keys and the encoded bytes of a selection of objects up to date; objects are decoded only
//!   when somebody looks at one. In process the bytes are those of the server's own cache.
//! - [`Queue`] hands changed keys to workers, each key to one worker at a time, failures with back-off.
//! - [`Recorder`] writes events, [`Elector`] elects a leader.
//!
//! ```no_run
//! use k8s_openapi::api::core::v1::Pod;
//! use trireme_client::{Client, ListOptions};
//!
//! async fn names(client: &Client) -> Result<Vec<String>, trireme_client::Error> {
//!     let pods = client.namespaced::<Pod>("default").list(&ListOptions::default()).await?;
//!     Ok(pods.items.into_iter().filter_map(|pod| pod.metadata.name).collect())
//! }
//! ```

mod backoff;
mod client;
mod context;
mod elector;
mod entry;
mod error;
mod events;
pub mod frames;
mod https;
mod informer;
mod kind;
mod kubeconfig;
pub mod pool;
mod queue;
mod tls;
mod transport;

pub use backoff::Backoff;
pub use client::{Api, Client, DeleteOptions, List, ListMeta, ListOptions, Patch, Preconditions, Propagation, escape};
pub use context::{BadContext, Context};
pub use elector::{Elector, ElectorConfig, Work};
pub use entry::{Entry, Key, Meta, Owner};
pub use error::Error;
pub use events::{EventKind, ObjectRef, Recorder};
pub use https::{Https, HttpsConfig};
pub use informer::{Change, Informer, InformerBuilder, Informers};
pub use kind::{Kind, Resource};
pub use kubeconfig::{Credentials, Kubeconfig};
pub use queue::{Queue, Ticket};
pub use tls::{Trust, tls_trusting};
pub use transport::{Request, Response, Selection, Transport, WatchEvent, WatchStream};

//! The Kubernetes API server: one pipeline for every kind.
//!
//! A request meets, in this order: [`listener`] (TLS, HTTP), `authn` (who), [`request`] (what), `authz` (may he),
//! `resources` (bodies, patches, `defaults`, shapes), `managed` (who owns which field), `admission`, `validation`,
//! `registry` (compare-and-swap in the store). What another server has goes to it by [`aggregation`] instead. Reads are snapshots of the store's topics and end as the stored bytes.
//! Components in the same process come in through [`inprocess`], the same way without the network.

mod admission;
pub mod aggregation;
pub mod allocate;
mod answer;
pub mod audit;
mod authn;
mod authz;
mod binary;
mod body;
mod bootstrap;
mod catalogue;
mod compress;
mod connect;
mod convert;
mod custom;
mod defaults;
mod discovery;
mod documents;
mod flow;
mod health;
mod human;
pub mod inprocess;
pub mod kubelet;
mod list;
pub mod listener;
mod managed;
mod measure;
mod media;
mod metrics;
mod notes;
mod openapi;
mod options;
pub mod outbound;
mod patch;
mod patching;
mod process;
mod registry;
mod reloads;
mod remembered;
pub mod request;
mod resources;
mod retries;
mod reviews;
mod scaling;
mod selection;
mod server;
mod shapes;
mod strategy;
mod subresources;
mod table;
mod user;
mod warnings;
mod watching;

pub use admission::Options as AdmissionOptions;
pub use aggregation::Options as AggregationOptions;
pub use authn::{Credentials, Options as AuthenticationOptions, RequestHeaders, read_tokens};
pub use authz::{Chain as Authorizers, WebhookFlags as AuthorizationWebhook};
pub use inprocess::InProcess;
pub use kubelet::Kubelets;
pub use server::{ApiServer, Config, Incoming, StartError};
pub use user::User;

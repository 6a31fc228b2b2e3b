//! The core group.

pub(crate) mod claim;
mod config;
mod endpoints;
mod event;
mod limits;
mod namespace;
mod node;
pub(crate) mod persistent_volume;
pub(crate) mod pod;
pub(crate) mod replication_controller;
pub(crate) mod service;
mod service_change;
pub(crate) mod volume;

use crate::rules::Registry;

pub(crate) fn register(registry: &mut Registry) {
    claim::register(registry);
    config::register(registry);
    endpoints::register(registry);
    event::register(registry);
    limits::register(registry);
    namespace::register(registry);
    node::register(registry);
    persistent_volume::register(registry);
    pod::register(registry);
    replication_controller::register(registry);
    service::register(registry);
    volume::register(registry);
}

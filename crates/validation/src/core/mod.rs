//! The core group.

mod claim;
mod config;
pub(crate) mod pod;
pub(crate) mod volume;

use crate::rules::Registry;

pub(crate) fn register(registry: &mut Registry) {
    claim::register(registry);
    config::register(registry);
    pod::register(registry);
    volume::register(registry);
}

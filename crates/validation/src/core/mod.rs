//! The core group.

mod config;

use crate::rules::Registry;

pub(crate) fn register(registry: &mut Registry) {
    config::register(registry);
}

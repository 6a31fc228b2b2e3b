//! The group `resource.k8s.io`: devices, and who wants them (KEP-4381).

mod claim;
mod claim_status;
mod configuration;
mod names;
mod selector;
mod slice;

use crate::rules::Registry;

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    claim::register(registry);
    claim_status::register(registry);
    slice::register(registry);
    configuration::register(registry);
}

//! The group `storage.k8s.io`.

mod attachment;
mod class;
mod csi;

use crate::rules::Registry;

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    class::register(registry);
    csi::register(registry);
    attachment::register(registry);
}

//! The group `flowcontrol.apiserver.k8s.io`.

mod level;
mod schema;

use crate::rules::Registry;

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    schema::register(registry);
    level::register(registry);
}

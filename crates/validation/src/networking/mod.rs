//! The group `networking.k8s.io`.

mod address;
mod ingress;
mod ingress_class;
mod policy;

use crate::rules::Registry;

pub(crate) const RULES: &str = include_str!("rules.txt");

pub(crate) fn register(registry: &mut Registry) {
    policy::register(registry);
    ingress::register(registry);
    ingress_class::register(registry);
    address::register(registry);
}

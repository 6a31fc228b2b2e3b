//! What objects of the built-in kinds may hold.
//!
//! A [`Subject`] (a new object, or a changed one beside what it was) goes through the rules of all objects
//! ([`metadata`]), the table `rules.txt`, walked by type ([`engine`]), and the functions of its kind and of the types in
//! it, for what a table cannot say. Functions stand in a module per API group, in a file per kind. The result is what
//! upstream's server answers: field paths, reasons and messages are those of Kubernetes 1.36.

mod conditions;
mod diff;
mod engine;
mod errors;
pub mod formats;
mod internal;
mod metadata;
mod place;
mod rules;
mod selectors;
mod subject;

mod admissionregistration;
mod apiregistration;
mod apps;
mod authorization;
mod autoscaling;
mod batch;
mod certificates;
mod coordination;
mod core;
mod discovery;
mod flowcontrol;
mod networking;
mod node;
mod policy;
mod rbac;
mod resource;
mod scheduling;
mod storage;

pub use errors::Errors;
pub use place::Place;
pub use subject::{Subject, review, validate, warnings};

use rules::Registry;

/// A function for what the table cannot say; sees the place that it is registered for.
pub(crate) type Check = fn(&Place<'_>, &mut Errors);

/// A function that tells what still works but should no longer be used.
pub(crate) type Warn = fn(&Subject<'_>, &mut Vec<String>);

/// The tables of rules: that of what all groups use and of the oldest of them, then a group's own.
const TABLES: [&str; 15] = [
    include_str!("rules.txt"),
    admissionregistration::RULES,
    apiregistration::RULES,
    certificates::RULES,
    coordination::RULES,
    discovery::RULES,
    networking::RULES,
    node::RULES,
    policy::RULES,
    rbac::RULES,
    resource::RULES,
    storage::RULES,
    scheduling::RULES,
    flowcontrol::RULES,
    autoscaling::RULES,
];

/// Registers the functions of all groups.
fn register(registry: &mut Registry) {
    selectors::register(registry);
    core::register(registry);
    apps::register(registry);
    batch::register(registry);
    authorization::register(registry);
    admissionregistration::register(registry);
    apiregistration::register(registry);
    autoscaling::register(registry);
    certificates::register(registry);
    discovery::register(registry);
    flowcontrol::register(registry);
    networking::register(registry);
    node::register(registry);
    policy::register(registry);
    rbac::register(registry);
    resource::register(registry);
    scheduling::register(registry);
    storage::register(registry);
}

//! What objects of the built-in kinds may hold.
//!
//! A [`Subject`] (a new object, or a changed one beside what it was) goes through the rules of all objects
//! ([`metadata`]), the table `rules.txt`, walked by type ([`engine`]), and the functions of its kind and of the types in
//! it, for what a table cannot say. Functions stand in a module per API group, in a file per kind. The result is what
//! upstream's server answers: field paths, reasons and messages are those of Kubernetes 1.36.

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

mod apps;
mod authorization;
mod batch;
mod core;

pub use errors::Errors;
pub use place::Place;
pub use subject::{Subject, review, validate, warnings};

use rules::Registry;

/// A function for what the table cannot say; sees the place that it is registered for.
pub(crate) type Check = fn(&Place<'_>, &mut Errors);

/// A function that tells what still works but should no longer be used.
pub(crate) type Warn = fn(&Subject<'_>, &mut Vec<String>);

/// Registers the functions of all groups.
fn register(registry: &mut Registry) {
    selectors::register(registry);
    core::register(registry);
    apps::register(registry);
    batch::register(registry);
    authorization::register(registry);
}

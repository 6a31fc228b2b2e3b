//! Server-side apply (KEP-555): who owns which field of an object, and how a configuration is merged into it.
//!
//! Data meets, in this order: an [`Element`] names one step into an object and a [`Set`] holds paths of them; a [`Type`]
//! says how values merge; [`fields_of`], [`compare`], [`combine`] and [`without`] walk values by it; [`Managers`] is
//! `metadata.managedFields`; [`update`] and [`apply`] change it as a write or an applied configuration does.
//!
//! Nothing here knows of requests. Built-in kinds are described by [`Builtin`], custom ones by any other [`Type`].

mod applied;
mod builtin;
mod combine;
mod compare;
mod element;
mod fields;
mod managers;
mod remove;
mod set;
mod types;
mod validate;

pub use applied::{Conflict, Failure, Versions, apply, update};
pub use builtin::Builtin;
pub use combine::combine;
pub use compare::{Difference, compare};
pub use element::Element;
pub use fields::{fields_of, reconciled, with_named};
pub use managers::{BadEntry, Entry, Manager, Managers, Operation};
pub use remove::without;
pub use set::Set;
pub use types::{List, Place, Scalar, Shape, Type};
pub use validate::{Invalid, Repeated, validate};

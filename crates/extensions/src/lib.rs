//! Custom resources as data.
//!
//! A definition meets, in this order: [`definition`] (may it say this?), [`names`] (are its names free?), [`compile`] (its
//! schemas become [`Node`]s). An object of its kind meets [`prune`] (what is not known goes), [`default`] (what is missing
//! comes) and [`validate`] (what is there must fit).

pub mod compile;
pub mod default;
pub mod definition;
pub mod formats;
pub mod jsonpath;
pub mod names;
mod node;
mod paths;
pub mod pattern;
pub mod prune;
pub mod published;
pub mod rules;
pub mod validate;
pub mod version;

pub use compile::Compiler;
pub use jsonpath::JsonPath;
pub use node::{Additional, Checks, Kind, List, Node, Rule};

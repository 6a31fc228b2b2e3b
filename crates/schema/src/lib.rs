//! The Kubernetes API as data.
//!
//! A document meets, in this order: [`json`] or [`yaml`] (text to [`Value`]), [`decode`] (a tree to an object of a known
//! type), [`encode`] (back to the bytes that are stored and sent) or [`proto`]. What types there are, [`builtin`] says.

mod builtin;
pub mod decode;
pub mod empties;
pub mod encode;
pub mod field;
mod go_types;
pub mod json;
mod model;
pub mod names;
pub mod proto;
pub mod quantity;
pub mod selector;
mod source;
mod status;
pub mod time;
mod value;
pub mod yaml;

pub use builtin::builtin;
pub use decode::{BadField, Decoded};
pub use model::{
    About, Column, Enumeration, Field, GroupVersion, ListKind, PatchStrategy, Resource, Schema, Struct, StructId,
    Subresource, Type,
};
pub use quantity::Quantity;
pub use selector::{FieldSelector, LabelSelector};
pub use source::{BadSource, read};
pub use status::{Cause, Details, Status};
pub use value::{Key, Map, Value};

#[doc(hidden)]
pub use serde_json::json as serde_json_macro;

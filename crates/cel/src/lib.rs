//! The Common Expression Language as Kubernetes 1.36 uses it, with the texts and the costs of cel-go 0.26.
//!
//! An [`Env`] says what expressions can speak about and compiles them to a [`Program`]; this tells the type of the
//! result and what it can cost, and gives a [`Value`] for an [`Activation`] within a [`Budget`].
//!
//! ```
//! use trireme_cel::{Budget, Env, Type, Value};
//!
//! let env = Env::kubernetes().with_variable("self", Type::String);
//! let program = env.compile("self.startsWith('a')")?;
//! let variables = [("self", Value::str("abc"))];
//! let result = program.evaluate(&variables, &mut Budget::new(1_000))?;
//! assert_eq!(result.as_bool(), Some(true));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! For rules over objects, a [`Schema`] says what there is: [`DeclType::from_schema`] makes a type of it that declares
//! the fields ([`DeclType::provider`]) and bounds the sizes ([`Program::cost_estimate`]), and [`Value::from_json`] reads an
//! object through it without copying.

mod check;
pub mod cost;
mod decl;
mod decl_type;
mod env;
mod error;
pub mod library;
pub mod names;
mod program;
mod run;
mod syntax;
mod types;
mod value;

pub use cost::{NoHints, Range, SizeHints};
pub use decl::{Functions, Implementation, Overload};
pub use decl_type::{DeclField, DeclType};
pub use env::{Env, TypeProvider};
pub use error::EvalError;
pub use program::{CompileError, Program};
pub use run::{Activation, Budget};
pub use syntax::source::{Issue, Issues, Location};
pub use types::Type;
pub use value::{Key, List, ListType, Map, Opaque, Schema, SchemaType, Struct, Text, Timestamp, Value, to_json};

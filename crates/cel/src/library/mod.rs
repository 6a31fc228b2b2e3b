//! The functions that expressions can call.

mod arithmetic;
mod collections;
mod compare;
mod convert;
mod optional;
mod text;
mod times;
mod two_variables;

pub(crate) use convert::format_double;
pub(crate) use optional::declare as optional;
pub(crate) use text::{compile_pattern, with_pattern};
pub(crate) use two_variables::declare as two_variables;

use crate::decl::Functions;
use crate::error::EvalError;
use crate::types::Type;
use crate::value::Value;

/// What a function gives.
type Result<'a> = std::result::Result<Value<'a>, EvalError>;

/// The standard definitions of the language.
pub(crate) fn standard(functions: &mut Functions) {
    compare::declare(functions);
    arithmetic::declare(functions);
    collections::declare(functions);
    convert::declare(functions);
    text::declare(functions);
    times::declare(functions);
}

/// What Kubernetes adds to the standard.
pub(crate) const KUBERNETES: &[fn(&mut Functions)] = &[];

/// The types that Kubernetes' libraries bring.
pub(crate) fn kubernetes_types() -> Vec<Type> {
    vec![]
}

/// A type parameter.
fn param(name: &'static str) -> Type {
    Type::Param(name)
}

fn list_of(name: &'static str) -> Type {
    Type::list(param(name))
}

fn map_of(key: &'static str, value: &'static str) -> Type {
    Type::map(param(key), param(value))
}

/// The arguments are not those that were declared.
fn mismatch<'a>() -> Result<'a> {
    Err(EvalError::no_such_overload())
}

fn fail<'a>(reason: impl Into<std::borrow::Cow<'static, str>>) -> Result<'a> {
    Err(EvalError::new(reason))
}

/// A format of names.
#[derive(Debug)]
pub struct Format {
    /// The longest pattern.
    pub longest_pattern: u64,
}

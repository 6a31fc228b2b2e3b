//! The functions that expressions can call.

mod addresses;
mod arithmetic;
mod authorizer;
mod collections;
mod compare;
mod convert;
mod format;
pub(crate) mod format_text;
mod lists;
mod mutation;
mod optional;
mod patterns;
mod quantity;
mod re2;
mod semver;
mod strings;
mod text;
mod times;
mod two_variables;
mod unreadable_address;
mod urls;

pub use authorizer::{
    Authorizer, Check, Decision, ResourceSubject, Subject, authorizer_type, authorizer_value, request_resource_value,
    resource_check_type,
};
pub(crate) use convert::format_double;
pub(crate) use format::Format;
pub(crate) use lists::SORT_BY;
pub use mutation::{JSON_PATCH, MutationTypes, OBJECT, misnamed_objects, mutation};
pub(crate) use optional::declare as optional;
pub use re2::compile_pattern;
pub(crate) use text::with_pattern;
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
pub(crate) const KUBERNETES: &[fn(&mut Functions)] = &[
    urls::declare,
    patterns::declare,
    lists::declare,
    authorizer::declare,
    quantity::declare,
    strings::declare,
    addresses::declare,
    format::declare,
    semver::declare,
];

/// The types that Kubernetes' libraries bring.
pub(crate) fn kubernetes_types() -> Vec<Type> {
    let objects = [urls::NAME, quantity::NAME, format::NAME, semver::NAME].into_iter().chain(authorizer::NAMES);
    objects.map(Type::object).chain([addresses::IP, addresses::CIDR].map(Type::opaque)).collect()
}

/// The type of quantities.
pub fn quantity_type() -> Type {
    Type::object(quantity::NAME)
}

/// The type of versions.
pub fn semver_type() -> Type {
    Type::object(semver::NAME)
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

/// The longest text that a function makes of others, in bytes.
const LONGEST_TEXT: usize = 64 << 20;

/// Whether a text would be longer than any budget pays for.
fn too_large(length: usize) -> bool {
    length > LONGEST_TEXT
}

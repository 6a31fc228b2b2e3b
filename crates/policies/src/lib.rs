//! Admission policies in the expression language (KEP-3488, KEP-3962, KEP-3716), as pure functions.
//!
//! A [`Scope`] says what expressions can speak of and compiles them to an [`Expression`]. [`Conditions`],
//! [`Validating`] and [`Mutating`] are compiled once; a [`Subject`] is the request that they look at, and what they
//! say of it is a [`Meets`], a [`Verdict`] or a [`Patch`]. [`check_types`] tells what is wrong with a policy for the
//! kinds that it is about.
//!
//! Nothing here reads objects or knows of the server: who evaluates brings all that an expression may see.

mod conditions;
mod expression;
mod mutating;
mod requests;
mod run;
#[cfg(test)]
mod sample;
mod scope;
mod subject;
mod type_check;
mod validating;
mod variables;

pub use conditions::{Conditions, Meets};
pub use expression::{Expression, Wanted};
pub use mutating::{Mutating, Mutation, Patch};
pub use scope::Scope;
pub use subject::{Asks, FailurePolicy, Subject};
pub use type_check::{Known, Warning, builtin_type, check as check_types, with_metadata};
pub use validating::{Annotation, Decision, Evaluation, Told, Validating, Verdict};

//! From text to a tree: tokens, grammar, macros.

pub(crate) mod ast;
mod automaton;
mod diagnose;
mod grammar;
mod lexer;
mod literal;
mod macros;
mod parser;
mod primary;
pub(crate) mod source;

pub(crate) use parser::{Parsed, parse};

/// What of the syntax is switched on.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Syntax {
    /// `optMap`, `optFlatMap`.
    pub(crate) optional_macros: bool,
    /// `transformList` and the rest with two variables.
    pub(crate) two_variable_macros: bool,
    /// `sortBy`.
    pub(crate) sort_by: bool,
    /// `cel.bind`.
    pub(crate) bind: bool,
    /// Field names between backquotes.
    pub(crate) quoted_names: bool,
}

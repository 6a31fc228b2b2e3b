//! Expressions of webhooks and policies: whether they compile.

use crate::{Errors, Place};
use trireme_cel::Type;
pub(super) use trireme_policies::{Scope, Wanted};

/// Compiles an expression, and tells what is wrong with it; gives the type of its result. `shown` is how messages show
/// the expression.
pub(super) fn check(
    place: &Place<'_>,
    text: &str,
    shown: &str,
    scope: &Scope,
    wanted: &[Wanted],
    errors: &mut Errors,
) -> Option<Type> {
    match scope.compile(text, wanted) {
        Ok(program) => Some(program.result_type().clone()),
        Err(why) => {
            errors.invalid_value(place, shown, why);
            None
        }
    }
}

/// Whether a name can be written in an expression.
pub(super) fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !RESERVED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_variables() {
        for (name, fine) in [("a", true), ("_a1", true), ("1a", false), ("in", false), ("a-b", false)] {
            assert_eq!(is_identifier(name), fine, "{name}");
        }
    }
}

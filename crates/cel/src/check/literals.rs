//! What can be said of constants before anything is evaluated: cel-go's AST validators.

use super::Checked;
use crate::env::Env;
use crate::syntax::ast::{Call, Expr, Id, Node};
use crate::types::Type;
use crate::value::Value;

/// What is wrong with the constants of an expression, by node.
pub(super) fn problems(env: &Env, checked: &Checked) -> Vec<(Id, String)> {
    let mut found = Vec::new();
    walk(env, checked, &checked.tree, false, &mut found);
    found
}

fn walk(env: &Env, checked: &Checked, expr: &Expr, in_format: bool, found: &mut Vec<(Id, String)>) {
    match &expr.kind {
        Node::Call(call) => argument(env, call, found),
        Node::List(elements) if !in_format => {
            let types = elements.iter().map(|e| (e.value.id, inner(checked.type_of(&e.value), e.optional)));
            // Only the first that differs is told.
            found.extend(mismatches(types).into_iter().take(1));
        }
        Node::Map(entries) if !in_format => {
            found.extend(mismatches(entries.iter().map(|e| (e.key.id, checked.type_of(&e.key)))));
            let values = entries.iter().map(|e| (e.value.id, inner(checked.type_of(&e.value), e.optional)));
            found.extend(mismatches(values));
        }
        _ => {}
    }
    // The arguments of `format` may be of any types.
    let in_format = in_format || matches!(&expr.kind, Node::Call(call) if call.function == "format");
    for child in expr.children() {
        walk(env, checked, child, in_format, found);
    }
}

/// What an optional element holds.
fn inner(t: &Type, optional: bool) -> &Type {
    t.optional_value().filter(|_| optional).unwrap_or(t)
}

fn mismatches<'a>(types: impl Iterator<Item = (Id, &'a Type)>) -> Vec<(Id, String)> {
    let mut types = types.peekable();
    let Some((_, first)) = types.peek().copied() else { return vec![] };
    types
        .filter(|(_, t)| !equivalent(first, t))
        .map(|(id, t)| (id, format!("expected type '{first}' but found '{t}'")))
        .collect()
}

/// The same, but for whether it may be null.
fn equivalent(a: &Type, b: &Type) -> bool {
    match (a, b) {
        (Type::Wrapper(a), b) => equivalent(a, b),
        (a, Type::Wrapper(b)) => equivalent(a, b),
        (Type::List(a), Type::List(b)) => equivalent(a, b),
        (Type::Map(a, b), Type::Map(c, d)) => equivalent(a, c) && equivalent(b, d),
        (Type::Opaque(a, p), Type::Opaque(b, q)) => {
            a == b && p.len() == q.len() && p.iter().zip(q.iter()).all(|(p, q)| equivalent(p, q))
        }
        _ => a == b,
    }
}

/// Durations, times and patterns must be such.
fn argument(env: &Env, call: &Call, found: &mut Vec<(Id, String)>) {
    let Some(Expr { id, kind: Node::Literal(value) }) = call.args.first() else { return };
    let good = match (call.function.as_str(), value) {
        ("matches", Value::String(pattern)) => crate::library::compile_pattern(pattern).is_ok(),
        ("duration" | "timestamp", _) => {
            let args = std::slice::from_ref(value);
            let overloads = env.functions.find(&call.function).map(|(_, overloads)| overloads).unwrap_or_default();
            overloads.iter().filter(|o| o.takes(args)).any(|o| (o.call)(args).is_ok())
        }
        _ => true,
    };
    if !good {
        found.push((*id, format!("invalid {} argument", call.function)));
    }
}

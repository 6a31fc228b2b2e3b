//! What can be said of constants before anything is evaluated: cel-go's AST validators.

use super::Checked;
use crate::env::Env;
use crate::library::format_text::{self, Part};
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
        Node::Call(call) => {
            argument(env, call, found);
            found.extend(format(checked, expr, call));
        }
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

/// The values of a format must fit its clauses, if both are written there.
fn format(checked: &Checked, expr: &Expr, call: &Call) -> Option<(Id, String)> {
    let (Some(target), "format", [Expr { kind: Node::List(values), .. }]) =
        (call.target.as_ref(), call.function.as_str(), &*call.args)
    else {
        return None;
    };
    let text = target.as_text()?;
    let mut next = 0;
    for part in format_text::parts(text) {
        match part {
            Ok(Part::Text(_)) => {}
            Ok(Part::Clause(clause, _)) => {
                let Some(value) = values.get(next) else { return Some((expr.id, format_text::missing(next))) };
                next += 1;
                if let Some(problem) = unfit(checked, clause, &value.value) {
                    return Some(problem);
                }
            }
            Err(error) => return Some((expr.id, error.to_string())),
        }
    }
    (values.len() > next).then(|| {
        let message = format!("too many arguments supplied to string.format (expected {next}, got {})", values.len());
        (expr.id, message)
    })
}

/// What is wrong with a value; `%s` also looks into lists and maps.
fn unfit(checked: &Checked, clause: char, value: &Expr) -> Option<(Id, String)> {
    if let Some(problem) = format_text::unfit(clause, checked.type_of(value)) {
        return Some((value.id, problem));
    }
    match &value.kind {
        Node::List(_) | Node::Map(_) if clause == 's' => {
            value.children().into_iter().find_map(|child| unfit(checked, clause, child))
        }
        _ => None,
    }
}

//! What calls can cost: cel-go's rules for its functions and operators.

use super::estimate::{Estimator, Path, SizeHints};
use super::range::Range;
use super::{CHARACTER, PATTERN_CHARACTER, kubernetes, lists};
use crate::syntax::ast::{Expr, Node};
use crate::types::Type;
use crate::value::Value;

/// An argument, and what is known of it.
pub(super) struct Argument<'a> {
    pub(super) expr: &'a Expr,
    pub(super) path: Path,
    pub(super) t: &'a Type,
    pub(super) size: Option<Range>,
}

impl Argument<'_> {
    /// The size, as the expression or else the hints tell it.
    pub(super) fn size(&self, hints: &dyn SizeHints) -> Range {
        self.size.or_else(|| hint(hints, &self.path)).unwrap_or(Range::UNKNOWN)
    }

    /// The number, if it is a literal.
    pub(super) fn as_int(&self) -> Option<i64> {
        if let Node::Literal(Value::Int(n)) = self.expr.kind { Some(n) } else { None }
    }
}

/// The size at a path, if it is one.
pub(super) fn hint(hints: &dyn SizeHints, path: &[String]) -> Option<Range> {
    if path.is_empty() { None } else { hints.size(path) }
}

/// A call's cost, and the size of its result if it is known.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Estimate {
    pub(super) cost: Range,
    pub(super) size: Option<Range>,
}

impl Estimate {
    pub(super) fn cost(cost: Range) -> Self {
        Self { cost, size: None }
    }

    pub(super) fn sized(cost: Range, size: Range) -> Self {
        Self { cost, size: Some(size) }
    }

    fn plus(self, cost: Range) -> Self {
        Self { cost: self.cost.plus(cost), ..self }
    }
}

impl<'a> Estimator<'a> {
    pub(super) fn function(
        &mut self,
        expr: &Expr,
        function: &str,
        overload: &str,
        target: Option<&Argument<'a>>,
        args: &[Argument<'a>],
        costs: &[Range],
    ) -> Estimate {
        let sum = costs.iter().fold(Range::ZERO, |sum, cost| sum.plus(*cost));
        let library = lists::estimate(overload, target, args, self.hints)
            .or_else(|| kubernetes::estimate(function, overload, target, args, self.hints));
        if let Some(estimate) = library {
            return estimate.plus(sum);
        }
        self.logic(expr, overload, args, costs).unwrap_or_else(|| self.standard(expr, overload, target, args).plus(sum))
    }

    /// Operators that do not evaluate all of their arguments.
    fn logic(&mut self, expr: &Expr, overload: &str, args: &[Argument<'a>], costs: &[Range]) -> Option<Estimate> {
        match (overload, args, costs) {
            ("logical_or" | "logical_and", _, [left, right]) => {
                Some(Estimate::cost(Range { min: left.min, max: left.plus(*right).max }))
            }
            ("conditional", [_, yes, no], [condition, if_true, if_false]) => {
                let size = self.size_or_unknown(yes.expr).union(self.size_or_unknown(no.expr));
                let entries = super::estimate::Entries::union(self.entries_of(yes.expr), self.entries_of(no.expr));
                self.set_entries(expr, entries);
                Some(Estimate::sized(condition.plus(if_true.union(*if_false)), size))
            }
            _ => None,
        }
    }

    fn standard(
        &mut self,
        expr: &Expr,
        overload: &str,
        target: Option<&Argument<'a>>,
        args: &[Argument<'a>],
    ) -> Estimate {
        let size = |arg: &Argument<'_>| arg.size.unwrap_or(Range::UNKNOWN);
        match (overload, target, args) {
            ("string_format", Some(target), _) => Estimate::cost(size(target).scaled(CHARACTER)),
            ("string_to_bytes", _, [arg]) => {
                let size = size(arg);
                Estimate::sized(size.scaled(CHARACTER), Range { min: size.min, max: size.max.wrapping_mul(4) })
            }
            ("bytes_to_string", _, [arg]) => {
                let size = size(arg);
                Estimate::sized(size.scaled(CHARACTER), Range { min: size.min / 4, max: size.max })
            }
            ("strings_quote", _, [arg]) => {
                let size = size(arg);
                let quoted = Range { min: size.min.wrapping_add(2), max: size.max.wrapping_mul(2).wrapping_add(2) };
                Estimate::sized(size.scaled(CHARACTER), quoted)
            }
            ("starts_with_string" | "ends_with_string", _, [arg]) => Estimate::cost(size(arg).scaled(CHARACTER)),
            ("in_list", _, [_, list]) => Estimate::cost(size(list)),
            ("matches_string", Some(target), [pattern]) => Estimate::cost(matching(size(target), size(pattern))),
            ("contains_string", Some(target), [part]) => {
                Estimate::cost(size(target).scaled(CHARACTER).times(size(part).scaled(CHARACTER)))
            }
            ("add_string" | "add_bytes" | "add_list", _, [left, right]) => {
                let sum = size(left).plus(size(right));
                let entries = super::estimate::Entries::union(self.entries_of(left.expr), self.entries_of(right.expr));
                self.set_entries(expr, entries);
                let cost = if overload == "add_list" { Range::fixed(1) } else { sum.scaled(CHARACTER) };
                Estimate::sized(cost, sum)
            }
            (
                "less_string"
                | "greater_string"
                | "less_equals_string"
                | "greater_equals_string"
                | "less_bytes"
                | "greater_bytes"
                | "less_equals_bytes"
                | "greater_equals_bytes"
                | "equals"
                | "not_equals",
                _,
                [left, right],
            ) => {
                let max = size(left).max.min(size(right).max);
                Estimate::cost(Range { min: max.min(1), max }.scaled(CHARACTER))
            }
            _ => Estimate::cost(Range::fixed(1)),
        }
    }
}

/// A text of a size against a pattern of a size. One more than the text, since a pattern costs also where there is no
/// text.
pub(super) fn matching(text: Range, pattern: Range) -> Range {
    text.plus(Range::fixed(1)).scaled(CHARACTER).times(pattern.scaled(PATTERN_CHARACTER))
}

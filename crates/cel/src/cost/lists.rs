//! What cel-go's own libraries of lists and sets can cost.

use super::calls::{Argument, Estimate};
use super::estimate::SizeHints;
use super::range::Range;
use super::{CHARACTER, LIST};

pub(super) fn estimate(
    overload: &str,
    target: Option<&Argument<'_>>,
    args: &[Argument<'_>],
    hints: &dyn SizeHints,
) -> Option<Estimate> {
    let product = |times: f64| match args {
        [a, b] => Some(Estimate::cost(a.size(hints).times(b.size(hints)).scaled(times).plus(Range::fixed(1)))),
        _ => None,
    };
    let int = |n: usize, otherwise: u64| {
        args.get(n).and_then(Argument::as_int).map_or(otherwise, |n| u64::try_from(n).unwrap_or_default())
    };
    match (overload, target, args) {
        ("list_sets_contains_list" | "list_sets_intersects_list", ..) => product(1.0),
        ("list_sets_equivalent_list", ..) => product(2.0),
        ("list_slice", Some(target), [_, _]) => {
            let (start, end) = (int(0, 0), int(1, target.size(hints).max));
            Some(made(1.0, Range::fixed(end.wrapping_sub(start))))
        }
        ("lists_range", None, [_]) => Some(made(1.0, Range::fixed(int(0, u64::MAX)))),
        ("list_reverse", Some(target), []) => Some(made(1.0, target.size(hints))),
        ("list_flatten", Some(target), []) => Some(made(1.0, target.size(hints))),
        ("list_flatten_int", Some(target), [_]) => Some(made(int(0, u64::MAX) as f64, target.size(hints))),
        ("list_distinct", Some(target), []) => Some(pairs(2.0, target.size(hints))),
        (_, Some(_), [keys]) if overload.ends_with("_sortByAssociatedKeys") => {
            Some(pairs(each(overload), keys.size(hints)))
        }
        (_, Some(target), []) if overload.starts_with("list_") && overload.ends_with("_sort") => {
            Some(pairs(each(overload), target.size(hints)))
        }
        _ => None,
    }
}

/// A list of a size that is made.
fn made(factor: f64, size: Range) -> Estimate {
    Estimate::sized(size.scaled(factor).plus(Range::fixed(LIST + 1)), size)
}

/// A list of which every element is compared with every other.
fn pairs(factor: f64, size: Range) -> Estimate {
    made(factor, size.times(size))
}

/// What a comparison of two elements costs.
fn each(overload: &str) -> f64 {
    if overload.starts_with("list_string_") || overload.starts_with("list_bytes_") { 2.0 + CHARACTER } else { 2.0 }
}

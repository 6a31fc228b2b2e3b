//! cel-go's libraries of lists (version 3) and of sets, and Kubernetes' functions of lists.

use super::{Result, fail, list_of, mismatch};
use crate::decl::{Functions, Implementation};
use crate::error::EvalError;
use crate::types::Type;
use crate::value::{List, Value, contains, order};
use std::cmp::Ordering;

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Int};
    let list = || list_of("T");
    f.method("slice", "list_slice", [list(), Int, Int], list(), slice);
    f.method("flatten", "list_flatten", [Type::list(list())], list(), flatten);
    f.method("flatten", "list_flatten_int", [Type::list(Type::Dyn), Int], Type::list(Type::Dyn), flatten);
    f.global("lists.range", "lists_range", [Int], Type::list(Int), range);
    f.method("reverse", "list_reverse", [list()], list(), |args| {
        whole(args, |items| {
            items.reverse();
            Ok(())
        })
    });
    f.method("distinct", "list_distinct", [list()], list(), distinct);
    for t in comparable() {
        let id = t.name();
        f.method("sort", format!("list_{id}_sort"), [Type::list(t.clone())], Type::list(t.clone()), sort);
        f.method(SORT_BY, format!("list_{id}_sortByAssociatedKeys"), [list(), Type::list(t.clone())], list(), sort_by);
    }
    let sets: [(&'static str, &'static str, Implementation); 3] = [
        ("sets.contains", "list_sets_contains_list", |args| sets(args, contains_all)),
        ("sets.equivalent", "list_sets_equivalent_list", |args| {
            sets(args, |a, b| Ok(contains_all(a, b)? && contains_all(b, a)?))
        }),
        ("sets.intersects", "list_sets_intersects_list", |args| sets(args, intersects)),
    ];
    for (name, id, call) in sets {
        f.global(name, id, [list(), list()], Bool, call);
    }
    kubernetes(f);
}

/// What `sortBy` becomes.
pub(crate) const SORT_BY: &str = "@sortByAssociatedKeys";
/// More elements than any budget pays for.
const MOST_ELEMENTS: i64 = 10_000_000;

fn comparable() -> [Type; 8] {
    use Type::{Bool, Bytes, Double, Duration, Int, String, Timestamp, Uint};
    [Int, Uint, Double, Bool, Duration, Timestamp, String, Bytes]
}

/// `isSorted`, `sum`, `min`, `max`, `indexOf`, `lastIndexOf`.
fn kubernetes(f: &mut Functions) {
    use Type::{Double, Duration, Int, Uint};
    for t in comparable() {
        let id = t.to_string();
        f.method("isSorted", format!("list_{id}_is_sorted_bool"), [Type::list(t.clone())], Type::Bool, is_sorted);
        f.method("max", format!("list_{id}_max_{id}"), [Type::list(t.clone())], t.clone(), |args| {
            extreme(args, Ordering::Greater)
        });
        f.method("min", format!("list_{id}_min_{id}"), [Type::list(t.clone())], t.clone(), |args| {
            extreme(args, Ordering::Less)
        });
    }
    let sums: [(Type, Implementation); 4] = [
        (Int, |args| sum(args, Value::Int(0))),
        (Uint, |args| sum(args, Value::Uint(0))),
        (Double, |args| sum(args, Value::Double(0.0))),
        (Duration, |args| sum(args, Value::Duration(0))),
    ];
    for (t, call) in sums {
        let id = t.to_string();
        f.method("sum", format!("list_{id}_sum_{id}"), [Type::list(t.clone())], t, call);
    }
    let any = || super::param("A");
    f.method("indexOf", "list_a_index_of_int", [list_of("A"), any()], Int, |args| index_of(args, false));
    f.method("lastIndexOf", "list_a_last_index_of_int", [list_of("A"), any()], Int, |args| index_of(args, true));
}

/// A list with its elements changed as a whole.
fn whole<'a>(args: &[Value<'a>], change: fn(&mut Vec<Value<'a>>) -> std::result::Result<(), EvalError>) -> Result<'a> {
    let [Value::List(list)] = args else { return mismatch() };
    let mut items = list.values()?;
    change(&mut items)?;
    Ok(Value::list(items))
}

fn slice<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list), Value::Int(start), Value::Int(end)] = args else { return mismatch() };
    let wrong = |why: &str| fail(format!("cannot slice({start}, {end}), {why}"));
    let (Ok(from), Ok(to)) = (usize::try_from(*start), usize::try_from(*end)) else {
        return wrong("negative indexes not supported");
    };
    if from > to {
        return wrong("start index must be less than or equal to end index");
    }
    if to > list.len() {
        return wrong(&format!("list is length {}", list.len()));
    }
    let items = (from..to).filter_map(|n| list.get(n)).collect::<std::result::Result<_, _>>()?;
    Ok(Value::list(items))
}

fn flatten<'a>(args: &[Value<'a>]) -> Result<'a> {
    let (list, depth) = match args {
        [Value::List(list)] => (list, 1),
        [Value::List(list), Value::Int(depth)] => (list, *depth),
        _ => return mismatch(),
    };
    if depth < 0 {
        return fail("level must be non-negative");
    }
    let mut items = Vec::new();
    flatten_into(list, depth, &mut items)?;
    Ok(Value::list(items))
}

fn flatten_into<'a>(list: &List<'a>, depth: i64, items: &mut Vec<Value<'a>>) -> std::result::Result<(), EvalError> {
    for item in list.iter() {
        match item? {
            Value::List(inner) if depth > 0 => flatten_into(&inner, depth - 1, items)?,
            other => items.push(other),
        }
    }
    Ok(())
}

fn range<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [Value::Int(n)] if *n > MOST_ELEMENTS => Err(EvalError::OverBudget),
        [Value::Int(n)] => Ok(Value::list((0..*n).map(Value::Int).collect())),
        _ => mismatch(),
    }
}

fn distinct<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return mismatch() };
    let mut items = Vec::new();
    for item in list.iter() {
        let item = item?;
        if !contains(&items, &item)? {
            items.push(item);
        }
    }
    Ok(Value::list(items))
}

fn sort<'a>(args: &[Value<'a>]) -> Result<'a> {
    match args {
        [list] => sort_by(&[list.clone(), list.clone()]),
        _ => mismatch(),
    }
}

fn sort_by<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list), Value::List(keys)] = args else { return mismatch() };
    if list.len() != keys.len() {
        return fail(format!(
            "{SORT_BY}() expected a list of the same size as the associated keys list, but got {} and {} elements \
             respectively",
            list.len(),
            keys.len()
        ));
    }
    let mut pairs: Vec<_> = keys.values()?.into_iter().zip(list.values()?).collect();
    if let Some((first, _)) = pairs.first() {
        let t = first.type_of();
        if order::compare(first, first).is_none() {
            return fail("list elements must be comparable");
        }
        if pairs.iter().any(|(key, _)| key.type_of() != t) {
            return fail("list elements must have the same type");
        }
    }
    pairs.sort_by(|(a, _), (b, _)| order::compare(a, b).flatten().unwrap_or(Ordering::Equal));
    Ok(Value::list(pairs.into_iter().map(|(_, item)| item).collect()))
}

fn sets<'a>(
    args: &[Value<'a>],
    holds: fn(&[Value<'a>], &[Value<'a>]) -> std::result::Result<bool, EvalError>,
) -> Result<'a> {
    let [Value::List(a), Value::List(b)] = args else { return mismatch() };
    Ok(Value::Bool(holds(&a.values()?, &b.values()?)?))
}

fn contains_all<'a>(all: &[Value<'a>], some: &[Value<'a>]) -> std::result::Result<bool, EvalError> {
    for item in some {
        if !contains(all, item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

fn intersects<'a>(a: &[Value<'a>], b: &[Value<'a>]) -> std::result::Result<bool, EvalError> {
    for item in a {
        if contains(b, item)? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn is_sorted<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [Value::List(list)] = args else { return mismatch() };
    let items = list.values()?;
    for pair in items.windows(2) {
        match order::compare(&pair[0], &pair[1]) {
            Some(Some(Ordering::Greater)) => return Ok(Value::Bool(false)),
            Some(_) => {}
            None => return mismatch(),
        }
    }
    Ok(Value::Bool(true))
}

fn extreme<'a>(args: &[Value<'a>], wanted: Ordering) -> Result<'a> {
    let [Value::List(list)] = args else { return mismatch() };
    let mut best: Option<Value<'a>> = None;
    for item in list.iter() {
        let item = item?;
        match &best {
            Some(there) => match order::compare(&item, there) {
                Some(order) if order == Some(wanted) => best = Some(item),
                Some(_) => {}
                None => return mismatch(),
            },
            None => best = Some(item),
        }
    }
    let name = if wanted == Ordering::Less { "min" } else { "max" };
    best.map_or_else(|| fail(format!("{name} called on empty list")), Ok)
}

fn sum<'a>(args: &[Value<'a>], zero: Value<'a>) -> Result<'a> {
    let [Value::List(list)] = args else { return mismatch() };
    list.iter().try_fold(zero, |sum, item| super::arithmetic::add(&[sum, item?]))
}

fn index_of<'a>(args: &[Value<'a>], last: bool) -> Result<'a> {
    let [Value::List(list), wanted] = args else { return mismatch() };
    let mut found = -1;
    for (n, item) in list.iter().enumerate() {
        if item?.equals(wanted)? {
            found = n as i64;
            if !last {
                break;
            }
        }
    }
    Ok(Value::Int(found))
}

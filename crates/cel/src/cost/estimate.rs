//! What an expression can cost, before it is evaluated: cel-go's rules (`checker/cost.go`) with the options that
//! Kubernetes sets.

use super::calls::Argument;
use super::range::Range;
use super::{LIST, MAP, STRUCT};
use crate::check::Checked;
use crate::syntax::ast::{Call, Expr, Fold, Id, Node, Select};
use crate::types::Type;
use crate::value::Value;
use std::collections::HashMap;

/// Knows how large what is read from variables can be.
pub trait SizeHints {
    /// The size at a path: a variable, then names of fields, `@items`, `@keys`, `@values`, `@indices`. None if it is
    /// not known.
    fn size(&self, path: &[String]) -> Option<Range>;
}

/// Nothing is known of sizes.
pub struct NoHints;

impl SizeHints for NoHints {
    fn size(&self, _path: &[String]) -> Option<Range> {
        None
    }
}

/// The bounds of an expression's cost.
pub(crate) fn estimate(checked: &Checked, hints: &dyn SizeHints) -> Range {
    let mut estimator = Estimator {
        checked,
        hints,
        paths: HashMap::new(),
        sizes: HashMap::new(),
        entries: HashMap::new(),
        locals: Vec::new(),
    };
    estimator.cost(&checked.tree)
}

pub(super) type Path = Vec<String>;

/// The sizes of a container's keys (or indices) and values.
#[derive(Clone, Copy, Debug)]
pub(super) struct Entries {
    is_list: bool,
    key: Range,
    value: Range,
}

impl Entries {
    pub(super) fn union(a: Option<Self>, b: Option<Self>) -> Option<Self> {
        let (a, b) = (a?, b?);
        Some(Self { is_list: a.is_list, key: a.key.union(b.key), value: a.value.union(b.value) })
    }
}

/// A variable of a comprehension.
struct Local {
    name: String,
    path: Path,
    size: Option<Range>,
    entries: Option<Entries>,
}

pub(super) struct Estimator<'a> {
    pub(super) checked: &'a Checked,
    pub(super) hints: &'a dyn SizeHints,
    paths: HashMap<Id, Path>,
    sizes: HashMap<Id, Range>,
    entries: HashMap<Id, Entries>,
    locals: Vec<Local>,
}

impl<'a> Estimator<'a> {
    fn cost(&mut self, expr: &'a Expr) -> Range {
        match &expr.kind {
            Node::Literal(_) => Range::ZERO,
            Node::Ident(name) => {
                let path = self.local(name).map_or_else(|| vec![name.clone()], |local| local.path.clone());
                self.paths.insert(expr.id, path);
                Range::fixed(1)
            }
            Node::Select(select) => self.select(expr, select),
            Node::Call(call) => self.call(expr, call),
            Node::List(elements) => {
                let mut sum = Range::fixed(LIST);
                let mut item = none_yet(elements.is_empty());
                for element in elements {
                    sum = sum.plus(self.cost(&element.value));
                    item = item.union(self.size_or_unknown(&element.value));
                }
                self.entries.insert(expr.id, Entries { is_list: true, key: Range::fixed(1), value: item });
                sum
            }
            Node::Map(entries) => {
                let mut sum = Range::fixed(MAP);
                let (mut key, mut value) = (none_yet(entries.is_empty()), none_yet(entries.is_empty()));
                for entry in entries {
                    sum = sum.plus(self.cost(&entry.key)).plus(self.cost(&entry.value));
                    key = key.union(self.size_or_unknown(&entry.key));
                    value = value.union(self.size_or_unknown(&entry.value));
                }
                self.entries.insert(expr.id, Entries { is_list: false, key, value });
                sum
            }
            Node::Struct(message) => {
                let fields = message.fields.iter();
                fields.fold(Range::fixed(STRUCT), |sum, field| sum.plus(self.cost(&field.value)))
            }
            Node::Fold(fold) if fold.is_bind() => self.bind(expr, fold),
            Node::Fold(fold) => self.fold(expr, fold),
        }
    }

    fn select(&mut self, expr: &Expr, select: &'a Select) -> Range {
        let sum = self.cost(&select.operand);
        // Kubernetes does not charge for asking whether a field is there.
        if select.test {
            return sum;
        }
        let mut path = self.path(&select.operand);
        path.push(select.field.clone());
        self.paths.insert(expr.id, path);
        match self.checked.type_of(&select.operand) {
            Type::Map(..) | Type::Struct(_) | Type::Param(_) | Type::Var(_) => sum.plus(Range::fixed(1)),
            _ => sum,
        }
    }

    fn call(&mut self, expr: &'a Expr, call: &'a Call) -> Range {
        if let ("dyn", [arg]) = (call.function.as_str(), &*call.args) {
            let cost = self.cost(arg);
            self.copy_sizes(expr, arg);
            return cost.plus(Range::fixed(1));
        }
        let mut costs = Vec::with_capacity(call.args.len());
        let mut args = Vec::with_capacity(call.args.len());
        for arg in &call.args {
            costs.push(self.cost(arg));
            args.push(self.argument(arg));
        }
        let overloads = self.checked.overloads(expr);
        if overloads.is_empty() {
            return Range::ZERO;
        }
        let mut sum = Range::ZERO;
        let target = call.target.as_ref().map(|target| {
            sum = self.cost(target);
            self.argument(target)
        });
        let mut cost = Range { min: u64::MAX, max: 0 };
        let mut result = None;
        for overload in overloads {
            let estimated = self.function(expr, &call.function, &overload.id, target.as_ref(), &args, &costs);
            cost = cost.union(estimated.cost);
            if let Some(size) = estimated.size {
                result = Some(result.map_or(size, |before: Range| before.union(size)));
            }
            let step = match &*overload.id {
                "index_list" => Some("@items"),
                "index_map" => Some("@values"),
                _ => None,
            };
            if let (Some(step), Some(of)) = (step, call.args.first()) {
                result = self.entries_of(of).map(|entries| entries.value);
                let mut path = self.path(of);
                path.push(step.to_owned());
                self.paths.insert(expr.id, path);
            }
            if result.is_none() {
                result = self.size(expr);
            }
        }
        if let Some(size) = result {
            self.sizes.insert(expr.id, size);
        }
        sum.plus(cost)
    }

    fn argument(&mut self, expr: &'a Expr) -> Argument<'a> {
        let mut path = self.path(expr);
        if path.first().is_some_and(|root| root == crate::syntax::ast::ACCUMULATOR || root == "__result__") {
            path.clear();
        }
        let size = self.size(expr);
        Argument { expr, path, t: self.checked.type_of(expr), size }
    }

    fn fold(&mut self, expr: &Expr, fold: &'a Fold) -> Range {
        let mut sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_local(&fold.accumulator, &fold.init);
        let outside = self.locals.len();
        if let Some(var2) = &fold.var2 {
            self.push_element(&fold.var, &fold.range, Part::Key);
            self.push_element(var2, &fold.range, Part::Value);
        } else {
            self.push_element(&fold.var, &fold.range, Part::Single);
        }
        let round = self.cost(&fold.condition);
        let round = self.cost(&fold.step).plus(round);
        self.locals.truncate(outside);
        sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        let count = self.size_or_unknown(&fold.range);
        sum = sum.plus(count.times(round));
        match &fold.init.kind {
            Node::Literal(_) => {
                if let Some(size) = self.size(&fold.init) {
                    self.sizes.insert(expr.id, size);
                }
            }
            Node::List(_) | Node::Map(_) => {
                self.sizes.insert(expr.id, count);
                if let Some(entries) = self.entries_of(&fold.step) {
                    self.entries.insert(expr.id, entries);
                }
            }
            _ => {}
        }
        sum
    }

    fn bind(&mut self, expr: &Expr, fold: &'a Fold) -> Range {
        let sum = self.cost(&fold.range).plus(self.cost(&fold.init));
        self.push_local(&fold.accumulator, &fold.init);
        let sum = sum.plus(self.cost(&fold.result));
        self.locals.pop();
        self.copy_sizes(expr, &fold.result);
        sum
    }

    fn push_local(&mut self, name: &str, value: &Expr) {
        let path = self.path(value);
        let entries = self.entries_of(value);
        let size = self.size(value);
        self.locals.push(Local { name: name.to_owned(), path, size, entries });
    }

    fn push_element(&mut self, name: &str, range: &Expr, part: Part) {
        let entries = self.entries_of(range);
        let is_list =
            entries.map_or_else(|| matches!(self.checked.type_of(range), Type::List(_)), |entries| entries.is_list);
        let (step, size) = match (part, is_list) {
            (Part::Key, true) => ("@indices", entries.map(|e| e.key)),
            (Part::Value | Part::Single, true) => ("@items", entries.map(|e| e.value)),
            (Part::Key | Part::Single, false) => ("@keys", entries.map(|e| e.key)),
            (Part::Value, false) => ("@values", entries.map(|e| e.value)),
        };
        let mut path = self.path(range);
        path.push(step.to_owned());
        self.locals.push(Local { name: name.to_owned(), path, size, entries: None });
    }

    fn local(&self, name: &str) -> Option<&Local> {
        self.locals.iter().rev().find(|local| local.name == name)
    }

    fn path(&self, expr: &Expr) -> Path {
        let local = if let Node::Ident(name) = &expr.kind { self.local(name) } else { None };
        local.map(|local| &local.path).or_else(|| self.paths.get(&expr.id)).cloned().unwrap_or_default()
    }

    /// The size of what an expression gives, if anything is known of it.
    fn size(&mut self, expr: &Expr) -> Option<Range> {
        if let Some(size) = self.sizes.get(&expr.id) {
            return Some(*size);
        }
        if let Some(size) = literal_size(expr) {
            return Some(Range::fixed(size));
        }
        let path = self.path(expr);
        if !path.is_empty()
            && let Some(size) = self.hints.size(&path)
        {
            self.sizes.insert(expr.id, size);
            return Some(size);
        }
        if self.checked.type_of(expr).is_scalar() {
            return Some(Range::fixed(1));
        }
        if let Node::Ident(name) = &expr.kind { self.local(name).and_then(|local| local.size) } else { None }
    }

    pub(super) fn size_or_unknown(&mut self, expr: &Expr) -> Range {
        self.size(expr).unwrap_or(Range::UNKNOWN)
    }

    pub(super) fn entries_of(&self, expr: &Expr) -> Option<Entries> {
        if let Some(entries) = self.entries.get(&expr.id) {
            return Some(*entries);
        }
        if let Node::Ident(name) = &expr.kind { self.local(name).and_then(|local| local.entries) } else { None }
    }

    pub(super) fn set_entries(&mut self, expr: &Expr, entries: Option<Entries>) {
        if let Some(entries) = entries {
            self.entries.insert(expr.id, entries);
        }
    }

    fn copy_sizes(&mut self, to: &Expr, from: &Expr) {
        if let Some(size) = self.size(from) {
            self.sizes.insert(to.id, size);
        }
        self.set_entries(to, self.entries_of(from));
    }
}

/// Which part of an entry a variable is.
#[derive(Clone, Copy)]
enum Part {
    Key,
    Value,
    /// The element of a list, the key of a map.
    Single,
}

/// What the union with the first size gives this size.
fn none_yet(empty: bool) -> Range {
    Range { min: if empty { 0 } else { u64::MAX }, max: 0 }
}

fn literal_size(expr: &Expr) -> Option<u64> {
    match &expr.kind {
        Node::Literal(Value::String(text)) => Some(text.chars().count() as u64),
        Node::Literal(Value::Bytes(bytes)) => Some(bytes.len() as u64),
        Node::Literal(_) => Some(1),
        Node::List(elements) => Some(elements.len() as u64),
        Node::Map(entries) => Some(entries.len() as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Budget, Env};
    use std::collections::HashMap;

    struct Hints(HashMap<&'static str, u64>);

    impl SizeHints for Hints {
        fn size(&self, path: &[String]) -> Option<Range> {
            self.0.get(path.join(".").as_str()).map(|max| Range { min: 0, max: *max })
        }
    }

    /// The bounds are those that cel-go gives.
    #[test]
    fn estimates_follow_the_sizes_that_are_hinted_at() {
        let list = || Type::list(Type::list(Type::String));
        for (text, t, hints, want) in [
            ("'a' == 'a'", Type::Int, vec![], (1, 1)),
            ("self.all(x, true)", list(), vec![("self", 100)], (2, 302)),
            ("self.all(x, x.all(y, true))", list(), vec![("self", 50), ("self.@items", 10)], (2, 1752)),
            ("self.exists(x, true)", list(), vec![("self", 100)], (2, 402)),
            ("self.map(x, x)", list(), vec![("self", 100)], (12, 1312)),
            ("size(self)", list(), vec![], (2, 2)),
            ("self + 'abc'", Type::String, vec![("self", 27)], (2, 4)),
            ("self.matches('[0-9]')", Type::String, vec![("self", 500)], (3, 103)),
            ("self == 1 || self == 2", Type::Int, vec![], (2, 4)),
            ("self ? 1 + 2 : 3", Type::Bool, vec![], (1, 2)),
            ("{'a': self}.a", Type::Int, vec![], (32, 32)),
            ("self.replace('a', 'bb')", Type::String, vec![("self", 100)], (1, 21)),
            ("self.split('')", Type::String, vec![("self", 100)], (1, 21)),
        ] {
            let program = Env::kubernetes().with_variable("self", t).compile(text).unwrap();
            let Range { min, max } = program.cost_estimate(&Hints(hints.into_iter().collect()));
            assert_eq!((min, max), want, "{text}");
        }
    }

    #[test]
    fn evaluations_cost_what_they_do() {
        let env = Env::kubernetes()
            .with_variable("list", Type::list(Type::Int))
            .with_variable("map", Type::map(Type::String, Type::Int))
            .with_variable("text", Type::String);
        let list = Value::list(vec![Value::Int(1), Value::Int(2), Value::Int(3)]);
        let json = trireme_schema::value!({"a": 1});
        let variables =
            [("list", list), ("map", Value::from_json(&json, None).unwrap()), ("text", Value::str("0123456789"))];
        for (text, want) in [
            ("1 == 1", 1),
            ("list[0]", 2),
            ("map.a", 2),
            ("has(map.a)", 1),
            ("has(map.b) ? map.b : 0", 1),
            ("map.?b.orValue(1)", 1),
            ("list.all(x, x > 0)", 1 + 1 + 3 * (2 + 1 + 2)),
            ("list.map(x, x)", 1 + 1 + 3 * 13),
            ("list.filter(x, x > 1)", 1 + 1 + 3 * 2 + 2 * 13),
            ("text == 'a'", 2),
            ("text.contains('12')", 2),
            ("text.matches('^[0-9]+$')", 1 + 2 * 2),
            ("list[0] in [1, 2]", 2),
            ("text in ['a', text]", 1 + 11 + 2),
            ("[1, 2]", 0),
            ("{'a': list}", 31),
            ("true ? text : 'b'", 0),
        ] {
            let program = env.compile(text).unwrap();
            let mut budget = Budget::new(u64::MAX);
            program.evaluate(&variables, &mut budget).unwrap();
            assert_eq!(budget.spent(), want, "{text}");
        }
    }
}

//! JSONPath as printer columns use it (client-go `util/jsonpath`): fields, indices, slices, wildcards, descent, filters.

use trireme_schema::{Value, json};

/// A path into an object.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath(Vec<Step>);

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    All,
    Descend,
    Indices(Vec<i64>),
    Fields(Vec<String>),
    Slice(Option<i64>, Option<i64>, i64),
    Filter(Operand, Compare, Operand),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Compare {
    Exists,
    Equal,
    Unequal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

#[derive(Clone, Debug, PartialEq)]
enum Operand {
    Path(JsonPath),
    Literal(Value),
}

/// A path that cannot be read.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unrecognized path {0:?}")]
pub struct BadPath(String);

impl JsonPath {
    /// Reads a path such as `.status.conditions[?(@.type=="Ready")].status`.
    ///
    /// # Errors
    /// When it is none.
    pub fn parse(text: &str) -> Result<Self, BadPath> {
        let mut parser = Parser { rest: text };
        match parser.steps(|_| false) {
            Some(steps) if parser.rest.is_empty() => Ok(Self(steps)),
            _ => Err(BadPath(text.to_owned())),
        }
    }

    /// What a path leads to, in order.
    pub fn find<'a>(&self, root: &'a Value) -> Vec<&'a Value> {
        let mut found = vec![root];
        for step in &self.0 {
            found = found.into_iter().flat_map(|value| step.of(value)).collect();
        }
        found
    }
}

impl Step {
    fn of<'a>(&self, value: &'a Value) -> Vec<&'a Value> {
        match (self, value) {
            (Step::Field(name), value) => value.get(name).into_iter().collect(),
            (Step::Fields(names), value) => names.iter().filter_map(|name| value.get(name)).collect(),
            (Step::All, Value::Array(items)) => items.iter().collect(),
            (Step::All, Value::Object(map)) => map.values().collect(),
            (Step::Descend, value) => {
                let mut all = Vec::new();
                descend(value, &mut all);
                all
            }
            (Step::Indices(indices), Value::Array(items)) => {
                indices.iter().filter_map(|i| items.get(position(*i, items.len())?)).collect()
            }
            (Step::Slice(from, to, step), Value::Array(items)) => {
                let bound = |at: i64| (if at < 0 { at + items.len() as i64 } else { at }).clamp(0, items.len() as i64);
                let (from, to) = (bound(from.unwrap_or(0)), bound(to.unwrap_or(items.len() as i64)));
                let step = usize::try_from(*step).unwrap_or(1).max(1);
                (from..to).step_by(step).filter_map(|i| items.get(usize::try_from(i).ok()?)).collect()
            }
            (Step::Filter(left, compare, right), value) => {
                let candidates: Vec<&Value> = match value {
                    Value::Array(items) => items.iter().collect(),
                    Value::Object(map) => map.values().collect(),
                    _ => Vec::new(),
                };
                candidates.into_iter().filter(|item| holds(item, left, *compare, right)).collect()
            }
            _ => Vec::new(),
        }
    }
}

fn position(i: i64, len: usize) -> Option<usize> {
    usize::try_from(if i < 0 { i + len as i64 } else { i }).ok()
}

fn descend<'a>(value: &'a Value, all: &mut Vec<&'a Value>) {
    all.push(value);
    match value {
        Value::Object(map) => map.values().for_each(|value| descend(value, all)),
        Value::Array(items) => items.iter().for_each(|value| descend(value, all)),
        _ => {}
    }
}

fn holds(item: &Value, left: &Operand, compare: Compare, right: &Operand) -> bool {
    use std::cmp::Ordering;
    let value = |operand: &Operand| match operand {
        Operand::Literal(value) => Some(value.clone()),
        Operand::Path(path) => path.find(item).first().map(|value| (*value).clone()),
    };
    let (Some(left), right) = (value(left), value(right)) else { return false };
    if compare == Compare::Exists {
        return true;
    }
    let Some(right) = right else { return false };
    let order = match (&left, &right) {
        (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
        (Value::Int(a), Value::Float(b)) => (*a as f64).partial_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.partial_cmp(&(*b as f64)),
        (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
        (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
        (Value::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
        _ => None,
    };
    match (compare, order) {
        (Compare::Unequal, order) => order != Some(Ordering::Equal),
        (_, None) => false,
        (Compare::Equal, Some(order)) => order == Ordering::Equal,
        (Compare::Less, Some(order)) => order == Ordering::Less,
        (Compare::LessOrEqual, Some(order)) => order != Ordering::Greater,
        (Compare::Greater, Some(order)) => order == Ordering::Greater,
        (Compare::GreaterOrEqual, Some(order)) => order != Ordering::Less,
        (Compare::Exists, Some(_)) => true,
    }
}

/// A value as a column of texts shows it.
pub fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Null => "<nil>".to_owned(),
        other => json::to_string(other),
    }
}

struct Parser<'a> {
    rest: &'a str,
}

impl<'a> Parser<'a> {
    fn take(&mut self, token: &str) -> bool {
        match self.rest.strip_prefix(token) {
            Some(rest) => {
                self.rest = rest;
                true
            }
            None => false,
        }
    }

    fn steps(&mut self, ends: fn(char) -> bool) -> Option<Vec<Step>> {
        let mut steps = Vec::new();
        while let Some(next) = self.rest.chars().next().filter(|c| !ends(*c)) {
            if self.take("..") {
                steps.push(Step::Descend);
                if !self.rest.starts_with('[') {
                    steps.push(self.member(ends)?);
                }
            } else if self.take(".") {
                if self.rest.is_empty() || self.rest.starts_with('[') {
                    continue;
                }
                steps.push(self.member(ends)?);
            } else if next == '[' {
                steps.push(self.bracket()?);
            } else {
                return None;
            }
        }
        Some(steps)
    }

    /// A name up to the next step; a backslash takes a character as it is.
    fn member(&mut self, ends: fn(char) -> bool) -> Option<Step> {
        if self.take("*") {
            return Some(Step::All);
        }
        let mut name = String::new();
        let mut rest = self.rest.chars();
        let mut left = self.rest;
        while let Some(c) = rest.next() {
            match c {
                '\\' => name.push(rest.next()?),
                '.' | '[' | ']' => break,
                c if ends(c) || c.is_whitespace() => break,
                c => name.push(c),
            }
            left = rest.as_str();
        }
        self.rest = left;
        (!name.is_empty()).then_some(Step::Field(name))
    }

    fn bracket(&mut self) -> Option<Step> {
        if self.take("[?(") {
            let left = self.operand()?;
            let compare = [
                ("==", Compare::Equal),
                ("!=", Compare::Unequal),
                ("<=", Compare::LessOrEqual),
                (">=", Compare::GreaterOrEqual),
                ("<", Compare::Less),
                (">", Compare::Greater),
            ];
            let compare = compare.into_iter().find(|(token, _)| self.take(token)).map_or(Compare::Exists, |(_, c)| c);
            let right = if compare == Compare::Exists { Operand::Literal(Value::Null) } else { self.operand()? };
            return self.take(")]").then_some(Step::Filter(left, compare, right));
        }
        let end = self.closing()?;
        let inside = self.rest.get(1..end)?.trim();
        self.rest = self.rest.get(end + 1..)?;
        if inside == "*" {
            return Some(Step::All);
        }
        if inside.starts_with('\'') || inside.starts_with('"') {
            let names: Option<Vec<String>> = split_quoted(inside);
            return names.map(Step::Fields);
        }
        if inside.contains(':') {
            let mut parts = inside.split(':').map(str::trim);
            let mut number = || match parts.next() {
                None | Some("") => Some(None),
                Some(text) => text.parse::<i64>().ok().map(Some),
            };
            let (from, to, step) = (number()?, number()?, number()?);
            return Some(Step::Slice(from, to, step.unwrap_or(1)));
        }
        let indices: Result<Vec<i64>, _> = inside.split(',').map(|i| i.trim().parse::<i64>()).collect();
        indices.ok().map(Step::Indices)
    }

    /// Where the bracket that opens here closes, quotes aside.
    fn closing(&self) -> Option<usize> {
        let mut quote = None;
        for (i, c) in self.rest.char_indices() {
            match (quote, c) {
                (None, ']') => return Some(i),
                (None, '\'' | '"') => quote = Some(c),
                (Some(q), c) if q == c => quote = None,
                _ => {}
            }
        }
        None
    }

    fn operand(&mut self) -> Option<Operand> {
        let delimiter = |c: char| matches!(c, '=' | '!' | '<' | '>' | ')') || c.is_whitespace();
        self.rest = self.rest.trim_start();
        let operand = if self.take("@") {
            Operand::Path(JsonPath(self.steps(delimiter)?))
        } else if let Some(quote) = self.rest.chars().next().filter(|c| matches!(c, '\'' | '"')) {
            let inside = &self.rest[1..];
            let end = inside.find(quote)?;
            let text = inside[..end].to_owned();
            self.rest = &inside[end + 1..];
            Operand::Literal(Value::String(text))
        } else {
            let end = self.rest.find(delimiter)?;
            let literal = json::parse(&self.rest.as_bytes()[..end]).ok()?;
            self.rest = &self.rest[end..];
            Operand::Literal(literal)
        };
        self.rest = self.rest.trim_start();
        Some(operand)
    }
}

fn split_quoted(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim();
    loop {
        let quote = rest.chars().next().filter(|c| matches!(c, '\'' | '"'))?;
        let mut name = String::new();
        let mut chars = rest[1..].chars();
        loop {
            match chars.next()? {
                '\\' => name.push(chars.next()?),
                c if c == quote => break,
                c => name.push(c),
            }
        }
        names.push(name);
        rest = chars.as_str().trim_start();
        match rest.strip_prefix(',') {
            Some(more) => rest = more.trim_start(),
            None => return rest.is_empty().then_some(names),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::value;

    #[test]
    fn paths_lead_where_kubectls_lead() {
        let object = value!({"metadata": {"annotations": {"a.b/c": "d"}},
            "spec": {"list": [{"n": 1, "s": "x"}, {"n": 2, "s": "y"}, {"n": 3, "s": "x"}]}});
        for (path, want) in [
            (".spec.list[0].n", value!([1])),
            (".spec.list[-1].n", value!([3])),
            (".spec.list[*].n", value!([1, 2, 3])),
            (".spec.list[0,2].n", value!([1, 3])),
            (".spec.list[1:].n", value!([2, 3])),
            (".spec.list[?(@.s==\"x\")].n", value!([1, 3])),
            (".spec.list[?(@.s == 'y')].n", value!([2])),
            (".spec.list[?(@.n>=2)].s", value!(["y", "x"])),
            (".spec.list[?(@.none)].s", value!([])),
            (".metadata.annotations.a\\.b/c", value!(["d"])),
            (".metadata.annotations['a.b/c']", value!(["d"])),
            ("..n", value!([1, 2, 3])),
            (".none.at.all", value!([])),
        ] {
            let found: Vec<Value> = JsonPath::parse(path).unwrap().find(&object).into_iter().cloned().collect();
            assert_eq!(Value::Array(found), want, "{path}");
        }
        for bad in ["spec", ".a[?(", ".a[", ".a['b"] {
            assert!(JsonPath::parse(bad).is_err(), "{bad}");
        }
    }
}

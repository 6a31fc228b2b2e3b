//! One step of a path: a field, or an element of a list.

use std::cmp::Ordering;
use trireme_schema::{Key, Map, Value, field, json};

/// One step of a path, ordered as `fieldsV1` writes them.
#[derive(Clone, Debug)]
pub enum Element {
    /// A field or a key of a map.
    Field(Key),
    /// An element of a list of objects, by the fields that tell it apart.
    Key(Map),
    /// An element of a set.
    Value(Value),
    /// An element by its position; only read, never made.
    Index(i64),
}

impl Element {
    /// A field.
    pub fn field(name: impl Into<Key>) -> Self {
        Self::Field(name.into())
    }

    /// From its text in `fieldsV1`, such as `f:spec` or `k:{"name":"a"}`; `None` for what is none.
    pub fn read(text: &str) -> Option<Self> {
        let (kind, rest) = text.split_once(':')?;
        match kind {
            "f" => Some(Self::field(rest)),
            "v" => json::parse(rest.as_bytes()).ok().map(Self::Value),
            "i" => rest.parse().ok().map(Self::Index),
            "k" => match json::parse(rest.as_bytes()).ok()? {
                Value::Object(map) => Some(Self::Key(map)),
                _ => None,
            },
            _ => None,
        }
    }

    /// Its text in `fieldsV1`.
    pub fn write(&self) -> String {
        match self {
            Self::Field(name) => format!("f:{name}"),
            Self::Key(map) => format!("k:{}", json::to_string(&Value::Object(map.clone()))),
            Self::Value(value) => format!("v:{}", json::to_string(value)),
            Self::Index(i) => format!("i:{i}"),
        }
    }

    fn rank(&self) -> u8 {
        match self {
            Self::Field(_) => 0,
            Self::Key(_) => 1,
            Self::Value(_) => 2,
            Self::Index(_) => 3,
        }
    }
}

impl Ord for Element {
    fn cmp(&self, other: &Self) -> Ordering {
        match (self, other) {
            (Self::Field(a), Self::Field(b)) => a.as_str().cmp(b.as_str()),
            (Self::Key(a), Self::Key(b)) => order_maps(a, b),
            (Self::Value(a), Self::Value(b)) => order(a, b),
            (Self::Index(a), Self::Index(b)) => a.cmp(b),
            _ => self.rank().cmp(&other.rank()),
        }
    }
}

impl PartialOrd for Element {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl PartialEq for Element {
    fn eq(&self, other: &Self) -> bool {
        self.cmp(other) == Ordering::Equal
    }
}

impl Eq for Element {}

/// As conflicts and errors show it: `.name`, `[name="a"]`, `[="x"]`.
impl std::fmt::Display for Element {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Field(name) => write!(f, ".{name}"),
            Self::Key(map) => {
                let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={}", shown(v))).collect();
                write!(f, "[{}]", pairs.join(","))
            }
            Self::Value(value) => write!(f, "[={}]", shown(value)),
            Self::Index(i) => write!(f, "[{i}]"),
        }
    }
}

/// A value as messages show it.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => field::quote(text),
        Value::Array(items) => format!("[{}]", items.iter().map(shown).collect::<Vec<_>>().join(",")),
        Value::Object(map) => {
            let pairs: Vec<String> = map.iter().map(|(k, v)| format!("{k}={}", shown(v))).collect();
            format!("{{{}}}", pairs.join(";"))
        }
        other => json::to_string(other),
    }
}

/// Whether two values are the same, `1` and `1.0` too.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|((j, a), (k, b))| j == k && same(a, b))
        }
        _ => a == b,
    }
}

/// Numbers before texts, truth values, lists, maps and null.
fn order(a: &Value, b: &Value) -> Ordering {
    let rank = |value: &Value| match value {
        Value::Int(_) | Value::Float(_) => 0,
        Value::String(_) => 1,
        Value::Bool(_) => 2,
        Value::Array(_) => 3,
        Value::Object(_) => 4,
        Value::Null => 5,
    };
    match (a, b) {
        (Value::Int(a), Value::Int(b)) => a.cmp(b),
        (Value::Int(a), Value::Float(b)) => (*a as f64).total_cmp(b),
        (Value::Float(a), Value::Int(b)) => a.total_cmp(&(*b as f64)),
        (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
        (Value::String(a), Value::String(b)) => a.cmp(b),
        (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
        (Value::Array(a), Value::Array(b)) => {
            let first = a.iter().zip(b).map(|(a, b)| order(a, b)).find(|o| o.is_ne());
            first.unwrap_or_else(|| a.len().cmp(&b.len()))
        }
        (Value::Object(a), Value::Object(b)) => order_maps(a, b),
        _ => rank(a).cmp(&rank(b)),
    }
}

fn order_maps(a: &Map, b: &Map) -> Ordering {
    let pairs = a.iter().zip(b.iter());
    let first = pairs.map(|((j, a), (k, b))| j.as_str().cmp(k.as_str()).then_with(|| order(a, b))).find(|o| o.is_ne());
    first.unwrap_or_else(|| a.len().cmp(&b.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_survives_a_round_trip_and_shows_as_upstream_shows_it() {
        for (text, want) in [
            ("f:spec", ".spec"),
            ("f:a.b/c:d", ".a.b/c:d"),
            (r#"k:{"containerPort":80,"protocol":"TCP"}"#, r#"[containerPort=80,protocol="TCP"]"#),
            (r#"v:"e.com/a""#, r#"[="e.com/a"]"#),
            ("v:1", "[=1]"),
            ("i:3", "[3]"),
        ] {
            let element = Element::read(text).unwrap();
            assert_eq!(element.write(), text);
            assert_eq!(element.to_string(), want);
        }
        for bad in ["", "x", "k:[]", "k:{", "v:", "i:x", "q:1"] {
            assert_eq!(Element::read(bad), None, "{bad}");
        }
    }

    #[test]
    fn fields_come_before_keys_values_and_positions() {
        let texts = ["f:a", "f:b", r#"k:{"n":1}"#, r#"k:{"n":2}"#, "v:1", "v:1.5", r#"v:"a""#, "v:true", "i:0"];
        let elements: Vec<Element> = texts.iter().map(|t| Element::read(t).unwrap()).collect();
        let mut sorted = elements.clone();
        sorted.reverse();
        sorted.sort();
        assert_eq!(sorted, elements);
    }
}

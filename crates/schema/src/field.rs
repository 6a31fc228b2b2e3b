//! Paths of fields and what can be wrong with them (apimachinery `field.Error`).

use crate::json;
use crate::value::Value;
use std::fmt;

/// Where a field is: `spec.containers[0].ports[1].name`, `metadata.labels[app]`.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Path(String);

impl Path {
    /// The path of a top-level field; may hold dots.
    pub fn new(name: &str) -> Self {
        Self(name.to_owned())
    }

    /// A field of this one.
    #[must_use]
    pub fn child(&self, name: &str) -> Self {
        if self.0.is_empty() { Self(name.to_owned()) } else { Self(format!("{}.{name}", self.0)) }
    }

    /// An element of this list.
    #[must_use]
    pub fn index(&self, i: usize) -> Self {
        Self(format!("{}[{i}]", self.0))
    }

    /// A value of this map.
    #[must_use]
    pub fn key(&self, key: &str) -> Self {
        Self(format!("{}[{key}]", self.0))
    }
}

impl fmt::Display for Path {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What kind of wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ErrorKind {
    /// Names something that is not there.
    NotFound,
    /// Must be given.
    Required,
    /// Is there twice.
    Duplicate,
    /// Does not fit a rule.
    Invalid,
    /// Is none of the values that are.
    NotSupported,
    /// May not be given here.
    Forbidden,
    /// Text or bytes beyond a limit.
    TooLong,
    /// More elements than allowed.
    TooMany,
    /// Could not be checked.
    Internal,
    /// Has the wrong type.
    TypeInvalid,
}

impl ErrorKind {
    /// As the reason of a cause in a Status.
    pub fn reason(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "FieldValueNotFound",
            ErrorKind::Required => "FieldValueRequired",
            ErrorKind::Duplicate => "FieldValueDuplicate",
            ErrorKind::Invalid => "FieldValueInvalid",
            ErrorKind::NotSupported => "FieldValueNotSupported",
            ErrorKind::Forbidden => "FieldValueForbidden",
            ErrorKind::TooLong => "FieldValueTooLong",
            ErrorKind::TooMany => "FieldValueTooMany",
            ErrorKind::Internal => "InternalError",
            ErrorKind::TypeInvalid => "FieldValueTypeInvalid",
        }
    }

    fn words(self) -> &'static str {
        match self {
            ErrorKind::NotFound => "Not found",
            ErrorKind::Required => "Required value",
            ErrorKind::Duplicate => "Duplicate value",
            ErrorKind::Invalid | ErrorKind::TypeInvalid => "Invalid value",
            ErrorKind::NotSupported => "Unsupported value",
            ErrorKind::Forbidden => "Forbidden",
            ErrorKind::TooLong => "Too long",
            ErrorKind::TooMany => "Too many",
            ErrorKind::Internal => "Internal error",
        }
    }
}

/// One thing that is wrong with one field.
#[derive(Clone, Debug, PartialEq)]
pub struct Error {
    /// What kind of wrong.
    pub kind: ErrorKind,
    /// Where.
    pub field: String,
    /// The value as messages show it, for the kinds that do; empty for the others.
    pub shown: String,
    /// In words.
    pub detail: String,
}

impl Error {
    fn new(kind: ErrorKind, field: &Path, value: Value, detail: impl Into<String>) -> Self {
        let shown = match (kind, value) {
            (ErrorKind::Required | ErrorKind::Forbidden | ErrorKind::TooLong | ErrorKind::Internal, _) => String::new(),
            (_, Value::String(text)) => quote(&text),
            (_, other) => json::to_string(&other),
        };
        Self { kind, field: field.to_string(), shown, detail: detail.into() }
    }

    /// The same, with its value shown another way (such as a struct, whose members have an order).
    #[must_use]
    pub fn showing(mut self, shown: impl Into<String>) -> Self {
        self.shown = shown.into();
        self
    }

    /// Must be given.
    pub fn required(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Required, field, Value::Null, detail)
    }

    /// Does not fit a rule.
    pub fn invalid(field: &Path, value: impl Into<Value>, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Invalid, field, value.into(), detail)
    }

    /// May not be given here.
    pub fn forbidden(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Forbidden, field, Value::Null, detail)
    }

    /// Is there twice.
    pub fn duplicate(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::Duplicate, field, value.into(), "")
    }

    /// Names something that is not there.
    pub fn not_found(field: &Path, value: impl Into<Value>) -> Self {
        Self::new(ErrorKind::NotFound, field, value.into(), "")
    }

    /// Is none of the values that are.
    pub fn not_supported(field: &Path, value: impl Into<Value>, supported: &[&str]) -> Self {
        let listed: Vec<String> = supported.iter().map(|s| quote(s)).collect();
        let detail = if listed.is_empty() { String::new() } else { format!("supported values: {}", listed.join(", ")) };
        Self::new(ErrorKind::NotSupported, field, value.into(), detail)
    }

    /// Text beyond a limit, in bytes.
    pub fn too_long(field: &Path, limit: usize) -> Self {
        Self::new(ErrorKind::TooLong, field, Value::Null, format!("may not be more than {limit} bytes"))
    }

    /// More elements than allowed.
    pub fn too_many(field: &Path, count: usize, limit: usize) -> Self {
        let noun = if limit == 1 { "item" } else { "items" };
        let detail = format!("must have at most {limit} {noun}");
        Self::new(ErrorKind::TooMany, field, Value::Int(count as i64), detail)
    }

    /// Could not be checked.
    pub fn internal(field: &Path, detail: impl Into<String>) -> Self {
        Self::new(ErrorKind::Internal, field, Value::Null, detail)
    }

    /// The message without the path, as a cause in a Status has it.
    pub fn body(&self) -> String {
        let words = self.kind.words();
        let shown = if self.shown.is_empty() { words.to_owned() } else { format!("{words}: {}", self.shown) };
        if self.detail.is_empty() { shown } else { format!("{shown}: {}", self.detail) }
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.field, self.body())
    }
}

/// Text as Go's `%q` shows it.
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{b}' => out.push_str("\\v"),
            '\u{c}' => out.push_str("\\f"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// All that is wrong, as one message.
pub fn aggregate(errors: &[Error]) -> String {
    // Upstream's aggregate names each distinct message once.
    let mut seen = Vec::new();
    for error in errors {
        let text = error.to_string();
        if !seen.contains(&text) {
            seen.push(text);
        }
    }
    if let [only] = &seen[..] { only.clone() } else { format!("[{}]", seen.join(", ")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_read_as_upstream_writes_them() {
        let path = Path::new("spec").child("containers").index(0).child("name");
        assert_eq!(Error::required(&path, "").to_string(), "spec.containers[0].name: Required value");
        assert_eq!(Error::invalid(&path, "A", "bad").body(), "Invalid value: \"A\": bad");
        assert_eq!(
            Error::not_supported(&path, "x", &["a", "b"]).body(),
            "Unsupported value: \"x\": supported values: \"a\", \"b\""
        );
        let twice = [Error::required(&path, ""), Error::forbidden(&path, "no")];
        assert_eq!(
            aggregate(&twice),
            "[spec.containers[0].name: Required value, spec.containers[0].name: Forbidden: no]"
        );
    }
}

//! Formats of texts: `format.dns1123Label().validate(name)`.

use super::{Result, mismatch, urls};
use crate::decl::{Functions, Implementation};
use crate::types::Type;
use crate::value::{Opaque, Timestamp, Value};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use std::any::Any;
use trireme_schema::names;

/// The name of the type.
pub(super) const NAME: &str = "kubernetes.NamedFormat";

/// A format.
#[derive(Debug)]
pub(crate) struct Format {
    name: &'static str,
    /// What is wrong with a text.
    check: fn(&str) -> Vec<String>,
    /// The length of its pattern, for what a check costs.
    pub(crate) longest_pattern: u64,
}

impl Opaque for &'static Format {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref::<Self>().is_some_and(|other| other.name == self.name)
    }
}

/// The text that a prefix of a name is checked as: what is generated follows a dash.
fn prefix(text: &str) -> String {
    match text.strip_suffix('-') {
        Some(rest) if text.len() > 1 => format!("{rest}a"),
        _ => text.to_owned(),
    }
}

fn unless(good: bool, problem: &str) -> Vec<String> {
    if good { Vec::new() } else { vec![problem.to_owned()] }
}

fn is_uuid(text: &str) -> bool {
    let hex = |part: &str| part.bytes().all(|b| b.is_ascii_hexdigit());
    let mut rest = text;
    for (n, length) in [8, 4, 4, 4, 12].into_iter().enumerate() {
        if n > 0 {
            rest = rest.strip_prefix('-').unwrap_or(rest);
        }
        match rest.get(..length) {
            Some(part) if hex(part) => rest = &rest[length..],
            _ => return false,
        }
    }
    rest.is_empty()
}

macro_rules! formats {
    ($($function:literal $name:literal $length:literal $check:expr;)*) => {
        /// All formats, by the names of their functions.
        static FORMATS: &[(&str, Format)] = &[$(($function, Format { name: $name, check: $check, longest_pattern: $length })),*];

        pub(super) fn declare(f: &mut Functions) {
            let functions: &[(&'static str, &'static str, Implementation)] =
                &[$((concat!("format.", $function), $function, |_| Ok(named($function)))),*];
            for (function, _, call) in functions {
                f.global(function, *function, [], Type::object(NAME), *call);
            }
            let problems = Type::optional(Type::list(Type::String));
            f.method("validate", "format-validate", [Type::object(NAME), Type::String], problems, validate);
            f.global("format.named", "format-named", [Type::String], Type::optional(Type::object(NAME)), |args| match args {
                [Value::String(name)] => Ok(Value::Optional(find(name).map(|format| Value::opaque(format).into()))),
                _ => mismatch(),
            });
        }
    };
}

formats! {
    "dns1123Label" "DNS1123Label" 30 names::dns1123_label;
    "dns1123Subdomain" "DNS1123Subdomain" 60 names::dns1123_subdomain;
    "dns1035Label" "DNS1035Label" 30 names::dns1035_label;
    "qualifiedName" "QualifiedName" 60 names::qualified_name;
    "dns1123LabelPrefix" "DNS1123LabelPrefix" 30 |text| names::dns1123_label(&prefix(text));
    "dns1123SubdomainPrefix" "DNS1123SubdomainPrefix" 60 |text| names::dns1123_subdomain(&prefix(text));
    "dns1035LabelPrefix" "DNS1035LabelPrefix" 30 |text| names::dns1035_label(&prefix(text));
    "labelValue" "LabelValue" 40 names::label_value;
    "uri" "URI" 1103 |text| urls::parse_request(text).err().into_iter().collect();
    "uuid" "uuid" 70 |text| unless(is_uuid(text), "does not match the UUID format");
    "byte" "byte" 84 |text| unless(STANDARD.decode(text).is_ok(), "invalid base64");
    "date" "date" 71 |text| unless(Timestamp::from_date(text).is_some(), "invalid date");
    "datetime" "datetime" 71 |text| unless(Timestamp::lenient(text).is_some(), "invalid datetime");
}

fn find(name: &str) -> Option<&'static Format> {
    FORMATS.iter().find(|(function, _)| *function == name).map(|(_, format)| format)
}

fn named<'a>(name: &str) -> Value<'a> {
    find(name).map_or(Value::Null, Value::opaque)
}

fn validate<'a>(args: &[Value<'a>]) -> Result<'a> {
    let [format, Value::String(text)] = args else { return mismatch() };
    let Some(format) = format.as_opaque::<&'static Format>() else { return mismatch() };
    let problems = (format.check)(text);
    if problems.is_empty() {
        return Ok(Value::Optional(None));
    }
    Ok(Value::some(Value::list(problems.into_iter().map(Value::text).collect())))
}

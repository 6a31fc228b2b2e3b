//! Versions: `semver('1.2.3').isLessThan(semver('1.3.0'))`.

use super::{Result, fail, mismatch};
use crate::decl::{Functions, Implementation};
use crate::types::Type;
use crate::value::{Opaque, Value};
use std::any::Any;
use std::cmp::Ordering;

/// The name of the type.
pub(super) const NAME: &str = "kubernetes.Semver";

/// A version as semver.org has it; what was built when does not count.
#[derive(Clone, Debug, PartialEq)]
struct Version {
    numbers: [u64; 3],
    pre: Vec<Part>,
}

/// A part of a pre-release.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    // Numbers come before texts.
    Number(u64),
    Text(String),
}

impl Opaque for Version {
    fn type_name(&self) -> &'static str {
        NAME
    }

    fn equals(&self, other: &dyn Opaque) -> bool {
        (other as &dyn Any).downcast_ref() == Some(self)
    }
}

pub(super) fn declare(f: &mut Functions) {
    use Type::{Bool, Int, String};
    let t = || Type::object(NAME);
    f.global("semver", "string_to_semver", [String], t(), to_semver);
    f.global("semver", "string_bool_to_semver", [String, Bool], t(), to_semver);
    f.global("isSemver", "is_semver_string", [String], Bool, |args| Ok(Value::Bool(read(args)?.is_ok())));
    f.global("isSemver", "is_semver_string_bool", [String, Bool], Bool, |args| Ok(Value::Bool(read(args)?.is_ok())));
    let comparisons: [(&'static str, &'static str, Type, Implementation); 3] = [
        ("isGreaterThan", "semver_is_greater_than", Bool, |args| compare(args, |o| Value::Bool(o.is_gt()))),
        ("isLessThan", "semver_is_less_than", Bool, |args| compare(args, |o| Value::Bool(o.is_lt()))),
        ("compareTo", "semver_compare_to", Int, |args| compare(args, |o| Value::Int(o as i64))),
    ];
    for (name, id, result, call) in comparisons {
        f.method(name, id, [t(), t()], result, call);
    }
    let numbers: [(&'static str, &'static str, Implementation); 3] = [
        ("major", "semver_major", |args| number(args, 0)),
        ("minor", "semver_minor", |args| number(args, 1)),
        ("patch", "semver_patch", |args| number(args, 2)),
    ];
    for (name, id, call) in numbers {
        f.method(name, id, [t()], Int, call);
    }
}

type Parsed = std::result::Result<Version, String>;

fn read(args: &[Value<'_>]) -> std::result::Result<Parsed, crate::error::EvalError> {
    match args {
        [Value::String(text)] | [Value::String(text), Value::Bool(false)] => Ok(parse(text)),
        [Value::String(text), Value::Bool(true)] => Ok(normalize(text).and_then(|text| parse(&text))),
        _ => Err(crate::error::EvalError::no_such_overload()),
    }
}

fn to_semver<'a>(args: &[Value<'a>]) -> Result<'a> {
    read(args)?.map_or_else(fail, |version| Ok(Value::opaque(version)))
}

fn number<'a>(args: &[Value<'a>], n: usize) -> Result<'a> {
    match args {
        [value] => match value.as_opaque::<Version>() {
            Some(version) => Ok(Value::Int(version.numbers[n] as i64)),
            None => mismatch(),
        },
        _ => mismatch(),
    }
}

fn compare<'a>(args: &[Value<'a>], of: fn(Ordering) -> Value<'a>) -> Result<'a> {
    let [a, b] = args else { return mismatch() };
    match (a.as_opaque::<Version>(), b.as_opaque::<Version>()) {
        (Some(a), Some(b)) => Ok(of(a.order(b))),
        _ => mismatch(),
    }
}

impl Version {
    /// A release comes after what came before it.
    fn order(&self, other: &Self) -> Ordering {
        let pre = match (self.pre.is_empty(), other.pre.is_empty()) {
            (true, true) => Ordering::Equal,
            (true, false) => Ordering::Greater,
            (false, true) => Ordering::Less,
            (false, false) => self.pre.cmp(&other.pre),
        };
        self.numbers.cmp(&other.numbers).then(pre)
    }
}

fn parse(text: &str) -> Parsed {
    if text.is_empty() {
        return Err("Version string empty".to_owned());
    }
    let parts: Vec<&str> = text.splitn(3, '.').collect();
    let [major, minor, rest] = &*parts else { return Err("No Major.Minor.Patch elements found".to_owned()) };
    let (rest, build) = rest.split_once('+').map_or((*rest, None), |(rest, build)| (rest, Some(build)));
    let (patch, pre) = rest.split_once('-').map_or((rest, None), |(patch, pre)| (patch, Some(pre)));
    let numbers = [digits("Major", major)?, digits("Minor", minor)?, digits("Patch", patch)?];
    let mut parts = Vec::new();
    for part in pre.into_iter().flat_map(|pre| pre.split('.')) {
        parts.push(pre_release(part)?);
    }
    for part in build.into_iter().flat_map(|build| build.split('.')) {
        if part.is_empty() {
            return Err("Build meta data is empty".to_owned());
        }
        if !part.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
            return Err(format!("Invalid character(s) found in build meta data {part:?}"));
        }
    }
    Ok(Version { numbers, pre: parts })
}

fn digits(what: &str, text: &str) -> std::result::Result<u64, String> {
    if !text.bytes().all(|b| b.is_ascii_digit()) {
        return Err(format!("Invalid character(s) found in {} number {text:?}", what.to_lowercase()));
    }
    if text.len() > 1 && text.starts_with('0') {
        return Err(format!("{what} number must not contain leading zeroes {text:?}"));
    }
    text.parse().map_err(|_| {
        let why = if text.is_empty() { "invalid syntax" } else { "value out of range" };
        format!("strconv.ParseUint: parsing {text:?}: {why}")
    })
}

fn pre_release(text: &str) -> std::result::Result<Part, String> {
    if text.is_empty() {
        return Err("Prerelease is empty".to_owned());
    }
    if text.bytes().all(|b| b.is_ascii_digit()) {
        if text.len() > 1 && text.starts_with('0') {
            return Err(format!("Numeric PreRelease version must not contain leading zeroes {text:?}"));
        }
        return text
            .parse()
            .map(Part::Number)
            .map_err(|_| format!("strconv.ParseUint: parsing {text:?}: value out of range"));
    }
    if text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        Ok(Part::Text(text.to_owned()))
    } else {
        Err(format!("Invalid character(s) found in prerelease {text:?}"))
    }
}

/// Without `v` and leading zeros, and with three numbers.
fn normalize(text: &str) -> std::result::Result<String, String> {
    let text = text.strip_prefix('v').unwrap_or(text);
    let mut parts: Vec<String> = text
        .splitn(3, '.')
        .map(|part| {
            if part.len() < 2 {
                return part.to_owned();
            }
            let trimmed = part.trim_start_matches('0');
            let needs_zero = !trimmed.starts_with(|c: char| c.is_ascii_digit());
            if needs_zero { format!("0{trimmed}") } else { trimmed.to_owned() }
        })
        .collect();
    if parts.len() < 3 {
        if parts.last().is_some_and(|part| part.contains(['+', '-'])) {
            return Err("short version cannot contain PreRelease/Build meta data".to_owned());
        }
        parts.resize(3, "0".to_owned());
    }
    Ok(parts.join("."))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn versions_are_ordered_as_semver_says() {
        let ordered =
            ["1.0.0-alpha", "1.0.0-alpha.1", "1.0.0-alpha.beta", "1.0.0-beta.2", "1.0.0-beta.11", "1.0.0", "2.1.0"];
        for pair in ordered.windows(2) {
            assert_eq!(parse(pair[0]).unwrap().order(&parse(pair[1]).unwrap()), Ordering::Less, "{pair:?}");
        }
        assert_eq!(normalize("v01.1").as_deref(), Ok("1.1.0"));
        for bad in ["", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "a.b.c"] {
            assert!(parse(bad).is_err(), "{bad}");
        }
    }
}

//! What validation finds, where, and how far it went.

use trireme_schema::field::{Error, Path};
use trireme_schema::{Value, json};

/// Where a value is: a path that is written out only when there is something to say.
#[derive(Clone, Copy)]
pub(crate) struct Place<'a> {
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

#[derive(Clone, Copy)]
enum Step<'a> {
    Name(&'a str),
    Index(usize),
}

impl<'a> Place<'a> {
    pub(crate) fn root(name: &'a str) -> Self {
        Self { parent: None, step: Step::Name(name) }
    }

    pub(crate) fn member<'b>(&'b self, name: &'b str) -> Place<'b> {
        Place { parent: Some(self), step: Step::Name(name) }
    }

    pub(crate) fn index(&self, i: usize) -> Place<'_> {
        Place { parent: Some(self), step: Step::Index(i) }
    }

    pub(crate) fn is_root(&self) -> bool {
        self.parent.is_none()
    }

    pub(crate) fn text(&self) -> String {
        let mut text = self.parent.map(Place::text).unwrap_or_default();
        match self.step {
            Step::Index(i) => text.push_str(&format!("[{i}]")),
            Step::Name(name) => {
                if !text.is_empty() {
                    text.push('.');
                }
                text.push_str(name);
            }
        }
        text
    }
}

/// One thing that is wrong.
#[derive(Clone, Debug, PartialEq)]
pub struct Finding {
    place: Option<String>,
    text: String,
    what: What,
}

#[derive(Clone, Debug, PartialEq)]
enum What {
    Required,
    Type(Value),
    Invalid(Value),
    TooLong(i64),
    TooMany(i64, i64),
    NotSupported(Value, Vec<String>),
    /// Nothing that one field is to blame for.
    Composite,
}

impl Finding {
    fn at(at: &Place<'_>, text: String, what: What) -> Self {
        Self { place: Some(at.text()), text, what }
    }

    pub(crate) fn required(at: &Place<'_>) -> Self {
        Self::at(at, format!("{} in body is required", at.text()), What::Required)
    }

    pub(crate) fn of_type(at: &Place<'_>, want: &str, have: Value) -> Self {
        let shown = match &have {
            Value::String(text) => trireme_schema::field::quote(text),
            other => json::to_string(other),
        };
        let text = match have.as_str() {
            Some("") => format!("{} in body must be of type {want}", at.text()),
            _ => format!("{} in body must be of type {want}: {shown}", at.text()),
        };
        Self::at(at, text, What::Type(have))
    }

    pub(crate) fn invalid(at: &Place<'_>, value: Value, why: String) -> Self {
        Self::at(at, format!("{} in body {why}", at.text()), What::Invalid(value))
    }

    pub(crate) fn too_long(at: &Place<'_>, value: &str, limit: i64) -> Self {
        let text = format!("{} in body should be at most {limit} chars long: {value}", at.text());
        Self::at(at, text, What::TooLong(limit))
    }

    pub(crate) fn too_many(at: &Place<'_>, count: i64, limit: i64, of_what: &str) -> Self {
        let text = format!("{} in body should have at most {limit} {of_what}", at.text());
        Self::at(at, text, What::TooMany(count, limit))
    }

    pub(crate) fn not_supported(at: &Place<'_>, value: &Value, allowed: &[Value]) -> Self {
        let listed: Vec<String> =
            allowed.iter().map(|value| value.as_str().map_or_else(|| json::to_string(value), str::to_owned)).collect();
        let text = format!("{} in body should be one of {listed:?}", at.text());
        Self::at(at, text, What::NotSupported(value.clone(), listed))
    }

    pub(crate) fn forbidden_member(at: &Place<'_>, name: &str) -> Self {
        Self::at(at, format!("{}.{name} in body is a forbidden property", at.text()), What::Invalid(name.into()))
    }

    pub(crate) fn composite(at: &Place<'_>, why: &str) -> Self {
        let text = format!("{} {why}", trireme_schema::field::quote(&at.text()));
        Self { place: None, text, what: What::Composite }
    }

    /// What is said of a bound or number that its type cannot hold.
    pub(crate) fn unplaced(text: String) -> Self {
        Self { place: None, text, what: What::Composite }
    }

    /// The error for clients, below a path.
    pub(crate) fn error(self, path: &Path) -> Error {
        let place = match &self.place {
            Some(place) if !place.is_empty() && place != "." => path.child(place.trim_start_matches('.')),
            _ => path.clone(),
        };
        match self.what {
            What::Required => Error::required(&place, ""),
            What::Type(value) => Error {
                kind: trireme_schema::field::ErrorKind::TypeInvalid,
                ..Error::invalid(&place, value, self.text)
            },
            What::Invalid(value) => Error::invalid(&place, value, self.text),
            What::TooLong(limit) => match usize::try_from(limit) {
                Ok(limit) => Error::too_long(&place, limit),
                Err(_) => Error { detail: "value is too long".into(), ..Error::too_long(&place, 0) },
            },
            What::TooMany(count, limit) => {
                Error::too_many(&place, usize::try_from(count).unwrap_or(0), usize::try_from(limit).unwrap_or(0))
            }
            What::NotSupported(value, listed) => {
                let listed: Vec<&str> = listed.iter().map(String::as_str).collect();
                Error::not_supported(&place, value, &listed)
            }
            What::Composite => {
                let path = if path.to_string().is_empty() { Path::new("<nil>") } else { path.clone() };
                Error::invalid(&path, "", self.text)
            }
        }
    }
}

/// What was found, each thing once, and how many checks were passed.
#[derive(Debug, Default)]
pub(crate) struct Findings {
    list: Vec<Finding>,
    pub(crate) matches: usize,
}

impl Findings {
    pub(crate) fn matching(matches: usize) -> Self {
        Self { list: Vec::new(), matches }
    }

    pub(crate) fn is_valid(&self) -> bool {
        self.list.is_empty()
    }

    pub(crate) fn add(&mut self, finding: Finding) {
        if !self.list.iter().any(|known| known.text == finding.text) {
            self.list.push(finding);
        }
    }

    pub(crate) fn merge(&mut self, other: Findings) {
        self.matches += other.matches;
        other.list.into_iter().for_each(|finding| self.add(finding));
    }

    pub(crate) fn into_iter(self) -> impl Iterator<Item = Finding> {
        self.list.into_iter()
    }
}

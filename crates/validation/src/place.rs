//! A value of an object and where it stands.

use crate::Subject;
use std::fmt;
use trireme_schema::{Key, Map, Quantity, Value};

static NOTHING: Value = Value::Null;

#[derive(Clone, Copy, Debug)]
enum Step<'a> {
    Root,
    /// `.name`
    Field(&'a str),
    /// `.name[3]`
    Item(&'a str, usize),
    /// `.name[key]`
    Entry(&'a str, &'a str),
    /// `[3]`
    Index(usize),
    /// `[key]`
    Key(&'a str),
}

/// A value in an object, what stood there before an update, and the way there. Paths cost nothing until an error is
/// written: a place is a link to the place around it.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// What is validated.
    pub subject: &'a Subject<'a>,
    /// The value; `Null` when absent.
    pub value: &'a Value,
    /// The value before the update; `None` when the object is new or the place had no counterpart.
    pub old: Option<&'a Value>,
    parent: Option<&'a Place<'a>>,
    step: Step<'a>,
}

impl<'a> Place<'a> {
    /// The whole object.
    pub fn root(subject: &'a Subject<'a>) -> Self {
        Self { subject, value: subject.new, old: subject.old, parent: None, step: Step::Root }
    }

    fn step<'b>(&'b self, step: Step<'b>, value: &'b Value, old: Option<&'b Value>) -> Place<'b> {
        Place { subject: self.subject, value, old, parent: Some(self), step }
    }

    /// A member, there or not. Dots lead further: `template.spec`.
    pub fn child<'b>(&'b self, name: &'b str) -> Place<'b> {
        let find = |value: &'b Value| name.split('.').try_fold(value, |v, part| v.get(part));
        self.step(Step::Field(name), find(self.value).unwrap_or(&NOTHING), self.old.and_then(find))
    }

    /// A member, when it is there.
    pub fn field<'b>(&'b self, name: &'b str) -> Option<Place<'b>> {
        Some(self.child(name)).filter(Place::is_set)
    }

    /// The elements of a member that is a list. Lists of updated objects are paired by position.
    pub fn items<'b>(&'b self, name: &'b str) -> impl ExactSizeIterator<Item = Place<'b>> + use<'a, 'b> {
        let old = self.old.map(|o| o.list_at(&[name])).unwrap_or_default();
        self.list(name).iter().enumerate().map(move |(i, value)| self.step(Step::Item(name, i), value, old.get(i)))
    }

    /// The values of a member that is a map, with their keys.
    pub fn entries<'b>(&'b self, name: &'b str) -> impl Iterator<Item = (&'b str, Place<'b>)> + use<'a, 'b> {
        let old = self.old.and_then(|o| o.get(name));
        self.map(name).into_iter().flat_map(Map::iter).map(move |(key, value): (&'b Key, _)| {
            (key.as_str(), self.step(Step::Entry(name, key), value, old.and_then(|o| o.get(key))))
        })
    }

    /// The element of this list, or a place like it.
    pub fn index<'b>(&'b self, i: usize) -> Place<'b> {
        let of = |value: &'b Value| value.as_array().and_then(|items| items.get(i));
        self.step(Step::Index(i), of(self.value).unwrap_or(&NOTHING), self.old.and_then(of))
    }

    /// The entry of this map, there or not.
    pub fn key<'b>(&'b self, key: &'b str) -> Place<'b> {
        let find = |value: &'b Value| value.get(key);
        self.step(Step::Key(key), find(self.value).unwrap_or(&NOTHING), self.old.and_then(find))
    }

    /// The member's entry with this key, there or not.
    pub fn entry<'b>(&'b self, name: &'b str, key: &'b str) -> Place<'b> {
        let find = |value: &'b Value| value.get(name).and_then(|m| m.get(key));
        self.step(Step::Entry(name, key), find(self.value).unwrap_or(&NOTHING), self.old.and_then(find))
    }

    /// The same place under another name: some of upstream's paths are not those of the fields.
    pub fn shown_as<'b>(&self, name: &'b str) -> Place<'b>
    where
        'a: 'b,
    {
        Place { step: Step::Field(name), ..*self }
    }

    /// The same place with another value: for what upstream tells at a place where it does not stand.
    pub fn with<'b>(&self, value: &'b Value) -> Place<'b>
    where
        'a: 'b,
    {
        Place { value, ..*self }
    }

    /// Whether there is a value.
    pub fn is_set(&self) -> bool {
        !self.value.is_null()
    }

    /// Whether a member is there.
    pub fn has(&self, name: &str) -> bool {
        self.value.get(name).is_some()
    }

    /// The text of a member; empty when absent.
    pub fn text(&self, name: &str) -> &'a str {
        self.value.get(name).and_then(Value::as_str).unwrap_or_default()
    }

    /// The number of a member.
    pub fn int(&self, name: &str) -> Option<i64> {
        self.value.get(name).and_then(Value::as_int)
    }

    /// The truth of a member; false when absent.
    pub fn is(&self, name: &str) -> bool {
        self.value.get(name).and_then(Value::as_bool).unwrap_or_default()
    }

    /// The elements of a member.
    pub fn list(&self, name: &str) -> &'a [Value] {
        self.value.get(name).and_then(Value::as_array).unwrap_or_default()
    }

    /// A member that is a map.
    pub fn map(&self, name: &str) -> Option<&'a Map> {
        self.value.get(name).and_then(Value::as_object)
    }

    /// This value as text; empty when it is none.
    pub fn str(&self) -> &'a str {
        self.value.as_str().unwrap_or_default()
    }

    /// This value as a quantity.
    pub fn quantity(&self) -> Option<Quantity> {
        self.value.as_str()?.parse().ok()
    }

    /// Whether an update changed the value.
    pub fn is_changed(&self) -> bool {
        self.old.unwrap_or(&NOTHING) != self.value
    }

    /// The place around this one.
    pub fn parent(&self) -> Option<&'a Place<'a>> {
        self.parent
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(parent) = self.parent {
            parent.fmt(f)?;
            if !matches!((&parent.step, &self.step), (Step::Root, _) | (_, Step::Index(_) | Step::Key(_))) {
                f.write_str(".")?;
            }
        }
        match self.step {
            Step::Root => Ok(()),
            Step::Field(name) => f.write_str(name),
            Step::Item(name, i) => write!(f, "{name}[{i}]"),
            Step::Entry(name, key) => write!(f, "{name}[{key}]"),
            Step::Index(i) => write!(f, "[{i}]"),
            Step::Key(key) => write!(f, "[{key}]"),
        }
    }
}

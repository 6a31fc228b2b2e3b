//! What is wrong, collected.

use crate::{Place, internal};
use trireme_schema::Value;
use trireme_schema::field::{Error, Path};

/// The errors found so far.
#[derive(Debug, Default)]
pub struct Errors(Vec<Error>);

fn path(place: &Place<'_>) -> Path {
    Path::new(&place.to_string())
}

impl Errors {
    /// Must be given.
    pub fn required(&mut self, place: &Place<'_>, detail: impl Into<String>) {
        self.0.push(Error::required(&path(place), detail));
    }

    /// The value of the place does not fit a rule.
    pub fn invalid(&mut self, place: &Place<'_>, detail: impl Into<String>) {
        self.invalid_value(place, place.value.clone(), detail);
    }

    /// A value does not fit a rule, and is shown another way than it stands there.
    pub fn invalid_value(&mut self, place: &Place<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.0.push(Error::invalid(&path(place), value, detail));
    }

    /// A value does not fit a rule; `shown` is its JSON as upstream writes it.
    pub fn invalid_shown(&mut self, place: &Place<'_>, shown: impl Into<String>, detail: impl Into<String>) {
        self.0.push(Error::invalid(&path(place), Value::Null, detail).showing(shown));
    }

    /// The value of the place, of a type of the server's own, does not fit a rule.
    pub(crate) fn invalid_internal(&mut self, place: &Place<'_>, ty: &str, detail: impl Into<String>) {
        self.invalid_shown(place, internal::show(ty, place.value), detail);
    }

    /// What a format of [`crate::formats`] says of a text.
    pub fn format(&mut self, place: &Place<'_>, text: &str, wrong: Vec<String>) {
        for why in wrong {
            self.invalid_value(place, text, why);
        }
    }

    /// May not be given here.
    pub fn forbidden(&mut self, place: &Place<'_>, detail: impl Into<String>) {
        self.0.push(Error::forbidden(&path(place), detail));
    }

    /// Is there twice.
    pub fn duplicate(&mut self, place: &Place<'_>, value: impl Into<Value>) {
        self.0.push(Error::duplicate(&path(place), value));
    }

    /// Names something that is not there.
    pub fn not_found(&mut self, place: &Place<'_>, value: impl Into<Value>) {
        self.0.push(Error::not_found(&path(place), value));
    }

    /// Is there twice; `shown` is its JSON as upstream writes it.
    pub fn duplicate_shown(&mut self, place: &Place<'_>, shown: impl Into<String>) {
        self.0.push(Error::duplicate(&path(place), Value::Null).showing(shown));
    }

    /// The same, with a reason.
    pub fn duplicate_because(&mut self, place: &Place<'_>, shown: impl Into<String>, detail: impl Into<String>) {
        let error = Error::duplicate(&path(place), Value::Null).showing(shown);
        self.0.push(Error { detail: detail.into(), ..error });
    }

    /// Could not be checked.
    pub fn internal(&mut self, place: &Place<'_>, detail: impl Into<String>) {
        self.0.push(Error::internal(&path(place), detail));
    }

    /// Names something that is not there, with a reason.
    pub fn not_found_because(&mut self, place: &Place<'_>, value: impl Into<Value>, detail: impl Into<String>) {
        self.0.push(Error { detail: detail.into(), ..Error::not_found(&path(place), value) });
    }

    /// Is none of the values that are (which are told as they come here).
    pub fn not_supported(&mut self, place: &Place<'_>, value: impl Into<Value>, supported: &[&str]) {
        self.0.push(Error::not_supported(&path(place), value, supported));
    }

    /// The value of the place, of a type of the server's own, is none of the kinds that are.
    pub(crate) fn not_supported_internal(&mut self, place: &Place<'_>, ty: &str, supported: &[&str]) {
        let shown = internal::show(ty, place.value);
        self.0.push(Error::not_supported(&path(place), Value::Null, supported).showing(shown));
    }

    /// Is none of the values that are; `shown` is its JSON as upstream writes it.
    pub fn not_supported_shown(&mut self, place: &Place<'_>, shown: impl Into<String>, supported: &[&str]) {
        self.0.push(Error::not_supported(&path(place), Value::Null, supported).showing(shown));
    }

    /// Text beyond a limit, in bytes.
    pub fn too_long(&mut self, place: &Place<'_>, limit: usize) {
        self.0.push(Error::too_long(&path(place), limit));
    }

    /// More elements than allowed.
    pub fn too_many(&mut self, place: &Place<'_>, count: usize, limit: usize) {
        self.0.push(Error::too_many(&path(place), count, limit));
    }

    /// An error made elsewhere.
    pub fn push(&mut self, error: Error) {
        self.0.push(error);
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether nothing was found.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub(crate) fn into_list(self) -> Vec<Error> {
        self.0
    }
}

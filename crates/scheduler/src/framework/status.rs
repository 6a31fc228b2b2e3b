use std::borrow::Cow;
use std::fmt;

/// Why a plugin says no.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Code {
    /// Something went wrong; the pod is tried again after its back-off.
    Error,
    /// The pod does not fit; the removal of other pods could help.
    Unschedulable,
    /// The pod does not fit, and the removal of pods does not help.
    Unresolvable,
    /// The pod fits once something that is under way has happened.
    Pending,
}

/// A plugin's no.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Status {
    /// What kind of no.
    pub code: Code,
    /// What the user is told, such as `Insufficient cpu`. Several when several things are missing.
    pub reasons: Vec<Cow<'static, str>>,
    /// Which plugin; filled in by the framework.
    pub plugin: &'static str,
}

impl Status {
    /// The removal of other pods could help.
    pub fn unschedulable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Code::Unschedulable, reason)
    }

    /// The removal of other pods does not help.
    pub fn unresolvable(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Code::Unresolvable, reason)
    }

    /// Something under way has to happen first.
    pub fn pending(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Code::Pending, reason)
    }

    /// Something went wrong.
    pub fn error(reason: impl Into<Cow<'static, str>>) -> Self {
        Self::of(Code::Error, reason)
    }

    /// Several reasons.
    pub fn several(code: Code, reasons: Vec<Cow<'static, str>>) -> Self {
        Self { code, reasons, plugin: "" }
    }

    fn of(code: Code, reason: impl Into<Cow<'static, str>>) -> Self {
        Self { code, reasons: vec![reason.into()], plugin: "" }
    }

    /// The same, said by a plugin.
    #[must_use]
    pub fn by(mut self, plugin: &'static str) -> Self {
        self.plugin = plugin;
        self
    }

    /// Whether the pod does not fit, as opposed to an attempt that went wrong.
    pub fn is_rejection(&self) -> bool {
        self.code != Code::Error
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.reasons.join(", "))
    }
}

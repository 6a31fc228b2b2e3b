//! What authorizers say.

/// Whether something may be done.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Opinion {
    /// It may.
    Allow,
    /// It may not, whatever others say.
    Deny,
    /// Nothing speaks for it.
    #[default]
    None,
}

/// What an authorizer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    /// Whether it may be done.
    pub opinion: Opinion,
    /// Why, or what is missing; may be empty.
    pub reason: String,
    /// What went wrong while it was found out; empty if nothing.
    pub error: String,
}

impl Decision {
    /// It may be done.
    pub fn allow(reason: impl Into<String>) -> Self {
        Self { opinion: Opinion::Allow, reason: reason.into(), error: String::new() }
    }

    /// Nothing speaks for it.
    pub fn no_opinion(reason: impl Into<String>) -> Self {
        Self { opinion: Opinion::None, reason: reason.into(), error: String::new() }
    }

    /// It could not be found out.
    pub(super) fn failed(opinion: Opinion, error: impl Into<String>) -> Self {
        Self { opinion, reason: String::new(), error: error.into() }
    }

    /// Whether it may be done.
    pub fn is_allowed(&self) -> bool {
        self.opinion == Opinion::Allow
    }

    /// All that authorizers have said one after the other. The first that allows or denies is the only one that counts;
    /// if none does, all of them have said why not.
    pub(super) fn of_all(no_opinions: Vec<Self>) -> Self {
        let texts = |of: fn(Self) -> String| {
            let texts = no_opinions.iter().cloned().map(of);
            texts.filter(|text| !text.is_empty()).collect::<Vec<_>>()
        };
        let (reasons, errors) = (texts(|d| d.reason), texts(|d| d.error));
        Self { opinion: Opinion::None, reason: reasons.join("\n"), error: aggregate(&errors) }
    }
}

/// Errors as upstream's `Aggregate` tells them.
pub(crate) fn aggregate(errors: &[String]) -> String {
    match errors {
        [] => String::new(),
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reasons_of_all_who_do_not_allow_are_told() {
        let no = Decision::no_opinion;
        assert_eq!(Decision::of_all(vec![no("a"), no(""), no("b")]), no("a\nb"));
        let failed = |why: &str| Decision::failed(Opinion::None, why);
        assert_eq!(Decision::of_all(vec![failed("x"), no("b"), failed("y")]).error, "[x, y]");
        assert_eq!(Decision::of_all(Vec::new()), no(""));
    }
}

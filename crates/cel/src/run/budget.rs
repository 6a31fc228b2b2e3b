//! What an evaluation may cost, and what it is about.

use crate::error::EvalError;
use crate::value::Value;
use std::collections::HashMap;

/// The variables of an evaluation.
pub trait Activation {
    /// The value of a variable, if there is one of the name.
    ///
    /// # Errors
    /// There is one, but its value could not be found out.
    fn variable(&self, name: &str) -> Result<Option<Value<'_>>, EvalError>;

    /// A field of a variable whose fields are made only when they are wanted, as those of `variables` in admission
    /// policies; the inner none if there is no such field. The outer none: the variable is like any other.
    fn lazy_field(&self, _variable: &str, _field: &str) -> Option<Result<Option<Value<'_>>, EvalError>> {
        None
    }
}

impl<S: std::hash::BuildHasher> Activation for HashMap<String, Value<'_>, S> {
    fn variable(&self, name: &str) -> Result<Option<Value<'_>>, EvalError> {
        Ok(self.get(name).cloned())
    }
}

impl<const N: usize> Activation for [(&str, Value<'_>); N] {
    fn variable(&self, name: &str) -> Result<Option<Value<'_>>, EvalError> {
        Ok(self.iter().find(|(there, _)| *there == name).map(|(_, value)| value.clone()))
    }
}

/// What an evaluation may cost, and what it has cost.
pub struct Budget<'a> {
    limit: u64,
    spent: u64,
    cancelled: Option<&'a dyn Fn() -> bool>,
    until_check: u32,
}

/// After so many rounds of comprehensions it is asked whether the result is still wanted.
const CHECK_EVERY: u32 = 100;

impl<'a> Budget<'a> {
    /// So much, in cel-go's units.
    pub fn new(limit: u64) -> Self {
        Self { limit, spent: 0, cancelled: None, until_check: CHECK_EVERY }
    }

    /// Stops when `cancelled` says so.
    pub fn with_cancellation(mut self, cancelled: &'a dyn Fn() -> bool) -> Self {
        self.cancelled = Some(cancelled);
        self
    }

    /// What has been spent.
    pub fn spent(&self) -> u64 {
        self.spent
    }

    /// What is left.
    pub fn left(&self) -> u64 {
        self.limit.saturating_sub(self.spent)
    }

    /// Spends.
    pub(crate) fn charge(&mut self, cost: u64) -> Result<(), EvalError> {
        self.spent = self.spent.saturating_add(cost);
        if self.spent > self.limit { Err(EvalError::OverBudget) } else { Ok(()) }
    }

    /// A round of a comprehension.
    pub(crate) fn round(&mut self) -> Result<(), EvalError> {
        let Some(cancelled) = self.cancelled else { return Ok(()) };
        self.until_check -= 1;
        if self.until_check > 0 {
            return Ok(());
        }
        self.until_check = CHECK_EVERY;
        if cancelled() { Err(EvalError::Cancelled) } else { Ok(()) }
    }
}

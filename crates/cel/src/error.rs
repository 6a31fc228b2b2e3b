//! What can go wrong while an expression is evaluated.

use std::borrow::Cow;

/// Why there is no result.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvalError {
    /// An operation failed; `&&`, `||` and the macros `all` and `exists` may do without it.
    #[error("{0}")]
    Failed(Cow<'static, str>),
    /// The expression would cost more than it may.
    #[error("operation cancelled: actual cost limit exceeded")]
    OverBudget,
    /// The caller does not want the result any more.
    #[error("operation interrupted")]
    Cancelled,
}

impl EvalError {
    /// An operation failed, for this reason.
    pub fn new(reason: impl Into<Cow<'static, str>>) -> Self {
        EvalError::Failed(reason.into())
    }

    /// The arguments have types that the function does not take.
    pub(crate) fn no_such_overload() -> Self {
        EvalError::Failed(Cow::Borrowed("no such overload"))
    }

    /// Whether the whole evaluation ends here, whatever other parts would give.
    pub fn is_final(&self) -> bool {
        !matches!(self, EvalError::Failed(_))
    }
}

//! A compiled expression.

use crate::check::Checked;
use crate::cost::{Range, SizeHints, estimate};
use crate::env::Env;
use crate::error::EvalError;
use crate::run::{Activation, Budget, Plan, evaluate, plan};
use crate::syntax::source::Issues;
use crate::types::Type;
use crate::value::Value;

/// Why an expression does not compile.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It is wrong.
    #[error("compilation failed: {0}")]
    Invalid(#[from] Issues),
    /// Part of it is constant and fails.
    #[error("program instantiation failed: {0}")]
    Program(#[from] EvalError),
}

/// A compiled expression, to be evaluated often and anywhere.
#[derive(Debug)]
pub struct Program {
    plan: Plan,
    slots: usize,
    result_type: Type,
    /// Only for what is asked before it is evaluated.
    checked: Option<Box<Checked>>,
}

impl Program {
    pub(crate) fn new(env: &Env, checked: Checked) -> Result<Self, CompileError> {
        let (plan, slots) = plan(env, &checked)?;
        let result_type = checked.type_of(&checked.tree).clone();
        Ok(Self { plan, slots, result_type, checked: Some(Box::new(checked)) })
    }

    /// The type of the result; `dyn` if nobody has checked it.
    pub fn result_type(&self) -> &Type {
        &self.result_type
    }

    /// The bounds of what it can cost. The expression must have been checked.
    pub fn cost_estimate(&self, hints: &dyn SizeHints) -> Range {
        self.checked.as_ref().map_or(Range::UNKNOWN, |checked| estimate(checked, hints))
    }

    /// Whether it reads a variable.
    pub fn uses(&self, variable: &str) -> bool {
        self.checked.as_ref().is_none_or(|checked| checked.uses(variable))
    }

    /// The same without what only [`Self::cost_estimate`] and [`Self::uses`] need, which is most of its memory: they
    /// then answer that anything is possible.
    pub fn slim(self) -> Self {
        Self { checked: None, ..self }
    }

    /// Evaluates it.
    ///
    /// # Errors
    /// An operation fails, or the budget is used up.
    pub fn evaluate<'a>(
        &'a self,
        activation: &'a dyn Activation,
        budget: &mut Budget<'_>,
    ) -> Result<Value<'a>, EvalError> {
        evaluate(&self.plan, self.slots, activation, budget)
    }
}

//! Evaluation of a list of expressions that share their variables and a budget.

use crate::expression::Expression;
use crate::subject::Subject;
use crate::variables::Variables;
use std::cell::{Cell, OnceCell, RefCell};
use trireme_cel::cost::limits::PER_CALL;
use trireme_cel::{Activation, Budget, EvalError, Value as Cel};
use trireme_schema::field;

/// The budget of all expressions together is used up.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct OutOfBudget;

impl OutOfBudget {
    pub const TEXT: &'static str =
        "validation failed due to running out of cost budget, no further validation rules will be run";
}

type Made<'a> = Result<Cel<'a>, EvalError>;

/// One evaluation: what expressions see, the variables that have been made, and what is left of the budget.
pub(crate) struct Run<'a> {
    subject: Subject<'a>,
    /// Whether the user may be asked about.
    asks: bool,
    variables: &'a Variables,
    made: RefCell<Vec<Option<Made<'a>>>>,
    /// What variables cost since this was last asked.
    spent: Cell<u64>,
    left: Cell<u64>,
    frame: OnceCell<Frame<'a>>,
}

/// The run as expressions see it: variables are evaluated in the run that they belong to, and live as long.
struct Frame<'a>(&'a Run<'a>);

impl<'a> Run<'a> {
    pub fn new(subject: Subject<'a>, variables: &'a Variables, budget: u64) -> Self {
        Self {
            subject,
            asks: true,
            variables,
            made: RefCell::new(vec![None; variables.len()]),
            spent: Cell::new(0),
            left: Cell::new(budget),
            frame: OnceCell::new(),
        }
    }

    /// Expressions cannot ask what the user may do.
    pub fn without_authorizer(self) -> Self {
        Self { asks: false, ..self }
    }

    /// What is left of the budget.
    pub fn left(&self) -> u64 {
        self.left.get()
    }

    /// Evaluates an expression; the inner error is its own.
    ///
    /// # Errors
    /// The budget is used up; then nothing is evaluated any more.
    pub fn evaluate(&'a self, expression: &'a Expression) -> Result<Result<Cel<'a>, String>, OutOfBudget> {
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Ok(Err(format!("compilation error: {why}"))),
        };
        let mut budget = Budget::new(PER_CALL);
        let result = program.evaluate(self.frame(), &mut budget);
        let cost = budget.spent().saturating_add(self.spent.take());
        self.left.set(self.left.get().checked_sub(cost).ok_or(OutOfBudget)?);
        Ok(result.map_err(|error| format!("expression '{}' resulted in error: {error}", expression.text)))
    }

    fn frame(&'a self) -> &'a Frame<'a> {
        self.frame.get_or_init(|| Frame(self))
    }

    fn variable(&'a self, name: &str) -> Result<Option<Cel<'a>>, EvalError> {
        let position = self.variables.position(name);
        let found = position.and_then(|at| Some((at, self.variables.get(at)?)));
        let Some((at, expression)) = found else { return Ok(None) };
        if let Some(Some(made)) = self.made.borrow().get(at) {
            return made.clone().map(Some);
        }
        let made = self.make(name, expression);
        if let Some(place) = self.made.borrow_mut().get_mut(at) {
            *place = Some(made.clone());
        }
        made.map(Some)
    }

    fn make(&'a self, name: &str, expression: &'a Expression) -> Made<'a> {
        let name = field::quote(name);
        let program = match &expression.program {
            Ok(program) => program,
            Err(why) => return Err(EvalError::new(format!("composited variable {name} fails to compile: {why}"))),
        };
        let mut budget = Budget::new(PER_CALL);
        let result = program.evaluate(self.frame(), &mut budget);
        self.spent.set(self.spent.get().saturating_add(budget.spent()));
        result.map_err(|why| EvalError::new(format!("composited variable {name} fails to evaluate: {why}")))
    }
}

impl Activation for Frame<'_> {
    fn variable(&self, name: &str) -> Result<Option<Cel<'_>>, EvalError> {
        let Run { subject, asks, .. } = self.0;
        let json = |value| Cel::from_json(value, None).map(Some);
        match name {
            "object" => json(subject.object),
            "oldObject" => json(subject.old),
            "request" => json(subject.request),
            "namespaceObject" => json(subject.namespace),
            "params" => json(subject.params),
            "authorizer" if *asks => Ok(Some(subject.asks.authorizer.clone())),
            "authorizer.requestResource" if *asks => Ok(Some(subject.asks.request_resource.clone())),
            _ => Ok(None),
        }
    }

    fn lazy_field(&self, variable: &str, field: &str) -> Option<Result<Option<Cel<'_>>, EvalError>> {
        (variable == "variables").then(|| self.0.variable(field))
    }
}

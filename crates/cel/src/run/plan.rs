//! An expression in the form in which it is evaluated: names resolved, signatures chosen, constants folded.

use super::constant::{fold_conversion, membership};
use crate::check::{Checked, Reference};
use crate::cost::Price;
use crate::decl::Overload;
use crate::env::Env;
use crate::error::EvalError;
use crate::syntax::ast::{Call, Expr, Fold, Node, Select, operator};
use crate::value::{List, Value};
use regex::Regex;
use std::borrow::Cow;
use std::sync::Arc;

/// A step of an evaluation.
#[derive(Debug)]
pub(crate) enum Plan {
    Constant(Value<'static>),
    Attribute(Box<Attribute>),
    And(Box<[Plan; 2]>),
    Or(Box<[Plan; 2]>),
    Equals {
        sides: Box<[Plan; 2]>,
        negated: bool,
        price: Price,
    },
    NotStrictlyFalse(Box<Plan>),
    /// `x in [constants]`.
    Among {
        wanted: Box<Plan>,
        values: Vec<Value<'static>>,
    },
    Call(Box<CallPlan>),
    /// A call whose pattern is constant.
    Pattern {
        call: Box<CallPlan>,
        pattern: Regex,
    },
    /// `a.or(b)` and `a.orValue(b)`, which look at `b` only if they must.
    OptionalOr {
        sides: Box<[Plan; 2]>,
        unwraps: bool,
    },
    List(Vec<(Plan, bool)>),
    Map(Vec<(Plan, Plan, bool)>),
    Struct {
        name: Arc<str>,
        fields: Vec<(String, Plan, bool)>,
    },
    /// Adds an element to the list in a slot.
    Append {
        slot: usize,
        element: Box<Plan>,
        price: u64,
    },
    Fold(Box<FoldPlan>),
    /// Gives a value a name; it is evaluated when the name is first used.
    Bind {
        slot: usize,
        value: Box<Plan>,
        body: Box<Plan>,
    },
}

/// A function and its arguments.
#[derive(Debug)]
pub(crate) struct CallPlan {
    pub(crate) function: String,
    /// The signatures that may fit.
    pub(crate) overloads: Vec<Arc<Overload>>,
    pub(crate) args: Vec<Plan>,
    pub(crate) price: Price,
}

/// A place to read from: where it begins, and the way from there.
#[derive(Debug)]
pub(crate) struct Attribute {
    pub(crate) root: Root,
    pub(crate) way: Vec<Qualifier>,
    /// Whether the last step only asks whether there is something.
    pub(crate) test: bool,
}

/// Where an attribute begins.
#[derive(Debug)]
pub(crate) enum Root {
    Variable(String),
    Slot(usize),
    Plan(Plan),
    Conditional(Plan, Box<[Attribute; 2]>),
}

/// A step of an attribute's way.
#[derive(Debug)]
pub(crate) struct Qualifier {
    pub(crate) key: QualifierKey,
    pub(crate) optional: bool,
}

/// What a step is told by.
#[derive(Debug)]
pub(crate) enum QualifierKey {
    Constant(Value<'static>),
    Attribute(Attribute),
}

/// A comprehension.
#[derive(Debug)]
pub(crate) struct FoldPlan {
    pub(crate) range: Plan,
    pub(crate) accumulator: usize,
    pub(crate) var: usize,
    pub(crate) var2: Option<usize>,
    pub(crate) init: Plan,
    pub(crate) condition: Plan,
    pub(crate) step: Plan,
    pub(crate) result: Plan,
}

/// Plans an expression; also tells how many slots it needs.
pub(crate) fn plan(env: &Env, checked: &Checked) -> Result<(Plan, usize), EvalError> {
    let mut planner = Planner { env, checked, scopes: Vec::new(), slots: 0 };
    let plan = planner.plan(&checked.tree)?;
    Ok((plan, planner.slots))
}

struct Planner<'a> {
    env: &'a Env,
    checked: &'a Checked,
    /// The variables of the comprehensions around, with their slots.
    scopes: Vec<(&'a str, usize)>,
    slots: usize,
}

impl Attribute {
    fn root(root: Root) -> Self {
        Self { root, way: Vec::new(), test: false }
    }
}

impl From<Attribute> for Plan {
    fn from(attribute: Attribute) -> Self {
        Plan::Attribute(Box::new(attribute))
    }
}

impl From<Plan> for Attribute {
    /// The place that a plan reads from, or a place that begins with what it gives.
    fn from(plan: Plan) -> Self {
        match plan {
            Plan::Attribute(attribute) if !attribute.test => *attribute,
            other => Attribute::root(Root::Plan(other)),
        }
    }
}

impl<'a> Planner<'a> {
    fn plan(&mut self, expr: &'a Expr) -> Result<Plan, EvalError> {
        Ok(match &expr.kind {
            Node::Literal(value) => Plan::Constant(value.clone()),
            Node::Ident(name) => self.name(expr, name),
            Node::Select(select) => self.select(expr, select)?,
            Node::Call(call) => self.call(expr, call)?,
            Node::List(elements) => {
                let elements = elements.iter().map(|e| Ok((self.plan(&e.value)?, e.optional)));
                list(elements.collect::<Result<_, EvalError>>()?)
            }
            Node::Map(entries) => {
                let entries = entries.iter().map(|e| Ok((self.plan(&e.key)?, self.plan(&e.value)?, e.optional)));
                let entries: Vec<_> = entries.collect::<Result<_, EvalError>>()?;
                super::constant::map(entries)?
            }
            Node::Struct(message) => {
                let candidates = self.env.candidates(&message.name);
                let name = candidates.iter().find(|name| self.env.find_type(name).is_some());
                let Some(name) = name else {
                    return Err(EvalError::new(format!("unknown type: {}", message.name)));
                };
                let fields = message.fields.iter().map(|f| Ok((f.name.clone(), self.plan(&f.value)?, f.optional)));
                Plan::Struct { name: name.as_str().into(), fields: fields.collect::<Result<_, EvalError>>()? }
            }
            Node::Fold(fold) => self.fold(fold)?,
        })
    }

    fn name(&self, expr: &Expr, name: &str) -> Plan {
        let variable = |name: &str| Attribute::root(Root::Variable(name.to_owned())).into();
        match self.checked.reference(expr) {
            Some(Reference::Constant(value)) => return Plan::Constant(value.clone()),
            Some(Reference::Variable) => return variable(name),
            _ => {}
        }
        let slot = self.scopes.iter().rev().find(|(local, _)| *local == name).map(|(_, slot)| *slot);
        if let Some(slot) = slot {
            return Attribute::root(Root::Slot(slot)).into();
        }
        self.unchecked_name(name).unwrap_or_else(|| variable(name.trim_start_matches('.')))
    }

    /// What a name stands for in an expression that nobody has checked.
    fn unchecked_name(&self, name: &str) -> Option<Plan> {
        self.env.candidates(name).into_iter().find_map(|name| {
            if self.env.variables.contains_key(&name) {
                return Some(Attribute::root(Root::Variable(name)).into());
            }
            let t = self.env.find_type(&name).map(Value::Type);
            t.or_else(|| self.env.find_constant(&name)).map(Plan::Constant)
        })
    }

    fn select(&mut self, expr: &'a Expr, select: &'a Select) -> Result<Plan, EvalError> {
        if !self.checked.is_checked()
            && let Some(name) = expr.qualified_name()
            && !self.scopes.iter().any(|(local, _)| name.split('.').next() == Some(local))
            && let Some(plan) = self.unchecked_name(&name)
        {
            return Ok(plan);
        }
        let operand = self.plan(&select.operand)?;
        let key = QualifierKey::Constant(Value::text(select.field.as_str()));
        let mut attribute = Attribute::from(operand);
        attribute.way.push(Qualifier { key, optional: false });
        attribute.test = select.test;
        Ok(attribute.into())
    }

    fn call(&mut self, expr: &'a Expr, call: &'a Call) -> Result<Plan, EvalError> {
        let (name, mut overloads) = self.function(expr, call);
        let target = call.target.as_ref().filter(|_| name.is_none());
        let function = name.unwrap_or_else(|| call.function.clone());
        if let Some(append) = self.append(&function, call)? {
            return Ok(append);
        }
        let mut args = Vec::with_capacity(call.args.len() + 1);
        for arg in target.into_iter().chain(&call.args) {
            args.push(self.plan(arg)?);
        }
        overloads.retain(|o| o.method == target.is_some() && o.args.len() == args.len());
        let only = if let [only] = &*overloads { only.id.clone() } else { Cow::Borrowed("") };
        let price = Price::of(&function, &only);
        let args = match <[Plan; 2]>::try_from(args) {
            Ok(sides) => match binary(&function, sides) {
                Ok(plan) => return Ok(plan),
                Err(sides) => sides.into(),
            },
            Err(args) => args,
        };
        match (function.as_str(), args.len()) {
            (operator::CONDITIONAL, 3) => return Ok(conditional(args)),
            (operator::NOT_STRICTLY_FALSE, 1) => {
                return Ok(Plan::NotStrictlyFalse(
                    args.into_iter().next().map(Box::new).ok_or_else(EvalError::no_such_overload)?,
                ));
            }
            _ => {}
        }
        let call = CallPlan { function, overloads, args, price };
        if let Some(constant) = fold_conversion(&call)? {
            return Ok(constant);
        }
        if only == "in_list"
            && let Some(plan) = membership(&call)
        {
            let wanted = call.args.into_iter().next().map(Box::new).ok_or_else(EvalError::no_such_overload)?;
            return Ok(plan.map_or(Plan::Constant(Value::Bool(false)), |values| Plan::Among { wanted, values }));
        }
        self.pattern(call)
    }

    /// The signatures of a call, and the full name if what looks like a target is a namespace.
    fn function(&self, expr: &Expr, call: &Call) -> (Option<String>, Vec<Arc<Overload>>) {
        if self.checked.is_checked() {
            return (None, self.checked.overloads(expr).to_vec());
        }
        if let Some(prefix) = call.target.as_ref().and_then(Expr::qualified_name) {
            let candidates = self.env.candidates(&format!("{prefix}.{}", call.function));
            if let Some((name, found)) = candidates.iter().find_map(|name| self.env.functions.find(name)) {
                return (Some(name.to_owned()), found.to_vec());
            }
        }
        let candidates = self.env.candidates(&call.function);
        let found = candidates.iter().find_map(|name| self.env.functions.find(name));
        (None, found.map(|(_, found)| found.to_vec()).unwrap_or_default())
    }

    /// Compiles a pattern that is constant, once.
    fn pattern(&self, call: CallPlan) -> Result<Plan, EvalError> {
        let takes_pattern = matches!(call.function.as_str(), "matches" | "find" | "findAll");
        match call.args.get(1) {
            Some(Plan::Constant(Value::String(text))) if takes_pattern => {
                let pattern = crate::library::compile_pattern(text)?;
                Ok(Plan::Pattern { call: Box::new(call), pattern })
            }
            _ => Ok(Plan::Call(Box::new(call))),
        }
    }

    /// `accumulator + [element]`, which need not copy the list.
    fn append(&mut self, function: &str, call: &'a Call) -> Result<Option<Plan>, EvalError> {
        let [Expr { kind: Node::Ident(name), .. }, Expr { kind: Node::List(elements), .. }] = &*call.args else {
            return Ok(None);
        };
        let [element] = &**elements else { return Ok(None) };
        let slot = self.scopes.iter().rev().find(|(local, _)| *local == name).map(|(_, slot)| *slot);
        let Some(slot) =
            slot.filter(|_| function == operator::ADD && name == crate::syntax::ast::ACCUMULATOR && !element.optional)
        else {
            return Ok(None);
        };
        let element = self.plan(&element.value)?;
        // The name, the addition, and the list unless it is constant.
        let price = if matches!(element, Plan::Constant(_)) { 2 } else { 2 + crate::cost::LIST };
        Ok(Some(Plan::Append { slot, element: Box::new(element), price }))
    }

    fn slot(&mut self, name: &'a str) -> usize {
        // Each variable has a slot of its own: what is bound late must not meet what is bound in between.
        let slot = self.slots;
        self.scopes.push((name, slot));
        self.slots += 1;
        slot
    }

    fn fold(&mut self, fold: &'a Fold) -> Result<Plan, EvalError> {
        let outside = self.scopes.len();
        if fold.is_bind() {
            let value = Box::new(self.plan(&fold.init)?);
            let slot = self.slot(&fold.accumulator);
            let body = Box::new(self.plan(&fold.result)?);
            self.scopes.truncate(outside);
            return Ok(Plan::Bind { slot, value, body });
        }
        let range = self.plan(&fold.range)?;
        let init = self.plan(&fold.init)?;
        let accumulator = self.slot(&fold.accumulator);
        let var = self.slot(&fold.var);
        let var2 = fold.var2.as_deref().map(|name| self.slot(name));
        let condition = self.plan(&fold.condition)?;
        let step = self.plan(&fold.step)?;
        self.scopes.truncate(outside + 1);
        let result = self.plan(&fold.result)?;
        self.scopes.truncate(outside);
        Ok(Plan::Fold(Box::new(FoldPlan { range, accumulator, var, var2, init, condition, step, result })))
    }
}

/// The operators that are no calls when they run; the sides back if it is none of them.
fn binary(function: &str, sides: [Plan; 2]) -> Result<Plan, [Plan; 2]> {
    Ok(match function {
        operator::AND => Plan::And(Box::new(sides)),
        operator::OR => Plan::Or(Box::new(sides)),
        operator::EQUALS | operator::NOT_EQUALS => {
            let negated = function == operator::NOT_EQUALS;
            let price = Price::of(function, if negated { "not_equals" } else { "equals" });
            Plan::Equals { sides: Box::new(sides), negated, price }
        }
        operator::INDEX => index(sides, false),
        operator::OPTIONAL_INDEX | operator::OPTIONAL_SELECT => index(sides, true),
        "or" => Plan::OptionalOr { sides: Box::new(sides), unwraps: false },
        "orValue" => Plan::OptionalOr { sides: Box::new(sides), unwraps: true },
        _ => return Err(sides),
    })
}

fn index([operand, key]: [Plan; 2], optional: bool) -> Plan {
    let key = match key {
        Plan::Constant(value) => QualifierKey::Constant(value),
        other => QualifierKey::Attribute(Attribute::from(other)),
    };
    let mut attribute = Attribute::from(operand);
    attribute.way.push(Qualifier { key, optional });
    attribute.into()
}

fn conditional(args: Vec<Plan>) -> Plan {
    let mut args = args.into_iter();
    let (Some(condition), Some(yes), Some(no)) = (args.next(), args.next(), args.next()) else {
        return Plan::Constant(Value::Null);
    };
    let branches = Box::new([yes.into(), no.into()]);
    Attribute::root(Root::Conditional(condition, branches)).into()
}

fn list(elements: Vec<(Plan, bool)>) -> Plan {
    let constants: Option<Vec<Value<'static>>> = elements
        .iter()
        .map(|(plan, optional)| match plan {
            Plan::Constant(value) if !optional => Some(value.clone()),
            _ => None,
        })
        .collect();
    match constants {
        Some(values) => Plan::Constant(Value::List(List::Values(Arc::new(values)))),
        None => Plan::List(elements),
    }
}

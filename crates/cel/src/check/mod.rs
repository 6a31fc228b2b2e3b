//! Finds the type of every part of an expression, and what its names stand for.

mod aggregates;
mod calls;
mod literals;
mod unify;

use crate::decl::Overload;
use crate::env::Env;
use crate::syntax::Parsed;
use crate::syntax::ast::{Expr, Fold, Id, Node, Select};
use crate::syntax::source::{Issue, Issues, Places};
use crate::types::Type;
use crate::value::Value;
use std::sync::Arc;
use unify::Bindings;

/// What a name stands for.
#[derive(Clone, Debug)]
pub(crate) enum Reference {
    /// A variable; the node holds its name.
    Variable,
    /// A variable of a comprehension.
    Local,
    /// A constant or a type.
    Constant(Value<'static>),
    /// A function, by the signatures that fit.
    Overloads(Vec<Arc<Overload>>),
}

/// An expression with its types.
#[derive(Debug)]
pub(crate) struct Checked {
    pub(crate) tree: Expr,
    types: Vec<Option<Type>>,
    references: Vec<Option<Reference>>,
}

impl Checked {
    /// Nothing is known of the types.
    pub(crate) fn unchecked(parsed: Parsed) -> Self {
        Self { tree: parsed.tree, types: vec![], references: vec![] }
    }

    pub(crate) fn is_checked(&self) -> bool {
        !self.types.is_empty()
    }

    pub(crate) fn type_of(&self, expr: &Expr) -> &Type {
        self.types.get(expr.id as usize).and_then(Option::as_ref).unwrap_or(&Type::Dyn)
    }

    pub(crate) fn reference(&self, expr: &Expr) -> Option<&Reference> {
        self.references.get(expr.id as usize).and_then(Option::as_ref)
    }

    /// Whether a node is a variable of this name.
    pub(crate) fn uses(&self, variable: &str) -> bool {
        let mut left = vec![&self.tree];
        while let Some(expr) = left.pop() {
            if matches!(&expr.kind, Node::Ident(name) if name == variable)
                && !matches!(self.reference(expr), Some(Reference::Local | Reference::Constant(_)))
            {
                return true;
            }
            left.extend(expr.children());
        }
        false
    }

    pub(crate) fn overloads(&self, expr: &Expr) -> &[Arc<Overload>] {
        match self.reference(expr) {
            Some(Reference::Overloads(overloads)) => overloads,
            _ => &[],
        }
    }
}

/// Checks an expression.
pub(crate) fn check(env: &Env, text: &str, parsed: Parsed) -> Result<Checked, Issues> {
    let Parsed { mut tree, offsets } = parsed;
    let count = offsets.len();
    let mut checker = Checker {
        env,
        places: Places::new(text),
        offsets: &offsets,
        types: vec![None; count],
        references: vec![None; count],
        bindings: Bindings::default(),
        scopes: Vec::new(),
        issues: Vec::new(),
    };
    checker.check(&mut tree);
    let Checker { mut types, references, bindings, issues, .. } = checker;
    if !issues.is_empty() {
        return Err(Issues::new(text, issues));
    }
    for t in types.iter_mut().flatten() {
        *t = bindings.substitute(t, true);
    }
    let checked = Checked { tree, types, references };
    if !env.checks_literals {
        return Ok(checked);
    }
    let places = Places::new(text);
    let problems = literals::problems(env, &checked).into_iter();
    let issues: Vec<Issue> =
        problems.map(|(id, message)| Issue { at: places.at(offsets[id as usize]), message }).collect();
    if issues.is_empty() { Ok(checked) } else { Err(Issues::new(text, issues)) }
}

struct Checker<'a> {
    env: &'a Env,
    places: Places<'a>,
    offsets: &'a [u32],
    types: Vec<Option<Type>>,
    references: Vec<Option<Reference>>,
    bindings: Bindings,
    /// Variables of comprehensions, the innermost last.
    scopes: Vec<(String, Type)>,
    issues: Vec<Issue>,
}

/// A name that is known.
struct Found {
    name: String,
    t: Type,
    reference: Reference,
}

impl Checker<'_> {
    fn report(&mut self, id: Id, message: String) {
        let at = self.places.at(self.offsets[id as usize]);
        self.issues.push(Issue { at, message });
    }

    fn set_type(&mut self, expr: &Expr, t: Type) {
        self.types[expr.id as usize] = Some(t);
    }

    fn type_of(&self, expr: &Expr) -> Type {
        self.types[expr.id as usize].clone().unwrap_or(Type::Error)
    }

    fn refer(&mut self, expr: &Expr, reference: Reference) {
        self.references[expr.id as usize] = Some(reference);
    }

    fn undeclared(&mut self, id: Id, name: &str) {
        let message = format!("undeclared reference to '{name}' (in container '{}')", self.env.container);
        self.report(id, message);
    }

    fn check(&mut self, expr: &mut Expr) {
        match &expr.kind {
            Node::Literal(value) => {
                let t = value.type_of();
                self.set_type(expr, t);
            }
            Node::Ident(name) => {
                let name = name.clone();
                match self.lookup(&name) {
                    Some(found) => self.resolve(expr, found),
                    None => {
                        self.set_type(expr, Type::Error);
                        self.undeclared(expr.id, &name);
                    }
                }
            }
            Node::Select(_) => self.select(expr),
            Node::Call(_) => self.call(expr),
            Node::List(_) => self.list(expr),
            Node::Map(_) => self.map(expr),
            Node::Struct(_) => self.message(expr),
            Node::Fold(_) => self.fold(expr),
        }
    }

    /// The node is what was found.
    fn resolve(&mut self, expr: &mut Expr, found: Found) {
        self.set_type(expr, found.t);
        self.refer(expr, found.reference);
        expr.kind = Node::Ident(found.name);
    }

    fn lookup(&self, name: &str) -> Option<Found> {
        if let Some(t) = self.local(name) {
            return Some(Found { name: name.to_owned(), t: t.clone(), reference: Reference::Local });
        }
        self.env.candidates(name).into_iter().find_map(|name| {
            if let Some(t) = self.env.variables.get(&name) {
                return Some(Found { t: t.clone(), name, reference: Reference::Variable });
            }
            if let Some(t) = self.env.find_type(&name) {
                let reference = Reference::Constant(Value::Type(t.clone()));
                return Some(Found { t: Type::of_type(t), name, reference });
            }
            let constant = self.env.find_constant(&name)?;
            Some(Found { t: constant.type_of(), name, reference: Reference::Constant(constant) })
        })
    }

    fn local(&self, name: &str) -> Option<&Type> {
        self.scopes.iter().rev().find(|(local, _)| local == name).map(|(_, t)| t)
    }

    fn select(&mut self, expr: &mut Expr) {
        // `a.b` is a field of `a`, unless there is something of the name `a.b`; variables of comprehensions come first.
        let name = expr.qualified_name();
        let name = name.filter(|name| self.local(name.split('.').next().unwrap_or_default()).is_none());
        if let Some(found) = name.and_then(|name| self.lookup(&name)) {
            return self.resolve(expr, found);
        }
        let id = expr.id;
        let Node::Select(select) = &mut expr.kind else { return };
        let Select { operand, field, test } = &mut **select;
        let t = self.field(id, operand, field, false);
        let t = if *test { Type::Bool } else { self.bindings.substitute(&t, false) };
        self.set_type(expr, t);
    }

    /// The type of `operand.field`.
    fn field(&mut self, id: Id, operand: &mut Expr, field: &str, optional: bool) -> Type {
        self.check(operand);
        let operand_type = self.bindings.substitute(&self.type_of(operand), false);
        let (target, was_optional) = match operand_type.optional_value() {
            Some(inner) => (inner.clone(), true),
            None => (operand_type, false),
        };
        let result = match &target {
            Type::Map(_, value) => (**value).clone(),
            Type::Struct(name) => self.field_type(id, name, field).unwrap_or(Type::Error),
            Type::Var(_) => {
                // Whatever it is, it is not to be guessed from what comes later.
                self.bindings.assign(&Type::Dyn, &target);
                Type::Dyn
            }
            _ => {
                if !target.is_dyn_or_error() {
                    self.report(id, format!("type '{target}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if was_optional || optional { Type::optional(result) } else { result }
    }

    fn field_type(&mut self, id: Id, type_name: &str, field: &str) -> Option<Type> {
        let found = self.env.find_field(type_name, field);
        if found.is_none() {
            self.report(id, format!("undefined field '{field}'"));
        }
        found
    }

    fn fold(&mut self, expr: &mut Expr) {
        let Node::Fold(fold) = &mut expr.kind else { return };
        let Fold { range, var, var2, accumulator, init, condition, step, result } = &mut **fold;
        self.check(range);
        self.check(init);
        let range_type = self.bindings.substitute(&self.type_of(range), false);
        let accumulated = self.type_of(init);
        let outside = self.scopes.len();
        self.scopes.push((accumulator.clone(), accumulated.clone()));
        let (first, second) = self.elements(range, &range_type, var2.is_some());
        let inside = self.scopes.len();
        self.scopes.push((var.clone(), first));
        if let Some(var2) = var2 {
            self.scopes.push((var2.clone(), second));
        }
        self.check(condition);
        self.assert(condition, &Type::Bool);
        self.check(step);
        self.assert(step, &accumulated);
        self.scopes.truncate(inside);
        self.check(result);
        self.scopes.truncate(outside);
        let t = self.bindings.substitute(&self.type_of(result), false);
        self.set_type(expr, t);
    }

    /// The types of a comprehension's variables.
    fn elements(&mut self, range: &Expr, range_type: &Type, pairs: bool) -> (Type, Type) {
        match range_type {
            Type::List(element) if pairs => (Type::Int, (**element).clone()),
            Type::List(element) => ((**element).clone(), Type::Dyn),
            Type::Map(key, value) => ((**key).clone(), (**value).clone()),
            Type::Dyn | Type::Error | Type::Var(_) => {
                self.bindings.assign(&Type::Dyn, range_type);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.report(range.id, message);
                (Type::Error, Type::Error)
            }
        }
    }

    fn assert(&mut self, expr: &Expr, wanted: &Type) {
        let found = self.type_of(expr);
        if !self.bindings.assign(wanted, &found) {
            self.mismatch(expr.id, wanted, &found);
        }
    }

    fn mismatch(&mut self, id: Id, wanted: &Type, found: &Type) {
        self.report(id, format!("expected type '{wanted}' but found '{found}'"));
    }
}

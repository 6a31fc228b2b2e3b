//! Which signatures of a function fit its arguments.

use super::unify::{instantiate, params};
use super::{Checker, Reference};
use crate::decl::Overload;
use crate::syntax::ast::{Expr, Id, Node, operator};
use crate::types::{Type, joined};
use std::sync::Arc;

impl Checker<'_> {
    pub(super) fn call(&mut self, expr: &mut Expr) {
        let Node::Call(call) = &mut expr.kind else { return };
        if call.function == operator::OPTIONAL_SELECT {
            return self.optional_select(expr);
        }
        for arg in &mut call.args {
            self.check(arg);
        }
        if let Some(target) = &mut call.target {
            // `a.f()` is a method of `a`, unless there is a function of the name `a.f`.
            let namespaced = target.qualified_name().map(|prefix| format!("{prefix}.{}", call.function));
            let namespaced = namespaced.and_then(|name| self.function(&name));
            if let Some((name, overloads)) = namespaced {
                name.clone_into(&mut call.function);
                call.target = None;
                return self.resolve_overloads(expr, name, &overloads);
            }
            self.check(target);
        }
        let function = call.function.clone();
        match self.function(&function) {
            Some((name, overloads)) => {
                if call.target.is_none() {
                    name.clone_into(&mut call.function);
                }
                self.resolve_overloads(expr, name, &overloads);
            }
            None => {
                self.set_type(expr, Type::Error);
                self.undeclared(expr.id, &function);
            }
        }
    }

    fn function(&self, name: &str) -> Option<(&'static str, Vec<Arc<Overload>>)> {
        let candidates = self.env.candidates(name);
        candidates.iter().find_map(|name| self.env.functions.find(name)).map(|(name, found)| (name, found.to_vec()))
    }

    fn optional_select(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Node::Call(call) = &mut expr.kind else { return };
        let [operand, field] = &mut *call.args else { return };
        let Some(name) = field.as_text().map(str::to_owned) else { return };
        let t = self.field(id, operand, &name, true);
        let t = self.bindings.substitute(&t, false);
        self.set_type(expr, t);
        let select = self.env.functions.find(operator::OPTIONAL_SELECT);
        self.refer(expr, Reference::Overloads(select.map(|(_, found)| found.to_vec()).unwrap_or_default()));
    }

    fn resolve_overloads(&mut self, expr: &Expr, name: &str, overloads: &[Arc<Overload>]) {
        let Node::Call(call) = &expr.kind else { return };
        let is_method = call.target.is_some();
        let args: Vec<(Id, Type)> =
            call.target.iter().chain(&call.args).map(|arg| (arg.id, self.type_of(arg))).collect();
        if matches!(name, operator::AND | operator::OR) {
            return self.logical(expr, overloads, &args);
        }
        let types: Vec<Type> = args.into_iter().map(|(_, t)| t).collect();
        let mut fitting = Vec::new();
        let mut result: Option<Type> = None;
        for overload in overloads.iter().filter(|o| o.method == is_method) {
            let Some(found) = self.fits(overload, &types) else { continue };
            fitting.push(overload.clone());
            result = Some(match result {
                None => found,
                Some(before) if before.is_dyn() || before == found => before,
                Some(_) => Type::Dyn,
            });
        }
        match result {
            Some(t) => {
                self.set_type(expr, t);
                self.refer(expr, Reference::Overloads(fitting));
            }
            None => {
                let types: Vec<Type> = types.iter().map(|t| self.bindings.substitute(t, true)).collect();
                let signature = match types.split_first() {
                    Some((target, rest)) if is_method => format!("{target}.({})", joined(rest)),
                    _ => format!("({})", joined(&types)),
                };
                self.set_type(expr, Type::Error);
                self.report(expr.id, format!("found no matching overload for '{name}' applied to '{signature}'"));
            }
        }
    }

    /// The type of the result, if the signature fits.
    fn fits(&mut self, overload: &Overload, args: &[Type]) -> Option<Type> {
        let mut names = Vec::new();
        params(&overload.result, &mut names);
        overload.args.iter().for_each(|t| params(t, &mut names));
        if names.is_empty() {
            let fits = self.bindings.assign_all(args, &overload.args);
            return fits.then(|| overload.result.clone());
        }
        let fresh: Vec<_> = names.into_iter().map(|name| (name, self.bindings.fresh())).collect();
        let wanted: Vec<Type> = overload.args.iter().map(|t| instantiate(t, &fresh)).collect();
        let result = instantiate(&overload.result, &fresh);
        self.bindings.assign_all(args, &wanted).then(|| self.bindings.substitute(&result, false))
    }

    fn logical(&mut self, expr: &Expr, overloads: &[Arc<Overload>], args: &[(Id, Type)]) {
        let mut good = true;
        for (id, t) in args {
            if !self.bindings.assign(t, &Type::Bool) {
                self.mismatch(*id, &Type::Bool, t);
                good = false;
            }
        }
        self.set_type(expr, if good { Type::Bool } else { Type::Error });
        if good {
            self.refer(expr, Reference::Overloads(overloads.to_vec()));
        }
    }
}

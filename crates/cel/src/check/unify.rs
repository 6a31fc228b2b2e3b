//! Whether a type fits where another is wanted, and what that says of the parameters in both.

use crate::types::Type;
use std::sync::Arc;

/// What is known of the parameters that are being resolved.
#[derive(Debug, Default)]
pub(super) struct Bindings {
    /// By number.
    bound: Vec<Option<Type>>,
    /// What was there before each change, to undo it.
    trail: Vec<(u32, Option<Type>)>,
}

impl Bindings {
    /// A new parameter.
    pub(super) fn fresh(&mut self) -> Type {
        self.bound.push(None);
        Type::Var(self.bound.len() as u32 - 1)
    }

    fn find(&self, var: u32) -> Option<&Type> {
        self.bound.get(var as usize)?.as_ref()
    }

    fn bind(&mut self, var: u32, to: Type) {
        if let Some(slot) = self.bound.get_mut(var as usize) {
            self.trail.push((var, slot.replace(to)));
        }
    }

    /// Whether `found` fits where `wanted` is; if so, what that says of parameters is kept.
    pub(super) fn assign(&mut self, found: &Type, wanted: &Type) -> bool {
        self.assign_all(std::slice::from_ref(found), std::slice::from_ref(wanted))
    }

    /// Whether all of them fit, together.
    pub(super) fn assign_all(&mut self, found: &[Type], wanted: &[Type]) -> bool {
        self.trail.clear();
        if self.fits_all(found, wanted) {
            return true;
        }
        while let Some((var, before)) = self.trail.pop() {
            self.bound[var as usize] = before;
        }
        false
    }

    fn fits_all<'a>(
        &mut self,
        found: impl IntoIterator<Item = &'a Type, IntoIter: ExactSizeIterator>,
        wanted: impl IntoIterator<Item = &'a Type, IntoIter: ExactSizeIterator>,
    ) -> bool {
        let (found, wanted) = (found.into_iter(), wanted.into_iter());
        found.len() == wanted.len() && found.zip(wanted).all(|(f, w)| self.fits(f, w))
    }

    fn fits(&mut self, found: &Type, wanted: &Type) -> bool {
        if let Type::Var(var) = wanted {
            match self.substitutes(found, *var, wanted) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Var(var) = found {
            return self.substitutes(wanted, *var, found).0;
        }
        if found.is_dyn_or_error() || wanted.is_dyn_or_error() {
            return true;
        }
        match (found, wanted) {
            (Type::Null, other) | (other, Type::Null) => nullable(other),
            (Type::Type(_), other) => matches!(other, Type::Type(_)),
            (Type::Opaque(a, found), Type::Opaque(b, wanted)) => a == b && self.fits_all(found.iter(), wanted.iter()),
            (Type::List(a), Type::List(b)) => self.fits(a, b),
            (Type::Map(a, b), Type::Map(c, d)) => self.fits(a, c) && self.fits(b, d),
            // What is no list or map fits a wrapper of itself, in both directions.
            (Type::Wrapper(a), Type::Wrapper(b)) => a == b,
            (Type::Wrapper(inner), other) | (other, Type::Wrapper(inner)) => **inner == *other,
            _ => found == wanted,
        }
    }

    /// Whether `other` can stand for the parameter, and whether something stands for it already.
    fn substitutes(&mut self, other: &Type, var: u32, param: &Type) -> (bool, bool) {
        if other == param {
            return (true, true);
        }
        if let Some(known) = self.find(var).cloned() {
            if *other == known {
                return (true, true);
            }
            if !self.fits(other, &known) {
                return (false, true);
            }
            let general = most_general(other, &known);
            if !self.occurs(var, &general) {
                self.bind(var, general);
            }
            return (true, true);
        }
        if self.occurs(var, other) {
            return (false, false);
        }
        self.bind(var, other.clone());
        (true, false)
    }

    /// Whether the parameter is part of the type.
    fn occurs(&self, var: u32, within: &Type) -> bool {
        match within {
            Type::Var(other) if *other == var => true,
            Type::Var(other) => self.find(*other).is_some_and(|bound| self.occurs(var, bound)),
            Type::Opaque(_, params) => params.iter().any(|p| self.occurs(var, p)),
            Type::List(element) => self.occurs(var, element),
            Type::Map(key, value) => self.occurs(var, key) || self.occurs(var, value),
            Type::Type(Some(inner)) => self.occurs(var, inner),
            _ => false,
        }
    }

    /// The type with everything in the place of parameters that is known of them. What is not known stays, or becomes
    /// `dyn`.
    pub(super) fn substitute(&self, t: &Type, unknown_is_dyn: bool) -> Type {
        let inner = |t: &Type| Arc::new(self.substitute(t, unknown_is_dyn));
        match t {
            Type::Var(var) => match self.find(*var) {
                Some(bound) => self.substitute(bound, unknown_is_dyn),
                None if unknown_is_dyn => Type::Dyn,
                None => t.clone(),
            },
            Type::Opaque(name, params) if !params.is_empty() => {
                Type::Opaque(name.clone(), params.iter().map(|p| self.substitute(p, unknown_is_dyn)).collect())
            }
            Type::List(element) => Type::List(inner(element)),
            Type::Map(key, value) => Type::Map(inner(key), inner(value)),
            Type::Type(Some(of)) => Type::Type(Some(inner(of))),
            other => other.clone(),
        }
    }
}

/// Which types `null` fits. Objects and the like do for the sake of old expressions.
fn nullable(t: &Type) -> bool {
    matches!(
        t,
        Type::Null
            | Type::Opaque(..)
            | Type::Struct(_)
            | Type::Any
            | Type::Duration
            | Type::Timestamp
            | Type::Wrapper(_)
    )
}

/// The more general of two types that fit each other.
pub(super) fn most_general(a: &Type, b: &Type) -> Type {
    if no_more_specific(a, b) { a.clone() } else { b.clone() }
}

fn no_more_specific(a: &Type, b: &Type) -> bool {
    if a.is_dyn() || matches!(a, Type::Var(_)) {
        return true;
    }
    if b.is_dyn() || matches!(b, Type::Var(_)) {
        return false;
    }
    match (a, b) {
        (Type::Opaque(x, p), Type::Opaque(y, q)) => {
            x == y && p.len() == q.len() && p.iter().zip(q.iter()).all(|(p, q)| no_more_specific(p, q))
        }
        (Type::List(a), Type::List(b)) => no_more_specific(a, b),
        (Type::Map(a, b), Type::Map(c, d)) => no_more_specific(a, c) && no_more_specific(b, d),
        (Type::Type(_), Type::Type(_)) => true,
        _ => a == b,
    }
}

/// The declared type with a fresh parameter for each of `params`.
pub(super) fn instantiate(t: &Type, params: &[(&'static str, Type)]) -> Type {
    let inner = |t: &Type| Arc::new(instantiate(t, params));
    match t {
        Type::Param(name) => params.iter().find(|(n, _)| n == name).map_or(Type::Dyn, |(_, var)| var.clone()),
        Type::Opaque(name, of) if !of.is_empty() => {
            Type::Opaque(name.clone(), of.iter().map(|t| instantiate(t, params)).collect())
        }
        Type::List(element) => Type::List(inner(element)),
        Type::Map(key, value) => Type::Map(inner(key), inner(value)),
        Type::Type(Some(of)) => Type::Type(Some(inner(of))),
        other => other.clone(),
    }
}

/// The names of the parameters in a declared type, in the order in which they come up.
pub(super) fn params(t: &Type, found: &mut Vec<&'static str>) {
    match t {
        Type::Param(name) if !found.contains(name) => found.push(name),
        Type::Opaque(_, of) => of.iter().for_each(|t| params(t, found)),
        Type::List(element) => params(element, found),
        Type::Map(key, value) => {
            params(key, found);
            params(value, found);
        }
        Type::Type(Some(of)) => params(of, found),
        _ => {}
    }
}

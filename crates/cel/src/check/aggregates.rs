//! The types of list, map and message literals.

use super::{Checker, Reference};
use crate::check::unify::most_general;
use crate::syntax::ast::{Expr, Id, Node};
use crate::types::Type;
use crate::value::Value;

impl Checker<'_> {
    pub(super) fn list(&mut self, expr: &mut Expr) {
        let Node::List(elements) = &mut expr.kind else { return };
        let mut joined = None;
        for element in elements {
            self.check(&mut element.value);
            let t = self.element_type(&element.value, element.optional);
            joined = Some(self.join(element.value.id, joined, t));
        }
        let t = joined.unwrap_or_else(|| self.bindings.fresh());
        self.set_type(expr, Type::list(t));
    }

    pub(super) fn map(&mut self, expr: &mut Expr) {
        let Node::Map(entries) = &mut expr.kind else { return };
        let (mut keys, mut values) = (None, None);
        for entry in entries {
            self.check(&mut entry.key);
            let key = self.type_of(&entry.key);
            keys = Some(self.join(entry.key.id, keys, key));
            self.check(&mut entry.value);
            let value = self.element_type(&entry.value, entry.optional);
            values = Some(self.join(entry.value.id, values, value));
        }
        let keys = keys.unwrap_or_else(|| self.bindings.fresh());
        let values = values.unwrap_or_else(|| self.bindings.fresh());
        self.set_type(expr, Type::map(keys, values));
    }

    /// The type of an element; `?x` puts in what the optional `x` holds.
    fn element_type(&mut self, value: &Expr, optional: bool) -> Type {
        let t = self.type_of(value);
        if !optional {
            return t;
        }
        match t.optional_value() {
            Some(inner) => inner.clone(),
            None => {
                if !t.is_dyn() {
                    self.mismatch(value.id, &Type::optional(t.clone()), &t);
                }
                t
            }
        }
    }

    /// The type of what has been seen before and of the next.
    fn join(&mut self, id: Id, before: Option<Type>, next: Type) -> Type {
        let Some(before) = before else { return next };
        if self.bindings.assign(&before, &next) {
            return most_general(&before, &next);
        }
        if !self.env.homogeneous {
            return Type::Dyn;
        }
        self.mismatch(id, &before, &next);
        Type::Error
    }

    pub(super) fn message(&mut self, expr: &mut Expr) {
        let id = expr.id;
        let Node::Struct(message) = &mut expr.kind else { return };
        let Some(found) = self.lookup(&message.name) else {
            let name = message.name.clone();
            self.set_type(expr, Type::Error);
            return self.undeclared(id, &name);
        };
        message.name.clone_from(&found.name);
        let mut result = Type::Error;
        match &found.reference {
            Reference::Constant(Value::Type(t @ Type::Struct(_))) => result = t.clone(),
            Reference::Constant(Value::Type(other)) => {
                let message = format!("'{other}' is not a message type");
                self.report(id, message);
            }
            _ => {
                let message = format!("'{}' is not a type", found.t);
                self.report(id, message);
            }
        }
        let type_name = found.name;
        let Node::Struct(message) = &mut expr.kind else { return };
        for field in &mut message.fields {
            self.check(&mut field.value);
            let wanted = self.field_type(field.id, &type_name, &field.name).unwrap_or(Type::Error);
            let value = self.element_type(&field.value, field.optional);
            if !self.bindings.assign(&wanted, &value) {
                let name = &field.name;
                let message = format!("expected type of field '{name}' is '{wanted}' but provided type is '{value}'");
                self.report(field.id, message);
            }
        }
        self.set_type(expr, result);
        self.refer(expr, Reference::Variable);
    }
}

//! How functions are declared.

use crate::error::EvalError;
use crate::types::Type;
use crate::value::Value;
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

/// What a function does with its arguments; of a method, the first is its target.
pub type Implementation = for<'a> fn(&[Value<'a>]) -> Result<Value<'a>, EvalError>;

/// One signature of a function.
#[derive(Debug)]
pub struct Overload {
    /// Tells it from all others: `string_to_int`.
    pub id: Cow<'static, str>,
    /// Whether it is called on a target.
    pub method: bool,
    /// The types of the arguments, the target's first.
    pub args: Vec<Type>,
    /// The type of the result.
    pub result: Type,
    /// What it does.
    pub call: Implementation,
}

/// Functions by name.
#[derive(Clone, Debug, Default)]
pub struct Functions {
    by_name: HashMap<&'static str, Vec<Arc<Overload>>>,
}

impl Functions {
    /// Declares a function.
    pub fn global<const N: usize>(
        &mut self,
        name: &'static str,
        id: impl Into<Cow<'static, str>>,
        args: [Type; N],
        result: Type,
        call: Implementation,
    ) -> &mut Self {
        self.add(name, Overload { id: id.into(), method: false, args: args.into(), result, call })
    }

    /// Declares a method; its target is the first argument.
    pub fn method<const N: usize>(
        &mut self,
        name: &'static str,
        id: impl Into<Cow<'static, str>>,
        args: [Type; N],
        result: Type,
        call: Implementation,
    ) -> &mut Self {
        self.add(name, Overload { id: id.into(), method: true, args: args.into(), result, call })
    }

    /// Declares a signature of a function.
    pub fn add(&mut self, name: &'static str, overload: Overload) -> &mut Self {
        let overloads = self.by_name.entry(name).or_default();
        match overloads.iter_mut().find(|there| there.id == overload.id) {
            Some(there) => *there = Arc::new(overload),
            None => overloads.push(Arc::new(overload)),
        }
        self
    }

    pub(crate) fn find(&self, name: &str) -> Option<(&'static str, &[Arc<Overload>])> {
        self.by_name.get_key_value(name).map(|(name, overloads)| (*name, overloads.as_slice()))
    }
}

impl Overload {
    /// Whether values of these types can be the arguments.
    pub(crate) fn takes(&self, args: &[Value<'_>]) -> bool {
        self.args.len() == args.len() && self.args.iter().zip(args).all(|(t, value)| is_of(value, t))
    }
}

/// Whether a value is of a type, as far as a value shows.
fn is_of(value: &Value<'_>, t: &Type) -> bool {
    match (t, value) {
        (Type::Dyn | Type::Any | Type::Param(_) | Type::Var(_), _)
        | (Type::Null, Value::Null)
        | (Type::Bool, Value::Bool(_))
        | (Type::Int, Value::Int(_))
        | (Type::Uint, Value::Uint(_))
        | (Type::Double, Value::Double(_))
        | (Type::String, Value::String(_))
        | (Type::Bytes, Value::Bytes(_))
        | (Type::Duration, Value::Duration(_))
        | (Type::Timestamp, Value::Timestamp(_))
        | (Type::Map(..), Value::Map(_))
        | (Type::Type(_), Value::Type(_))
        | (Type::Wrapper(_), Value::Null) => true,
        (Type::Wrapper(inner), value) => is_of(value, inner),
        // As cel-go: the first element speaks for all.
        (Type::List(element), Value::List(list)) => {
            matches!(**element, Type::Dyn | Type::Param(_))
                || list.get(0).is_none_or(|first| first.is_ok_and(|first| is_of(&first, element)))
        }
        (Type::Struct(name), Value::Struct(object)) => *name == object.name,
        (Type::Opaque(..), Value::Optional(_)) => t.optional_value().is_some(),
        (Type::Opaque(name, _) | Type::Struct(name), Value::Opaque(value)) => **name == *value.type_name(),
        _ => false,
    }
}

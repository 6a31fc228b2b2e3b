//! What a merge must know of a type.

use trireme_schema::{Key, Value};

/// A type, as the merge sees it: small, and copied on the way down.
pub trait Type: Copy {
    /// The forms that a value may have.
    fn shape(&self) -> Shape<'_>;
    /// A field that the type declares.
    fn field(&self, name: &str) -> Option<Place<Self>>;
    /// The type of keys that are not declared.
    fn values(&self) -> Option<Place<Self>>;
    /// The type of a list's elements.
    fn items(&self) -> Option<Place<Self>>;
    /// The default of a field that is left out of an element but tells it apart.
    fn default_of(&self, field: &str) -> Option<Value>;
}

/// A type, or none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place<T> {
    /// Described.
    Typed(T),
    /// Anything, replaced as a whole.
    Atomic,
    /// Anything; maps merge key by key, lists are replaced.
    Deduced,
}

/// The kinds of scalars.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scalar {
    /// A number.
    Number,
    /// A text.
    String,
    /// A truth value.
    Bool,
    /// Any of them.
    Any,
}

/// How the elements of a list are told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List<'a> {
    /// Not at all: it is replaced as a whole.
    Atomic,
    /// By their value.
    Set,
    /// By these fields.
    Keyed(&'a [String]),
}

/// The forms that values of a type may have; most have one.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Shape<'a> {
    /// A scalar.
    pub scalar: Option<Scalar>,
    /// A list.
    pub list: Option<List<'a>>,
    /// An object; true when it is replaced as a whole.
    pub map: Option<bool>,
}

/// The form in which a value is walked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Form<'a> {
    Map { atomic: bool },
    Scalar(Scalar),
    List(List<'a>),
}

impl<'a> Shape<'a> {
    /// A scalar.
    pub fn scalar(scalar: Scalar) -> Self {
        Self { scalar: Some(scalar), ..Self::default() }
    }

    /// A list.
    pub fn list(list: List<'a>) -> Self {
        Self { list: Some(list), ..Self::default() }
    }

    /// An object.
    pub fn map(atomic: bool) -> Self {
        Self { map: Some(atomic), ..Self::default() }
    }

    /// The form of a value. One that fits no form, or could have any, is walked as the first that the type has.
    pub(crate) fn form(self, value: Option<&Value>) -> Form<'a> {
        match value {
            Some(Value::Object(_)) if let Some(atomic) = self.map => return Form::Map { atomic },
            Some(Value::Array(_)) if let Some(list) = self.list => return Form::List(list),
            Some(Value::Bool(_) | Value::Int(_) | Value::Float(_) | Value::String(_))
                if let Some(scalar) = self.scalar =>
            {
                return Form::Scalar(scalar);
            }
            _ => {}
        }
        match (self.map, self.scalar, self.list) {
            (Some(atomic), _, _) => Form::Map { atomic },
            (None, Some(scalar), _) => Form::Scalar(scalar),
            (None, None, list) => Form::List(list.unwrap_or(List::Atomic)),
        }
    }
}

impl<T: Type> Place<T> {
    pub(crate) fn shape(&self) -> Shape<'_> {
        let any = |atomic| Shape { scalar: Some(Scalar::Any), list: Some(List::Atomic), map: Some(atomic) };
        match self {
            Place::Typed(ty) => ty.shape(),
            Place::Atomic => any(true),
            Place::Deduced => any(false),
        }
    }

    /// The type of a field or key; `None` when the type has no such thing.
    pub(crate) fn member(&self, name: &str) -> Option<Self> {
        match self {
            Place::Typed(ty) => ty.field(name).or_else(|| ty.values()),
            other => Some(*other),
        }
    }

    /// Whether the type declares a field of this name.
    pub(crate) fn declares(&self, name: &str) -> bool {
        matches!(self, Place::Typed(ty) if ty.field(name).is_some())
    }

    /// The type of a list's elements.
    pub(crate) fn items(&self) -> Self {
        match self {
            Place::Typed(ty) => ty.items().unwrap_or(Place::Atomic),
            _ => Place::Atomic,
        }
    }

    /// What tells an element of this type apart in its list.
    pub(crate) fn element(&self, list: List<'_>, item: &Value) -> Result<crate::Element, String> {
        use crate::Element;
        let keys = match (list, item) {
            (List::Atomic, _) => return Err("invalid indexing of non-associative list".into()),
            (List::Set, Value::Object(_)) => {
                return Err("associative list without keys has an element that's a map type".into());
            }
            (List::Set, Value::Array(_)) => {
                return Err("not supported: associative list with lists as elements".into());
            }
            (List::Set, _) => return Ok(Element::Value(item.clone())),
            (List::Keyed(_), Value::Null) => {
                return Err("associative list with keys may not have a null element".into());
            }
            (List::Keyed(keys), _) => keys,
        };
        let Value::Object(map) = item else {
            return Err("associative list with keys may not have non-map elements".into());
        };
        let mut found = trireme_schema::Map::with_capacity(keys.len());
        for key in keys {
            let default = || if let Place::Typed(ty) = self { ty.default_of(key) } else { None };
            match map.get(key).cloned().or_else(default) {
                Some(value) => drop(found.insert(Key::from(key.as_str()), value)),
                None => {
                    return Err(format!(
                        "associative list with keys has an element that omits key field {key:?} (and doesn't have default value)"
                    ));
                }
            }
        }
        Ok(Element::Key(found))
    }
}

//! Structural schemas, compiled: small nodes, each distinct one held once.

use crate::pattern::Pattern;
use crate::rules::Compiled;
use std::sync::{Arc, OnceLock};
use trireme_schema::{Key, Value};

/// The JSON type that a node asks for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Kind {
    /// None is asked for.
    #[default]
    Any,
    /// `array`
    Array,
    /// `boolean`
    Boolean,
    /// `integer`
    Integer,
    /// `number`
    Number,
    /// `object`
    Object,
    /// `string`
    String,
    /// Anything else; no value has it.
    Other(Box<str>),
}

impl Kind {
    /// From the name in a schema.
    pub fn of(name: &str) -> Self {
        match name {
            "" => Kind::Any,
            "array" => Kind::Array,
            "boolean" => Kind::Boolean,
            "integer" => Kind::Integer,
            "number" => Kind::Number,
            "object" => Kind::Object,
            "string" => Kind::String,
            other => Kind::Other(other.into()),
        }
    }

    /// The name in a schema.
    pub fn name(&self) -> &str {
        match self {
            Kind::Any => "",
            Kind::Array => "array",
            Kind::Boolean => "boolean",
            Kind::Integer => "integer",
            Kind::Number => "number",
            Kind::Object => "object",
            Kind::String => "string",
            Kind::Other(name) => name,
        }
    }
}

/// How the elements of a list are told apart (`x-kubernetes-list-type`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum List {
    /// They are not.
    #[default]
    Atomic,
    /// By their value.
    Set,
    /// By these of their fields.
    Map(Box<[String]>),
}

/// What fields an object may have besides its properties.
#[derive(Clone, Debug, Default)]
pub enum Additional {
    /// Nothing is said.
    #[default]
    Undefined,
    /// Any, or none.
    Allowed(bool),
    /// Values of a schema.
    Of(Arc<Node>),
}

/// A schema.
#[derive(Debug, Default)]
pub struct Node {
    /// The JSON type.
    pub kind: Kind,
    /// `null` is a value.
    pub nullable: bool,
    /// Unknown fields are kept.
    pub preserve: bool,
    /// Holds a whole object: `apiVersion`, `kind`, `metadata`.
    pub embedded: bool,
    /// A number or a text.
    pub int_or_string: bool,
    /// Replaced as a whole by server-side apply.
    pub atomic: bool,
    /// Elements' identity.
    pub list: List,
    /// Fields, sorted by name.
    pub properties: Box<[(Key, Arc<Node>)]>,
    /// Elements.
    pub items: Option<Arc<Node>>,
    /// Other fields.
    pub additional: Additional,
    /// The value that stands for none.
    pub default: Option<Box<Value>>,
    /// What values must satisfy.
    pub checks: Option<Box<Checks>>,
    /// CEL rules.
    pub rules: Box<[Rule]>,
    /// Whether there are rules here or below.
    pub ruled: bool,
    /// The same with what all objects have, if its values are objects of the API: so expressions see it.
    pub(crate) whole: Option<Arc<Node>>,
    /// The rules, compiled when they are first needed; none when expressions cannot see the schema.
    pub(crate) programs: OnceLock<Option<Box<[Option<Compiled>]>>>,
}

/// What values must satisfy besides their type.
#[derive(Debug, Default)]
pub struct Checks {
    /// `date-time` and the like; only those that are known.
    pub format: Box<str>,
    /// The largest number.
    pub maximum: Option<f64>,
    /// It is itself too large.
    pub exclusive_maximum: bool,
    /// The smallest number.
    pub minimum: Option<f64>,
    /// It is itself too small.
    pub exclusive_minimum: bool,
    /// Numbers are multiples of it.
    pub multiple_of: Option<f64>,
    /// Characters.
    pub max_length: Option<i64>,
    /// Characters.
    pub min_length: Option<i64>,
    /// A regular expression.
    pub pattern: Option<Box<Pattern>>,
    /// Elements.
    pub max_items: Option<i64>,
    /// Elements.
    pub min_items: Option<i64>,
    /// Fields.
    pub max_properties: Option<i64>,
    /// Fields.
    pub min_properties: Option<i64>,
    /// Fields that must be there.
    pub required: Box<[Key]>,
    /// The only values.
    pub enumeration: Box<[Value]>,
    /// All must hold.
    pub all_of: Box<[Arc<Node>]>,
    /// One at least must hold.
    pub any_of: Box<[Arc<Node>]>,
    /// Exactly one must hold.
    pub one_of: Box<[Arc<Node>]>,
    /// Must not hold.
    pub not: Option<Arc<Node>>,
}

/// A CEL rule (`x-kubernetes-validations`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    /// The expression.
    pub rule: Box<str>,
    /// What is said when it does not hold.
    pub message: Box<str>,
    /// An expression for that.
    pub message_expression: Box<str>,
    /// `FieldValueInvalid` and others; empty for that.
    pub reason: Box<str>,
    /// Where it is said, below the value.
    pub field_path: Box<str>,
    /// It is asked for new values too, with an optional old one; `None` when nothing is said of that.
    pub optional_old_self: Option<bool>,
}

impl Node {
    /// The schema of a field that is named.
    pub fn property(&self, name: &str) -> Option<&Arc<Node>> {
        self.properties.binary_search_by(|(key, _)| key.as_str().cmp(name)).ok().map(|i| &self.properties[i].1)
    }

    /// The schema of a field: its own, or that of all others.
    pub fn field(&self, name: &str) -> Option<&Arc<Node>> {
        self.property(name).or(match &self.additional {
            Additional::Of(node) => Some(node),
            _ => None,
        })
    }

    /// Whether a value somewhere below stands for none.
    pub fn has_defaults(&self) -> bool {
        self.default.is_some()
            || self.properties.iter().any(|(_, node)| node.has_defaults())
            || self.items.as_ref().is_some_and(|node| node.has_defaults())
            || matches!(&self.additional, Additional::Of(node) if node.has_defaults())
    }
}

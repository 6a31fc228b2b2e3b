//! The tree of an expression.

use crate::value::Value;

/// Numbers a node; types, references and places are kept by it.
pub(crate) type Id = u32;

/// A node of the tree.
#[derive(Clone, Debug)]
pub(crate) struct Expr {
    pub(crate) id: Id,
    pub(crate) kind: Node,
}

/// What a node is.
#[derive(Clone, Debug)]
pub(crate) enum Node {
    Literal(Value<'static>),
    Ident(String),
    Select(Box<Select>),
    Call(Box<Call>),
    List(Vec<Element>),
    Map(Vec<Entry>),
    Struct(Box<Message>),
    Fold(Box<Fold>),
}

/// `operand.field`, or `has(operand.field)`.
#[derive(Clone, Debug)]
pub(crate) struct Select {
    pub(crate) operand: Expr,
    pub(crate) field: String,
    pub(crate) test: bool,
}

/// A function, an operator or a method.
#[derive(Clone, Debug)]
pub(crate) struct Call {
    pub(crate) function: String,
    pub(crate) target: Option<Expr>,
    pub(crate) args: Vec<Expr>,
}

/// An element of a list literal.
#[derive(Clone, Debug)]
pub(crate) struct Element {
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// An entry of a map literal.
#[derive(Clone, Debug)]
pub(crate) struct Entry {
    pub(crate) key: Expr,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// `Type{field: value}`.
#[derive(Clone, Debug)]
pub(crate) struct Message {
    pub(crate) name: String,
    pub(crate) fields: Vec<Field>,
}

/// A field of a message literal.
#[derive(Clone, Debug)]
pub(crate) struct Field {
    pub(crate) id: Id,
    pub(crate) name: String,
    pub(crate) value: Expr,
    pub(crate) optional: bool,
}

/// A comprehension: what the macros over lists and maps become.
#[derive(Clone, Debug)]
pub(crate) struct Fold {
    pub(crate) range: Expr,
    pub(crate) var: String,
    pub(crate) var2: Option<String>,
    pub(crate) accumulator: String,
    pub(crate) init: Expr,
    pub(crate) condition: Expr,
    pub(crate) step: Expr,
    pub(crate) result: Expr,
}

impl Fold {
    /// Whether this only gives a value a name: the range is empty and the condition false.
    pub(crate) fn is_bind(&self) -> bool {
        matches!(&self.range.kind, Node::List(items) if items.is_empty())
            && matches!(self.condition.kind, Node::Literal(Value::Bool(false)))
            && self.accumulator != ACCUMULATOR
    }
}

/// The accumulator's name; no expression can name it.
pub(crate) const ACCUMULATOR: &str = "@result";

/// The functions behind operators.
pub(crate) mod operator {
    pub(crate) const CONDITIONAL: &str = "_?_:_";
    pub(crate) const AND: &str = "_&&_";
    pub(crate) const OR: &str = "_||_";
    pub(crate) const NOT: &str = "!_";
    pub(crate) const NEGATE: &str = "-_";
    pub(crate) const EQUALS: &str = "_==_";
    pub(crate) const NOT_EQUALS: &str = "_!=_";
    pub(crate) const LESS: &str = "_<_";
    pub(crate) const LESS_EQUALS: &str = "_<=_";
    pub(crate) const GREATER: &str = "_>_";
    pub(crate) const GREATER_EQUALS: &str = "_>=_";
    pub(crate) const IN: &str = "@in";
    pub(crate) const ADD: &str = "_+_";
    pub(crate) const SUBTRACT: &str = "_-_";
    pub(crate) const MULTIPLY: &str = "_*_";
    pub(crate) const DIVIDE: &str = "_/_";
    pub(crate) const MODULO: &str = "_%_";
    pub(crate) const INDEX: &str = "_[_]";
    pub(crate) const OPTIONAL_INDEX: &str = "_[?_]";
    pub(crate) const OPTIONAL_SELECT: &str = "_?._";
    pub(crate) const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
}

impl Expr {
    /// `a.b.c` as a name, if that is all that it is.
    pub(crate) fn qualified_name(&self) -> Option<String> {
        match &self.kind {
            Node::Ident(name) => Some(name.clone()),
            Node::Select(select) if !select.test => {
                Some(format!("{}.{}", select.operand.qualified_name()?, select.field))
            }
            _ => None,
        }
    }

    /// The nodes right below.
    pub(crate) fn children(&self) -> Vec<&Expr> {
        match &self.kind {
            Node::Literal(_) | Node::Ident(_) => vec![],
            Node::Select(select) => vec![&select.operand],
            Node::Call(call) => call.target.iter().chain(&call.args).collect(),
            Node::List(elements) => elements.iter().map(|e| &e.value).collect(),
            Node::Map(entries) => entries.iter().flat_map(|e| [&e.key, &e.value]).collect(),
            Node::Struct(message) => message.fields.iter().map(|f| &f.value).collect(),
            Node::Fold(f) => vec![&f.range, &f.init, &f.condition, &f.step, &f.result],
        }
    }

    /// How many nodes there are.
    pub(crate) fn size(&self) -> usize {
        1 + self.children().into_iter().map(Expr::size).sum::<usize>()
    }

    /// The text, if this is a string literal.
    pub(crate) fn as_text(&self) -> Option<&str> {
        match &self.kind {
            Node::Literal(Value::String(text)) => Some(text),
            _ => None,
        }
    }
}

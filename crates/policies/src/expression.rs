//! A compiled expression, or why it does not compile.

use crate::scope::Scope;
use trireme_cel::library::{JSON_PATCH, OBJECT};
use trireme_cel::{Program, Type};

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wanted {
    /// Whatever it likes.
    Anything,
    /// `true` or `false`.
    Bool,
    /// Text.
    String,
    /// `null`.
    Null,
    /// A list of operations of a JSON patch.
    JsonPatch,
    /// A configuration to apply.
    Object,
}

impl Wanted {
    fn fits(self, ty: &Type) -> bool {
        match self {
            Wanted::Anything => true,
            Wanted::Bool => *ty == Type::Bool,
            Wanted::String => *ty == Type::String,
            Wanted::Null => *ty == Type::Null,
            Wanted::JsonPatch => *ty == Type::list(Type::object(JSON_PATCH)),
            Wanted::Object => *ty == Type::object(OBJECT),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Wanted::Anything => "dyn",
            Wanted::Bool => "bool",
            Wanted::String => "string",
            Wanted::Null => "null_type",
            Wanted::JsonPatch => "list(JSONPatch)",
            Wanted::Object => OBJECT,
        }
    }
}

/// A type by the names that its values give, as cel-go writes it outside of its checker's messages.
fn named(ty: &Type) -> String {
    match ty {
        Type::List(element) => format!("list({})", named(element)),
        Type::Map(key, value) => format!("map({}, {})", named(key), named(value)),
        Type::Opaque(name, params) if !params.is_empty() => {
            format!("{name}({})", params.iter().map(named).collect::<Vec<_>>().join(", "))
        }
        Type::Wrapper(inner) => format!("wrapper({})", inner.name()),
        Type::Type(Some(inner)) => format!("type({})", named(inner)),
        other => other.name().to_owned(),
    }
}

impl Scope {
    /// Compiles an expression that must give one of `wanted`.
    ///
    /// # Errors
    /// In upstream's words.
    pub fn compile(&self, text: &str, wanted: &[Wanted]) -> Result<Program, String> {
        let program = self.program(text).map_err(|error| error.to_string())?;
        let ty = program.result_type();
        if wanted.iter().any(|wanted| wanted.fits(ty)) {
            return Ok(program);
        }
        let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name()).collect();
        Err(match names[..] {
            [one] => format!("must evaluate to {one} but got {}", named(ty)),
            _ => format!("must evaluate to one of [{}] but got {}", names.join(" "), named(ty)),
        })
    }
}

/// An expression of a policy or webhook; one that does not compile fails when it is evaluated.
#[derive(Debug)]
pub struct Expression {
    pub(crate) text: String,
    pub(crate) program: Result<Program, String>,
}

impl Expression {
    /// Compiles it.
    pub fn compile(scope: &Scope, text: &str, wanted: &[Wanted]) -> Self {
        Self { text: text.to_owned(), program: scope.compile(text, wanted).map(Program::slim) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn results_of_other_types_are_told() {
        let scope = Scope::of_requests(false).with_objects();
        for (text, wanted, why) in [
            ("'x'", &[Wanted::Bool][..], "must evaluate to bool but got string"),
            ("1", &[Wanted::String, Wanted::Null], "must evaluate to one of [string null_type] but got int"),
            ("object.x", &[Wanted::Bool], "must evaluate to bool but got dyn"),
            ("duration('1s')", &[Wanted::Bool], "must evaluate to bool but got google.protobuf.Duration"),
            ("[['a']]", &[Wanted::JsonPatch], "must evaluate to list(JSONPatch) but got list(list(string))"),
        ] {
            assert_eq!(scope.compile(text, wanted).err().as_deref(), Some(why), "{text}");
        }
    }

    #[test]
    fn mutations_make_objects_and_patches() {
        let scope = Scope::of_requests(false).with_objects();
        for (text, wanted) in [
            ("Object{spec: Object.spec{replicas: 1}}", Wanted::Object),
            ("[JSONPatch{op: 'add', path: '/a', value: 'b'}]", Wanted::JsonPatch),
        ] {
            assert!(scope.compile(text, &[wanted]).is_ok(), "{text}");
        }
    }
}

//! Expressions of webhooks and policies: what they can speak of, and whether they compile.

use crate::{Errors, Place};
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use trireme_cel::library::{JSON_PATCH, MutationTypes, OBJECT, authorizer_type, mutation, resource_check_type};
use trireme_cel::{DeclField, DeclType, Env, Type};

/// What an expression must give.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wanted {
    /// Whatever it likes.
    Anything,
    Bool,
    String,
    Null,
    /// A list of operations of a JSON patch.
    JsonPatch,
    /// A configuration to apply.
    Object,
}

impl Wanted {
    fn fits(self, ty: &Type) -> bool {
        *ty == Type::Any
            || match self {
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

const VARIABLES: &str = "kubernetes.variables";

/// What expressions can speak of.
#[derive(Clone)]
pub(super) struct Scope {
    env: Env,
    variables: BTreeMap<String, DeclField>,
}

impl Scope {
    /// A request for admission, and perhaps parameters.
    pub fn of_requests(with_params: bool) -> Self {
        static REQUESTS: LazyLock<Env> = LazyLock::new(|| {
            let (request, namespace) = (request(), namespace());
            Env::kubernetes()
                .with_variable("object", Type::Dyn)
                .with_variable("oldObject", Type::Dyn)
                .with_variable("request", request.cel_type.clone())
                .with_variable("namespaceObject", namespace.cel_type.clone())
                .with_variable("authorizer", authorizer_type())
                .with_variable("authorizer.requestResource", resource_check_type())
                .with_types(request.provider())
                .with_types(namespace.provider())
        });
        let env = REQUESTS.clone();
        let env = if with_params { env.with_variable("params", Type::Dyn) } else { env };
        Self { env, variables: BTreeMap::new() }
    }

    /// Lets expressions speak of variables; there are none yet.
    pub fn add_variables(&mut self) {
        self.env = self.env.clone().with_variable("variables", Type::object(VARIABLES));
        self.publish();
    }

    /// A variable for the expressions that follow; one that does not compile can be anything.
    pub fn declare(&mut self, name: &str, ty: Option<Type>) {
        let decl = Arc::new(DeclType::simple(ty.unwrap_or(Type::Dyn), 0, 0));
        self.variables.insert(name.to_owned(), DeclField { decl, required: true });
        self.publish();
    }

    fn publish(&mut self) {
        let provider = DeclType::object(VARIABLES, self.variables.clone()).provider();
        self.env = self.env.clone().with_types(provider);
    }

    /// Lets expressions make objects and JSON patches.
    pub fn with_objects(self) -> Self {
        Self { env: self.env.with_functions(mutation).with_types(Arc::new(MutationTypes)), ..self }
    }
}

fn object(name: &str, fields: &[(&str, DeclType)]) -> DeclType {
    let field = |(name, decl): &(&str, DeclType)| {
        ((*name).to_owned(), DeclField { decl: Arc::new(decl.clone()), required: false })
    };
    DeclType::object(name, fields.iter().map(field).collect())
}

fn simple(ty: Type) -> DeclType {
    DeclType::simple(ty, 0, 0)
}

fn strings(names: &[&'static str]) -> Vec<(&'static str, DeclType)> {
    names.iter().map(|name| (*name, simple(Type::String))).collect()
}

/// `admission.k8s.io`'s request, as expressions see it.
fn request() -> DeclType {
    let kind = object("kubernetes.GroupVersionKind", &strings(&["group", "version", "kind"]));
    let resource = object("kubernetes.GroupVersionResource", &strings(&["group", "version", "resource"]));
    let mut user = strings(&["username", "uid"]);
    user.push(("groups", DeclType::list(simple(Type::String), u64::MAX)));
    user.push(("extra", DeclType::map(DeclType::list(simple(Type::String), u64::MAX), u64::MAX)));
    let user = object("kubernetes.UserInfo", &user);
    let mut fields = strings(&["subResource", "requestSubResource", "name", "namespace", "operation"]);
    fields.extend([
        ("kind", kind.clone()),
        ("resource", resource.clone()),
        ("requestKind", kind),
        ("requestResource", resource),
        ("userInfo", user),
        ("dryRun", simple(Type::Bool)),
        ("options", simple(Type::Dyn)),
    ]);
    object("kubernetes.AdmissionRequest", &fields)
}

/// The namespace of what is asked about, without what is nobody's business.
fn namespace() -> DeclType {
    let texts = || DeclType::map(simple(Type::String), u64::MAX);
    let list = || DeclType::list(simple(Type::String), u64::MAX);
    let mut meta = strings(&["name", "generateName", "namespace", "UID", "creationTimestamp", "deletionTimestamp"]);
    meta.extend([("labels", texts()), ("annotations", texts()), ("generation", simple(Type::Int))]);
    meta.extend([
        ("deletionGracePeriodSeconds", simple(Type::Int)),
        ("finalizers", list()),
        ("resourceVersion", simple(Type::String)),
    ]);
    for field in ["creationTimestamp", "deletionTimestamp"] {
        if let Some(place) = meta.iter_mut().find(|(name, _)| *name == field) {
            place.1 = simple(Type::Timestamp);
        }
    }
    let condition = object(
        "kubernetes.NamespaceCondition",
        &strings(&["status", "type", "lastTransitionTime", "message", "reason"]),
    );
    let spec = object("kubernetes.NamespaceSpec", &[("finalizers", list())]);
    let status = object(
        "kubernetes.NamespaceStatus",
        &[("conditions", DeclType::list(condition, u64::MAX)), ("phase", simple(Type::String))],
    );
    object(
        "kubernetes.Namespace",
        &[("metadata", object("kubernetes.NamespaceMetadata", &meta)), ("spec", spec), ("status", status)],
    )
}

/// Compiles an expression, and tells what is wrong with it; gives the type of its result. `shown` is how messages show
/// the expression.
pub(super) fn check(
    place: &Place<'_>,
    text: &str,
    shown: &str,
    scope: &Scope,
    wanted: &[Wanted],
    errors: &mut Errors,
) -> Option<Type> {
    match scope.env.compile(text) {
        Err(why) => {
            errors.invalid_value(place, shown, why.to_string());
            None
        }
        Ok(program) if wanted.iter().any(|wanted| wanted.fits(program.result_type())) => {
            Some(program.result_type().clone())
        }
        Ok(_) => {
            let names: Vec<&str> = wanted.iter().map(|wanted| wanted.name()).collect();
            let why = match names[..] {
                [one] => format!("must evaluate to {one}"),
                _ => format!("must evaluate to one of [{}]", names.join(" ")),
            };
            errors.invalid_value(place, shown, why);
            None
        }
    }
}

/// Whether a name can be written in an expression.
pub(super) fn is_identifier(name: &str) -> bool {
    const RESERVED: [&str; 21] = [
        "as",
        "break",
        "const",
        "continue",
        "else",
        "false",
        "for",
        "function",
        "if",
        "import",
        "in",
        "let",
        "loop",
        "namespace",
        "null",
        "package",
        "return",
        "true",
        "var",
        "void",
        "while",
    ];
    let begins = name.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_');
    begins && name.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_') && !RESERVED.contains(&name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_speak_of_requests() {
        let scope = Scope::of_requests(false);
        for (text, fine) in [
            ("object.metadata.name == request.name", true),
            ("request.userInfo.groups.exists(g, g == 'x')", true),
            ("namespaceObject.metadata.labels['a'] == 'b'", true),
            ("authorizer.requestResource.check('get').allowed()", true),
            ("params.x == 1", false),
            ("variables.x == 1", false),
            ("request.nope == ''", false),
        ] {
            assert_eq!(scope.env.compile(text).is_ok(), fine, "{text}");
        }
        assert!(Scope::of_requests(true).env.compile("params.x == 1").is_ok());
    }

    #[test]
    fn variables_have_the_types_of_their_expressions() {
        let mut scope = Scope::of_requests(false);
        scope.add_variables();
        scope.declare("n", Some(Type::Int));
        assert!(scope.env.compile("variables.n + 1 == 2").is_ok());
        assert!(scope.env.compile("variables.n == 'a'").is_err());
        assert!(scope.env.compile("variables.m == 1").is_err());
    }

    #[test]
    fn mutations_make_objects_and_patches() {
        let scope = Scope::of_requests(false).with_objects();
        let ty = |text: &str| scope.env.compile(text).map(|p| p.result_type().clone()).unwrap();
        assert!(Wanted::Object.fits(&ty("Object{spec: Object.spec{replicas: 1}}")));
        assert!(Wanted::JsonPatch.fits(&ty("[JSONPatch{op: 'add', path: '/a', value: 'b'}]")));
        assert!(!Wanted::Object.fits(&ty("1")));
    }

    #[test]
    fn names_of_variables() {
        for (name, fine) in [("a", true), ("_a1", true), ("1a", false), ("in", false), ("a-b", false)] {
            assert_eq!(is_identifier(name), fine, "{name}");
        }
    }
}

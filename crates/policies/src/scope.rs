//! What expressions can speak of.

use crate::requests;
use std::collections::BTreeMap;
use std::sync::{Arc, LazyLock};
use trireme_cel::library::{MutationTypes, authorizer_type, mutation, resource_check_type};
use trireme_cel::{CompileError, DeclField, DeclType, Env, Program, Type};

/// The type of `variables`.
const VARIABLES: &str = "kubernetes.variables";

/// The variables and types of expressions. Cheap to clone; the libraries are made once.
#[derive(Clone)]
pub struct Scope {
    env: Env,
    variables: BTreeMap<String, DeclField>,
}

/// Requests, of whose objects nothing is known.
static REQUESTS: LazyLock<Env> = LazyLock::new(|| about_requests(Type::Dyn));

fn about_requests(object: Type) -> Env {
    let (request, namespace) = (requests::request(), requests::namespace());
    Env::kubernetes()
        .with_variable("object", object.clone())
        .with_variable("oldObject", object)
        .with_variable("request", request.cel_type.clone())
        .with_variable("namespaceObject", namespace.cel_type.clone())
        .with_types(request.provider())
        .with_types(namespace.provider())
}

impl Scope {
    /// A request for admission, and perhaps parameters.
    pub fn of_requests(with_params: bool) -> Self {
        let env = REQUESTS
            .clone()
            .with_variable("authorizer", authorizer_type())
            .with_variable("authorizer.requestResource", resource_check_type());
        Self::new(env, with_params.then_some(Type::Dyn))
    }

    /// The same for expressions that only make words: they cannot ask what its user may do.
    pub fn of_messages(with_params: bool) -> Self {
        Self::new(REQUESTS.clone(), with_params.then_some(Type::Dyn))
    }

    /// A request about objects of a type, for checks of types. Of parameters: none, or their type if it is known.
    pub(crate) fn of_types(object: &DeclType, params: Option<Option<&DeclType>>) -> Self {
        let mut env = about_requests(object.cel_type.clone())
            .with_variable("authorizer", authorizer_type())
            .with_types(object.provider());
        if let Some(Some(params)) = params {
            env = env.with_types(params.provider());
        }
        let ty = |params: Option<&DeclType>| params.map_or(Type::Dyn, |decl| decl.cel_type.clone());
        Self::new(env, params.map(ty))
    }

    fn new(env: Env, params: Option<Type>) -> Self {
        let env = match params {
            Some(ty) => env.with_variable("params", ty),
            None => env,
        };
        Self { env, variables: BTreeMap::new() }
    }

    /// Lets expressions speak of variables; there are none yet.
    #[must_use]
    pub fn with_variables(mut self) -> Self {
        self.env = self.env.with_variable("variables", Type::object(VARIABLES));
        self.publish();
        self
    }

    /// A variable for the expressions that follow; one that does not compile can be anything.
    pub fn declare(&mut self, name: &str, ty: Option<&Type>) {
        let decl = Arc::new(DeclType::simple(ty.map_or(Type::Dyn, declared), 0, 0));
        self.variables.insert(name.to_owned(), DeclField { decl, required: true });
        self.publish();
    }

    fn publish(&mut self) {
        let provider = DeclType::object(VARIABLES, self.variables.clone()).provider();
        self.env = self.env.clone().with_types(provider);
    }

    /// The same variables in another scope.
    #[must_use]
    pub fn with_variables_of(self, other: &Scope) -> Self {
        let mut scope = Self { variables: other.variables.clone(), ..self };
        scope.env = scope.env.with_variable("variables", Type::object(VARIABLES));
        scope.publish();
        scope
    }

    /// Lets expressions make objects and JSON patches.
    #[must_use]
    pub fn with_objects(self) -> Self {
        Self { env: self.env.with_functions(mutation).with_types(Arc::new(MutationTypes)), ..self }
    }

    pub(crate) fn program(&self, text: &str) -> Result<Program, CompileError> {
        self.env.compile(text)
    }
}

/// The type of a variable by that of its expression: what has a name of its own is not known from outside.
fn declared(ty: &Type) -> Type {
    match ty {
        Type::List(element) => Type::list(declared(element)),
        Type::Map(key, value) => Type::map(declared(key), declared(value)),
        Type::Any
        | Type::Null
        | Type::Bool
        | Type::Int
        | Type::Uint
        | Type::Double
        | Type::String
        | Type::Bytes
        | Type::Duration
        | Type::Timestamp => ty.clone(),
        _ => Type::Dyn,
    }
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
            ("namespaceObject.metadata.creationTimestamp < timestamp('2026-01-01T00:00:00Z')", true),
            ("authorizer.requestResource.check('get').allowed()", true),
            ("params.x == 1", false),
            ("variables.x == 1", false),
            ("request.nope == ''", false),
        ] {
            assert_eq!(scope.program(text).is_ok(), fine, "{text}");
        }
        assert!(Scope::of_requests(true).program("params.x == 1").is_ok());
        assert!(Scope::of_messages(true).program("authorizer.requestResource.check('get').reason()").is_err());
    }

    #[test]
    fn variables_have_the_types_of_their_expressions() {
        let mut scope = Scope::of_requests(false).with_variables();
        scope.declare("n", Some(&Type::Int));
        scope.declare("q", Some(&trireme_cel::library::quantity_type()));
        assert!(scope.program("variables.n + 1 == 2").is_ok());
        assert!(scope.program("variables.n == 'a'").is_err());
        assert!(scope.program("variables.m == 1").is_err());
        assert!(scope.program("variables.q == 'whatever it is'").is_ok());
        assert!(Scope::of_messages(false).with_variables_of(&scope).program("string(variables.n)").is_ok());
    }
}

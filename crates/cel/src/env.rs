//! What an expression can speak about.

use crate::check::{Checked, check};
use crate::decl::Functions;
use crate::library;
use crate::program::{CompileError, Program};
use crate::syntax::{Syntax, parse};
use crate::types::Type;
use crate::value::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// Knows the object types of an environment.
pub trait TypeProvider: Send + Sync {
    /// The type that a name stands for.
    fn find_type(&self, name: &str) -> Option<Type>;

    /// The type of an object type's field.
    fn find_field(&self, type_name: &str, field: &str) -> Option<Type>;

    /// The constant that a name stands for.
    fn find_constant(&self, _name: &str) -> Option<Value<'static>> {
        None
    }
}

/// Variables, functions and types: what expressions are compiled against. Cheap to clone and to extend.
#[derive(Clone)]
pub struct Env {
    pub(crate) functions: Arc<Functions>,
    pub(crate) variables: HashMap<String, Type>,
    pub(crate) types: Arc<HashMap<String, Type>>,
    pub(crate) providers: Vec<Arc<dyn TypeProvider>>,
    pub(crate) container: String,
    pub(crate) syntax: Syntax,
    /// Whether the elements of a list or map literal must agree in their types.
    pub(crate) homogeneous: bool,
    pub(crate) checks_literals: bool,
}

impl Env {
    /// Only the standard definitions of the language.
    pub fn standard() -> Self {
        let mut functions = Functions::default();
        library::standard(&mut functions);
        Self {
            functions: Arc::new(functions),
            variables: HashMap::new(),
            types: Arc::new(standard_types()),
            providers: Vec::new(),
            container: String::new(),
            syntax: Syntax::default(),
            homogeneous: false,
            checks_literals: false,
        }
    }

    /// The language as Kubernetes 1.36 has it: its libraries, its options.
    pub fn kubernetes() -> Self {
        let mut env = Self::standard();
        env = env.with_optionals().with_two_variable_macros();
        for library in library::KUBERNETES {
            env = env.with_functions(library);
        }
        let types = Arc::make_mut(&mut env.types);
        for t in library::kubernetes_types() {
            types.insert(t.name().to_owned(), t);
        }
        env.syntax.sort_by = true;
        env.homogeneous = true;
        env.checks_literals = true;
        env
    }

    /// With optional values: `?.`, `[?]`, `optional.of`, `optMap`.
    pub fn with_optionals(mut self) -> Self {
        self.syntax.optional_macros = true;
        Arc::make_mut(&mut self.types).insert("optional_type".to_owned(), Type::optional(Type::Dyn));
        self.with_functions(library::optional)
    }

    /// With the macros of two variables: `transformList` and its like.
    pub fn with_two_variable_macros(mut self) -> Self {
        self.syntax.two_variable_macros = true;
        self.with_functions(library::two_variables)
    }

    /// With `cel.bind`, which Kubernetes does not have.
    pub fn with_bind(mut self) -> Self {
        self.syntax.bind = true;
        self
    }

    /// With field names between backquotes, which Kubernetes does not have.
    pub fn with_quoted_names(mut self) -> Self {
        self.syntax.quoted_names = true;
        self
    }

    /// With list and map literals of mixed types, and no checks of constants: as the language has it by itself.
    pub fn with_dynamic_literals(mut self) -> Self {
        self.homogeneous = false;
        self.checks_literals = false;
        self
    }

    /// With the functions that `declare` declares.
    pub fn with_functions(mut self, declare: impl FnOnce(&mut Functions)) -> Self {
        declare(Arc::make_mut(&mut self.functions));
        self
    }

    /// With a variable.
    pub fn with_variable(mut self, name: &str, t: Type) -> Self {
        self.variables.insert(name.to_owned(), t);
        self
    }

    /// With the types of a provider; those given later are asked first.
    pub fn with_types(mut self, provider: Arc<dyn TypeProvider>) -> Self {
        self.providers.insert(0, provider);
        self
    }

    /// With a namespace in which names are looked up first.
    pub fn with_container(mut self, name: &str) -> Self {
        name.clone_into(&mut self.container);
        self
    }

    /// Reads, checks and plans an expression.
    ///
    /// # Errors
    /// Everything that is wrong with it.
    pub fn compile(&self, text: &str) -> Result<Program, CompileError> {
        let parsed = parse(text, self.syntax)?;
        let checked = check(self, text, parsed)?;
        Program::new(self, checked)
    }

    /// Reads and plans an expression without checking its types: what does not fit is found when it is evaluated.
    ///
    /// # Errors
    /// It is no expression.
    pub fn compile_unchecked(&self, text: &str) -> Result<Program, CompileError> {
        let parsed = parse(text, self.syntax)?;
        Program::new(self, Checked::unchecked(parsed))
    }

    /// The names that `name` can stand for, the most local first.
    pub(crate) fn candidates(&self, name: &str) -> Vec<String> {
        if let Some(absolute) = name.strip_prefix('.') {
            return vec![absolute.to_owned()];
        }
        let mut found = Vec::new();
        let mut container = self.container.as_str();
        while !container.is_empty() {
            found.push(format!("{container}.{name}"));
            container = container.rsplit_once('.').map_or("", |(outer, _)| outer);
        }
        found.push(name.to_owned());
        found
    }

    pub(crate) fn find_type(&self, name: &str) -> Option<Type> {
        self.providers.iter().find_map(|p| p.find_type(name)).or_else(|| self.types.get(name).cloned())
    }

    pub(crate) fn find_field(&self, type_name: &str, field: &str) -> Option<Type> {
        self.providers.iter().find_map(|p| p.find_field(type_name, field))
    }

    pub(crate) fn find_constant(&self, name: &str) -> Option<Value<'static>> {
        self.providers.iter().find_map(|p| p.find_constant(name))
    }
}

fn standard_types() -> HashMap<String, Type> {
    let named = [
        Type::Bool,
        Type::Int,
        Type::Uint,
        Type::Double,
        Type::String,
        Type::Bytes,
        Type::Duration,
        Type::Timestamp,
        Type::list(Type::Dyn),
        Type::map(Type::Dyn, Type::Dyn),
        Type::Null,
        Type::Type(None),
    ];
    named.into_iter().map(|t| (t.name().to_owned(), t)).collect()
}

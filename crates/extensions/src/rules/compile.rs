//! From the rules of a node to programs.

use super::LARGEST_REQUEST;
use crate::node::{Node, Rule};
use std::sync::LazyLock;
use trireme_cel::{CompileError, DeclType, Env, Program, Type};

/// A rule that was compiled.
#[derive(Debug)]
pub(crate) struct Compiled {
    /// The program, or why there is none.
    pub program: Result<Program, String>,
    /// What it costs at the most.
    pub cost: u64,
    /// How often the value can be in one object, when nothing else bounds it.
    pub cardinality: u64,
    /// It compares with the value before the change.
    pub uses_old: bool,
    /// What makes the message, if it is made.
    pub message: Option<Message>,
}

/// The expression of a message: the program, or why there is none.
#[derive(Debug)]
pub(crate) struct Message {
    pub program: Result<Program, String>,
    pub cost: u64,
}

static LANGUAGE: LazyLock<Env> = LazyLock::new(Env::kubernetes);

/// The name of the type of `self`, which nobody can say.
const SELF: &str = "selfType";

/// Compiles the rules of a node, in their order; an empty rule is `None`. The whole is `None` when the schema cannot be seen by
/// expressions.
pub(crate) fn compile(node: &Node) -> Option<Vec<Option<Compiled>>> {
    let decl = DeclType::from_schema(node)?.named(SELF);
    let env = LANGUAGE.clone().with_types(decl.provider()).with_variable("self", decl.cel_type.clone());
    let with_old = env.clone().with_variable("oldSelf", decl.cel_type.clone());
    let with_optional = env.with_variable("oldSelf", Type::optional(decl.cel_type.clone()));
    let one = |rule: &Rule| {
        let env = if rule.optional_old_self == Some(true) { &with_optional } else { &with_old };
        (!rule.rule.trim().is_empty()).then(|| self::rule(rule, env, &decl))
    };
    Some(node.rules.iter().map(one).collect())
}

fn rule(rule: &Rule, env: &Env, decl: &DeclType) -> Compiled {
    let cardinality = LARGEST_REQUEST / (decl.min_serialized_size + 1);
    let failed = |why: String| Compiled { program: Err(why), cost: 0, cardinality, uses_old: false, message: None };
    let program = match env.compile(&rule.rule) {
        Ok(program) => program,
        Err(error) => return failed(error.to_string()),
    };
    if *program.result_type() != Type::Bool {
        return failed("cel expression must evaluate to a bool".to_owned());
    }
    let message = (!rule.message_expression.is_empty()).then(|| message(&rule.message_expression, env, decl));
    let cost = program.cost_estimate(decl).max;
    Compiled { cost, cardinality, uses_old: program.uses("oldSelf"), program: Ok(program), message }
}

fn message(expression: &str, env: &Env, decl: &DeclType) -> Message {
    let failed = |why: String| Message { program: Err(why), cost: 0 };
    match env.compile(expression) {
        Err(CompileError::Invalid(issues)) => failed(format!("messageExpression compilation failed: {issues}")),
        Err(CompileError::Program(error)) => failed(format!("messageExpression instantiation failed: {error}")),
        Ok(program) if *program.result_type() != Type::String => {
            failed("messageExpression must evaluate to a string".to_owned())
        }
        Ok(program) => Message { cost: program.cost_estimate(decl).max, program: Ok(program) },
    }
}

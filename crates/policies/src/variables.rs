//! `variables` of a policy: named expressions, each for those that follow it.

use crate::expression::{Expression, Wanted};
use crate::scope::Scope;
use trireme_schema::Value;

/// The variables of a policy, in their order.
#[derive(Debug, Default)]
pub(crate) struct Variables(Vec<(String, Expression)>);

impl Variables {
    /// Compiles them, and lets `scope` know them.
    pub fn compile(list: &[Value], scope: &mut Scope) -> Self {
        let compile = |variable: &Value| {
            let name = variable.str_at(&["name"]).to_owned();
            let expression = Expression::compile(scope, variable.str_at(&["expression"]), &[Wanted::Anything]);
            scope.declare(&name, expression.program.as_ref().ok().map(trireme_cel::Program::result_type));
            (name, expression)
        };
        Self(list.iter().map(compile).collect())
    }

    /// Where a variable stands; of two with one name the later counts.
    pub fn position(&self, name: &str) -> Option<usize> {
        self.0.iter().rposition(|(there, _)| there == name)
    }

    pub fn get(&self, position: usize) -> Option<&Expression> {
        self.0.get(position).map(|(_, expression)| expression)
    }

    pub fn len(&self) -> usize {
        self.0.len()
    }
}

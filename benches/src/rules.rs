//! Expressions (CEL): how long it takes to compile a rule, and to evaluate it over an object with twenty containers.

use crate::Outcome;
use crate::table::Table;
use std::time::Instant;
use trireme_cel::{Budget, Env, Type, Value};
use trireme_schema::value;

const ROUNDS: u32 = 20_000;

const RULES: &[&str] = &[
    "object.spec.replicas <= object.spec.max",
    "!has(object.spec.none) || object.spec.none == 1",
    "object.metadata.name.matches('^[a-z]+$')",
    "object.spec.containers.all(c, c.image.startsWith('registry.example.com/'))",
    "object.spec.containers.all(a, object.spec.containers.exists_one(b, a.name == b.name))",
];

pub(crate) fn measure(table: &mut Table) -> Outcome {
    let containers: Vec<trireme_schema::Value> =
        (0..20).map(|n| value!({"name": (format!("c{n}")), "image": "registry.example.com/a:1"})).collect();
    let mut object = value!({"metadata": {"name": "x"}, "spec": {"replicas": 3, "max": 5}});
    object.set_at(&["spec", "containers"], containers);
    let env = Env::kubernetes().with_variable("object", Type::Dyn);
    for rule in RULES {
        let start = Instant::now();
        for _ in 0..ROUNDS / 100 {
            env.compile(rule)?;
        }
        let compile = start.elapsed() / (ROUNDS / 100);
        let program = env.compile(rule)?;
        let start = Instant::now();
        let mut cost = 0;
        for _ in 0..ROUNDS {
            let variables = [("object", Value::from_json(&object, None)?)];
            let mut budget = Budget::new(u64::MAX);
            program.evaluate(&variables, &mut budget)?;
            cost = budget.spent();
        }
        let evaluate = start.elapsed() / ROUNDS;
        table.plain(format!("CEL: `{rule}`"), format!("{evaluate:.2?} (cost {cost}), compiled in {compile:.2?}"));
    }
    Ok(())
}

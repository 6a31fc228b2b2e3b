//! Expressions: whatever the text, it is read, checked, estimated and evaluated without a panic and within its budget.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trireme_cel::{Budget, Env, NoHints, Type, Value, to_json};
use trireme_schema::json;

fuzz_target!(|text: &str| {
    let env = Env::kubernetes()
        .with_bind()
        .with_variable("self", Type::Dyn)
        .with_variable("list", Type::list(Type::Int))
        .with_variable("text", Type::String);
    let object = json::parse(br#"{"a":[1,2.5,"x",null,{"b":true}],"c":{"d":"e"}}"#).expect("an object");
    let variables = [
        ("self", Value::from_json(&object, None).expect("a value")),
        ("list", Value::list(vec![Value::Int(1), Value::Int(-2)])),
        ("text", Value::str("10.0.0.1/8")),
    ];
    for program in [env.compile(text), env.compile_unchecked(text)] {
        match program {
            Ok(program) => {
                let estimate = program.cost_estimate(&NoHints);
                assert!(estimate.min <= estimate.max);
                if let Ok(value) = program.evaluate(&variables, &mut Budget::new(100_000)) {
                    let _ = (value.to_string(), to_json(&value));
                }
            }
            Err(error) => assert!(!error.to_string().is_empty()),
        }
    }
});

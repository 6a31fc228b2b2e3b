//! Whatever the text: it compiles or it does not, and it has a value or it has none, within its budget.

use proptest::prelude::*;
use trireme_cel::{Budget, Env, NoHints, Type, Value};

fn run(text: &str) {
    let env = Env::kubernetes()
        .with_bind()
        .with_quoted_names()
        .with_variable("self", Type::Dyn)
        .with_variable("list", Type::list(Type::Int))
        .with_variable("text", Type::String);
    let json = trireme_schema::value!({"a": [1, 2.5, "x", null, {"b": true}], "c": {"d": "e"}});
    let variables = [
        ("self", Value::from_json(&json, None).expect("a value")),
        ("list", Value::list(vec![Value::Int(1), Value::Int(-2)])),
        ("text", Value::str("t\u{e4}xt 10.0.0.1/8 1Gi 2020-01-01T00:00:00Z")),
    ];
    match env.compile(text) {
        Ok(program) => {
            let estimate = program.cost_estimate(&NoHints);
            assert!(estimate.min <= estimate.max, "{text}");
            let mut budget = Budget::new(10_000);
            if let Ok(value) = program.evaluate(&variables, &mut budget) {
                let _ = (value.to_string(), trireme_cel::to_json(&value));
                assert!(budget.spent() <= 10_000, "{text}");
            }
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    if let Ok(program) = env.compile_unchecked(text) {
        let _ = program.evaluate(&variables, &mut Budget::new(10_000)).map(|value| value.to_string());
    }
}

/// Parts of expressions, put together in ways that make sense more often than letters do.
fn expression() -> impl Strategy<Value = String> {
    let leaf = prop::sample::select(vec![
        "self",
        "list",
        "text",
        "1",
        "-1",
        "2u",
        "0.5",
        "'a'",
        "b'x'",
        "true",
        "null",
        "[]",
        "{}",
        "self.a",
        "self.c.d",
        "duration('1h')",
        "timestamp('2020-01-01T00:00:00Z')",
        "optional.none()",
        "quantity('1Gi')",
        "ip('::1')",
        "x",
        "9223372036854775807",
        "url('/a?b=c')",
        "semver('1.2.3')",
        "format.uuid()",
        "type(1)",
    ])
    .prop_map(str::to_owned);
    leaf.prop_recursive(5, 40, 3, |inner| {
        let operators = prop::sample::select(vec!["+", "-", "*", "/", "%", "==", "!=", "<", ">=", "in", "&&", "||"]);
        let methods = prop::sample::select(vec![
            "size",
            "contains",
            "matches",
            "startsWith",
            "value",
            "hasValue",
            "sum",
            "min",
            "sort",
            "distinct",
            "flatten",
            "split",
            "join",
            "find",
            "findAll",
            "indexOf",
            "charAt",
            "substring",
            "replace",
            "format",
            "add",
            "or",
            "orValue",
            "getHours",
            "getFullYear",
            "reverse",
            "slice",
            "first",
            "lowerAscii",
            "containsIP",
            "validate",
            "unwrapOpt",
        ]);
        let functions = prop::sample::select(vec![
            "int",
            "uint",
            "double",
            "string",
            "bytes",
            "bool",
            "dyn",
            "type",
            "size",
            "timestamp",
            "duration",
            "optional.of",
            "quantity",
            "ip",
            "cidr",
            "isIP",
            "url",
            "semver",
            "lists.range",
            "strings.quote",
            "sets.contains",
            "has",
        ]);
        let macros = prop::sample::select(vec!["all", "exists", "exists_one", "map", "filter", "sortBy", "optMap"]);
        let pairs = prop::sample::select(vec!["all", "exists", "transformList", "transformMap", "transformMapEntry"]);
        prop_oneof![
            (inner.clone(), operators, inner.clone()).prop_map(|(a, op, b)| format!("({a} {op} {b})")),
            (inner.clone(), inner.clone(), inner.clone()).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
            (inner.clone(), methods.clone()).prop_map(|(a, m)| format!("{a}.{m}()")),
            (inner.clone(), methods, inner.clone()).prop_map(|(a, m, b)| format!("{a}.{m}({b})")),
            (functions.clone(), inner.clone()).prop_map(|(f, a)| format!("{f}({a})")),
            (functions, inner.clone(), inner.clone()).prop_map(|(f, a, b)| format!("{f}({a}, {b})")),
            (inner.clone(), macros, inner.clone()).prop_map(|(a, m, b)| format!("{a}.{m}(x, {b})")),
            (inner.clone(), pairs, inner.clone()).prop_map(|(a, m, b)| format!("{a}.{m}(x, y, {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{a}[?{b}]")),
            inner.clone().prop_map(|a| format!("{a}.?a")),
            inner.clone().prop_map(|a| format!("has({a}.b)")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("[{a}, ?{b}]")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("{{{a}: {b}, 'k': 1}}")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("cel.bind(x, {a}, {b})")),
            inner.clone().prop_map(|a| format!("!{a}")),
            inner.prop_map(|a| format!("-{a}")),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn on_any_text(text in ".{0,60}") {
        run(&text);
    }

    #[test]
    fn on_anything_of_tokens(tokens in prop::collection::vec(prop::sample::select(vec![
        "a", ".", "(", ")", "[", "]", "{", "}", "?", ":", ",", "-", "!", "+", "1", "'s'", "in", "&&", "||", "==", "has", "map",
        "x", "null", "`a`", "1u", "0x", "\"", "'''", "r'", "b'\\xff'", "=", "\n", "//c",
    ]), 0..25)) {
        run(&tokens.concat());
        run(&tokens.join(" "));
    }

    #[test]
    fn on_expressions(text in expression()) {
        run(&text);
    }
}

#[test]
fn on_deep_expressions_in_a_small_stack() {
    let nested = |open: &str, close: &str, n: usize| format!("{}1{}", open.repeat(n), close.repeat(n));
    let texts = [
        nested("(", ")", 249),
        nested("[", "]", 249),
        nested("{1:", "}", 249),
        nested("true?", ":1", 249),
        nested("[1].map(x,", ")", 120),
        format!("1{}", "+1".repeat(249)),
        format!("self{}", ".a".repeat(249)),
        format!("true{}", "&&true".repeat(20_000)),
        nested("optional.of(1).optMap(x,", ")", 30),
        format!("optional.of(1){}", ".optMap(x, x)".repeat(60)),
        "!".repeat(90_000),
        "[".repeat(90_000),
        "a.".repeat(45_000),
        "-1 ".repeat(30_000),
    ];
    let small = std::thread::Builder::new().stack_size(2 << 20);
    let thread = small.spawn(move || texts.iter().for_each(|text| run(text))).expect("a thread");
    thread.join().expect("no overflow");
}

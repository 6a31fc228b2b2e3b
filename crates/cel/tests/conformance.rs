//! The conformance tests of the language (`../shared/vectors/cel-spec`), as far as Kubernetes has its features.

mod support;

use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use support::textproto::{Message, Node, read};
use trireme_cel::{Budget, Env, EvalError, Key, List, Map, Overload, Timestamp, Type, Value};

/// Files about what Kubernetes does not have.
const NOT_IN_KUBERNETES: [(&str, &str); 7] = [
    ("proto2", "protobuf messages"),
    ("proto2_ext", "protobuf extensions"),
    ("proto3", "protobuf messages"),
    ("enums", "protobuf enumerations"),
    ("block_ext", "cel.block, an optimiser's form"),
    ("encoders_ext", "library encoders"),
    ("math_ext", "library math"),
];

/// Tests of a message that Kubernetes does not have.
fn about_messages(test: &Message) -> bool {
    let text = format!("{test:?}");
    let expr = test.text("expr");
    ["TestAllTypes", "NestedTestAllTypes", "GlobalEnum", "TestRequired"].iter().any(|name| expr.contains(name))
        || ["google.protobuf.Any", "google.protobuf.Value", "google.protobuf.Struct", "google.protobuf.ListValue"]
            .iter()
            .any(|name| expr.contains(name))
        || expr.contains("Value{")
        || expr.contains("google.protobuf.") && expr.contains('{')
        || text.contains("object_value")
        || text.contains("message_type")
}

/// Tests of the functions of strings in a version that Kubernetes does not have: `format` of version 4, `reverse`.
const NEWER_STRINGS: &[&str] = &[
    "format/scientific notation formatting clause",
    "format/default precision for fixed-point clause with int",
    "format/default precision for fixed-point clause with uint",
    "format/default precision for scientific notation",
    "format/default precision for scientific notation with int",
    "format/default precision for scientific notation with uint",
    "format/positive infinity support for scientific notation",
    "format/negative infinity support for scientific notation",
    "format/NaN support for decimal",
    "format/positive infinity support for decimal",
    "format/negative infinity support for decimal",
    "format/positive infinity support for fixed-point",
    "format/negative infinity support for fixed-point",
    "format/list support for string",
    "format/map support for string",
    "format/map support (all key types)",
    "format/dyntype support for scientific notation",
    "format/dyntype NaN/infinity support",
    "format/dyntype support for lists",
    "format/dyntype support for maps",
    "format/scientific notation formatting clause in a string variable",
    "reverse/empty",
    "reverse/single_character",
    "reverse/multiple",
];

/// Single tests that cel-go, and so Kubernetes, does otherwise or not at all.
const OTHERWISE: &[(&str, &str)] = &[
    ("fields/qualified_identifier_resolution/map_value_repeat_key", "cel-go takes the last of repeated keys"),
    (
        "fields/qualified_identifier_resolution/map_value_repeat_key_heterogeneous",
        "cel-go takes the last of repeated keys",
    ),
    ("optionals/optionals/map_null_entry_no_such_key", "Kubernetes does not enable errors of bad presence tests"),
    ("optionals/optionals/map_present_key_invalid_field", "Kubernetes does not enable errors of bad presence tests"),
    ("network_ext/ipv4/ipv4_equals_ipv6", "Kubernetes does not take IPv4 addresses within IPv6"),
    ("network_ext/ipv4/ipv4_not_equals_ipv6", "Kubernetes does not take IPv4 addresses within IPv6"),
    ("string_ext/value_errors/indexof_out_of_range", "cel-go gives -1; it skips this test"),
    ("string_ext/value_errors/lastindexof_out_of_range", "cel-go gives -1; it skips this test"),
    (
        "type_deduction/legacy_nullable_types/null_assignable_to_abstract_parameter_candidate",
        "cel-go deduces null; it skips this test",
    ),
];

fn shared() -> Option<PathBuf> {
    let path = "shared/vectors/cel-spec/tests/simple/testdata";
    let up = |path: PathBuf| path.exists().then_some(path);
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).ancestors().find_map(|ancestor| up(ancestor.join(path)))
}

#[derive(Default)]
struct Count {
    passed: usize,
    excepted: usize,
    failed: Vec<String>,
}

#[test]
fn the_language_is_as_it_is_specified() {
    let Some(directory) = shared() else {
        println!("skipped: ../shared is not there");
        return;
    };
    let mut files: Vec<_> = std::fs::read_dir(directory).expect("tests").map(|f| f.expect("file").path()).collect();
    files.sort();
    let mut all = Vec::new();
    let mut table = String::new();
    for file in files {
        let name = file.file_stem().expect("name").to_string_lossy().into_owned();
        let tests = read(&std::fs::read_to_string(&file).expect("text"));
        let count = run_file(&name, &tests);
        let line = format!(
            "{name:16} passed {:4}  excepted {:4}  failed {:4}\n",
            count.passed,
            count.excepted,
            count.failed.len()
        );
        table.push_str(&line);
        all.extend(count.failed);
    }
    println!("{table}");
    assert!(all.is_empty(), "{} failed:\n{}\n{table}", all.len(), all.join("\n"));
}

fn run_file(name: &str, tests: &Message) -> Count {
    let mut count = Count::default();
    let out_of_scope = NOT_IN_KUBERNETES.iter().any(|(file, _)| *file == name);
    for section in tests.all("section") {
        for test in section.all("test") {
            let full = format!("{name}/{}/{}", section.text("name"), test.text("name"));
            let newer = full.strip_prefix("string_ext/").is_some_and(|test| NEWER_STRINGS.contains(&test));
            if out_of_scope || newer || about_messages(test) || OTHERWISE.iter().any(|(test, _)| *test == full) {
                count.excepted += 1;
                continue;
            }
            match run(test) {
                Ok(()) => count.passed += 1,
                Err(why) => count.failed.push(format!("{full}: `{}`: {why}", test.text("expr"))),
            }
        }
    }
    count
}

fn run(test: &Message) -> Result<(), String> {
    let mut env = Env::kubernetes().with_bind().with_quoted_names().with_dynamic_literals();
    env = env.with_container(&test.text("container"));
    for declaration in test.all("type_env") {
        if let Some(ident) = declaration.get("ident") {
            env = env.with_variable(&declaration.text("name"), read_type(ident.get("type").ok_or("no type")?)?);
        }
        if let Some(function) = declaration.get("function") {
            let overloads = function.all("overloads").map(read_overload).collect::<Result<Vec<_>, _>>()?;
            env = env.with_functions(|functions| {
                for overload in overloads {
                    functions.add(declaration.text("name").leak(), overload);
                }
            });
        }
    }
    let mut variables = HashMap::new();
    for binding in test.all("bindings") {
        let value = binding.get("value").and_then(|v| v.get("value")).ok_or("no value")?;
        variables.insert(binding.text("key"), read_value(value)?);
    }
    let expr = test.text("expr");
    let unchecked = test.flag("disable_check");
    let program = if unchecked { env.compile_unchecked(&expr) } else { env.compile(&expr) };
    let fails = test.get("eval_error").is_some();
    let program = match program {
        Ok(program) => program,
        Err(_) if fails => return Ok(()),
        Err(error) => return Err(error.to_string()),
    };
    if let Some(deduced) = test.get("typed_result").and_then(|t| t.get("deduced_type")) {
        let want = read_type(deduced)?;
        if *program.result_type() != want {
            return Err(format!("type {} instead of {want}", program.result_type()));
        }
    }
    if test.flag("check_only") {
        return Ok(());
    }
    let result = program.evaluate(&variables, &mut Budget::new(10_000_000));
    let want = match (test.get("value"), test.get("typed_result").and_then(|t| t.get("result"))) {
        (Some(value), _) | (_, Some(value)) => read_value(value)?,
        _ => Value::Bool(true),
    };
    match result {
        Err(EvalError::Failed(_)) if fails => Ok(()),
        Ok(value) if !fails && same(&value, &want) => Ok(()),
        other => {
            Err(format!("{other:?} instead of {}", if fails { "an error".to_owned() } else { format!("{want:?}") }))
        }
    }
}

/// Equal, and of the same type.
fn same(a: &Value<'_>, b: &Value<'_>) -> bool {
    match (a, b) {
        (Value::Double(a), Value::Double(b)) => a == b || a.is_nan() && b.is_nan(),
        (Value::List(a), Value::List(b)) => {
            a.len() == b.len() && a.iter().zip(b.iter()).all(|(a, b)| same(&a.expect("element"), &b.expect("element")))
        }
        (Value::Map(a), Value::Map(b)) => {
            a.len() == b.len()
                && a.keys().iter().all(|key| match (a.get(key), b.get(key)) {
                    (Ok(Some(a)), Ok(Some(b))) => same(&a, &b),
                    _ => false,
                })
        }
        _ => a.type_of().name() == b.type_of().name() && a.equals(b) == Ok(true),
    }
}

fn read_value(message: &Message) -> Result<Value<'static>, String> {
    let Some((kind, node)) = message.0.first() else { return Err("an empty value".to_owned()) };
    Ok(match (kind.as_str(), node) {
        ("null_value", _) => Value::Null,
        ("bool_value", Node::Scalar(text)) => Value::Bool(text == b"true"),
        ("int64_value", Node::Scalar(text)) => Value::Int(number(text)?),
        ("uint64_value", Node::Scalar(text)) => Value::Uint(number(text)?),
        ("double_value", Node::Scalar(text)) => Value::Double(number(text)?),
        ("string_value", Node::Scalar(text)) => Value::text(String::from_utf8_lossy(text).into_owned()),
        ("bytes_value", Node::Scalar(text)) => Value::bytes(text.clone()),
        ("type_value", Node::Scalar(text)) => Value::Type(named_type(&String::from_utf8_lossy(text))),
        ("list_value", Node::Message(list)) => Value::List(List::Values(std::sync::Arc::new(
            list.all("values").map(read_value).collect::<Result<_, _>>()?,
        ))),
        ("map_value", Node::Message(map)) => {
            let mut entries = BTreeMap::new();
            for entry in map.all("entries") {
                let key = read_value(entry.get("key").ok_or("no key")?)?;
                entries.insert(Key::lookup(&key).ok_or("bad key")?, read_value(entry.get("value").ok_or("no value")?)?);
            }
            Value::Map(Map::Values(std::sync::Arc::new(entries)))
        }
        ("object_value", Node::Message(any)) => well_known(any)?,
        other => return Err(format!("value {other:?}")),
    })
}

fn well_known(any: &Message) -> Result<Value<'static>, String> {
    let Some((name, Node::Message(message))) = any.0.first() else { return Err("an empty message".to_owned()) };
    let part = |name: &str| number::<i64>(message.text(name).as_bytes()).unwrap_or_default();
    let (seconds, nanos) = (part("seconds"), part("nanos"));
    match name.as_str() {
        "[type.googleapis.com/google.protobuf.Duration]" => Ok(Value::Duration(seconds * 1_000_000_000 + nanos)),
        "[type.googleapis.com/google.protobuf.Timestamp]" => {
            Timestamp::new(seconds, nanos as u32).map(Value::Timestamp).ok_or_else(|| "a bad time".to_owned())
        }
        other => Err(format!("message {other}")),
    }
}

fn number<T: std::str::FromStr>(text: &[u8]) -> Result<T, String> {
    let text = String::from_utf8_lossy(text);
    text.parse().map_err(|_| format!("number {text}"))
}

fn named_type(name: &str) -> Type {
    match name {
        "bool" => Type::Bool,
        "int" => Type::Int,
        "uint" => Type::Uint,
        "double" => Type::Double,
        "string" => Type::String,
        "bytes" => Type::Bytes,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "type" => Type::Type(None),
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "optional_type" => Type::optional(Type::Dyn),
        other => Type::opaque(other),
    }
}

fn read_type(message: &Message) -> Result<Type, String> {
    let Some((kind, node)) = message.0.first() else { return Err("an empty type".to_owned()) };
    Ok(match (kind.as_str(), node) {
        ("dyn", _) => Type::Dyn,
        ("null", _) => Type::Null,
        ("error", _) => Type::Error,
        ("primitive", Node::Scalar(name)) => primitive(name)?,
        ("wrapper", Node::Scalar(name)) => Type::nullable(primitive(name)?),
        ("well_known", Node::Scalar(name)) => match &**name {
            b"DURATION" => Type::Duration,
            b"TIMESTAMP" => Type::Timestamp,
            _ => Type::Any,
        },
        ("list_type", Node::Message(list)) => Type::list(list.get("elem_type").map_or(Ok(Type::Dyn), read_type)?),
        ("map_type", Node::Message(map)) => Type::map(
            map.get("key_type").map_or(Ok(Type::Dyn), read_type)?,
            map.get("value_type").map_or(Ok(Type::Dyn), read_type)?,
        ),
        ("message_type", Node::Scalar(name)) => Type::object(&String::from_utf8_lossy(name)),
        ("type", Node::Message(inner)) if inner.0.is_empty() => Type::Type(None),
        ("type", Node::Message(inner)) => Type::of_type(read_type(inner)?),
        ("type_param", Node::Scalar(name)) => Type::Param(String::from_utf8_lossy(name).into_owned().leak()),
        ("abstract_type", Node::Message(message)) => {
            let params = message.all("parameter_types").map(read_type).collect::<Result<Vec<_>, _>>()?;
            Type::Opaque(message.text("name").as_str().into(), params.into())
        }
        other => return Err(format!("type {other:?}")),
    })
}

fn read_overload(message: &Message) -> Result<Overload, String> {
    Ok(Overload {
        id: message.text("overload_id").into(),
        method: message.flag("is_instance_function"),
        args: message.all("params").map(read_type).collect::<Result<_, _>>()?,
        result: read_type(message.get("result_type").ok_or("no result")?)?,
        call: |_| Err(EvalError::new("not to be called")),
    })
}

fn primitive(name: &[u8]) -> Result<Type, String> {
    Ok(match name {
        b"BOOL" => Type::Bool,
        b"INT64" => Type::Int,
        b"UINT64" => Type::Uint,
        b"DOUBLE" => Type::Double,
        b"STRING" => Type::String,
        b"BYTES" => Type::Bytes,
        _ => return Err(format!("primitive {name:?}")),
    })
}

//! JSON Patch (RFC 6902) with pointers (RFC 6901).

use trireme_schema::{Key, Status, Value, json};

/// More operations than this are refused, as upstream does.
const MOST: usize = 10_000;

/// What `copy` operations may add in all, in bytes of JSON: a few of them, each doubling what is there, would otherwise
/// fill any memory.
const MOST_COPIED: usize = 3 << 20;

/// What operations have that operations do not have.
pub(super) fn unknown(patch: &Value) -> Vec<String> {
    let mut notes = Vec::new();
    for (i, operation) in patch.as_array().unwrap_or_default().iter().enumerate() {
        for name in operation.as_object().into_iter().flat_map(trireme_schema::Map::keys) {
            if !matches!(name.as_str(), "op" | "path" | "from" | "value") {
                notes.push(format!("json patch unknown field \"[{i}].{name}\""));
            }
        }
    }
    notes
}

/// Applies a list of operations; all or nothing. Where nobody looks for unknown fields, upstream's library is the one that
/// reads them, with names of its own.
pub(crate) fn apply(patch: &Value, tree: Value, ignores: bool) -> Result<Value, Status> {
    let (cannot, names) = match ignores {
        true => ("json: cannot unmarshal", ["jsonpatch.Patch", "jsonpatch.Operation"]),
        false => ("error decoding patch: json: cannot unmarshal", ["[]handlers.jsonPatchOp", "handlers.jsonPatchOp"]),
    };
    if patch.is_null() {
        return Ok(tree);
    }
    let Some(operations) = patch.as_array() else {
        return Err(Status::bad_request(format!("{cannot} {} into Go value of type {}", patch.json_type(), names[0])));
    };
    if operations.len() > MOST {
        return Err(Status::too_large(format!(
            "Request entity too large: The allowed maximum operations in a JSON patch is {MOST}, got {}",
            operations.len()
        )));
    }
    for operation in operations {
        if !operation.is_null() && operation.as_object().is_none() {
            return Err(Status::bad_request(format!(
                "{cannot} {} into Go value of type {}",
                operation.json_type(),
                names[1]
            )));
        }
        for name in ["op", "path", "from"] {
            let odd = operation.get(name).filter(|v| v.as_str().is_none() && !v.is_null());
            if let Some(odd) = odd.filter(|_| !ignores) {
                return Err(Status::bad_request(format!(
                    "{cannot} {} into Go struct field jsonPatchOp.{name} of type string",
                    odd.json_type()
                )));
            }
        }
    }
    run(patch, tree).map_err(|why| {
        // Upstream does not tell its clients why; its log does.
        tracing::debug!(%why, "a JSON patch does not apply");
        let mut status =
            Status::failure(422, "Invalid", "the server rejected our request due to an error in our request");
        status.details = Some(Box::default());
        status
    })
}

/// Why a patch does not apply, in the words of upstream's library.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Broken {
    /// What a `test` expects is not so.
    #[error("{0}")]
    Test(String),
    /// An operation cannot be done.
    #[error("{0}")]
    Step(String),
}

impl From<String> for Broken {
    fn from(why: String) -> Self {
        Broken::Step(why)
    }
}

/// Applies operations of which only the form is known to be good.
///
/// # Errors
/// The first that does not apply.
pub(crate) fn run(operations: &Value, mut tree: Value) -> Result<Value, Broken> {
    let mut copied = 0;
    for operation in operations.as_array().unwrap_or_default() {
        step(operation, &mut tree, &mut copied)?;
    }
    Ok(tree)
}

fn step(operation: &Value, tree: &mut Value, copied: &mut usize) -> Result<(), Broken> {
    let op = operation.str_at(&["op"]);
    let path = operation.get("path").and_then(Value::as_str).ok_or_else(|| "operation has no path".to_owned())?;
    // What is not given is null.
    let value = || operation.get("value").cloned().unwrap_or_default();
    let from = || operation.get("from").and_then(Value::as_str).ok_or_else(|| format!("{op} operation has no from"));
    match op {
        "add" => Ok(add(tree, path, value())?),
        "remove" => Ok(remove(tree, path).map(drop)?),
        "replace" => {
            let new = value();
            // In an object upstream's library takes a new key too.
            match find(tree, path) {
                Some(place) => *place = new,
                None => set(tree, path, new)?,
            }
            Ok(())
        }
        "move" => {
            let taken = remove(tree, from()?)?;
            Ok(add(tree, path, taken)?)
        }
        "copy" => {
            let found = get(tree, from()?, ["copy", "from"])?;
            *copied += json::to_vec(&found).len();
            if *copied > MOST_COPIED {
                return Err(format!("copies add {copied} bytes, exceeding the limit {MOST_COPIED}").into());
            }
            Ok(add(tree, path, found)?)
        }
        "test" => {
            if same(&get(tree, path, ["test", "path"])?, &value()) {
                return Ok(());
            }
            Err(Broken::Test(format!("testing value {path} failed: test failed")))
        }
        other => Err(format!("Unexpected kind: {other}").into()),
    }
}

/// There is nothing on the way to a path.
fn missing(op: &str, path: &str) -> String {
    let path = if op == "replace" { path.to_owned() } else { format!("\"{path}\"") };
    format!("{op} operation does not apply: doc is missing path: {path}: missing value")
}

/// Numbers are equal when they are the same number, whatever their form.
fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Int(a), Value::Float(b)) | (Value::Float(b), Value::Int(a)) => *a as f64 == *b,
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(k, v)| b.get(k).is_some_and(|w| same(v, w)))
        }
        _ => json::to_vec(a) == json::to_vec(b),
    }
}

/// The steps of a path. The document as a whole, which RFC 6901 has too, cannot be told to upstream's library.
fn tokens(path: &str) -> Result<Vec<String>, String> {
    match path.strip_prefix('/') {
        Some(rest) => Ok(rest.split('/').map(|t| t.replace("~1", "/").replace("~0", "~")).collect()),
        None => Err(format!("path {path:?} does not start with a slash")),
    }
}

/// An index; a negative one counts from the end, as in upstream's library.
fn position(token: &str, length: usize) -> Option<usize> {
    if let Some(back) = token.strip_prefix('-') {
        return length.checked_sub(back.parse().ok().filter(|n| *n > 0)?);
    }
    let plain = token == "0" || !token.starts_with('0');
    let n = token.bytes().all(|b| b.is_ascii_digit()).then(|| token.parse::<usize>().ok())??;
    (plain && n < length).then_some(n)
}

fn follow<'a>(mut value: &'a mut Value, tokens: &[String]) -> Option<&'a mut Value> {
    for token in tokens {
        value = match value {
            Value::Object(map) => map.get_mut(token)?,
            Value::Array(items) => {
                let i = position(token, items.len())?;
                items.get_mut(i)?
            }
            _ => return None,
        };
    }
    Some(value)
}

fn find<'a>(tree: &'a mut Value, path: &str) -> Option<&'a mut Value> {
    follow(tree, &tokens(path).ok()?)
}

/// What is at a path; null for a member that an object does not have.
fn get(tree: &mut Value, path: &str, [op, field]: [&str; 2]) -> Result<Value, String> {
    let tokens = tokens(path)?;
    let Some((last, way)) = tokens.split_last() else { return Ok(tree.clone()) };
    match follow(tree, way) {
        Some(Value::Object(map)) => Ok(map.get(last).cloned().unwrap_or_default()),
        Some(Value::Array(items)) => {
            let item = position(last, items.len()).and_then(|i| items.get(i)).cloned();
            item.ok_or_else(|| {
                let why = format!("Unable to access invalid index: {last}: invalid index referenced");
                format!("error in {op} for {field}: '{path}': {why}")
            })
        }
        _ if op == "test" => Err(format!("test operation does not apply: is missing path: {path}: missing value")),
        _ => Err(format!("{op} operation does not apply: doc is missing {field} path: {path}: missing value")),
    }
}

/// Sets a member of an object.
fn set(tree: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let tokens = tokens(path)?;
    match tokens.split_last().and_then(|(last, way)| Some((last, follow(tree, way)?))) {
        Some((last, Value::Object(map))) => drop(map.insert(Key::from(last.as_str()), value)),
        _ => return Err(missing("replace", path)),
    }
    Ok(())
}

fn add(tree: &mut Value, path: &str, value: Value) -> Result<(), String> {
    let tokens = tokens(path)?;
    let Some((last, way)) = tokens.split_last() else { return Err(missing("add", path)) };
    match follow(tree, way).ok_or_else(|| missing("add", path))? {
        Value::Object(map) => drop(map.insert(Key::from(last.as_str()), value)),
        Value::Array(items) if last == "-" => items.push(value),
        Value::Array(items) => {
            let i = position(last, items.len() + 1).ok_or_else(|| {
                format!(
                    "error in add for path: '{path}': Unable to access invalid index: {last}: invalid index referenced"
                )
            })?;
            items.insert(i, value);
        }
        _ => return Err(missing("add", path)),
    }
    Ok(())
}

fn remove(tree: &mut Value, path: &str) -> Result<Value, String> {
    let tokens = tokens(path)?;
    let Some((last, way)) = tokens.split_last() else { return Err(missing("remove", path)) };
    let (gone, why) = match follow(tree, way) {
        Some(Value::Object(map)) => {
            (map.remove(last), format!("Unable to remove nonexistent key: {last}: missing value"))
        }
        Some(Value::Array(items)) => {
            let gone = position(last, items.len()).map(|i| items.remove(i));
            (gone, format!("Unable to access invalid index: {last}: invalid index referenced"))
        }
        _ => return Err(missing("remove", path)),
    };
    gone.ok_or_else(|| format!("error in remove for path: '{path}': {why}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn patched(tree: &str, patch: &str) -> Result<String, Status> {
        let read = |text: &str| json::parse(text.as_bytes()).unwrap();
        apply(&read(patch), read(tree), false).map(|v| json::to_string(&v))
    }

    #[test]
    fn copies_that_double_without_end_are_refused() {
        let copy = |n: usize| format!(r#"{{"op":"copy","from":"/a","path":"/a/k{n}"}}"#);
        let all: Vec<String> = (0..64).map(copy).collect();
        assert!(patched(r#"{"a":{"b":"0123456789"}}"#, &format!("[{}]", all.join(","))).is_err());
    }

    #[test]
    fn upstreams_library_is_lenient() {
        let all = r#"[{"op":"add","path":"/none","value":7},{"op":"remove","path":"/none"},{"op":"replace","path":"/new","value":1},{"op":"copy","from":"/none","path":"/c"},{"op":"remove","path":"/a/-1"}]"#;
        assert_eq!(patched(r#"{"a":[1,2]}"#, all).unwrap(), r#"{"a":[1],"c":null,"new":1}"#);
    }

    #[test]
    fn operations_do_what_the_rfc_says() {
        let all = r#"[{"op":"add","path":"/a/1","value":9},{"op":"remove","path":"/b"},{"op":"copy","from":"/a/0","path":"/c~1d"},{"op":"test","path":"/c~1d","value":1}]"#;
        assert_eq!(patched(r#"{"a":[1,2],"b":{}}"#, all).unwrap(), r#"{"a":[1,9,2],"c/d":1}"#);
        for bad in [
            r#"[{"op":"remove","path":"/x"}]"#,
            r#"[{"op":"add","path":"/a/7","value":1}]"#,
            r#"[{"op":"test","path":"/a/0","value":2}]"#,
            r#"[{"op":"fly","path":"/a"}]"#,
            r#"{}"#,
            r#"[{"op":"add","path":"","value":{}}]"#,
            r#"[{"op":"add","path":"a","value":{}}]"#,
        ] {
            assert!(patched(r#"{"a":[1,2]}"#, bad).is_err(), "{bad}");
        }
    }

    /// The tests that implementations of RFC 6902 share, but for what upstream's library does in its own way.
    #[test]
    fn shared_tests_hold_but_for_what_upstream_does_differently() {
        let folder = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/json-patch-tests");
        let mut run = 0;
        for file in ["spec_tests.json", "tests.json"] {
            let Ok(text) = std::fs::read(folder.join(file)) else { continue };
            let tests = json::parse(&text).unwrap();
            for test in tests.as_array().unwrap().iter().filter(|t| !t.bool_at(&["disabled"])) {
                let (Some(doc), Some(patch)) = (test.get("doc"), test.get("patch")) else { continue };
                let whole = |path: &str| {
                    patch
                        .as_array()
                        .unwrap_or_default()
                        .iter()
                        .any(|op| op.get(path).and_then(Value::as_str) == Some(""))
                };
                // The whole document, documents that are no objects, members that are left out.
                let comment = test.str_at(&["comment"]);
                let error = test.str_at(&["error"]);
                // A negative index counts from the end there, and so is not out of bounds below.
                let lenient = ["missing", "null value", "replace", "value", "from", "index", "array", "(lower)"];
                if whole("path") || whole("from") || doc.as_object().is_none() {
                    continue;
                }
                let result = apply(patch, doc.clone(), false);
                match (test.get("expected"), result) {
                    (Some(want), Ok(got)) => assert!(same(&got, want), "{comment} {}", json::to_string(patch)),
                    (Some(_), Err(status)) => panic!("{comment}: {status} {}", json::to_string(patch)),
                    (None, Ok(_)) if error.is_empty() => {}
                    (None, Ok(_)) => {
                        assert!(lenient.iter().any(|l| error.contains(l)), "{error}: {}", json::to_string(patch));
                    }
                    (None, Err(_)) => {}
                }
                run += 1;
            }
        }
        // Without the vectors there is nothing to run.
        assert!(run == 0 || run > 40, "{run}");
    }
}

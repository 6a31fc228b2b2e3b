//! JSON: what is read is written so that it is read again, and serde_json agrees on what is JSON.
#![no_main]

use libfuzzer_sys::fuzz_target;
use trireme_schema::{builtin, decode, encode, json};

fuzz_target!(|bytes: &[u8]| {
    let ours = json::parse(bytes);
    if serde_json::from_slice::<serde_json::Value>(bytes).is_ok() {
        assert!(ours.is_ok(), "{:?} is JSON: {ours:?}", String::from_utf8_lossy(bytes));
    }
    let Ok(value) = ours else { return };
    let text = json::to_vec(&value);
    // As in Go, a float without a fraction is written as an integer: text is compared, not trees.
    assert_eq!(json::to_vec(&json::parse(&text).expect("what was written")), text);
    let schema = builtin();
    let pod = schema.type_named("core.v1.Pod").expect("a pod");
    let Ok(decoded) = decode::decode(schema, pod, value) else { return };
    let canonical = encode::to_vec(schema, pod, &decoded.value);
    let again = decode::decode(schema, pod, json::parse(&canonical).expect("canonical")).expect("a pod again");
    assert!(again.unknown.is_empty());
    assert_eq!(encode::to_vec(schema, pod, &again.value), canonical);
});

//! Upstream's round-trip files: every kind, every field set, JSON and protobuf.

#![allow(clippy::unwrap_used, clippy::print_stderr)] // a test says what it skips and fails loudly

use std::path::{Path, PathBuf};
use trireme_schema::{GroupVersion, Value, builtin, decode, encode, json, proto};

fn vectors() -> Option<PathBuf> {
    let dir = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/vectors/wire/v1.36");
    if dir.is_dir() {
        return Some(dir);
    }
    eprintln!("skipped: no {}", dir.display());
    None
}

#[test]
fn every_kind_converts_both_ways_byte_for_byte() {
    let Some(dir) = vectors() else { return };
    let schema = builtin();
    let (mut good, mut bad) = (0, Vec::new());
    for entry in std::fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|e| e != "json") {
            continue;
        }
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        // Those hold what an older release leaves of a newer one's object.
        if name.ends_with(".after_roundtrip") {
            continue;
        }
        let text = std::fs::read(&path).unwrap();
        let tree = json::parse(&text).unwrap();
        let gv = GroupVersion::parse(tree.str_at(&["apiVersion"]));
        // The one kind whose JSON does not say what it is.
        let watch_event = name == "core.v1.WatchEvent";
        let kind = if watch_event { "WatchEvent" } else { tree.str_at(&["kind"]) };
        let found = if watch_event { schema.type_named("meta.v1.WatchEvent") } else { schema.kind(&gv, kind) };
        let Some(id) = found else {
            bad.push(format!("{name}: no type"));
            continue;
        };
        let wire = std::fs::read(path.with_extension("pb")).unwrap();
        match check(id, tree, &wire) {
            Ok(()) => good += 1,
            Err(why) => bad.push(format!("{name}: {why}")),
        }
    }
    assert!(bad.is_empty(), "{good} good, {} bad:\n{}", bad.len(), bad.join("\n"));
}

fn check(id: trireme_schema::StructId, tree: Value, wire: &[u8]) -> Result<(), String> {
    let schema = builtin();
    let decoded = decode::decode(schema, id, tree.clone()).map_err(|e| e.to_string())?;
    if !decoded.unknown.is_empty() {
        return Err(format!("unknown {:?}", decoded.unknown));
    }
    let text = encode::to_vec(schema, id, &decoded.value);
    if json::parse(&text).unwrap() != tree {
        return Err(format!("JSON differs: {}", String::from_utf8_lossy(&text)));
    }
    let ours = proto::encode(schema, id, &decoded.value);
    if ours != wire {
        let at = ours.iter().zip(wire).take_while(|(a, b)| a == b).count();
        let near = |b: &[u8]| {
            String::from_utf8_lossy(&b[at.saturating_sub(30).min(b.len())..(at + 20).min(b.len())]).into_owned()
        };
        return Err(format!("protobuf differs at {at}: {:?} {:?}", near(&ours), near(wire)));
    }
    let envelope = proto::Envelope::open(wire).map_err(|e| e.to_string())?;
    let back = proto::decode_envelope(schema, id, &envelope).map_err(|e| e.to_string())?;
    let back = decode::decode(schema, id, back).map_err(|e| e.to_string())?.value;
    if encode::to_vec(schema, id, &back) != text {
        return Err(format!("back from protobuf: {}", String::from_utf8_lossy(&encode::to_vec(schema, id, &back))));
    }
    Ok(())
}

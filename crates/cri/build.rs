//! Makes Rust out of `api/runtime.v1.cri`.
//!
//! Its form: `service NAME` with lines `METHOD REQUEST RESPONSE [stream]`; `message NAME` with lines
//! `field type number [oneof=group]`, where a type is a scalar, a message, `[T]` for many or `{K,V}` for a map;
//! `enum NAME` with lines `VALUE number`. A dotted name is nested.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;

const SOURCE: &str = "api/runtime.v1.cri";

#[derive(Default)]
struct Block {
    kind: String,
    lines: Vec<Vec<String>>,
    nested: Vec<String>,
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo:rerun-if-changed={SOURCE}");
    let text = std::fs::read_to_string(SOURCE)?;
    let mut blocks: BTreeMap<String, Block> = BTreeMap::new();
    let mut order = Vec::new();
    for line in text.lines() {
        let words: Vec<String> = line.split_whitespace().map(str::to_owned).collect();
        if line.starts_with(' ') {
            let block = order.last().and_then(|name| blocks.get_mut(name)).ok_or("a line before all blocks")?;
            block.lines.push(words);
        } else if let [kind, name] = &words[..] {
            let block = Block { kind: kind.clone(), ..Block::default() };
            blocks.insert(name.clone(), block);
            order.push(name.clone());
            if let Some((outer, _)) = name.rsplit_once('.') {
                blocks.get_mut(outer).ok_or("a nested block before its outer")?.nested.push(name.clone());
            }
        }
    }
    let mut proto = String::from("syntax = \"proto3\";\npackage runtime.v1;\n");
    for name in order.iter().filter(|n| !n.contains('.')) {
        write(&blocks, name, &mut proto)?;
    }
    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    let file = out.join("runtime.v1.proto");
    std::fs::write(&file, proto)?;
    let descriptors = protox::compile([&file], [&out])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}

fn write(blocks: &BTreeMap<String, Block>, name: &str, out: &mut String) -> Result<(), Box<dyn std::error::Error>> {
    let block = blocks.get(name).ok_or("unknown block")?;
    let short = name.rsplit('.').next().unwrap_or(name);
    writeln!(out, "{} {short} {{", block.kind)?;
    for nested in &block.nested {
        write(blocks, nested, out)?;
    }
    let mut groups: BTreeMap<&str, Vec<String>> = BTreeMap::new();
    for words in &block.lines {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        match (block.kind.as_str(), &words[..]) {
            ("service", [method, request, response, rest @ ..]) => {
                let stream = if rest.is_empty() { "" } else { "stream " };
                writeln!(out, "rpc {method}({request}) returns ({stream}{response}) {{}}")?;
            }
            ("enum", [value, number]) => writeln!(out, "{value} = {number};")?,
            ("message", [field, kind, number, rest @ ..]) => {
                let inner = |open, close| kind.strip_prefix(open).and_then(|k: &str| k.strip_suffix(close));
                let kind = match (inner('[', ']'), inner('{', '}')) {
                    (Some(kind), _) => format!("repeated {kind}"),
                    (_, Some(pair)) => format!("map<{pair}>"),
                    _ => (*kind).to_owned(),
                };
                let line = format!("{kind} {field} = {number};");
                match rest.first().and_then(|r| r.strip_prefix("oneof=")) {
                    Some(group) => groups.entry(group).or_default().push(line),
                    None => writeln!(out, "{line}")?,
                }
            }
            _ => return Err(format!("malformed line in {name}: {words:?}").into()),
        }
    }
    for (group, lines) in groups {
        writeln!(out, "oneof {group} {{ {} }}", lines.join(" "))?;
    }
    writeln!(out, "}}")?;
    Ok(())
}

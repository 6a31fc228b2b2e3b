//! Gathers the descriptions of types and fields for `kubectl explain`.
//!
//! They are upstream's texts, so none are kept in this repository: the source of k8s-openapi, which is a dependency
//! anyway, has them beside the names of the OpenAPI types. To read them out of its text costs a second; to compile and
//! run its schemars feature would cost a second build of the whole crate.

use std::error::Error;
use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Between types, and between the names and texts of one: see `src/openapi/descriptions.rs`.
const RECORD: char = '\u{1e}';
const UNIT: char = '\u{1f}';

fn main() -> Result<(), Box<dyn Error>> {
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=../../Cargo.lock");
    let mut out = String::new();
    match source() {
        Some(dir) => gather(&dir.join("src/v1_36"), &mut out)?,
        None => println!("cargo::warning=the source of k8s-openapi is not there: `kubectl explain` has no texts"),
    }
    let path = Path::new(&std::env::var("OUT_DIR")?).join("descriptions.z");
    let mut packed = flate2::write::ZlibEncoder::new(fs::File::create(path)?, flate2::Compression::best());
    packed.write_all(out.as_bytes())?;
    packed.finish()?;
    Ok(())
}

/// Where cargo keeps the source of k8s-openapi, asked without the network first.
fn source() -> Option<PathBuf> {
    let cargo = std::env::var_os("CARGO")?;
    let target = std::env::var("TARGET").ok()?;
    [true, false].into_iter().find_map(|offline| {
        let mut ask = Command::new(&cargo);
        ask.args(["metadata", "--format-version", "1", "--filter-platform", &target]);
        if offline {
            ask.arg("--offline");
        }
        let answer = String::from_utf8(ask.output().ok()?.stdout).ok()?;
        answer.split("\"manifest_path\":\"").find_map(|rest| {
            let path = rest.split('"').next()?;
            path.contains("k8s-openapi-").then(|| Path::new(path).parent().map(Path::to_path_buf))?
        })
    })
}

/// Reads every file below a directory, in order of names so that builds repeat.
fn gather(dir: &Path, out: &mut String) -> Result<(), Box<dyn Error>> {
    let mut paths: Vec<_> = fs::read_dir(dir)?.map(|e| e.map(|e| e.path())).collect::<Result<_, _>>()?;
    paths.sort();
    for path in paths {
        if path.is_dir() {
            gather(&path, out)?;
        } else if let Some((_, schema)) = fs::read_to_string(&path)?.split_once("schema_name()") {
            file(schema, out);
        }
    }
    Ok(())
}

/// One type: its name, its description, then each property with its own. The indentation tells them apart.
fn file(schema: &str, out: &mut String) {
    let mut lines = schema.lines();
    let Some(name) = lines.find_map(|l| literal(l, "        \"")) else { return };
    out.push_str(&name);
    let (mut described, mut property) = (false, String::new());
    for line in lines {
        let text = literal(line, "            \"description\": \"").filter(|_| !described);
        if let Some(text) = text {
            described = true;
            out.extend([UNIT]);
            out.push_str(&text);
        } else if let Some(name) = line.strip_prefix("                \"").and_then(|l| l.split('"').next()) {
            name.clone_into(&mut property);
        } else if let Some(text) = literal(line, "                    \"description\": \"").or_else(|| {
            literal(line, "                    schema_obj.ensure_object().insert(\"description\".into(), \"")
        }) {
            if !described {
                described = true;
                out.push(UNIT);
            }
            out.extend([UNIT]);
            out.push_str(&property);
            out.push(UNIT);
            out.push_str(&text);
        }
    }
    out.push(RECORD);
}

/// The string literal that opens at the end of a prefix.
fn literal(line: &str, prefix: &str) -> Option<String> {
    let mut rest = line.strip_prefix(prefix)?.chars();
    let mut text = String::new();
    loop {
        match rest.next()? {
            '"' => return Some(text),
            '\\' => match rest.next()? {
                'n' => text.push('\n'),
                't' => text.push('\t'),
                'r' => text.push('\r'),
                'u' => {
                    let code: String = rest.by_ref().skip(1).take_while(|c| *c != '}').collect();
                    text.push(u32::from_str_radix(&code, 16).ok().and_then(char::from_u32)?);
                }
                other => text.push(other),
            },
            other => text.push(other),
        }
    }
}

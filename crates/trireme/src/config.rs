//! Where settings come from: the configuration file, overridden by the environment, overridden by flags.
//!
//! The file's keys are the long names of flags. It is read before the command line is parsed, and what it sets is put
//! in front of the flags that the user gave, so that one parser with one set of rules reads everything.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use clap::{ArgAction, CommandFactory};
use trireme_schema::Value;

use crate::cli::Cli;

/// The file that is read when none is named; it need not exist.
const DEFAULT_FILE: &str = "/etc/trireme/config.yaml";

/// Why the configuration file is refused.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The file cannot be read.
    #[error("cannot read the configuration file {}: {source}", path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The file's text is not a YAML mapping of flags.
    #[error("{}: {reason}", path.display())]
    Content {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
}

/// The command line with what the configuration file sets put in front of it. Keys that the environment sets too are
/// left to the environment.
pub fn with_file(args: Vec<OsString>) -> Result<Vec<OsString>, Error> {
    let named = named_file(&args);
    let path = named.clone().unwrap_or_else(|| PathBuf::from(DEFAULT_FILE));
    let text = match fs::read_to_string(&path) {
        Ok(text) => text,
        Err(error) if named.is_none() && error.kind() == std::io::ErrorKind::NotFound => return Ok(args),
        Err(source) => return Err(Error::Read { path, source }),
    };
    let in_environment = |key: &str| std::env::var_os(environment(key)).is_some();
    merge(args, &text, &path, in_environment)
}

/// The environment variable that stands for a flag.
fn environment(flag: &str) -> String {
    format!("TRIREME_{}", flag.replace('-', "_").to_ascii_uppercase())
}

fn named_file(args: &[OsString]) -> Option<PathBuf> {
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--config" {
            return args.next().map(PathBuf::from);
        }
        if let Some(file) = arg.to_str().and_then(|arg| arg.strip_prefix("--config=")) {
            return Some(PathBuf::from(file));
        }
    }
    std::env::var_os("TRIREME_CONFIG").map(PathBuf::from)
}

fn merge(
    args: Vec<OsString>,
    text: &str,
    path: &Path,
    in_environment: impl Fn(&str) -> bool,
) -> Result<Vec<OsString>, Error> {
    let refused = |reason: String| Error::Content { path: path.to_owned(), reason };
    let command = Cli::command();
    let Some((at, subcommand)) = args
        .iter()
        .enumerate()
        .skip(1)
        .find_map(|(at, arg)| command.find_subcommand(arg.to_str()?).map(|subcommand| (at, subcommand)))
    else {
        return Ok(args);
    };
    let value = trireme_schema::yaml::parse(text).map_err(|error| refused(error.to_string()))?;
    let mapping = match &value {
        Value::Null => return Ok(args),
        Value::Object(mapping) => mapping,
        _ => return Err(refused("the file must be a mapping of flags to values".to_owned())),
    };
    let mut from_file = Vec::new();
    for (key, value) in mapping.iter() {
        let of_command = |command: &clap::Command| command.get_arguments().find(|a| a.get_long() == Some(key)).cloned();
        let Some(flag) = of_command(subcommand).or_else(|| of_command(&command)) else {
            // A file serves every command: a flag of another one is passed over, a flag of none is a mistake.
            if command.get_subcommands().any(|other| of_command(other).is_some()) {
                continue;
            }
            let flags: Vec<String> = command
                .get_subcommands()
                .chain([&command])
                .flat_map(|c| c.get_arguments().filter_map(|a| a.get_long().map(str::to_owned)))
                .collect();
            let hint = nearest(key, flags.iter().map(String::as_str));
            let hint = hint.map(|near| format!("; did you mean {near:?}?")).unwrap_or_default();
            return Err(refused(format!("unknown key {key:?}{hint}")));
        };
        if in_environment(key) {
            continue;
        }
        let is_switch = matches!(flag.get_action(), ArgAction::SetTrue);
        for item in items(value) {
            match (is_switch, item) {
                (true, Value::Bool(true)) => from_file.push(OsString::from(format!("--{key}"))),
                (true, Value::Bool(false)) => {}
                (true, _) => return Err(refused(format!("{key} must be true or false"))),
                (false, item) => {
                    let text =
                        scalar(item).ok_or_else(|| refused(format!("{key} must be a text or a list of texts")))?;
                    from_file.push(OsString::from(format!("--{key}={text}")));
                }
            }
        }
    }
    let mut merged = args;
    merged.splice(at + 1..at + 1, from_file);
    Ok(merged)
}

/// The one of `known` that was probably meant.
pub fn nearest<'a>(word: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let (far, near) = known.map(|known| (distance(word, known), known)).min()?;
    (far <= 1 + word.len() / 4).then_some(near)
}

/// Levenshtein's distance: how many letters to put in, take out or change.
fn distance(a: &str, b: &str) -> usize {
    let b: Vec<char> = b.chars().collect();
    let mut row: Vec<usize> = (0..=b.len()).collect();
    for (i, x) in a.chars().enumerate() {
        let mut corner = i;
        row[0] = i + 1;
        for (j, y) in b.iter().enumerate() {
            let change = corner + usize::from(x != *y);
            corner = row[j + 1];
            row[j + 1] = change.min(corner + 1).min(row[j] + 1);
        }
    }
    row[b.len()]
}

fn items(value: &Value) -> &[Value] {
    match value {
        Value::Array(items) => items,
        other => std::slice::from_ref(other),
    }
}

fn scalar(value: &Value) -> Option<String> {
    match value {
        Value::String(text) => Some(text.to_string()),
        Value::Int(number) => Some(number.to_string()),
        Value::Float(number) => Some(number.to_string()),
        Value::Bool(truth) => Some(truth.to_string()),
        Value::Null | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn merged(args: &[&str], text: &str) -> Result<Vec<String>, Error> {
        let args = args.iter().map(OsString::from).collect();
        let merged = merge(args, text, Path::new("config.yaml"), |key| key == "node-ip")?;
        Ok(merged.into_iter().map(|arg| arg.into_string().unwrap()).collect())
    }

    #[test]
    fn the_file_stands_before_the_flags_and_gives_way_to_the_environment() {
        let file = "https-listen-port: 7443\nnode-ip: 10.0.0.1\ntls-san: [a, b]\ndemo: true\n";
        assert_eq!(
            merged(&["trireme", "up", "--https-listen-port", "8443"], file).unwrap(),
            [
                "trireme",
                "up",
                "--demo",
                "--https-listen-port=7443",
                "--tls-san=a",
                "--tls-san=b",
                "--https-listen-port",
                "8443"
            ]
        );
        // Flags of other commands are passed over, so that one file serves them all.
        assert_eq!(merged(&["trireme", "down"], file).unwrap(), ["trireme", "down"]);
    }

    #[test]
    fn mistakes_in_the_file_are_named() {
        for (file, said) in [
            ("htps-listen-port: 1\n", "did you mean \"https-listen-port\"?"),
            ("xyzzy: 1\n", "unknown key \"xyzzy\""),
            ("- a\n", "mapping"),
            ("demo: 3\n", "demo"),
            ("a: [\n", "config.yaml"),
        ] {
            let error = merged(&["trireme", "up"], file).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
    }
}

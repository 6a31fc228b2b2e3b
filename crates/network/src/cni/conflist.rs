//! CNI network configurations, and running their plugins (CNI specification 0.3.1 to 1.1.0).

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::Command;
use tokio::time::timeout;

use crate::error::Error;
use crate::netns;

/// Versions of the specification that are spoken, oldest first.
const VERSIONS: [&str; 4] = ["0.3.1", "0.4.0", "1.0.0", "1.1.0"];
/// A plugin that takes longer is ended.
const DEADLINE: Duration = Duration::from_secs(60);
/// More output than this is no result.
const OUTPUT_LIMIT: u64 = 1 << 20;

/// An error of external CNI.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CniError {
    /// No network is configured.
    #[error("no CNI network configuration in {}", folder.display())]
    NoConfiguration {
        /// The folder that was looked in.
        folder: PathBuf,
    },
    /// A configuration cannot be used.
    #[error("CNI configuration {}: {reason}", path.display())]
    Configuration {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A plugin's program is not there.
    #[error("CNI plugin {plugin:?} of network {network} is in none of {folders:?}")]
    MissingPlugin {
        /// The plugin's type.
        plugin: String,
        /// The network.
        network: String,
        /// Where it was looked for.
        folders: Vec<PathBuf>,
    },
    /// A plugin said no.
    #[error("{run}: {message}{} (code {code})", details_of(.details))]
    Refused {
        /// What was run.
        run: Box<PluginRun>,
        /// The plugin's error code.
        code: u64,
        /// The plugin's message.
        message: String,
        /// The plugin's details, often empty.
        details: String,
    },
    /// A plugin could not be run, or what it wrote is no result.
    #[error("{run}: {reason}")]
    Broken {
        /// What was run.
        run: Box<PluginRun>,
        /// What happened.
        reason: String,
    },
    /// The sandbox was never attached.
    #[error("sandbox {0} is not attached to a CNI network")]
    NotAttached(String),
}

/// A plugin that was run.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PluginRun {
    /// The plugin's type.
    pub plugin: String,
    /// ADD, DEL, CHECK or STATUS.
    pub command: String,
    /// The network.
    pub network: String,
}

impl fmt::Display for PluginRun {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "CNI plugin {} {} of network {}", self.plugin, self.command, self.network)
    }
}

fn details_of(details: &str) -> String {
    if details.is_empty() { String::new() } else { format!(": {details}") }
}

/// A network: a list of plugins that are run one after the other.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ConfList {
    /// Name of the network.
    pub name: String,
    /// Version of the specification.
    pub version: String,
    /// Whether CHECK must not be called.
    pub disable_check: bool,
    plugins: Vec<Map<String, Value>>,
}

/// What a plugin run is about.
pub(super) struct Invocation<'a> {
    pub(super) command: &'a str,
    pub(super) sandbox: &'a str,
    pub(super) netns: &'a str,
    pub(super) interface: &'a str,
    pub(super) args: &'a str,
    /// Runtime values by capability; a plugin gets those that it declares.
    pub(super) capabilities: &'a BTreeMap<String, Value>,
    pub(super) folders: &'a [PathBuf],
    /// The node's network namespace; `None` is the process's own.
    pub(super) node: Option<&'a Path>,
}

// === impl ConfList ===

impl ConfList {
    /// The first usable configuration of a folder, in the order of the files' names.
    pub fn load(folder: &Path) -> Result<Self, CniError> {
        let configuration = |path: &Path, reason: String| CniError::Configuration { path: path.into(), reason };
        let missing = || CniError::NoConfiguration { folder: folder.into() };
        let mut paths: Vec<PathBuf> = fs::read_dir(folder)
            .map_err(|_| missing())?
            .filter_map(|entry| Some(entry.ok()?.path()))
            .filter(|path| matches!(path.extension().and_then(|e| e.to_str()), Some("conflist" | "conf" | "json")))
            .collect();
        paths.sort();
        let mut first_error = None;
        for path in paths {
            let list = fs::read(&path)
                .map_err(|error| error.to_string())
                .and_then(|bytes| serde_json::from_slice(&bytes).map_err(|error| error.to_string()))
                .and_then(Self::from_value);
            match list {
                Ok(list) => return Ok(list),
                Err(reason) => {
                    let error = configuration(&path, reason);
                    tracing::warn!(%error, "CNI configuration passed over");
                    first_error.get_or_insert(error);
                }
            }
        }
        Err(first_error.unwrap_or_else(missing))
    }

    /// Reads a list, or a single plugin's configuration as a list of one.
    fn from_value(value: Value) -> Result<Self, String> {
        let Value::Object(mut object) = value else { return Err("is no JSON object".into()) };
        let text = |object: &Map<String, Value>, key: &str| object.get(key).and_then(Value::as_str).map(str::to_owned);
        let name = text(&object, "name").filter(|name| !name.is_empty()).ok_or("name is missing")?;
        let mut offered: Vec<String> = text(&object, "cniVersion").into_iter().collect();
        if let Some(Value::Array(versions)) = object.get("cniVersions") {
            offered.extend(versions.iter().filter_map(Value::as_str).map(str::to_owned));
        }
        let version = VERSIONS.iter().rev().find(|version| offered.iter().any(|offer| offer == *version));
        let version = version
            .ok_or_else(|| format!("cniVersion {} is not one of {}", offered.join(", "), VERSIONS.join(", ")))?;
        let disable_check = match object.get("disableCheck") {
            Some(Value::Bool(off)) => *off,
            Some(Value::String(off)) => off == "true",
            _ => false,
        };
        let plugins = match object.remove("plugins") {
            Some(Value::Array(plugins)) => plugins,
            Some(_) => return Err("plugins is no list".into()),
            None => vec![Value::Object(object)],
        };
        let plugins: Option<Vec<_>> = plugins
            .into_iter()
            .map(|plugin| match plugin {
                Value::Object(plugin) if text(&plugin, "type").is_some_and(|t| is_plain_name(&t)) => Some(plugin),
                _ => None,
            })
            .collect();
        let plugins = plugins.filter(|plugins| !plugins.is_empty()).ok_or("a plugin has no usable type")?;
        Ok(Self { name, version: (*version).to_owned(), disable_check, plugins })
    }

    fn at_least(&self, version: &str) -> bool {
        let place = |wanted: &str| VERSIONS.iter().position(|known| *known == wanted);
        place(&self.version) >= place(version)
    }

    /// Attaches: each plugin gets the result of the one before. The last result.
    pub(super) async fn add(&self, invocation: &Invocation<'_>) -> Result<Value, CniError> {
        let mut result = None;
        for plugin in &self.plugins {
            result = self.run(plugin, invocation, result).await?;
        }
        let run = || self.run_of(self.plugins.last(), invocation);
        result.ok_or_else(|| CniError::Broken { run: run(), reason: "the network has no result".into() })
    }

    /// Detaches, last plugin first. Every plugin is run; the first error is returned.
    pub(super) async fn del(&self, invocation: &Invocation<'_>, result: Option<Value>) -> Result<(), CniError> {
        let previous = if self.at_least("0.4.0") { result } else { None };
        let mut outcome = Ok(());
        for plugin in self.plugins.iter().rev() {
            let ran = self.run(plugin, invocation, previous.clone()).await.map(|_| ());
            outcome = outcome.and(ran);
        }
        outcome
    }

    /// Checks, where the version has it and the network allows it.
    pub(super) async fn check(&self, invocation: &Invocation<'_>, result: Option<Value>) -> Result<(), CniError> {
        if self.disable_check || !self.at_least("0.4.0") {
            return Ok(());
        }
        for plugin in &self.plugins {
            self.run(plugin, invocation, result.clone()).await?;
        }
        Ok(())
    }

    /// Asks every plugin whether it can attach pods, where the version has it; before that, whether it is there.
    pub(super) async fn status(&self, invocation: &Invocation<'_>) -> Result<(), CniError> {
        for plugin in &self.plugins {
            if self.at_least("1.1.0") {
                self.run(plugin, invocation, None).await?;
            } else {
                self.program(plugin, invocation.folders)?;
            }
        }
        Ok(())
    }

    fn program(&self, plugin: &Map<String, Value>, folders: &[PathBuf]) -> Result<PathBuf, CniError> {
        let kind = plugin.get("type").and_then(Value::as_str).unwrap_or_default();
        folders.iter().map(|folder| folder.join(kind)).find(|path| path.is_file()).ok_or_else(|| {
            CniError::MissingPlugin { plugin: kind.into(), network: self.name.clone(), folders: folders.to_vec() }
        })
    }

    fn run_of(&self, plugin: Option<&Map<String, Value>>, invocation: &Invocation<'_>) -> Box<PluginRun> {
        let kind = plugin.and_then(|plugin| plugin.get("type")).and_then(Value::as_str).unwrap_or_default();
        Box::new(PluginRun {
            plugin: kind.to_owned(),
            command: invocation.command.to_owned(),
            network: self.name.clone(),
        })
    }

    /// What a plugin reads from its standard input.
    fn input(&self, plugin: &Map<String, Value>, invocation: &Invocation<'_>, previous: Option<Value>) -> Value {
        let mut input = plugin.clone();
        let declared = input.remove("capabilities");
        input.insert("name".into(), json!(self.name));
        input.insert("cniVersion".into(), json!(self.version));
        let values: Map<String, Value> = invocation
            .capabilities
            .iter()
            .filter(|(name, _)| declared.as_ref().and_then(|d| d.get(name.as_str())) == Some(&Value::Bool(true)))
            .map(|(name, value)| (name.clone(), value.clone()))
            .collect();
        if !values.is_empty() {
            input.insert("runtimeConfig".into(), Value::Object(values));
        }
        if let Some(previous) = previous {
            input.insert("prevResult".into(), previous);
        }
        Value::Object(input)
    }

    async fn run(
        &self,
        plugin: &Map<String, Value>,
        invocation: &Invocation<'_>,
        previous: Option<Value>,
    ) -> Result<Option<Value>, CniError> {
        let program = self.program(plugin, invocation.folders)?;
        let input = self.input(plugin, invocation, previous).to_string();
        let broken = |reason: String| CniError::Broken { run: self.run_of(Some(plugin), invocation), reason };
        let path = std::env::join_paths(invocation.folders).unwrap_or_default();
        let mut process = Command::new(program);
        process
            .env("CNI_COMMAND", invocation.command)
            .env("CNI_CONTAINERID", invocation.sandbox)
            .env("CNI_NETNS", invocation.netns)
            .env("CNI_IFNAME", invocation.interface)
            .env("CNI_ARGS", invocation.args)
            .env("CNI_PATH", path)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true);
        let mut child =
            spawn(process, invocation.node).await.map_err(|error| broken(format!("cannot be started: {error}")))?;
        let (stdin, stdout, stderr) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let exchange = async {
            let feed = async {
                if let Some(mut stdin) = stdin {
                    // A plugin that fails early does not read its input; its exit code says more than this error.
                    let _ = stdin.write_all(input.as_bytes()).await;
                }
            };
            let ((), out, errors) = tokio::join!(feed, read_bounded(stdout), read_bounded(stderr));
            let status = child.wait().await?;
            Ok::<_, std::io::Error>((status, out?, errors?))
        };
        let (status, out, errors) = timeout(DEADLINE, exchange)
            .await
            .map_err(|_| broken(format!("not done after {} s", DEADLINE.as_secs())))?
            .map_err(|error| broken(error.to_string()))?;
        let answer: Option<Value> = serde_json::from_slice(&out).ok();
        if status.success() {
            return match (answer, out.trim_ascii().is_empty()) {
                (Some(answer), _) => Ok(Some(answer)),
                (None, true) if invocation.command != "ADD" => Ok(None),
                _ => Err(broken("its output is no JSON".into())),
            };
        }
        let said = String::from_utf8_lossy(&errors).trim().to_owned();
        match answer.as_ref().and_then(|answer| Some((answer, answer.get("code")?.as_u64()?))) {
            Some((answer, code)) => {
                let text = |key: &str| answer.get(key).and_then(Value::as_str).unwrap_or_default().to_owned();
                Err(CniError::Refused {
                    run: self.run_of(Some(plugin), invocation),
                    code,
                    message: text("msg"),
                    details: text("details"),
                })
            }
            None => Err(broken(format!("{status}{}", details_of(&said)))),
        }
    }
}

/// Starts a process in the node's namespace: it inherits that of the thread which starts it.
async fn spawn(mut process: Command, node: Option<&Path>) -> Result<tokio::process::Child, String> {
    let Some(node) = node else { return process.spawn().map_err(|error| error.to_string()) };
    let runtime = tokio::runtime::Handle::current();
    let started = netns::run(Some(node.to_owned()), move || {
        let _entered = runtime.enter();
        process.spawn().map_err(|source| Error::System { action: "start process".into(), source })
    });
    started.await.map_err(|error| error.to_string())
}

/// A plugin's type is the name of a program in a plugin folder, never a path.
fn is_plain_name(name: &str) -> bool {
    !name.is_empty() && !name.contains('/') && name != "." && name != ".."
}

async fn read_bounded(from: Option<impl tokio::io::AsyncRead + Unpin>) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    if let Some(from) = from {
        from.take(OUTPUT_LIMIT).read_to_end(&mut bytes).await?;
    }
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_plugin_is_a_list_of_one() {
        let list = ConfList::from_value(json!({"cniVersion": "0.4.0", "name": "n", "type": "bridge"})).unwrap();
        assert_eq!((list.plugins.len(), list.version.as_str()), (1, "0.4.0"));
    }

    #[test]
    fn the_newest_offered_version_is_chosen() {
        let value = json!({"cniVersion": "0.4.0", "cniVersions": ["1.0.0", "9.0.0"], "name": "n",
                           "plugins": [{"type": "bridge"}]});
        assert_eq!(ConfList::from_value(value).unwrap().version, "1.0.0");
    }

    #[test]
    fn unusable_configurations_say_why() {
        let table = [
            (json!([]), "JSON object"),
            (json!({"cniVersion": "1.0.0"}), "name"),
            (json!({"cniVersion": "0.1.0", "name": "n", "type": "x"}), "cniVersion 0.1.0"),
            (json!({"cniVersion": "1.0.0", "name": "n", "plugins": []}), "type"),
            (json!({"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "../sh"}]}), "type"),
        ];
        for (value, reason) in table {
            let error = ConfList::from_value(value).unwrap_err();
            assert!(error.contains(reason), "{error}");
        }
    }

    #[test]
    fn a_plugin_gets_the_capabilities_that_it_declares() {
        let list = ConfList::from_value(json!({"cniVersion": "1.0.0", "name": "n", "plugins":
            [{"type": "portmap", "capabilities": {"portMappings": true}}]}));
        let list = list.unwrap();
        let capabilities = [("portMappings".to_owned(), json!([1])), ("bandwidth".to_owned(), json!({}))].into();
        let invocation = Invocation {
            command: "ADD",
            sandbox: "s",
            netns: "/x",
            interface: "eth0",
            args: "",
            capabilities: &capabilities,
            folders: &[],
            node: None,
        };
        let input = list.input(&list.plugins[0], &invocation, Some(json!({"ips": []})));
        assert_eq!(
            input,
            json!({"cniVersion": "1.0.0", "name": "n", "type": "portmap",
                   "runtimeConfig": {"portMappings": [1]}, "prevResult": {"ips": []}})
        );
    }
}

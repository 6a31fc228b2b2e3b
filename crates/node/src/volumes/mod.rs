//! Volumes: what a pod's containers find in their directories.

mod claim;
mod content;
mod hosts;
mod ownership;
mod token;

use crate::config::NodeConfig;
use crate::spec::quantity;
use ownership::Ownership;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use token::Token;
use trireme_client::Client;
use trireme_schema::{Quantity, Value};
use trireme_volumes::empty_dir::{self, Medium};
use trireme_volumes::{atomic, host_path};

pub(crate) use hosts::hosts;

/// Volumes are brought up to date about this often, should nothing have told of a change.
const RESYNC: Duration = Duration::from_secs(60);
/// The kinds whose directory is the pod's own.
const OWN: [&str; 5] = ["emptyDir", "configMap", "secret", "projected", "downwardAPI"];

/// The volumes of a pod as they were made.
#[derive(Default)]
pub(crate) struct Volumes {
    made: Option<Instant>,
    stale: Arc<AtomicBool>,
    /// Labels and annotations when they were made.
    metadata: (Value, Value),
    tokens: HashMap<(String, PathBuf), Token>,
    /// Where claims lie, by volume.
    claims: BTreeMap<String, PathBuf>,
}

/// The directory of a pod.
pub(crate) fn pod_dir(config: &NodeConfig, uid: &str) -> PathBuf {
    config.root.join("pods").join(uid)
}

/// Makes the directory of a pod, by which its sandbox is known as the node's.
pub(crate) fn make_dir(config: &NodeConfig, uid: &str) -> std::io::Result<()> {
    std::fs::create_dir_all(pod_dir(config, uid))
}

/// Whether the node has a directory of a pod.
pub(crate) fn has_dir(config: &NodeConfig, uid: &str) -> bool {
    !uid.is_empty() && !uid.contains(['/', '.']) && pod_dir(config, uid).is_dir()
}

fn metadata(pod: &Value) -> (Value, Value) {
    let part = |name| pod.at(&["metadata", name]).cloned().unwrap_or_default();
    (part("labels"), part("annotations"))
}

/// The pod as its containers are to see it: what it reads of itself is newer here than in what was last written.
pub(crate) fn with_addresses(pod: &Value, ips: &[String], config: &NodeConfig) -> Value {
    let object = |ip: &str| Value::Object([("ip", ip)].into_iter().collect());
    let mut seen = pod.clone();
    if let Some(ip) = ips.first() {
        seen.set_at(&["status", "podIP"], ip.as_str());
        seen.set_at(&["status", "podIPs"], Value::Array(ips.iter().map(|ip| object(ip)).collect()));
    }
    let host = config.ip.to_string();
    seen.set_at(&["status", "hostIP"], host.as_str());
    seen.set_at(&["status", "hostIPs"], Value::Array(vec![object(&host)]));
    seen
}

/// Where an emptyDir is kept.
fn medium(spec: &Value, pod: &Value) -> Result<Medium, String> {
    Ok(match spec.str_at(&["medium"]) {
        "Memory" => {
            let limit = quantity(spec.get("sizeLimit")).filter(|q| !q.is_zero());
            Medium::Memory(limit.and_then(|q| u64::try_from(q.value()).ok()))
        }
        "HugePages" => Medium::HugePages(only_page_size(pod)?),
        named if named.starts_with("HugePages-") => Medium::HugePages(page_size(named, "HugePages-")?),
        _ => Medium::Disk,
    })
}

fn page_size(text: &str, prefix: &str) -> Result<u64, String> {
    let size = text.strip_prefix(prefix).and_then(|size| size.parse::<Quantity>().ok());
    size.and_then(|q| u64::try_from(q.value()).ok()).ok_or_else(|| format!("{text:?} names no size of huge pages"))
}

/// The size of the huge pages that a pod asks for, if it asks for one alone.
fn only_page_size(pod: &Value) -> Result<u64, String> {
    const PREFIX: &str = "hugepages-";
    let containers = pod.list_at(&["spec", "containers"]).iter().chain(pod.list_at(&["spec", "initContainers"]));
    let asked = containers.filter_map(|c| c.at(&["resources", "requests"])?.as_object()).flat_map(|map| map.iter());
    let names: BTreeSet<String> = asked.map(|(name, _)| name.to_string()).filter(|n| n.starts_with(PREFIX)).collect();
    match names.first() {
        Some(name) if names.len() == 1 => page_size(name, PREFIX),
        Some(_) => Err("medium HugePages is not clear: the pod asks for huge pages of several sizes".to_owned()),
        None => Err("hugePages storage requested, but there is no resource request for huge pages.".to_owned()),
    }
}

/// Removes a pod's directory, and what is mounted below it.
pub(crate) fn tear_down(config: &NodeConfig, uid: &str) {
    trireme_volumes::remove(&pod_dir(config, uid));
}

/// Removes the volumes of a pod that is over, as upstream does it; the pod's directory stays.
pub(crate) fn tear_down_volumes(config: &NodeConfig, uid: &str) {
    trireme_volumes::remove(&pod_dir(config, uid).join("volumes"));
}

/// Removes the directories of all pods of a node whose pods are gone; `root` is the node's directory.
pub fn tear_down_all(root: &Path) {
    trireme_volumes::remove(&root.join("pods"));
}

impl Volumes {
    /// Set by who sees that something changed.
    pub(crate) fn stale(&self) -> Arc<AtomicBool> {
        self.stale.clone()
    }

    /// Whether they are to be brought up to date though nothing is started.
    pub(crate) fn is_due(&self, pod: &Value) -> bool {
        self.stale.load(Ordering::Acquire) || self.next().is_zero() || self.metadata != metadata(pod)
    }

    /// When they are to be brought up to date at the latest.
    pub(crate) fn next(&self) -> Duration {
        let resync = self.made.map_or(Duration::ZERO, |at| RESYNC.saturating_sub(at.elapsed()));
        let tokens = self.tokens.values().map(Token::fresh_for).min();
        tokens.map_or(resync, |fresh| fresh.min(resync))
    }

    /// Where a volume lies on the host; `None` for a kind that is not known here.
    pub(crate) fn path(&self, config: &NodeConfig, pod: &Value, volume: &Value) -> Option<PathBuf> {
        let name = volume.str_at(&["name"]);
        if let Some(host) = volume.get("hostPath") {
            return Some(PathBuf::from(host.str_at(&["path"])));
        }
        if let Some(path) = self.claims.get(name) {
            return Some(path.clone());
        }
        let kind = match OWN.into_iter().find(|k| volume.get(k).is_some()) {
            Some("emptyDir") => "empty-dir",
            Some("downwardAPI") => "downward-api",
            Some("configMap") => "configmap",
            Some(kind) => kind,
            // A volume without a source is an empty directory.
            None if volume.as_object().is_some_and(|v| v.len() == 1) => "empty-dir",
            None => return None,
        };
        let dir = pod_dir(config, pod.str_at(&["metadata", "uid"]));
        Some(dir.join("volumes").join(format!("kubernetes.io~{kind}")).join(name))
    }

    /// Makes a pod's volumes, or brings them up to date.
    ///
    /// # Errors
    /// What is missing, in upstream's words.
    pub(crate) async fn set_up(
        &mut self,
        config: &NodeConfig,
        client: &Client,
        pod: &Value,
        ips: &[String],
        node: &Value,
    ) -> Result<(), String> {
        // What changes from now on is not in what is written now.
        self.stale.store(false, Ordering::Release);
        let outcome = self.set_up_all(config, client, &with_addresses(pod, ips, config), node).await;
        match &outcome {
            Ok(()) => (self.made, self.metadata) = (Some(Instant::now()), metadata(pod)),
            Err(_) => self.stale.store(true, Ordering::Release),
        }
        outcome
    }

    async fn set_up_all(
        &mut self,
        config: &NodeConfig,
        client: &Client,
        pod: &Value,
        node: &Value,
    ) -> Result<(), String> {
        let ownership = Ownership::of(pod);
        for volume in pod.list_at(&["spec", "volumes"]) {
            let name = volume.str_at(&["name"]);
            let failed = |why: String| format!("MountVolume.SetUp failed for volume {name:?} : {why}");
            if volume.get("image").is_some() {
                continue;
            }
            if let Some(claim) = claim::name(pod, volume) {
                let path = claim::locate(client, pod, &claim).await.map_err(failed)?;
                self.claims.insert(name.to_owned(), path);
                continue;
            }
            let Some(path) = self.path(config, pod, volume) else {
                return Err(failed("no volume plugin matched".into()));
            };
            if let Some(host) = volume.get("hostPath") {
                host_path::check(&path, host.str_at(&["type"])).map_err(failed)?;
            } else if OWN[1..].iter().any(|kind| volume.get(kind).is_some()) {
                let files =
                    content::files(client, pod, volume, &ownership, &mut self.tokens, node).await.map_err(failed)?;
                atomic::write(&path, &files, ownership.group).map_err(|e| failed(e.to_string()))?;
            } else {
                let spec = volume.get("emptyDir").unwrap_or(&Value::Null);
                let medium = medium(spec, pod).map_err(failed)?;
                empty_dir::make(&path, medium, ownership.group).map_err(|e| failed(e.to_string()))?;
            }
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn huge_pages_have_the_size_that_is_named_or_the_only_one_that_is_asked_for() {
        let pod = |requests: &str| {
            let text = format!(r#"{{"spec":{{"containers":[{{"resources":{{"requests":{requests}}}}}]}}}}"#);
            json::parse(text.as_bytes()).unwrap()
        };
        let of = |name: &str, requests: &str| {
            let spec = json::parse(format!(r#"{{"medium":"{name}"}}"#).as_bytes()).unwrap();
            medium(&spec, &pod(requests)).ok()
        };
        let two = r#"{"hugepages-2Mi":"4Mi","memory":"1Gi"}"#;
        let both = r#"{"hugepages-2Mi":"4Mi","hugepages-1Gi":"1Gi"}"#;
        for (name, requests, wanted) in [
            ("HugePages", two, Some(Medium::HugePages(2 << 20))),
            ("HugePages", both, None),
            ("HugePages", "{}", None),
            ("HugePages-1Gi", both, Some(Medium::HugePages(1 << 30))),
            ("HugePages-x", both, None),
            ("", "{}", Some(Medium::Disk)),
        ] {
            assert_eq!(of(name, requests), wanted, "{name} {requests}");
        }
    }
}

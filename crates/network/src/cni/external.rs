//! The pod network by external CNI plugins.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::PathBuf;

use ipnet::IpNet;
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::attachment::{Attachment, PodAttach};
use super::conflist::{CniError, ConfList, Invocation};
use super::records::Records;
use crate::error::{Error, Result};
use crate::netns;

/// Where CNI configurations and plugins are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExternalConfig {
    /// Folder of configurations, usually /etc/cni/net.d.
    pub conf_dir: PathBuf,
    /// Folders of plugins, usually /opt/cni/bin.
    pub bin_dirs: Vec<PathBuf>,
}

/// The pod network by external plugins.
pub(super) struct External {
    config: ExternalConfig,
    /// The node's network namespace; `None` is the process's own.
    node: Option<PathBuf>,
    records: Records,
    attached: Mutex<BTreeMap<String, Record>>,
}

/// An attachment with what its removal needs: the configuration as it was then, and the plugins' result.
#[derive(Clone, Serialize, Deserialize)]
struct Record {
    attachment: Attachment,
    network: ConfList,
    result: Option<Value>,
}

impl External {
    pub(super) fn open(state_dir: PathBuf, node: Option<PathBuf>, config: ExternalConfig) -> Result<Self> {
        let records = Records::open(state_dir.join("cni"))?;
        let loaded: Vec<Record> = records.load()?;
        let attached = loaded.into_iter().map(|r| (r.attachment.pod.sandbox.clone(), r)).collect();
        Ok(Self { config, node, records, attached: Mutex::new(attached) })
    }

    pub(super) async fn attach(&self, pod: PodAttach) -> Result<Attachment> {
        if !Attachment::is_plain(&pod.sandbox) {
            return Err(Error::Config { field: "sandbox", reason: format!("{:?} is no id", pod.sandbox) });
        }
        self.detach(&pod.sandbox).await?;
        let network = ConfList::load(&self.config.conf_dir)?;
        netns::run(Some(pod.netns.clone()), netns::loopback_up).await?;
        let attachment = Attachment { pod, ips: Vec::new(), gateways: Vec::new(), mac: None, host_link: None };
        // Written before the plugins run: whatever they made when we are killed meanwhile is found and removed.
        let mut record = Record { attachment, network, result: None };
        self.keep(&record)?;
        match self.run(&record, "ADD").await {
            Ok(result) => {
                record.attachment = read_result(&record.attachment.pod, result.as_ref());
                record.result = result;
                self.keep(&record)?;
                Ok(record.attachment)
            }
            Err(error) => {
                let sandbox = &record.attachment.pod.sandbox;
                if let Err(undo) = self.detach(sandbox).await {
                    tracing::warn!(sandbox, error = %undo, "half an attachment stays");
                }
                Err(error)
            }
        }
    }

    fn keep(&self, record: &Record) -> Result<()> {
        let sandbox = &record.attachment.pod.sandbox;
        self.records.save(sandbox, record)?;
        self.attached.lock().insert(sandbox.clone(), record.clone());
        Ok(())
    }

    pub(super) async fn detach(&self, sandbox: &str) -> Result<()> {
        let Some(record) = self.attached.lock().get(sandbox).cloned() else { return Ok(()) };
        self.run(&record, "DEL").await?;
        self.records.remove(sandbox)?;
        self.attached.lock().remove(sandbox);
        Ok(())
    }

    pub(super) async fn check(&self, sandbox: &str) -> Result<()> {
        let record = self.attached.lock().get(sandbox).cloned();
        let record = record.ok_or_else(|| CniError::NotAttached(sandbox.to_owned()))?;
        self.run(&record, "CHECK").await.map(|_| ())
    }

    pub(super) async fn status(&self) -> Result<()> {
        let network = ConfList::load(&self.config.conf_dir)?;
        let invocation = Invocation {
            command: "STATUS",
            sandbox: "",
            netns: "",
            interface: "",
            args: "",
            capabilities: &BTreeMap::new(),
            folders: &self.config.bin_dirs,
            node: self.node.as_deref(),
        };
        Ok(network.status(&invocation).await?)
    }

    pub(super) fn attachments(&self) -> Vec<Attachment> {
        self.attached.lock().values().map(|record| record.attachment.clone()).collect()
    }

    async fn run(&self, record: &Record, command: &str) -> Result<Option<Value>> {
        let pod = &record.attachment.pod;
        let netns = pod.netns.to_string_lossy();
        let args = format!(
            "IgnoreUnknown=1;K8S_POD_NAMESPACE={};K8S_POD_NAME={};K8S_POD_INFRA_CONTAINER_ID={};K8S_POD_UID={}",
            pod.namespace, pod.name, pod.sandbox, pod.uid
        );
        let invocation = Invocation {
            command,
            sandbox: &pod.sandbox,
            // A namespace that is gone is told by an empty path: plugins then free what is left.
            netns: if command == "DEL" && !pod.netns.exists() { "" } else { &netns },
            interface: &pod.interface,
            args: &args,
            capabilities: &capabilities(pod),
            folders: &self.config.bin_dirs,
            node: self.node.as_deref(),
        };
        let result = record.result.clone();
        match command {
            "ADD" => Ok(Some(record.network.add(&invocation).await?)),
            "DEL" => Ok(record.network.del(&invocation, result).await.map(|()| None)?),
            _ => Ok(record.network.check(&invocation, result).await.map(|()| None)?),
        }
    }
}

fn capabilities(pod: &PodAttach) -> BTreeMap<String, Value> {
    let mut capabilities = BTreeMap::new();
    if !pod.host_ports.is_empty() {
        let ports = pod.host_ports.iter().map(|port| {
            let mut mapping = json!({
                "hostPort": port.host_port,
                "containerPort": port.container_port,
                "protocol": port.protocol.to_string().to_ascii_lowercase(),
            });
            if let (Some(ip), Some(mapping)) = (port.host_ip, mapping.as_object_mut()) {
                mapping.insert("hostIP".into(), json!(ip.to_string()));
            }
            mapping
        });
        capabilities.insert("portMappings".into(), Value::Array(ports.collect()));
    }
    capabilities
}

/// Addresses, link and gateways out of a plugin's result; what is not for the pod's own link is passed over.
fn read_result(pod: &PodAttach, result: Option<&Value>) -> Attachment {
    let list = |key: &str| result.and_then(|r| r.get(key)).and_then(Value::as_array).map_or(&[][..], Vec::as_slice);
    let interfaces = list("interfaces");
    let in_pod = |interface: &&Value| interface.get("sandbox").and_then(Value::as_str).is_some_and(|s| !s.is_empty());
    let own = |ip: &&Value| match ip.get("interface").and_then(Value::as_u64).and_then(|i| usize::try_from(i).ok()) {
        Some(index) => interfaces.get(index).as_ref().is_none_or(in_pod),
        None => true,
    };
    let own_ips: Vec<&Value> = list("ips").iter().filter(own).collect();
    let text = |value: &Value, key: &str| value.get(key).and_then(Value::as_str).map(str::to_owned);
    let ips: Vec<IpAddr> =
        own_ips.iter().filter_map(|ip| Some(text(ip, "address")?.parse::<IpNet>().ok()?.addr())).collect();
    let gateways = own_ips.iter().filter_map(|ip| text(ip, "gateway")?.parse().ok()).collect();
    let mac = interfaces.iter().find(in_pod).and_then(|i| text(i, "mac")?.parse().ok());
    let is_veth = |i: &&Value| !in_pod(i) && text(i, "name").is_some_and(|name| name.starts_with("veth"));
    let host_link = interfaces.iter().find(is_veth).and_then(|i| text(i, "name"));
    Attachment { pod: pod.clone(), ips, gateways, mac, host_link }
}

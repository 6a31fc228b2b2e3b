//! Sandboxes: made, stopped, removed.

use super::limits::limits;
use super::{Error, Runtime, failed, new_id, now, pod_group};
use crate::link::{self, Link};
use crate::network::SandboxAttach;
use crate::record::{Container, Sandbox};
use crate::shim::{Exit, Request, SandboxSpec};
use std::fs;
use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use trireme_cri as cri;

impl Runtime {
    /// Makes and starts a sandbox.
    pub(crate) async fn run_sandbox(
        self: &Arc<Self>,
        config: cri::PodSandboxConfig,
        handler: String,
    ) -> Result<String, Error> {
        let id = new_id();
        let dir = self.dir(&id);
        fs::create_dir_all(&dir).map_err(failed(dir.display().to_string()))?;
        let linux = config.linux.clone().unwrap_or_default();
        let namespaces = linux.security_context.unwrap_or_default().namespace_options.unwrap_or_default();
        let host = cri::NamespaceMode::Node as i32;
        let metadata = config.metadata.clone().unwrap_or_default();
        let mut sandbox = Sandbox {
            id: id.clone(),
            config: Arc::new(config.clone()),
            created: now(),
            ready: false,
            netns: None,
            ips: Vec::new(),
            handler,
        };
        if namespaces.network != host {
            let ports = config
                .port_mappings
                .iter()
                .filter(|p| p.host_port > 0)
                .map(|p| (p.host_ip.clone(), p.host_port as u16, p.container_port as u16, p.protocol));
            let attach = SandboxAttach {
                id: id.clone(),
                namespace: metadata.namespace,
                name: metadata.name,
                uid: metadata.uid,
                ports: ports.collect(),
            };
            match self.network.attach(attach).await {
                Ok(link) => (sandbox.netns, sandbox.ips) = (Some(link.netns), link.ips),
                Err(why) => {
                    let _ = fs::remove_dir_all(&dir);
                    return Err(Error::Network(why));
                }
            }
        }
        let spec = SandboxSpec {
            id: id.clone(),
            dir: dir.clone(),
            hostname: if namespaces.network == host { String::new() } else { config.hostname.clone() },
            netns: sandbox.netns.clone(),
            host_pid: namespaces.pid == host,
            host_ipc: namespaces.ipc == host,
            share_pid: namespaces.pid == cri::NamespaceMode::Pod as i32,
            sysctls: linux.sysctls.into_iter().collect(),
        };
        let made = async {
            let group = pod_group(&self.config.cgroup, &config);
            self.cgroups.create(&group).map_err(failed("make the pod's control group"))?;
            let whole = config.linux.as_ref().and_then(|l| l.resources.as_ref()).map(limits).unwrap_or_default();
            self.cgroups.limit(&group, &whole).map_err(failed("limit the pod"))?;
            self.resolv_conf(&sandbox)?;
            link::start(&self.config.shim, &spec).await.map_err(failed("start the shim"))?;
            sandbox.ready = true;
            self.keep_sandbox(&sandbox);
            self.state.lock().sandboxes.insert(id.clone(), sandbox.clone());
            self.listen(&id).await.map_err(failed("reach the shim"))
        }
        .await;
        if let Err(error) = made {
            self.cgroups.remove(&pod_group(&self.config.cgroup, &config));
            self.state.lock().sandboxes.remove(&id);
            // A shim that was too slow may have come up in the meantime.
            if let Ok(mut link) = Link::open(&dir).await {
                let _ = link.call(&Request::Shutdown).await;
            }
            if sandbox.netns.is_some()
                && let Err(why) = self.network.detach(id.clone()).await
            {
                tracing::warn!(%why, "cannot take back the address of a sandbox that did not start");
            }
            let _ = fs::remove_dir_all(&dir);
            return Err(error);
        }
        self.happened(&id, &id, cri::ContainerEventType::ContainerStartedEvent);
        Ok(id)
    }

    /// The sandbox's resolver configuration, when one is given.
    pub(super) fn resolv_conf(&self, sandbox: &Sandbox) -> Result<(), Error> {
        let Some(dns) = &sandbox.config.dns_config else { return Ok(()) };
        let mut text = String::new();
        if !dns.searches.is_empty() {
            text.push_str(&format!("search {}\n", dns.searches.join(" ")));
        }
        dns.servers.iter().for_each(|s| text.push_str(&format!("nameserver {s}\n")));
        if !dns.options.is_empty() {
            text.push_str(&format!("options {}\n", dns.options.join(" ")));
        }
        let path = self.dir(&sandbox.id).join("resolv.conf");
        fs::write(&path, text).map_err(failed(path.display().to_string()))
    }

    /// Stops a sandbox and all in it; one that is gone is no error.
    pub(crate) async fn stop_sandbox(&self, id: &str) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        let id = sandbox.id.clone();
        if let Some(known) = self.state.lock().sandboxes.get_mut(&id) {
            known.ready = false;
        }
        if let Ok(mut link) = Link::open(&self.dir(&id)).await {
            // It ends as it answers; either is fine.
            let _ = link.call(&Request::Shutdown).await;
        }
        let containers: Vec<Container> = self.containers().into_iter().filter(|c| c.sandbox == id).collect();
        for container in &containers {
            self.kill_group(&container.cgroup);
            if container.started.is_some() && container.exit.is_none() {
                self.note_exit(&container.id, Exit { code: 137, at: now(), oom: false });
            }
        }
        if sandbox.netns.is_some() {
            self.network.detach(id.clone()).await.map_err(Error::Network)?;
        }
        let mut stopped = sandbox;
        stopped.ready = false;
        stopped.netns = None;
        self.keep_sandbox(&stopped);
        self.state.lock().sandboxes.insert(id.clone(), stopped);
        self.happened(&id, &id, cri::ContainerEventType::ContainerStoppedEvent);
        Ok(())
    }

    pub(super) fn kill_group(&self, group: &str) {
        for pid in self.cgroups.members(group) {
            if let Some(pid) = rustix::process::Pid::from_raw(pid) {
                let _ = rustix::process::kill_process(pid, rustix::process::Signal::KILL);
            }
        }
    }

    /// Removes a sandbox with all in it; one that is gone is no error.
    pub(crate) async fn remove_sandbox(&self, id: &str) -> Result<(), Error> {
        let Ok(sandbox) = self.sandbox(id) else { return Ok(()) };
        if sandbox.ready || sandbox.netns.is_some() {
            self.stop_sandbox(&sandbox.id).await?;
        }
        for container in self.containers().into_iter().filter(|c| c.sandbox == sandbox.id) {
            self.remove_container(&container.id).await?;
        }
        self.cgroups.remove(&pod_group(&self.config.cgroup, &sandbox.config));
        let dir = self.dir(&sandbox.id);
        match fs::remove_dir_all(&dir) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(failed(dir.display().to_string())(e)),
            _ => {}
        }
        self.state.lock().sandboxes.remove(&sandbox.id);
        self.happened(&sandbox.id, &sandbox.id, cri::ContainerEventType::ContainerDeletedEvent);
        Ok(())
    }

    /// Stops and removes all sandboxes, and the groups above them.
    ///
    /// # Errors
    /// The first that cannot be removed; the others are tried all the same.
    pub async fn remove_all(&self) -> Result<(), Error> {
        let mut result = Ok(());
        for sandbox in self.sandboxes() {
            result = result.and(self.remove_sandbox(&sandbox.id).await);
        }
        self.cgroups.remove(&self.config.cgroup);
        result
    }

    /// The network namespace of a sandbox, for who forwards ports into it; `None` is the host's.
    ///
    /// # Errors
    /// When there is no such sandbox.
    pub fn netns(&self, sandbox: &str) -> Result<Option<PathBuf>, Error> {
        self.sandbox(sandbox).map(|s| s.netns)
    }
}

//! Changing the resources of containers that run (KEP-1287).

use super::Worker;
use crate::admit::fits;
use crate::status::Condition;
use crate::{container, sandbox, spec};
use std::collections::BTreeMap;
use std::sync::Arc;
use trireme_cri as cri;
use trireme_schema::Value;

/// What the containers of a pod were given.
#[derive(Debug, Default)]
pub(crate) struct Resizes {
    /// What the node has agreed to, by container.
    allocated: BTreeMap<String, Value>,
    /// What they have.
    actual: BTreeMap<String, Value>,
    /// Why what is asked for is not agreed to: reason and message.
    pending: Option<(&'static str, String)>,
    /// What is under way; the message tells of trouble.
    progress: Option<String>,
    /// What the pod's own group was last given.
    pod: Option<cri::LinuxContainerResources>,
}

impl Resizes {
    pub(super) fn resources(&self) -> &BTreeMap<String, Value> {
        &self.actual
    }

    pub(super) fn conditions(&self) -> Vec<Condition> {
        let pending = self.pending.iter().map(|(reason, why)| Condition::new("PodResizePending", true, reason, why));
        let progress = self.progress.iter().map(|why| {
            let reason = if why.is_empty() { "" } else { "Error" };
            Condition::new("PodResizeInProgress", true, reason, why)
        });
        pending.chain(progress).collect()
    }

    /// A container as it is to be started: with what was agreed to.
    pub(super) fn applied(&self, mut spec: Value) -> Value {
        if let Some(resources) = self.allocated.get(spec.str_at(&["name"])) {
            spec.set_at(&["resources"], resources.clone());
        }
        spec
    }

    /// The pod with what was agreed to.
    fn agreed(&self, pod: &Value) -> Value {
        let mut pod = pod.clone();
        for list in ["initContainers", "containers"] {
            let all = pod.list_at(&["spec", list]).iter().cloned().map(|c| self.applied(c)).collect::<Vec<_>>();
            if !all.is_empty() {
                pod.set_at(&["spec", list], Value::Array(all));
            }
        }
        pod
    }
}

/// Containers whose resources may change.
fn resizable(pod: &Value) -> impl Iterator<Item = &Value> {
    let sidecars = pod.list_at(&["spec", "initContainers"]).iter().filter(|c| c.str_at(&["restartPolicy"]) == "Always");
    pod.list_at(&["spec", "containers"]).iter().chain(sidecars)
}

fn resources_of(container: &Value) -> Value {
    container.get("resources").cloned().unwrap_or_else(Value::object)
}

/// Whether a change of resources asks for a new start of the container.
fn wants_restart(container: &Value, have: &cri::LinuxContainerResources, want: &cri::LinuxContainerResources) -> bool {
    let policy = |resource: &str| {
        let own = container.list_at(&["resizePolicy"]).iter().find(|p| p.str_at(&["resourceName"]) == resource);
        own.is_some_and(|p| p.str_at(&["restartPolicy"]) == "RestartContainer")
    };
    let cpu = (have.cpu_quota, have.cpu_shares) != (want.cpu_quota, want.cpu_shares);
    let memory = have.memory_limit_in_bytes != want.memory_limit_in_bytes;
    (cpu && policy("cpu")) || (memory && policy("memory"))
}

fn differ(have: &cri::LinuxContainerResources, want: &cri::LinuxContainerResources) -> bool {
    let key =
        |r: &cri::LinuxContainerResources| (r.cpu_quota.max(0), r.cpu_shares.max(2), r.memory_limit_in_bytes.max(0));
    key(have) != key(want)
}

impl Worker {
    /// Agrees to what is asked for, if there is room, and gives the containers that run what was agreed to.
    pub(super) async fn resize(&mut self, pod: &Arc<Value>) {
        for container in resizable(pod) {
            let name = container.str_at(&["name"]);
            let before = spec::status(pod, name).filter(|s| !s.str_at(&["containerID"]).is_empty());
            let known = before.and_then(|s| s.get("resources")).cloned();
            let initial = known.unwrap_or_else(|| resources_of(container));
            self.resizes.allocated.entry(name.to_owned()).or_insert(initial);
        }
        let asks = resizable(pod).any(|c| self.resizes.allocated.get(c.str_at(&["name"])) != Some(&resources_of(c)));
        if asks {
            self.agree(pod);
        } else {
            self.resizes.pending = None;
        }
        self.actuate(pod).await;
    }

    fn agree(&mut self, pod: &Arc<Value>) {
        let node = self.shared.this_node();
        let alone = fits(pod, &[], &node);
        let beside = self.shared.pods.beside(pod, |others| fits(pod, others, &node));
        let short = |message: &str| message.trim_start_matches("Pod was rejected: ").to_owned();
        // Beside nobody, nothing is used.
        let never =
            |message: &str| short(message).replace("enough resource", "enough capacity").replace(" used: 0,", "");
        self.resizes.pending = match (alone, beside) {
            (Err(why), _) => Some(("Infeasible", never(&why.message))),
            (Ok(()), Err(why)) => Some(("Deferred", short(&why.message))),
            (Ok(()), Ok(())) => None,
        };
        if self.resizes.pending.is_none() {
            self.shared.pods.update(pod);
            for container in resizable(pod) {
                self.resizes.allocated.insert(container.str_at(&["name"]).to_owned(), resources_of(container));
            }
        }
    }

    async fn actuate(&mut self, pod: &Arc<Value>) {
        let agreed = self.resizes.agreed(pod);
        let group = sandbox::resources(&agreed);
        // The pod's group grows before its containers, and shrinks after them.
        let grows = self.resizes.pod.as_ref().is_some_and(|old| {
            let limit = |r: &cri::LinuxContainerResources| {
                if r.memory_limit_in_bytes > 0 { r.memory_limit_in_bytes } else { i64::MAX }
            };
            limit(&group) >= limit(old)
        });
        let changed = self.resizes.pod.as_ref().is_some_and(|old| *old != group);
        let mut trouble = None;
        if changed && grows {
            trouble = self.give_pod(&group).await.err();
        }
        let mut open = false;
        for container in resizable(&agreed) {
            let name = container.str_at(&["name"]);
            let Some((id, have)) = self
                .notes
                .get(name)
                .and_then(|n| n.running())
                .map(|c| (c.id.clone(), c.resources.as_ref().and_then(|r| r.linux.clone())))
            else {
                self.resizes.actual.insert(name.to_owned(), resources_of(container));
                continue;
            };
            let want = container::resources(&agreed, container, self.shared.memory);
            if have.as_ref().is_none_or(|have| !differ(have, &want)) {
                self.resizes.actual.insert(name.to_owned(), resources_of(container));
                continue;
            }
            open = true;
            if wants_restart(container, &have.unwrap_or_default(), &want) {
                let why = format!("Container {name} resize requires restart");
                self.stop(pod, name, spec::grace(pod), &why);
                continue;
            }
            let request = cri::UpdateContainerResourcesRequest {
                container_id: id,
                linux: Some(want),
                ..cri::UpdateContainerResourcesRequest::default()
            };
            match self.shared.cri.runtime.clone().update_container_resources(request).await {
                // What it has now, the next look tells.
                Ok(_) => self.changed.notify_one(),
                Err(status) => trouble = Some(status.message().to_owned()),
            }
        }
        if changed && !grows && !open {
            trouble = trouble.or(self.give_pod(&group).await.err());
        }
        if self.sandbox.is_some() && self.resizes.pod.is_none() {
            self.resizes.pod = Some(group);
        }
        self.resizes.progress = (open || trouble.is_some()).then(|| trouble.unwrap_or_default());
    }

    async fn give_pod(&mut self, group: &cri::LinuxContainerResources) -> Result<(), String> {
        let Some(id) = self.sandbox.clone() else { return Ok(()) };
        let request = cri::UpdatePodSandboxResourcesRequest {
            pod_sandbox_id: id,
            resources: Some(group.clone()),
            ..cri::UpdatePodSandboxResourcesRequest::default()
        };
        match self.shared.cri.runtime.clone().update_pod_sandbox_resources(request).await {
            Err(status) if status.code() != tonic::Code::Unimplemented => Err(status.message().to_owned()),
            _ => {
                self.resizes.pod = Some(group.clone());
                Ok(())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn only_changes_that_ask_for_it_restart_a_container() {
        let text = br#"{"resizePolicy":[{"resourceName":"memory","restartPolicy":"RestartContainer"},
            {"resourceName":"cpu","restartPolicy":"NotRequired"}]}"#;
        let container = json::parse(text).unwrap();
        let with = |quota, memory| cri::LinuxContainerResources {
            cpu_quota: quota,
            memory_limit_in_bytes: memory,
            ..cri::LinuxContainerResources::default()
        };
        assert!(!wants_restart(&container, &with(1, 1), &with(2, 1)));
        assert!(wants_restart(&container, &with(1, 1), &with(1, 2)));
        assert!(differ(&with(1, 1), &with(2, 1)) && !differ(&with(-1, 0), &with(0, 0)));
    }
}

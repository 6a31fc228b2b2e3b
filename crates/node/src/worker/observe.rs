//! Asking the runtime what there is of a pod.

use super::{Done, Worker, grpc, last_words};
use crate::cri::label;
use crate::plan::Observed;
use crate::spec;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use trireme_cri as cri;
use trireme_schema::Value;

impl Worker {
    /// Asks the runtime what there is, and removes what is of no more use.
    pub(super) async fn look(&mut self, pod: &Value) -> Done<Observed> {
        let uid = pod.str_at(&["metadata", "uid"]);
        let selector = HashMap::from([(label::UID.to_owned(), uid.to_owned())]);
        let sandboxes = self.sandboxes(pod, &selector).await?;
        let mut runtime = self.shared.cri.runtime.clone();
        let filter = cri::ContainerFilter { label_selector: selector, ..cri::ContainerFilter::default() };
        let containers =
            runtime.list_containers(cri::ListContainersRequest { filter: Some(filter) }).await.map_err(grpc)?;
        let mut by_name: BTreeMap<String, Vec<cri::Container>> = BTreeMap::new();
        for container in containers.into_inner().containers {
            let name = container.labels.get(label::CONTAINER).cloned().unwrap_or_default();
            by_name.entry(name).or_default().push(container);
        }
        let mut observed = Observed { sandbox: self.sandbox.is_some(), ..Observed::default() };
        let mut used = BTreeSet::new();
        for (name, mut attempts) in by_name {
            attempts.sort_by_key(|c| (c.metadata.as_ref().map(|m| m.attempt), c.created_at));
            // The last that ended is kept for its log and its words; those before it go.
            let mut statuses = Vec::new();
            for (i, container) in attempts.iter().rev().enumerate() {
                if i > 1 {
                    let request = cri::RemoveContainerRequest { container_id: container.id.clone() };
                    let _ = runtime.remove_container(request).await;
                    continue;
                }
                used.insert(container.pod_sandbox_id.clone());
                let request = cri::ContainerStatusRequest { container_id: container.id.clone(), verbose: false };
                if let Ok(answer) = runtime.container_status(request).await {
                    statuses.extend(answer.into_inner().status);
                }
                if i == 0 && self.sandbox.as_ref() != Some(&container.pod_sandbox_id) {
                    observed.stale.insert(name.clone());
                }
            }
            let mut statuses = statuses.into_iter();
            let current = statuses.next();
            self.note(pod, &name, current, statuses.next(), &mut observed);
        }
        let ids = self.notes.values().filter_map(|n| n.running().map(|c| c.id.clone())).collect();
        self.stops.sync(observed.running(), &ids);
        for old in sandboxes.iter().filter(|s| !used.contains(&s.id)).skip(1) {
            let _ = runtime.remove_pod_sandbox(cri::RemovePodSandboxRequest { pod_sandbox_id: old.id.clone() }).await;
        }
        Ok(observed)
    }

    /// The pod's sandboxes, the newest first.
    async fn sandboxes(&mut self, pod: &Value, selector: &HashMap<String, String>) -> Done<Vec<cri::PodSandbox>> {
        let mut runtime = self.shared.cri.runtime.clone();
        let filter = cri::PodSandboxFilter { label_selector: selector.clone(), ..cri::PodSandboxFilter::default() };
        let request = cri::ListPodSandboxRequest { filter: Some(filter) };
        let mut all = runtime.list_pod_sandbox(request).await.map_err(grpc)?.into_inner().items;
        all.sort_by_key(|s| std::cmp::Reverse(s.created_at));
        let newest = all.first();
        self.attempt = newest.and_then(|s| s.metadata.as_ref()).map_or(0, |m| m.attempt + 1);
        let ready = newest.filter(|s| s.state == cri::PodSandboxState::SandboxReady as i32).map(|s| s.id.clone());
        if ready != self.sandbox {
            self.ips.clear();
        }
        self.sandbox = ready;
        if let Some(id) = self.sandbox.clone().filter(|_| self.ips.is_empty()) {
            let request = cri::PodSandboxStatusRequest { pod_sandbox_id: id, verbose: false };
            let status = runtime.pod_sandbox_status(request).await.map_err(grpc)?.into_inner().status;
            let network = status.unwrap_or_default().network.unwrap_or_default();
            let more = network.additional_ips.into_iter().map(|i| i.ip);
            self.ips = std::iter::once(network.ip).chain(more).filter(|ip| !ip.is_empty()).collect();
            if self.ips.is_empty() && pod.bool_at(&["spec", "hostNetwork"]) {
                self.ips = vec![self.shared.config.ip.to_string()];
            }
        }
        Ok(all)
    }

    fn note(
        &mut self,
        pod: &Value,
        name: &str,
        current: Option<cri::ContainerStatus>,
        last: Option<cri::ContainerStatus>,
        observed: &mut Observed,
    ) {
        let note = self.notes.entry(name.to_owned()).or_default();
        let words = |status: &cri::ContainerStatus| match status.state() {
            cri::ContainerState::ContainerExited => last_words::read(&self.shared.config, pod, name, status),
            _ => String::new(),
        };
        if let Some(status) = &current {
            observed.note(name, status);
            let running = status.state() == cri::ContainerState::ContainerRunning;
            if let Some(before) = spec::status(pod, name).filter(|_| running) {
                self.probes.recall(&status.id, before);
            }
            let said = spec::container(pod, name).map_or((true, true), |spec| self.probes.say(&status.id, spec));
            (note.started, note.ready) = (running && said.0, running && said.1);
            if note.started {
                observed.started.insert(name.to_owned());
            }
            if running {
                note.waiting = None;
            }
            if note.current.as_ref().map(|c| (&c.id, c.state)) != Some((&status.id, status.state)) {
                note.message = words(status);
            }
        }
        if note.last.as_ref().map(|c| &c.id) != last.as_ref().map(|c| &c.id) {
            note.last_message = last.as_ref().map(words).unwrap_or_default();
        }
        (note.current, note.last) = (current, last);
    }
}

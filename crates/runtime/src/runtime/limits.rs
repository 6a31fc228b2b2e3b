//! What sandboxes and containers may take, and what they do take.

use super::{Error, Runtime, failed, pod_group};
use crate::cgroup::Usage;
use crate::record::{Container, Sandbox};
use crate::shim::Limits;
use std::sync::Arc;
use trireme_cri as cri;

impl Runtime {
    /// Changes what a container may take.
    pub(crate) fn update_limits(&self, id: &str, resources: &cri::LinuxContainerResources) -> Result<(), Error> {
        let container = self.container(id)?;
        self.cgroups.limit(&container.cgroup, &changed(resources)).map_err(failed("set limits"))?;
        let mut state = self.state.lock();
        let Some(known) = state.containers.get_mut(&container.id) else { return Ok(()) };
        let linux = Arc::make_mut(&mut known.config).linux.get_or_insert_default();
        // What is told to the kernel only once stays.
        let oom_score_adj = linux.resources.as_ref().map_or(resources.oom_score_adj, |r| r.oom_score_adj);
        linux.resources = Some(cri::LinuxContainerResources { oom_score_adj, ..resources.clone() });
        self.keep_container(known);
        Ok(())
    }

    /// Changes what a sandbox as a whole may take.
    pub(crate) fn update_sandbox_limits(&self, id: &str, resources: cri::LinuxContainerResources) -> Result<(), Error> {
        let sandbox = self.sandbox(id)?;
        let group = pod_group(&self.config.cgroup, &sandbox.config);
        self.cgroups.limit(&group, &changed(&resources)).map_err(failed("set limits"))?;
        let mut state = self.state.lock();
        let Some(known) = state.sandboxes.get_mut(&sandbox.id) else { return Ok(()) };
        Arc::make_mut(&mut known.config).linux.get_or_insert_default().resources = Some(resources);
        self.keep_sandbox(known);
        Ok(())
    }

    pub(crate) fn usage(&self, container: &Container) -> Usage {
        self.cgroups.usage(&container.cgroup)
    }

    pub(crate) fn sandbox_usage(&self, sandbox: &Sandbox) -> Usage {
        self.cgroups.usage(&pod_group(&self.config.cgroup, &sandbox.config))
    }
}

/// Limits that replace others: what is not limited any more is free.
pub(super) fn changed(resources: &cri::LinuxContainerResources) -> Limits {
    let mut limits = limits(resources);
    limits.memory = limits.memory.or(Some(-1));
    limits.cpu_period = limits.cpu_period.or(Some(100_000));
    limits
}

pub(super) fn limits(resources: &cri::LinuxContainerResources) -> Limits {
    let set = |n: i64| (n != 0).then_some(n);
    Limits {
        memory: set(resources.memory_limit_in_bytes),
        cpu_shares: set(resources.cpu_shares).and_then(|n| u64::try_from(n).ok()),
        cpu_quota: set(resources.cpu_quota),
        cpu_period: set(resources.cpu_period).and_then(|n| u64::try_from(n).ok()),
        cpuset: resources.cpuset_cpus.clone(),
        pids: resources.unified.get("pids.max").and_then(|t| t.parse().ok()),
        hugepages: resources.hugepage_limits.iter().map(|h| (h.page_size.clone(), h.limit)).collect(),
    }
}

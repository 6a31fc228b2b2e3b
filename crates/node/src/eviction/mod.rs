//! Eviction: a node that runs short of memory or disk ends pods, one at a time, before the kernel or the disk ends what it
//! likes; and a pod that wrote more than it may goes in any case.
//!
//! What is decided is in [`thresholds`], [`pressure`], [`rank`] and [`limits`]; [`Evictor`] looks, and has workers end
//! their pods.

mod limits;
mod message;
mod pressure;
mod rank;
mod reclaim;
mod thresholds;
mod usage;

use crate::config::NodeConfig;
use crate::machine;
use crate::runtime_events::{Happened, RuntimeEvents};
use crate::spec;
use crate::status::End;
use crate::worker::Shared;
use parking_lot::Mutex;
use pressure::Pressures;
use rank::is_critical;
use std::collections::{BTreeSet, HashMap};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use thresholds::{Met, Observed};
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;
use trireme_client::EventKind;
use trireme_cri as cri;
use trireme_schema::Value;

pub(crate) use message::not_taken;
pub(crate) use thresholds::Pressure;
pub use thresholds::{InvalidThreshold, Signal, Thresholds};

/// The node is looked at this often (upstream: ten seconds); the kernel has events for memory alone, and only for groups.
const LOOK: Duration = Duration::from_secs(10);
/// Seconds that an evicted pod's programs have (upstream: one).
const GRACE: i64 = 1;

/// What a node is short of.
pub(crate) type Short = watch::Receiver<BTreeSet<Pressure>>;

/// What workers are to end, by the pods' UIDs.
#[derive(Debug, Default)]
pub(crate) struct Evictions(Mutex<HashMap<String, End>>);

impl Evictions {
    /// Takes why a pod is to end, if it is.
    pub(crate) fn take(&self, uid: &str) -> Option<End> {
        self.0.lock().remove(uid)
    }
}

/// What the node is short of now, so that it is told with the node's first status.
pub(crate) fn look_once(config: &NodeConfig) -> BTreeSet<Pressure> {
    thresholds::pressures(&config.eviction.met(&observe(config, None)))
}

/// What there is left. `images` is the disk of images.
fn observe(config: &NodeConfig, images: Option<&PathBuf>) -> Vec<Observed> {
    let seen = |signal, (available, capacity)| Observed { signal, available, capacity };
    let mut all = vec![seen(Signal::Memory, machine::memory_left()), seen(Signal::Pids, machine::pids_left())];
    let disk = machine::disk(&config.root);
    if let Some(disk) = disk {
        all.extend([seen(Signal::Nodefs, disk.bytes), seen(Signal::NodefsInodes, disk.inodes)]);
    }
    let images = images.and_then(|path| machine::disk(path)).filter(|i| disk.is_none_or(|d| d.id != i.id));
    if let Some(disk) = images {
        all.extend([seen(Signal::Imagefs, disk.bytes), seen(Signal::ImagefsInodes, disk.inodes)]);
    }
    all
}

/// Looks after the node.
pub(crate) struct Evictor {
    pub(crate) shared: Arc<Shared>,
    pub(crate) events: RuntimeEvents,
    pub(crate) short: watch::Sender<BTreeSet<Pressure>>,
}

impl Evictor {
    /// Evicts until `stop`.
    pub(crate) async fn keep(self, stop: CancellationToken) {
        let mut pressures = Pressures::default();
        loop {
            let _ = stop.run_until_cancelled(self.look(&mut pressures)).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = tokio::time::sleep(LOOK) => {}
            }
        }
    }

    async fn met(&self) -> Vec<Met> {
        let images = image_disk(&self.shared).await;
        self.shared.config.eviction.met(&observe(&self.shared.config, images.as_ref()))
    }

    async fn look(&self, pressures: &mut Pressures) {
        let met = self.met().await;
        let told = pressures.note(&thresholds::pressures(&met), Instant::now());
        self.short.send_if_modified(|short| std::mem::replace(short, told.clone()) != told);
        let pods = self.shared.pods.all();
        if self.end_those_beyond_limits(&pods).await {
            return;
        }
        let Some(first) = met.first() else { return };
        let resource = first.signal.resource();
        tracing::warn!(resource, available = first.available, least = first.least, "the node runs short");
        let text = format!("Attempting to reclaim {resource}");
        self.shared.recorder.record(&self.shared.reference(), EventKind::Warning, "EvictionThresholdMet", text);
        if first.signal.pressure() == Pressure::Disk {
            if let Err(why) = reclaim::disk(&self.shared).await {
                tracing::warn!(why, "what nobody uses cannot be removed");
            }
            if !self.met().await.iter().any(|met| met.signal == first.signal) {
                return;
            }
        }
        let mut candidates = Vec::new();
        for pod in pods {
            let usage = usage::ask(&self.shared.config, &self.shared.cri, &pod).await;
            candidates.push((pod, usage));
        }
        // One at a time: what it leaves may be enough.
        match rank::rank(resource, &candidates).first() {
            Some((pod, usage)) => self.evict(pod, message::evicted(pod, first, usage.as_ref())),
            None => tracing::warn!(resource, "no pod can be evicted"),
        }
    }

    /// Ends pods that wrote more than they may. Whether there was one.
    async fn end_those_beyond_limits(&self, pods: &[Arc<Value>]) -> bool {
        let mut any = false;
        for pod in pods.iter().filter(|pod| limits::has_any(pod) && !is_critical(pod)) {
            let usage = usage::ask(&self.shared.config, &self.shared.cri, pod).await;
            if let Some(why) = usage.and_then(|usage| limits::exceeded(pod, &usage)) {
                self.evict(pod, why);
                any = true;
            }
        }
        any
    }

    fn evict(&self, pod: &Value, why: String) {
        let uid = pod.str_at(&["metadata", "uid"]).to_owned();
        self.shared.recorder.record(&spec::reference(pod), EventKind::Warning, "Evicted", why.clone());
        let end = End { grace: Some(GRACE), disruption: true, ..End::new("Evicted", why) };
        self.shared.evictions.0.lock().insert(uid.clone(), end);
        self.events.tell(Happened::To(uid));
    }
}

async fn image_disk(shared: &Shared) -> Option<PathBuf> {
    let answer = shared.cri.images.clone().image_fs_info(cri::ImageFsInfoRequest {}).await.ok()?;
    let disk = answer.into_inner().image_filesystems.into_iter().next()?.fs_id?.mountpoint;
    Some(disk.into()).filter(|p: &PathBuf| p.is_absolute())
}

/// Whether a pod may come to a node that is short of something (upstream's admission by eviction): critical ones always;
/// short of memory alone, all that asked for some of it, and those that tolerate it.
pub(crate) fn takes(pod: &Value, short: &BTreeSet<Pressure>) -> bool {
    if short.is_empty() || is_critical(pod) {
        return true;
    }
    if short.iter().any(|pressure| *pressure != Pressure::Memory) {
        return false;
    }
    pod.str_at(&["status", "qosClass"]) != "BestEffort" || tolerates(pod, "node.kubernetes.io/memory-pressure")
}

fn tolerates(pod: &Value, taint: &str) -> bool {
    pod.list_at(&["spec", "tolerations"]).iter().any(|t| {
        let (key, exists) = (t.str_at(&["key"]), t.str_at(&["operator"]) == "Exists");
        let value = exists || t.str_at(&["value"]).is_empty();
        matches!(t.str_at(&["effect"]), "" | "NoSchedule") && value && (key == taint || key.is_empty() && exists)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn a_node_that_is_short_takes_only_what_can_do_with_it() {
        let pod = |text: &str| json::parse(text.as_bytes()).unwrap();
        let best_effort = pod(r#"{"status":{"qosClass":"BestEffort"}}"#);
        let burstable = pod(r#"{"status":{"qosClass":"Burstable"}}"#);
        let tolerant = pod(
            r#"{"spec":{"tolerations":[{"key":"node.kubernetes.io/memory-pressure","operator":"Exists","effect":"NoSchedule"}]},
                "status":{"qosClass":"BestEffort"}}"#,
        );
        let critical = pod(r#"{"spec":{"priority":2000000000},"status":{"qosClass":"BestEffort"}}"#);
        let (none, memory) = (BTreeSet::new(), BTreeSet::from([Pressure::Memory]));
        let disk = BTreeSet::from([Pressure::Memory, Pressure::Disk]);
        for (pod, short, taken) in [
            (&best_effort, &none, true),
            (&best_effort, &memory, false),
            (&burstable, &memory, true),
            (&tolerant, &memory, true),
            (&tolerant, &disk, false),
            (&burstable, &disk, false),
            (&critical, &disk, true),
        ] {
            assert_eq!(takes(pod, short), taken, "{pod:?} {short:?}");
        }
    }
}

//! Every node gets a range of pod addresses out of the cluster's.

use std::collections::{BTreeSet, HashMap};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::json;
use trireme_client::{Change, Client, EventKind, Informer, Key, ObjectRef, Patch, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{CidrRange, Error, Options};

pub(crate) struct NodeIpam {
    client: Client,
    nodes: Informer<Node>,
    recorder: Recorder,
    ranges: Vec<(CidrRange, u8)>,
    /// Ranges that nodes have, as the informer shows them: to read all nodes for each new one would take ever longer.
    held: Arc<Mutex<HashMap<Box<str>, Vec<String>>>>,
    /// Ranges given to nodes that the informer may not show yet.
    given: Mutex<HashMap<String, Vec<String>>>,
}

impl NodeIpam {
    pub(crate) fn new(context: &Context) -> Self {
        let (v4, v6) = context.options.node_mask;
        let with_mask = |range: &CidrRange| (*range, if range.address.is_ipv4() { v4 } else { v6 });
        let nodes = context.informer::<Node>();
        let held = Arc::<Mutex<HashMap<Box<str>, Vec<String>>>>::default();
        let seen = Arc::clone(&held);
        nodes.subscribe(move |change| see(&mut seen.lock(), change));
        Self {
            client: context.client.clone(),
            nodes,
            held,
            recorder: context.recorder("cidrAllocator"),
            ranges: context.options.cluster_cidrs.iter().map(with_mask).collect(),
            given: Mutex::default(),
        }
    }

    fn used(&self) -> BTreeSet<String> {
        let mut used: BTreeSet<String> = self.held.lock().values().flatten().cloned().collect();
        let mut given = self.given.lock();
        given.retain(|node, _| self.nodes.get("", node).is_some());
        used.extend(given.values().flatten().cloned());
        used
    }
}

/// As much of a node as is of interest.
#[derive(Default, Deserialize)]
struct Ranges {
    #[serde(default)]
    spec: RangesSpec,
}

#[derive(Default, Deserialize)]
struct RangesSpec {
    #[serde(rename = "podCIDR")]
    pod_cidr: Option<String>,
    #[serde(rename = "podCIDRs", default)]
    pod_cidrs: Vec<String>,
}

/// Takes note of the ranges of a node.
fn see(held: &mut HashMap<Box<str>, Vec<String>>, change: &Change<Node>) {
    let Some(latest) = change.latest() else { return };
    let ranges = change.new.as_ref().and_then(|node| node.decode_as::<Ranges>().ok()).unwrap_or_default().spec;
    let ranges: Vec<String> = ranges.pod_cidrs.into_iter().chain(ranges.pod_cidr).collect();
    if ranges.is_empty() {
        held.remove(&latest.meta.key.name);
    } else {
        held.insert(latest.meta.key.name.clone(), ranges);
    }
}

impl Controller for NodeIpam {
    const NAME: &'static str = "node-ipam-controller";
    const ACCOUNT: Option<&'static str> = Some("node-controller");
    // One worker: two at once would give out the same range.
    const WORKERS: usize = 1;

    fn enabled(options: &Options) -> bool {
        !options.cluster_cidrs.is_empty()
    }

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.nodes);
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.nodes.find(key) else {
            self.given.lock().remove(&*key.name);
            return Ok(Requeue::Never);
        };
        let node = entry.decode()?;
        if entry.meta.deleting || node.spec.as_ref().is_some_and(|spec| spec.pod_cidr.is_some()) {
            return Ok(Requeue::Never);
        }
        let known = self.given.lock().get(&*key.name).cloned();
        let chosen = match known {
            Some(known) => known,
            None => {
                let used = self.used();
                let chosen: Option<Vec<String>> =
                    self.ranges.iter().map(|(range, mask)| allocate(*range, *mask, &used)).collect();
                let Some(chosen) = chosen else {
                    let about = ObjectRef::to::<Node>(&node.metadata);
                    let message = format!("Node {} status is now: CIDRNotAvailable", key.name);
                    self.recorder.record(&about, EventKind::Normal, "CIDRNotAvailable", message);
                    return Ok(Requeue::After(Duration::from_secs(30)));
                };
                self.given.lock().insert(key.name.to_string(), chosen.clone());
                chosen
            }
        };
        let patch = json!({
            "metadata": {"uid": node.metadata.uid},
            "spec": {"podCIDR": chosen.first(), "podCIDRs": chosen},
        });
        self.client.all::<Node>().patch(&key.name, None, &Patch::Merge(patch)).await?;
        Ok(Requeue::Never)
    }
}

/// The first free part of a range with a prefix of this length.
fn allocate(range: CidrRange, mask: u8, used: &BTreeSet<String>) -> Option<String> {
    let width: u8 = if range.address.is_ipv4() { 32 } else { 128 };
    if mask < range.prefix || mask > width {
        return None;
    }
    let start = match range.address {
        IpAddr::V4(address) => u128::from(u32::from(address)),
        IpAddr::V6(address) => u128::from(address),
    };
    let clear = u32::from(width - range.prefix);
    let start = if clear == 128 { 0 } else { start >> clear << clear };
    let step = u32::from(width - mask);
    // More parts than this are never looked at: there are no such clusters.
    let parts = 1u128 << u32::from(mask - range.prefix).min(24);
    let taken: BTreeSet<u128> = used.iter().filter_map(|cidr| first_address(cidr, range.address.is_ipv4())).collect();
    let candidates = (0..parts).map(|at| start.wrapping_add(at.checked_shl(step).unwrap_or(0)));
    let free = candidates.into_iter().find(|address| !taken.contains(address))?;
    let address = match range.address {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from(u32::try_from(free).ok()?)),
        IpAddr::V6(_) => IpAddr::V6(Ipv6Addr::from(free)),
    };
    Some(format!("{address}/{mask}"))
}

fn first_address(cidr: &str, ipv4: bool) -> Option<u128> {
    let range: CidrRange = cidr.parse().ok()?;
    match range.address {
        IpAddr::V4(address) if ipv4 => Some(u128::from(u32::from(address))),
        IpAddr::V6(address) if !ipv4 => Some(u128::from(address)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_free_part_is_given_out() {
        let used = |cidrs: &[&str]| cidrs.iter().map(|cidr| (*cidr).to_owned()).collect::<BTreeSet<_>>();
        for (range, mask, taken, expected) in [
            ("10.42.0.0/16", 24, vec![], Some("10.42.0.0/24")),
            ("10.42.0.0/16", 24, vec!["10.42.0.0/24", "10.42.1.0/24", "10.42.3.0/24"], Some("10.42.2.0/24")),
            ("10.42.7.9/16", 24, vec![], Some("10.42.0.0/24")),
            ("10.0.0.0/23", 24, vec!["10.0.0.0/24", "10.0.1.0/24"], None),
            ("10.0.0.0/24", 16, vec![], None),
            ("fd00::/56", 64, vec!["fd00::/64", "10.0.0.0/24"], Some("fd00:0:0:1::/64")),
        ] {
            let found = allocate(range.parse().unwrap(), mask, &used(&taken));
            assert_eq!(found.as_deref(), expected, "{range} with {taken:?}");
        }
    }
}

//! How many pods a metric asks for. Amounts are in thousandths.

use std::collections::BTreeMap;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use k8s_openapi::api::core::v1::PodCondition;
use k8s_openapi::apimachinery::pkg::api::resource::Quantity as Text;
use serde::Deserialize;
use trireme_schema::Quantity;

use crate::view::Metadata;

/// What was measured of one pod.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Sample {
    pub(super) value: i64,
    pub(super) at: Timestamp,
    /// Over how long the value was measured.
    pub(super) window: SignedDuration,
}

/// Samples by the name of their pod.
pub(super) type Samples = BTreeMap<String, Sample>;

/// Between which ratios of usage to target nothing is done.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Tolerance {
    pub(super) down: f64,
    pub(super) up: f64,
}

/// When a starting pod's use of CPU says something about its load.
#[derive(Clone, Copy, Debug)]
pub(super) struct Startup {
    /// For so long after its start a pod may still be initialising.
    pub(super) cpu_initialization: Duration,
    /// A pod that was unready within this time from its start counts as never ready.
    pub(super) initial_readiness: Duration,
}

/// What the pods of a target look like.
#[derive(Clone, Copy)]
pub(super) struct Situation<'a> {
    /// How many pods there are to be now.
    pub(super) current: i32,
    pub(super) pods: &'a [Scaled],
    pub(super) tolerance: Tolerance,
    pub(super) startup: Startup,
    pub(super) now: Timestamp,
}

/// What a metric asks for, and what it is now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Proposal {
    pub(super) replicas: i32,
    /// The value, or its average over the pods.
    pub(super) value: i64,
    /// Per cent of what is requested, where that was asked for.
    pub(super) utilization: Option<i32>,
}

/// The fields of a pod that count here.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Scaled {
    pub(super) metadata: Metadata,
    pub(super) spec: ScaledSpec,
    pub(super) status: ScaledStatus,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScaledSpec {
    containers: Vec<Container>,
    init_containers: Vec<Container>,
    resources: Option<Resources>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Container {
    name: String,
    restart_policy: String,
    resources: Resources,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Resources {
    requests: BTreeMap<String, Text>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ScaledStatus {
    phase: String,
    conditions: Vec<PodCondition>,
    start_time: Option<Timestamp>,
}

/// The pods by what their samples are worth.
#[derive(Debug, Default, PartialEq, Eq)]
struct Groups {
    ready: usize,
    /// They will run, but what they use now says nothing.
    unready: Vec<String>,
    /// Nothing was measured of them.
    missing: Vec<String>,
    /// They are gone or going.
    ignored: Vec<String>,
}

impl Tolerance {
    fn covers(self, ratio: f64) -> bool {
        1.0 - self.down <= ratio && ratio <= 1.0 + self.up
    }
}

impl Scaled {
    fn ready(&self) -> Option<&PodCondition> {
        self.status.conditions.iter().find(|condition| condition.type_ == "Ready")
    }

    /// What the pod, or one container of it, requests of a resource (KEP-2837: the pod's own request comes first).
    fn request(&self, resource: &str, container: &str) -> Result<i64, String> {
        let of_pod = self.spec.resources.as_ref().filter(|own| !own.requests.is_empty() && container.is_empty());
        if let Some(request) = of_pod.and_then(|own| own.requests.get(resource)) {
            return Ok(millis(request));
        }
        let sidecars = self.spec.init_containers.iter().filter(|container| container.restart_policy == "Always");
        let mut sum = 0_i64;
        for own in self.spec.containers.iter().chain(sidecars) {
            if !container.is_empty() && container != own.name {
                continue;
            }
            let request = own.resources.requests.get(resource).ok_or_else(|| {
                format!("missing request for {resource} in container {} of Pod {}", own.name, self.metadata.name)
            })?;
            sum = sum.saturating_add(millis(request));
        }
        Ok(sum)
    }
}

/// A quantity in thousandths; what is no quantity is nothing, which validation keeps from happening.
pub(super) fn millis(text: &Text) -> i64 {
    text.0.parse::<Quantity>().map_or(0, |quantity| quantity.milli_value())
}

fn after(time: Timestamp, duration: Duration) -> Timestamp {
    time.checked_add(duration).unwrap_or(Timestamp::MAX)
}

fn group(situation: &Situation<'_>, samples: &Samples, resource: &str) -> Groups {
    let mut groups = Groups::default();
    for pod in situation.pods {
        let name = pod.metadata.name.clone();
        if pod.metadata.deletion_timestamp.is_some() || pod.status.phase == "Failed" {
            groups.ignored.push(name);
        } else if pod.status.phase == "Pending" {
            groups.unready.push(name);
        } else if let Some(sample) = samples.get(&name) {
            if resource == "cpu" && says_nothing(pod, sample, situation) {
                groups.unready.push(name);
            } else {
                groups.ready += 1;
            }
        } else {
            groups.missing.push(name);
        }
    }
    groups
}

/// Whether what a pod uses of the CPU may come of its start.
fn says_nothing(pod: &Scaled, sample: &Sample, situation: &Situation<'_>) -> bool {
    let (Some(ready), Some(started)) = (pod.ready(), pod.status.start_time) else { return true };
    let changed = ready.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    let unready = ready.status == "False";
    if after(started, situation.startup.cpu_initialization) > situation.now {
        let whole = changed.checked_add(sample.window).unwrap_or(Timestamp::MAX);
        unready || sample.at < whole
    } else {
        unready && after(started, situation.startup.initial_readiness) > changed
    }
}

/// By how much of what they request the pods use: `target` is in per cent.
pub(super) fn by_utilization(
    situation: &Situation<'_>,
    mut samples: Samples,
    (resource, container): (&str, &str),
    target: i32,
) -> Result<Proposal, String> {
    let mut requests = BTreeMap::new();
    let groups = grouped(situation, &mut samples, resource)?;
    for pod in situation.pods {
        requests.insert(pod.metadata.name.clone(), pod.request(resource, container)?);
    }
    if samples.is_empty() {
        return Err("did not receive metrics for any ready pods".to_owned());
    }
    let ratio = |samples: &Samples| -> Result<(f64, i32, i64), String> {
        let known = samples.iter().filter_map(|(pod, sample)| Some((sample.value, *requests.get(pod)?)));
        let (used, wanted) = known.fold((0_i64, 0_i64), |(used, wanted), (value, request)| {
            (used.saturating_add(value), wanted.saturating_add(request))
        });
        if wanted == 0 {
            return Err("no metrics returned matched known pods".to_owned());
        }
        let utilization = i32::try_from(i128::from(used) * 100 / i128::from(wanted)).unwrap_or(i32::MAX);
        let average = used / i64::try_from(samples.len()).unwrap_or(1).max(1);
        Ok((f64::from(utilization) / f64::from(target), utilization, average))
    };
    let (usage, utilization, value) = ratio(&samples)?;
    // What nothing is known of is taken to use all that it may before anything is taken away.
    let full = i64::from(target.max(100));
    let assumed = |pod: &str| match usage {
        usage if usage < 1.0 => Some(requests.get(pod).copied().unwrap_or(0).saturating_mul(full) / 100),
        usage if usage > 1.0 => Some(0),
        _ => None,
    };
    let replicas = settle(situation, samples, &groups, usage, assumed, |samples| Ok(ratio(samples)?.0))?;
    Ok(Proposal { replicas, value, utilization: Some(utilization) })
}

/// By the average of a metric over the pods.
pub(super) fn by_average(
    situation: &Situation<'_>,
    mut samples: Samples,
    resource: &str,
    target: i64,
) -> Result<Proposal, String> {
    let groups = grouped(situation, &mut samples, resource)?;
    if samples.is_empty() {
        return Err("did not receive metrics for any ready pods".to_owned());
    }
    let average = |samples: &Samples| {
        let sum = samples.values().fold(0_i64, |sum, sample| sum.saturating_add(sample.value));
        sum / i64::try_from(samples.len()).unwrap_or(1).max(1)
    };
    let value = average(&samples);
    let ratio = |value: i64| value as f64 / target as f64;
    let usage = ratio(value);
    let assumed = |_: &str| Some(if usage < 1.0 { target } else { 0 });
    let replicas = settle(situation, samples, &groups, usage, assumed, |samples| Ok(ratio(average(samples))))?;
    Ok(Proposal { replicas, value, utilization: None })
}

/// The pods in groups; the samples of pods that do not count are taken out.
fn grouped(situation: &Situation<'_>, samples: &mut Samples, resource: &str) -> Result<Groups, String> {
    if situation.pods.is_empty() {
        return Err("no pods returned by selector while calculating replica count".to_owned());
    }
    let groups = group(situation, samples, resource);
    for pod in groups.ignored.iter().chain(&groups.unready) {
        samples.remove(pod);
    }
    Ok(groups)
}

/// The number of pods by the ratio of usage to target. Pods of which nothing is known are taken for what `assumed` says,
/// which makes the change smaller, and never turn its direction.
fn settle(
    situation: &Situation<'_>,
    mut samples: Samples,
    groups: &Groups,
    usage: f64,
    assumed: impl Fn(&str) -> Option<i64>,
    ratio: impl Fn(&Samples) -> Result<f64, String>,
) -> Result<i32, String> {
    let Situation { current, tolerance, now, .. } = *situation;
    let unready_count = !groups.unready.is_empty() && usage > 1.0;
    if !unready_count && groups.missing.is_empty() {
        let ready = groups.ready as f64;
        return Ok(if tolerance.covers(usage) { current } else { ceil(usage * ready) });
    }
    let sample = |value: i64| Sample { value, at: now, window: SignedDuration::ZERO };
    for pod in &groups.missing {
        if let Some(value) = assumed(pod) {
            samples.insert(pod.clone(), sample(value));
        }
    }
    if unready_count {
        samples.extend(groups.unready.iter().map(|pod| (pod.clone(), sample(0))));
    }
    let new = ratio(&samples)?;
    if tolerance.covers(new) || usage < 1.0 && new > 1.0 || usage > 1.0 && new < 1.0 {
        return Ok(current);
    }
    let replicas = ceil(new * samples.len() as f64);
    let turned = new < 1.0 && replicas > current || new > 1.0 && replicas < current;
    Ok(if turned { current } else { replicas })
}

/// By a value that belongs to all pods together.
pub(super) fn by_value(situation: &Situation<'_>, value: i64, target: i64) -> Result<Proposal, String> {
    let usage = value as f64 / target as f64;
    let replicas = if situation.current == 0 {
        // From nothing, there are no pods to count.
        ceil(usage)
    } else if situation.tolerance.covers(usage) {
        situation.current
    } else if situation.pods.is_empty() {
        return Err(
            "unable to calculate ready pods: no pods returned by selector while calculating replica count".to_owned()
        );
    } else {
        let ready = |pod: &&Scaled| {
            pod.status.phase == "Running" && pod.ready().is_some_and(|condition| condition.status == "True")
        };
        ceil(usage * situation.pods.iter().filter(ready).count() as f64)
    };
    Ok(Proposal { replicas, value, utilization: None })
}

/// By a value that is shared between the pods; `status` is how many there are.
pub(super) fn by_share(status: i32, value: i64, target: i64, tolerance: Tolerance) -> Proposal {
    let usage = value as f64 / (target as f64 * f64::from(status));
    let replicas = if tolerance.covers(usage) { status } else { ceil(value as f64 / target as f64) };
    let share = i64::from(status.max(1));
    // Rounded up, as every average of a value is.
    let value = value / share + i64::from(value % share > 0);
    Proposal { replicas, value, utilization: None }
}

/// The next whole number of pods.
fn ceil(number: f64) -> i32 {
    number.ceil().clamp(0.0, f64::from(i32::MAX)) as i32
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    const NOW: &str = "2026-01-01T01:00:00Z";

    fn pods(list: &[(&str, &str)]) -> Vec<Scaled> {
        let pod = |(name, state): &(&str, &str)| {
            let (phase, ready, deleted) = match *state {
                "pending" => ("Pending", "False", None),
                "failed" => ("Failed", "False", None),
                "deleted" => ("Running", "True", Some(NOW)),
                "unready" => ("Running", "False", None),
                _ => ("Running", "True", None),
            };
            serde_json::from_value(json!({
                "metadata": {"name": name, "deletionTimestamp": deleted},
                "spec": {"containers": [{"name": "c", "resources": {"requests": {"cpu": "1", "memory": "1Ki"}}}]},
                "status": {"phase": phase, "startTime": "2026-01-01T00:00:00Z", "conditions": [
                    {"type": "Ready", "status": ready, "lastTransitionTime": "2026-01-01T00:00:10Z"}]},
            }))
            .unwrap()
        };
        list.iter().map(pod).collect()
    }

    fn samples(list: &[(&str, i64)]) -> Samples {
        let at = NOW.parse().unwrap();
        let sample = |value: i64| Sample { value, at, window: SignedDuration::from_secs(60) };
        list.iter().map(|(pod, value)| ((*pod).to_owned(), sample(*value))).collect()
    }

    fn situation(pods: &[Scaled]) -> Situation<'_> {
        Situation {
            current: i32::try_from(pods.len()).unwrap(),
            pods,
            tolerance: Tolerance { down: 0.1, up: 0.1 },
            startup: Startup {
                cpu_initialization: Duration::from_secs(300),
                initial_readiness: Duration::from_secs(30),
            },
            now: NOW.parse().unwrap(),
        }
    }

    #[test]
    fn pods_follow_how_much_they_use_of_what_they_request() {
        for (states, used, target, replicas, utilization) in [
            // Scale up, down, and within the tolerance.
            (&[("a", ""), ("b", ""), ("c", "")][..], &[("a", 300), ("b", 500), ("c", 700)][..], 30, 5, 50),
            (&[("a", ""), ("b", ""), ("c", "")], &[("a", 100), ("b", 200), ("c", 300)], 50, 2, 20),
            (&[("a", ""), ("b", "")], &[("a", 500), ("b", 520)], 50, 2, 51),
            // Of unready pods it is taken on a scale-up that they use nothing.
            (&[("a", ""), ("b", ""), ("c", "unready")], &[("a", 500), ("b", 700), ("c", 900)], 30, 4, 60),
            (&[("a", ""), ("b", ""), ("c", "pending")], &[("a", 500), ("b", 700)], 30, 4, 60),
            // On a scale-down they do not count.
            (&[("a", ""), ("b", ""), ("c", "unready")], &[("a", 100), ("b", 200), ("c", 900)], 50, 1, 15),
            // Missing ones use everything on a scale-down, and nothing on a scale-up.
            (&[("a", ""), ("b", ""), ("c", "")], &[("a", 100), ("b", 100)], 50, 3, 10),
            (&[("a", ""), ("b", "")], &[("a", 1000)], 30, 4, 100),
            // Failed and deleted pods are none.
            (&[("a", ""), ("b", "failed"), ("c", "deleted")], &[("a", 500), ("b", 0), ("c", 0)], 20, 3, 50),
        ] {
            let pods = pods(states);
            let proposal = by_utilization(&situation(&pods), samples(used), ("cpu", ""), target).unwrap();
            assert_eq!((proposal.replicas, proposal.utilization), (replicas, Some(utilization)), "{states:?} {used:?}");
        }
    }

    #[test]
    fn what_is_missing_is_told() {
        let told = |states: &[(&str, &str)], used: &[(&str, i64)], what: (&str, &str)| {
            let pods = pods(states);
            by_utilization(&situation(&pods), samples(used), what, 50).unwrap_err()
        };
        assert_eq!(told(&[], &[], ("cpu", "")), "no pods returned by selector while calculating replica count");
        assert_eq!(told(&[("a", "")], &[], ("cpu", "")), "did not receive metrics for any ready pods");
        assert_eq!(told(&[("a", "")], &[("a", 1)], ("gpu", "")), "missing request for gpu in container c of Pod a");
        assert_eq!(told(&[("a", "")], &[("a", 1)], ("cpu", "d")), "no metrics returned matched known pods");
    }

    #[test]
    fn the_first_minutes_of_a_pod_do_not_count_for_cpu() {
        let mut young = pods(&[("a", ""), ("b", "")]);
        young[1].status.start_time = Some("2026-01-01T00:59:00Z".parse().unwrap());
        let used = [("a", 500), ("b", 2000)];
        // Its sample is of a whole window since it became ready.
        let proposal = by_utilization(&situation(&young), samples(&used), ("cpu", ""), 50).unwrap();
        assert_eq!(proposal.replicas, 5);
        let ready = &mut young[1].status.conditions[0];
        ready.last_transition_time = serde_json::from_value(json!("2026-01-01T00:59:30Z")).unwrap();
        let proposal = by_utilization(&situation(&young), samples(&used), ("cpu", ""), 50).unwrap();
        assert_eq!((proposal.replicas, proposal.utilization), (2, Some(50)));
        // Memory is not used up by starting.
        let used = [("a", 500), ("b", 2_048_000)];
        let proposal = by_utilization(&situation(&young), samples(&used), ("memory", ""), 50).unwrap();
        assert!(proposal.replicas > 2);
    }

    #[test]
    fn averages_and_values_ask_for_pods_in_proportion() {
        let three = pods(&[("a", ""), ("b", ""), ("c", "unready")]);
        let used = samples(&[("a", 20_000), ("b", 10_000), ("c", 30_000)]);
        let proposal = by_average(&situation(&three), used, "", 10_000).unwrap();
        assert_eq!((proposal.replicas, proposal.value), (6, 20_000));
        let at = situation(&three);
        for (value, target, replicas) in [(20_000, 15_000, 3), (20_000, 20_000, 3), (40_000, 20_000, 4), (0, 1, 0)] {
            assert_eq!(by_value(&at, value, target).unwrap().replicas, replicas, "{value}/{target}");
        }
        for (status, value, target, replicas, share) in
            [(3, 5_000, 1_000, 5, 1_667), (3, 3_100, 1_000, 3, 1_034), (0, 3_000, 1_000, 3, 3_000), (0, 0, 1_000, 0, 0)]
        {
            let proposal = by_share(status, value, target, at.tolerance);
            assert_eq!((proposal.replicas, proposal.value), (replicas, share), "{status} {value}");
        }
        let narrow = Tolerance { down: 0.5, up: 0.0 };
        assert_eq!(by_share(10, 10_100, 1_000, narrow).replicas, 11);
        assert_eq!(by_share(10, 5_100, 1_000, narrow).replicas, 10);
    }

    #[test]
    fn requests_are_those_of_the_pod_or_of_its_containers_and_sidecars() {
        let pod = |spec: serde_json::Value| -> Scaled {
            serde_json::from_value(json!({"metadata": {"name": "p"}, "spec": spec})).unwrap()
        };
        let container = |name: &str, cpu: &str, policy: &str| {
            json!({"name": name, "restartPolicy": policy,
            "resources": {"requests": {"cpu": cpu}}})
        };
        let both = pod(json!({"containers": [container("a", "100m", "")],
            "initContainers": [container("s", "50m", "Always"), container("i", "1", "")]}));
        assert_eq!((both.request("cpu", ""), both.request("cpu", "s")), (Ok(150), Ok(50)));
        let own = pod(json!({"containers": [container("a", "100m", "")], "resources": {"requests": {"cpu": "2"}}}));
        assert_eq!((own.request("cpu", ""), own.request("cpu", "a")), (Ok(2000), Ok(100)));
    }
}

//! What a job decides from its pods: a function of its spec, its status, its pods and the time.

use std::collections::{BTreeMap, BTreeSet};

use jiff::Timestamp;
use k8s_openapi::api::batch::v1::{JobCondition, JobSpec, JobStatus, SuccessPolicy, UncountedTerminatedPods};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use super::failure_policy::{Action, action};
use super::indexes;
use crate::replica_set::count_of;
use crate::view::Pod;

pub(crate) const FINALIZER: &str = "batch.kubernetes.io/job-tracking";
pub(crate) const INDEX: &str = "batch.kubernetes.io/job-completion-index";
pub(crate) const INDEX_FAILURES: &str = "batch.kubernetes.io/job-index-failure-count";
/// At most so many pods are created in one step.
const BURST: usize = 500;
/// The first and the longest pause after a failure, in seconds.
const PAUSE: (i64, i64) = (10, 600);

/// A pod to create; for indexed jobs, its index and how often it has failed before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct NewPod {
    pub(crate) index: Option<u32>,
    pub(crate) failures: Option<i32>,
}

/// How a job ends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) success: bool,
    pub(crate) reason: String,
    pub(crate) message: String,
}

/// The step for a job.
#[derive(Debug)]
pub(crate) struct Decision {
    pub(crate) status: JobStatus,
    pub(crate) create: Vec<NewPod>,
    pub(crate) delete: Vec<Pod>,
    /// Pods that are accounted for once `status` is written, and can go then.
    pub(crate) release: Vec<Pod>,
    /// In how many seconds to look again.
    pub(crate) again: Option<i64>,
    /// Set when the job ends with this very step.
    pub(crate) ended: Option<End>,
    /// Set when the job was suspended (true) or resumed with this step.
    pub(crate) suspended: Option<bool>,
}

fn condition<'a>(status: &'a JobStatus, kind: &str) -> Option<&'a JobCondition> {
    status.conditions.iter().flatten().find(|condition| condition.type_ == kind && condition.status == "True")
}

/// Whether a job has ended.
pub(crate) fn is_finished(status: &JobStatus) -> bool {
    condition(status, "Complete").is_some() || condition(status, "Failed").is_some()
}

fn set_condition(status: &mut JobStatus, kind: &str, value: &str, reason: &str, message: &str, now: Timestamp) {
    let conditions = status.conditions.get_or_insert_default();
    let present = conditions.iter().position(|condition| condition.type_ == kind);
    if let Some(present) = present.and_then(|at| conditions.get_mut(at)) {
        if present.status != value || present.reason.as_deref() != Some(reason) {
            if present.status != value {
                present.last_transition_time = Some(Time(now));
            }
            present.status = value.to_owned();
            present.reason = Some(reason.to_owned());
            present.message = Some(message.to_owned());
        }
        return;
    }
    conditions.push(JobCondition {
        type_: kind.to_owned(),
        status: value.to_owned(),
        reason: Some(reason.to_owned()),
        message: Some(message.to_owned()),
        last_probe_time: Some(Time(now)),
        last_transition_time: Some(Time(now)),
    });
}

/// The completion index of a pod.
pub(crate) fn index_of(pod: &Pod) -> Option<u32> {
    pod.metadata.annotations.get(INDEX)?.parse().ok()
}

fn has_finalizer(pod: &Pod) -> bool {
    pod.metadata.finalizers.iter().any(|finalizer| finalizer == FINALIZER)
}

/// When a pod ended, as nearly as can be said. Never later than what the pod itself tells: a time that moved on with
/// every look would hold up the next pod for ever.
fn ended_at(pod: &Pod) -> Timestamp {
    let containers = pod
        .status
        .container_statuses
        .iter()
        .filter_map(|status| status.state.as_ref()?.terminated.as_ref()?.finished_at.as_ref().map(|time| time.0));
    let ready = || pod.condition("Ready").and_then(|ready| ready.last_transition_time.as_ref()).map(|time| time.0);
    let any = || pod.status.conditions.iter().filter_map(|c| c.last_transition_time.as_ref().map(|time| time.0)).max();
    let metadata = &pod.metadata;
    let last = containers.max().or_else(ready).or(metadata.deletion_timestamp).or_else(any);
    last.or(metadata.creation_timestamp).unwrap_or(Timestamp::UNIX_EPOCH)
}

/// The pause after `failures` failures in a row.
fn pause(failures: u32) -> i64 {
    let doubled = PAUSE.0.checked_shl(failures.saturating_sub(1).min(16)).unwrap_or(PAUSE.1);
    if failures == 0 { 0 } else { doubled.min(PAUSE.1) }
}

/// Decides the step. `pods` are all pods that the job owns.
pub(crate) fn decide(spec: &JobSpec, old: &JobStatus, pods: &[Pod], now: Timestamp) -> Decision {
    Job::new(spec, old, pods, now).decide()
}

struct Job<'a> {
    spec: &'a JobSpec,
    status: JobStatus,
    pods: &'a [Pod],
    now: Timestamp,
    indexed: bool,
    completions: Option<u32>,
    completed: BTreeSet<u32>,
    failed_indexes: BTreeSet<u32>,
    succeeded: i32,
    failed: i32,
    release: Vec<Pod>,
    fail_job: Option<String>,
}

impl<'a> Job<'a> {
    fn new(spec: &'a JobSpec, old: &JobStatus, pods: &'a [Pod], now: Timestamp) -> Self {
        let completions = spec.completions.map(|completions| u32::try_from(completions).unwrap_or(0));
        let parse =
            |text: &Option<String>| indexes::parse(text.as_deref().unwrap_or_default(), completions.unwrap_or(0));
        Self {
            indexed: spec.completion_mode.as_deref() == Some("Indexed"),
            completed: parse(&old.completed_indexes),
            failed_indexes: parse(&old.failed_indexes),
            succeeded: old.succeeded.unwrap_or(0),
            failed: old.failed.unwrap_or(0),
            status: old.clone(),
            completions,
            spec,
            pods,
            now,
            release: Vec::new(),
            fail_job: None,
        }
    }

    fn per_index(&self) -> Option<i32> {
        self.spec.backoff_limit_per_index
    }

    /// Whether only pods that have failed for good are replaced, not those that are on their way out (KEP-3939).
    fn replaces_only_failed(&self) -> bool {
        match self.spec.pod_replacement_policy.as_deref() {
            Some(policy) => policy == "Failed",
            None => self.spec.pod_failure_policy.is_some(),
        }
    }

    fn is_failed(&self, pod: &Pod) -> bool {
        let leaving = pod.metadata.deletion_timestamp.is_some() && pod.status.phase != "Succeeded";
        pod.status.phase == "Failed" || leaving && !self.replaces_only_failed()
    }

    /// Moves ended pods through the account: first their uid is written into the status, then their finalizer goes,
    /// then they are a number. A crash between any two of these loses and doubles nothing.
    fn account(&mut self) {
        let held: BTreeMap<&str, &Pod> =
            self.pods.iter().filter(|pod| has_finalizer(pod)).map(|pod| (pod.metadata.uid.as_str(), pod)).collect();
        let uncounted = self.status.uncounted_terminated_pods.take().unwrap_or_default();
        let split = |uids: Option<Vec<String>>| -> (Vec<String>, Vec<String>) {
            uids.unwrap_or_default().into_iter().partition(|uid| held.contains_key(uid.as_str()))
        };
        let (mut succeeded, gone_succeeded) = split(uncounted.succeeded);
        let (mut failed, gone_failed) = split(uncounted.failed);
        self.succeeded += count_of(gone_succeeded.len());
        self.failed += count_of(gone_failed.len());
        for (uid, pod) in held {
            let known = succeeded.iter().chain(&failed).any(|known| known == uid);
            if pod.status.phase == "Succeeded" {
                match index_of(pod).filter(|_| self.indexed) {
                    Some(index) if self.completions.is_some_and(|completions| index < completions) => {
                        self.completed.insert(index);
                    }
                    Some(_) => {}
                    None if !known => succeeded.push(uid.to_owned()),
                    None => {}
                }
            } else if self.is_failed(pod) {
                match action(self.spec.pod_failure_policy.as_ref(), pod) {
                    Action::FailJob(message) => {
                        self.fail_job.get_or_insert(message);
                    }
                    Action::Ignore => {
                        self.release.push(pod.clone());
                        continue;
                    }
                    Action::FailIndex => {
                        self.failed_indexes.extend(index_of(pod));
                    }
                    Action::Count => self.count_index_failure(pod),
                }
                if !known {
                    failed.push(uid.to_owned());
                }
            } else {
                continue;
            }
            self.release.push(pod.clone());
        }
        self.failed_indexes.retain(|index| !self.completed.contains(index));
        if self.indexed {
            self.succeeded = count_of(self.completed.len());
        }
        let some = |uids: Vec<String>| (!uids.is_empty()).then_some(uids);
        self.status.uncounted_terminated_pods =
            Some(UncountedTerminatedPods { succeeded: some(succeeded), failed: some(failed) });
    }

    fn count_index_failure(&mut self, pod: &Pod) {
        let Some(limit) = self.per_index() else { return };
        if let Some(index) = index_of(pod)
            && failures_before(pod) >= limit
        {
            self.failed_indexes.insert(index);
        }
    }

    fn uncounted(&self) -> (i32, i32) {
        let uncounted = self.status.uncounted_terminated_pods.as_ref();
        let count = |uids: Option<&Vec<String>>| uids.map_or(0, |uids| count_of(uids.len()));
        (count(uncounted.and_then(|u| u.succeeded.as_ref())), count(uncounted.and_then(|u| u.failed.as_ref())))
    }

    /// How the job ends, if it does; `again` gets the time of its deadline.
    fn end(&self, succeeded: i32, failed: i32, active: &[&Pod], again: &mut Option<i64>) -> Option<End> {
        let fail = |reason: &str, message: &str| {
            Some(End { success: false, reason: reason.to_owned(), message: message.to_owned() })
        };
        for (kind, success) in [("FailureTarget", false), ("SuccessCriteriaMet", true)] {
            if let Some(known) = condition(&self.status, kind) {
                let (reason, message) = (known.reason.clone(), known.message.clone());
                return Some(End { success, reason: reason.unwrap_or_default(), message: message.unwrap_or_default() });
            }
        }
        if let Some(message) = &self.fail_job {
            return fail("PodFailurePolicy", message);
        }
        let limit = self.spec.backoff_limit.unwrap_or(if self.per_index().is_some() { i32::MAX } else { 6 });
        let restarts: i32 = if self.restarts_in_place() {
            active.iter().map(|pod| pod.restarts()).fold(0, i32::saturating_add)
        } else {
            0
        };
        let too_many_restarts = if limit == 0 { restarts > 0 } else { restarts >= limit };
        if failed > limit || self.restarts_in_place() && too_many_restarts {
            return fail("BackoffLimitExceeded", "Job has reached the specified backoff limit");
        }
        let suspended = self.spec.suspend == Some(true);
        let started = self.status.start_time.as_ref().map_or(self.now, |time| time.0).as_second();
        if let Some(deadline) = self.spec.active_deadline_seconds.filter(|_| !suspended) {
            let left = started.saturating_add(deadline) - self.now.as_second();
            if left <= 0 {
                return fail("DeadlineExceeded", "Job was active longer than specified deadline");
            }
            *again = Some(left);
        }
        if let Some(completions) = self.completions.filter(|_| self.per_index().is_some()) {
            let failed = self.failed_indexes.len();
            if self.spec.max_failed_indexes.is_some_and(|most| count_of(failed) > most) {
                let message = "Job has exceeded the specified maximal number of failed indexes";
                return fail("MaxFailedIndexesExceeded", message);
            }
            if failed > 0 && self.completed.len() + failed >= usize::try_from(completions).unwrap_or(usize::MAX) {
                return fail("FailedIndexes", "Job has failed indexes");
            }
        }
        if let Some(at) = self.spec.success_policy.as_ref().and_then(|policy| self.meets(policy)) {
            let message = format!("Matched rules at index {at}");
            return Some(End { success: true, reason: "SuccessPolicy".to_owned(), message });
        }
        let complete = match self.spec.completions {
            None => succeeded > 0 && active.is_empty(),
            Some(completions) => succeeded >= completions,
        };
        complete.then(|| End {
            success: true,
            reason: "CompletionsReached".to_owned(),
            message: "Reached expected number of succeeded pods".to_owned(),
        })
    }

    /// The first rule of a success policy that is met (KEP-3998).
    fn meets(&self, policy: &SuccessPolicy) -> Option<usize> {
        policy.rules.iter().position(|rule| {
            let listed =
                rule.succeeded_indexes.as_ref().map(|text| indexes::parse(text, self.completions.unwrap_or(0)));
            let reached = match &listed {
                Some(listed) => listed.intersection(&self.completed).count(),
                None => self.completed.len(),
            };
            match (rule.succeeded_count, &listed) {
                (Some(count), _) => count_of(reached) >= count,
                (None, Some(listed)) => !listed.is_empty() && reached == listed.len(),
                (None, None) => false,
            }
        })
    }

    fn restarts_in_place(&self) -> bool {
        let template = self.spec.template.spec.as_ref();
        template.and_then(|spec| spec.restart_policy.as_deref()) == Some("OnFailure")
    }

    fn decide(mut self) -> Decision {
        let suspend = self.spec.suspend == Some(true);
        let mut suspended = None;
        if self.status.start_time.is_none() && !suspend {
            self.status.start_time = Some(Time(self.now));
        }
        self.account();
        let (more_succeeded, more_failed) = self.uncounted();
        let (succeeded, failed) = (self.succeeded + more_succeeded, self.failed + more_failed);
        let succeeded = if self.indexed { self.succeeded } else { succeeded };
        let active: Vec<&Pod> = self.pods.iter().filter(|pod| pod.is_active()).collect();
        let terminating = self.pods.iter().filter(|pod| pod.is_terminating()).count();
        let mut again = None;
        let end = self.end(succeeded, failed, &active, &mut again);

        let (create, delete) = if end.is_some() || suspend {
            (Vec::new(), active.iter().map(|pod| (*pod).clone()).collect())
        } else {
            self.size(succeeded, &active, terminating, &mut again)
        };
        let is_suspended =
            self.status.conditions.iter().flatten().any(|c| c.type_ == "Suspended" && c.status == "True");
        if end.is_none() && suspend && !is_suspended {
            set_condition(&mut self.status, "Suspended", "True", "JobSuspended", "Job suspended", self.now);
            self.status.start_time = None;
            suspended = Some(true);
        } else if end.is_none() && !suspend && is_suspended {
            set_condition(&mut self.status, "Suspended", "False", "JobResumed", "Job resumed", self.now);
            // The time that counts against the deadline begins anew.
            self.status.start_time = Some(Time(self.now));
            suspended = Some(false);
        }

        let still_there = active.len() + terminating;
        let mut ended = None;
        if let Some(end) = end {
            let (target, terminal) =
                if end.success { ("SuccessCriteriaMet", "Complete") } else { ("FailureTarget", "Failed") };
            set_condition(&mut self.status, target, "True", &end.reason, &end.message, self.now);
            // The job ends only when no pod of it runs any more and every ended one is a number.
            if still_there == 0 && self.uncounted() == (0, 0) && self.release.is_empty() {
                set_condition(&mut self.status, terminal, "True", &end.reason, &end.message, self.now);
                if end.success {
                    self.status.completion_time = Some(Time(self.now));
                }
                ended = Some(end);
            }
        }
        let some = |number: i32| (number != 0).then_some(number);
        let created = count_of(create.len()) - count_of(delete.len());
        let status = &mut self.status;
        status.active = some(count_of(active.len()) + created);
        status.ready = Some(count_of(active.iter().filter(|pod| pod.is_ready()).count()));
        status.terminating = Some(count_of(terminating + delete.len()));
        status.succeeded = some(self.succeeded);
        status.failed = some(self.failed);
        if self.indexed {
            status.completed_indexes = Some(indexes::format(&self.completed)).filter(|text| !text.is_empty());
            if self.spec.backoff_limit_per_index.is_some() {
                status.failed_indexes = Some(indexes::format(&self.failed_indexes));
            }
        }
        Decision { status: self.status, create, delete, release: self.release, again, ended, suspended }
    }

    /// The pods to create and to delete, so that as many run as should.
    fn size(
        &self,
        succeeded: i32,
        active: &[&Pod],
        terminating: usize,
        again: &mut Option<i64>,
    ) -> (Vec<NewPod>, Vec<Pod>) {
        let parallelism = usize::try_from(self.spec.parallelism.unwrap_or(1)).unwrap_or(0);
        let wanted = match self.spec.completions {
            Some(completions) => {
                let failed = if self.per_index().is_some() { count_of(self.failed_indexes.len()) } else { 0 };
                parallelism.min(usize::try_from(completions - succeeded - failed).unwrap_or(0))
            }
            // Without a number of completions the first success ends the creation of more.
            None if succeeded > 0 => active.len().min(parallelism),
            None => parallelism,
        };
        let mut delete: Vec<Pod> = Vec::new();
        let mut running: Vec<&Pod> = active.to_vec();
        if self.indexed {
            // Of two pods with one index, and of pods whose index is done or out of range, none is needed.
            let mut seen = BTreeSet::new();
            running.retain(|pod| {
                let index = index_of(pod);
                let needed = index.is_some_and(|index| {
                    self.completions.is_some_and(|completions| index < completions)
                        && !self.completed.contains(&index)
                        && !self.failed_indexes.contains(&index)
                        && seen.insert(index)
                });
                if !needed {
                    delete.push((*pod).clone());
                }
                needed
            });
        }
        if running.len() > wanted {
            let all: Vec<Pod> = running.iter().map(|pod| (*pod).clone()).collect();
            delete.extend(crate::replicas::to_delete(all, &[], running.len() - wanted, self.now));
            return (Vec::new(), delete);
        }
        let held = if self.replaces_only_failed() { terminating } else { 0 };
        let missing = wanted.saturating_sub(running.len()).saturating_sub(held).min(BURST);
        if missing == 0 {
            return (Vec::new(), delete);
        }
        let mut wait = |seconds: i64| *again = Some(again.map_or(seconds, |known| known.min(seconds)));
        if !self.indexed {
            let left = self.pause_left(self.pods.iter());
            if left > 0 {
                wait(left);
                return (Vec::new(), delete);
            }
            return (vec![NewPod { index: None, failures: None }; missing], delete);
        }
        let leaving = |pod: &&Pod| pod.is_terminating() && self.replaces_only_failed();
        let busy: BTreeSet<u32> =
            running.iter().copied().chain(self.pods.iter().filter(leaving)).filter_map(index_of).collect();
        let common = if self.per_index().is_some() { 0 } else { self.pause_left(self.pods.iter()) };
        if common > 0 {
            wait(common);
            return (Vec::new(), delete);
        }
        let mut create = Vec::new();
        for index in 0..self.completions.unwrap_or(0) {
            if create.len() >= missing {
                break;
            }
            if busy.contains(&index) || self.completed.contains(&index) || self.failed_indexes.contains(&index) {
                continue;
            }
            let mut failures = None;
            if self.per_index().is_some() {
                let of_index = || self.pods.iter().filter(|pod| index_of(pod) == Some(index));
                let left = self.pause_left(of_index());
                if left > 0 {
                    wait(left);
                    continue;
                }
                failures = Some(
                    of_index().filter(|pod| self.is_failed(pod)).map(|pod| self.failures_with(pod)).max().unwrap_or(0),
                );
            }
            create.push(NewPod { index: Some(index), failures });
        }
        (create, delete)
    }

    /// How often an index had failed when this pod had failed, too.
    fn failures_with(&self, pod: &Pod) -> i32 {
        let ignored = action(self.spec.pod_failure_policy.as_ref(), pod) == Action::Ignore;
        failures_before(pod).saturating_add(i32::from(!ignored))
    }

    /// How long to wait before the next pod: ever longer the more have failed since the last success.
    fn pause_left<'p>(&self, pods: impl Iterator<Item = &'p Pod>) -> i64 {
        let ended: Vec<(Timestamp, bool)> = pods
            .filter(|pod| pod.is_terminal() || self.is_failed(pod))
            .map(|pod| (ended_at(pod), pod.status.phase == "Succeeded"))
            .collect();
        let last_success = ended.iter().filter(|(_, success)| *success).map(|(at, _)| *at).max();
        let failures: Vec<Timestamp> =
            ended.iter().filter(|(at, success)| !success && Some(*at) > last_success).map(|(at, _)| *at).collect();
        let Some(last) = failures.iter().max() else { return 0 };
        let pause = pause(u32::try_from(failures.len()).unwrap_or(u32::MAX));
        (last.as_second() + pause - self.now.as_second()).max(0)
    }
}

fn failures_before(pod: &Pod) -> i32 {
    pod.metadata.annotations.get(INDEX_FAILURES).and_then(|count| count.parse().ok()).unwrap_or(0)
}

#[cfg(test)]
mod tests;

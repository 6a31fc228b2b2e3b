//! Cron jobs: a job at every time of a schedule.

use std::sync::Arc;

use jiff::Timestamp;
use jiff::tz::TimeZone;
use k8s_openapi::api::batch::v1::{CronJob, CronJobSpec, CronJobStatus, Job};
use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use trireme_client::{Client, DeleteOptions, EventKind, Informer, Key, ObjectRef, Propagation, Recorder};

use crate::context::Context;
use crate::controller::{Controller, Requeue, Watches};
use crate::{Clock, Error, merge_patch, owner};

mod schedule;

use schedule::Schedule;

const SCHEDULED_AT: &str = "batch.kubernetes.io/cronjob-scheduled-timestamp";
/// So many missed times are a warning.
const MANY: usize = 100;

pub(crate) struct CronJobs {
    client: Client,
    cron_jobs: Informer<CronJob>,
    jobs: Informer<Job>,
    recorder: Recorder,
    clock: Clock,
}

/// What the schedule says now.
#[derive(Debug, PartialEq, Eq)]
struct Due {
    /// The latest time that has come and was not served yet.
    missed: Option<Timestamp>,
    /// How many times have come, up to a bound.
    count: usize,
    /// The time after now.
    next: Option<Timestamp>,
}

impl CronJobs {
    pub(crate) fn new(context: &Context) -> Self {
        Self {
            client: context.client.clone(),
            cron_jobs: context.informer(),
            jobs: context.informer(),
            recorder: context.recorder("cronjob-controller"),
            clock: context.clock.clone(),
        }
    }

    async fn delete_job(&self, about: &ObjectRef, job: &ObjectMeta) -> Result<(), Error> {
        let name = job.name.as_deref().unwrap_or_default();
        let options =
            DeleteOptions::default().uid(job.uid.clone().unwrap_or_default()).propagation(Propagation::Background);
        self.client.namespaced::<Job>(&about.namespace).delete_if_present(name, &options).await?;
        self.recorder.record(about, EventKind::Normal, "SuccessfulDelete", format!("Deleted job {name}"));
        Ok(())
    }

    /// Follows the jobs that have ended or gone, and deletes those beyond the history limits.
    async fn follow_jobs(
        &self,
        about: &ObjectRef,
        spec: &CronJobSpec,
        jobs: &[Job],
        status: &mut CronJobStatus,
    ) -> Result<(), Error> {
        let mut active = status.active.take().unwrap_or_default();
        for job in jobs {
            let uid = &job.metadata.uid;
            let name = job.metadata.name.as_deref().unwrap_or_default();
            let known = active.iter().any(|reference| reference.uid == *uid);
            match outcome(job) {
                Some((success, at)) if known => {
                    active.retain(|reference| reference.uid != *uid);
                    let condition = if success { "Complete" } else { "Failed" };
                    let message = format!("Saw completed job: {name}, condition: {condition}");
                    self.recorder.record(about, EventKind::Normal, "SawCompletedJob", message);
                    if success && status.last_successful_time.as_ref().is_none_or(|last| last.0 < at) {
                        status.last_successful_time = Some(Time(at));
                    }
                }
                None if !known => active.push(reference(job)),
                _ => {}
            }
        }
        let mut there = Vec::new();
        for reference in active {
            let name = reference.name.as_deref().unwrap_or_default();
            if jobs.iter().any(|job| job.metadata.uid == reference.uid) {
                there.push(reference);
            } else if self.client.namespaced::<Job>(&about.namespace).find(name).await?.is_some() {
                // The cache does not show it yet.
                there.push(reference);
            } else {
                let message = format!("Active job went missing: {name}");
                self.recorder.record(about, EventKind::Normal, "MissingJob", message);
            }
        }
        status.active = (!there.is_empty()).then_some(there);
        for job in beyond_history(spec, jobs) {
            self.delete_job(about, &job.metadata).await?;
        }
        Ok(())
    }

    async fn start_job(
        &self,
        about: &ObjectRef,
        cron_job: &CronJob,
        at: Timestamp,
        zone: &TimeZone,
    ) -> Result<Option<Job>, Error> {
        let job = new_job(cron_job, at, zone);
        let name = job.metadata.name.clone().unwrap_or_default();
        let api = self.client.namespaced::<Job>(&about.namespace);
        match api.create(&job).await {
            Ok(created) => {
                self.recorder.record(about, EventKind::Normal, "SuccessfulCreate", format!("Created job {name}"));
                Ok(Some(created))
            }
            // The name says the time: it was created before, and the status was not written.
            Err(error) if error.is_already_exists() => {
                let there = api.find(&name).await?;
                let ours =
                    |job: &Job| owner::controller_of(&job.metadata).map(|o| &o.uid) == cron_job.metadata.uid.as_ref();
                Ok(there.filter(ours))
            }
            Err(error) if error.is_namespace_terminating() => Ok(None),
            Err(error) => {
                let message = format!("Error creating job: {error}");
                self.recorder.record(about, EventKind::Warning, "FailedCreate", message);
                Err(error.into())
            }
        }
    }
}

fn reference(job: &Job) -> ObjectReference {
    ObjectReference {
        api_version: Some("batch/v1".to_owned()),
        kind: Some("Job".to_owned()),
        namespace: job.metadata.namespace.clone(),
        name: job.metadata.name.clone(),
        uid: job.metadata.uid.clone(),
        resource_version: job.metadata.resource_version.clone(),
        field_path: None,
    }
}

/// How a job has ended (success or not, and when), if it has.
fn outcome(job: &Job) -> Option<(bool, Timestamp)> {
    let conditions = job.status.as_ref()?.conditions.as_ref()?;
    let ended = conditions.iter().find(|c| matches!(c.type_.as_str(), "Complete" | "Failed") && c.status == "True")?;
    let at = ended.last_transition_time.as_ref().map_or(Timestamp::UNIX_EPOCH, |time| time.0);
    Some((ended.type_ == "Complete", at))
}

/// The ended jobs beyond the limits, the oldest of their kind.
fn beyond_history<'a>(spec: &CronJobSpec, jobs: &'a [Job]) -> Vec<&'a Job> {
    let mut doomed = Vec::new();
    for (success, limit) in
        [(true, spec.successful_jobs_history_limit.unwrap_or(3)), (false, spec.failed_jobs_history_limit.unwrap_or(1))]
    {
        let mut ended: Vec<&Job> = jobs
            .iter()
            .filter(|job| outcome(job).is_some_and(|(s, _)| s == success) && job.metadata.deletion_timestamp.is_none())
            .collect();
        ended.sort_by_key(|job| {
            let start = job.status.as_ref().and_then(|status| status.start_time.clone());
            (start, job.metadata.name.clone())
        });
        let excess = ended.len().saturating_sub(usize::try_from(limit).unwrap_or(0));
        doomed.extend(ended.into_iter().take(excess));
    }
    doomed
}

/// What the schedule says between the last time served and now.
fn due(
    spec: &CronJobSpec,
    status: &CronJobStatus,
    created: Timestamp,
    schedule: &Schedule,
    zone: &TimeZone,
    now: Timestamp,
) -> Due {
    let mut from = status.last_schedule_time.as_ref().map_or(created, |time| time.0);
    if let Some(deadline) = spec.starting_deadline_seconds {
        let earliest = Timestamp::from_second(now.as_second().saturating_sub(deadline)).unwrap_or(from);
        from = from.max(earliest);
    }
    let mut found = Due { missed: None, count: 0, next: schedule.next(from, zone) };
    while let Some(time) = found.next.filter(|time| *time <= now) {
        found.missed = Some(time);
        found.count += 1;
        // After a long time away the times in between do not matter: only the latest is served.
        let skip = if found.count > MANY {
            Timestamp::from_second(now.as_second() - gap(schedule, zone, now)).ok()
        } else {
            None
        };
        found.next = schedule.next(skip.map_or(time, |skip| skip.max(time)), zone);
    }
    found
}

/// Seconds before now from which on the latest time can be found in few steps.
fn gap(schedule: &Schedule, zone: &TimeZone, now: Timestamp) -> i64 {
    let next = schedule.next(now, zone);
    let after = next.and_then(|next| schedule.next(next, zone));
    let between = next.zip(after).map_or(0, |(next, after)| after.as_second() - next.as_second());
    between.saturating_mul(3).max(3_600)
}

/// The job for a time. Its name says the time, so that it is not made twice.
fn new_job(cron_job: &CronJob, at: Timestamp, zone: &TimeZone) -> Job {
    let template = cron_job.spec.job_template.clone();
    let metadata = template.metadata.unwrap_or_default();
    let mut annotations = metadata.annotations.unwrap_or_default();
    let wall = at.to_zoned(zone.clone());
    let offset = wall.strftime("%Y-%m-%dT%H:%M:%S%:z").to_string().replace("+00:00", "Z");
    annotations.insert(SCHEDULED_AT.to_owned(), offset);
    Job {
        metadata: ObjectMeta {
            name: Some(format!("{}-{}", cron_job.metadata.name.as_deref().unwrap_or_default(), at.as_second() / 60)),
            namespace: cron_job.metadata.namespace.clone(),
            labels: metadata.labels,
            annotations: Some(annotations),
            owner_references: Some(vec![owner::controller_reference::<CronJob>(&cron_job.metadata)]),
            ..ObjectMeta::default()
        },
        spec: template.spec,
        status: None,
    }
}

impl Controller for CronJobs {
    const NAME: &'static str = "cronjob-controller";
    const ACCOUNT: Option<&'static str> = Some("cronjob-controller");

    fn watch(self: &Arc<Self>, watches: &mut Watches) {
        watches.on_itself(&self.cron_jobs);
        watches.on(&self.jobs, |change| {
            let owners = [&change.old, &change.new].into_iter().flatten().filter_map(|job| {
                let owner = job.meta.controller.as_ref().filter(|owner| &*owner.kind == "CronJob")?;
                Some(Key::new(&job.meta.key.namespace, &owner.name))
            });
            let mut owners: Vec<Key> = owners.collect();
            owners.dedup();
            owners
        });
    }

    async fn reconcile(&self, key: &Key) -> Result<Requeue, Error> {
        let Some(entry) = self.cron_jobs.find(key) else { return Ok(Requeue::Never) };
        let cron_job = entry.decode()?;
        let spec = &cron_job.spec;
        let about = ObjectRef::to::<CronJob>(&cron_job.metadata);
        let mut jobs = Vec::new();
        for job in self.jobs.controlled_by(&entry.meta.uid) {
            jobs.push(job.decode()?);
        }
        let old = cron_job.status.clone().unwrap_or_default();
        let mut status = old.clone();
        self.follow_jobs(&about, spec, &jobs, &mut status).await?;
        let result = if entry.meta.deleting || spec.suspend == Some(true) {
            Ok(Requeue::Never)
        } else {
            self.serve(&about, &cron_job, spec, &mut status).await
        };
        if let Some(patch) = merge_patch::status(&cron_job.metadata, &old, &status)? {
            self.client.namespaced::<CronJob>(&key.namespace).patch(&key.name, Some("status"), &patch).await?;
        }
        result
    }
}

impl CronJobs {
    /// Starts the job that is due.
    async fn serve(
        &self,
        about: &ObjectRef,
        cron_job: &CronJob,
        spec: &CronJobSpec,
        status: &mut CronJobStatus,
    ) -> Result<Requeue, Error> {
        let schedule: Schedule = match spec.schedule.parse() {
            Ok(schedule) => schedule,
            Err(error) => {
                let message = format!("unparseable schedule: {:?} : {error}", spec.schedule);
                self.recorder.record(about, EventKind::Warning, "UnparseableSchedule", message);
                return Ok(Requeue::Never);
            }
        };
        let zone = match spec.time_zone.as_deref().map(TimeZone::get) {
            None => TimeZone::UTC,
            Some(Ok(zone)) => zone,
            Some(Err(_)) => {
                let message = format!("invalid timeZone: {:?}", spec.time_zone.as_deref().unwrap_or_default());
                self.recorder.record(about, EventKind::Warning, "UnknownTimeZone", message);
                return Ok(Requeue::Never);
            }
        };
        let now = self.clock.now();
        let created = cron_job.metadata.creation_timestamp.as_ref().map_or(now, |time| time.0);
        let due = due(spec, status, created, &schedule, &zone, now);
        let again = due.next.map_or(Requeue::Never, |next| Requeue::seconds(next.as_second() - now.as_second()));
        let Some(at) = due.missed else { return Ok(again) };
        if due.count > MANY {
            let message = format!(
                "too many missed start times: {}. Set or decrease .spec.startingDeadlineSeconds or check clock skew",
                due.count
            );
            self.recorder.record(about, EventKind::Warning, "TooManyMissedTimes", message);
        }
        let late = spec.starting_deadline_seconds.is_some_and(|most| now.as_second() - at.as_second() > most);
        if late {
            let message = format!("Missed scheduled time to start a job: {at}");
            self.recorder.record(about, EventKind::Warning, "MissSchedule", message);
            return Ok(again);
        }
        let active = status.active.clone().unwrap_or_default();
        match spec.concurrency_policy.as_deref() {
            Some("Forbid") if !active.is_empty() => {
                let message = "Not starting job because prior execution is running and concurrency policy is Forbid";
                self.recorder.record(about, EventKind::Normal, "JobAlreadyActive", message);
                return Ok(again);
            }
            Some("Replace") => {
                for reference in active {
                    let job = ObjectMeta { name: reference.name, uid: reference.uid, ..ObjectMeta::default() };
                    self.delete_job(about, &job).await?;
                }
                status.active = None;
            }
            _ => {}
        }
        if let Some(job) = self.start_job(about, cron_job, at, &zone).await? {
            let active = status.active.get_or_insert_default();
            if !active.iter().any(|reference| reference.uid == job.metadata.uid) {
                active.push(reference(&job));
            }
            status.last_schedule_time = Some(Time(at));
        }
        Ok(again)
    }
}

#[cfg(test)]
mod tests;

//! The group `batch`.

mod cron_job;
mod indexes;
mod job;
mod job_change;
mod job_status;
mod pod_failure_policy;
mod schedule;
mod success_policy;

use crate::rules::Registry;

pub(crate) fn register(registry: &mut Registry) {
    cron_job::register(registry);
    job::register(registry);
    job_status::register(registry);
}

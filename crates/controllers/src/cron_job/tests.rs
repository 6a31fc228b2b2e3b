use super::*;
use crate::Options;
use crate::controller::run;
use crate::fake_api::{FakeApi, eventually};
use serde_json::{Value, json};

fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

#[test]
fn the_latest_missed_time_is_served() {
    let spec = |deadline: Option<i64>| -> CronJobSpec {
        serde_json::from_value(
            json!({"schedule": "*/10 * * * *", "startingDeadlineSeconds": deadline, "jobTemplate": {}}),
        )
        .unwrap()
    };
    let created = at("2026-01-01T00:00:00Z");
    for (deadline, last, now, missed, count, next) in [
        (None, None, "2026-01-01T00:05:00Z", None, 0, "2026-01-01T00:10:00Z"),
        (None, None, "2026-01-01T00:10:00Z", Some("2026-01-01T00:10:00Z"), 1, "2026-01-01T00:20:00Z"),
        (None, Some("2026-01-01T00:10:00Z"), "2026-01-01T00:15:00Z", None, 0, "2026-01-01T00:20:00Z"),
        (
            None,
            Some("2026-01-01T00:10:00Z"),
            "2026-01-01T00:41:00Z",
            Some("2026-01-01T00:40:00Z"),
            3,
            "2026-01-01T00:50:00Z",
        ),
        (Some(60), None, "2026-01-01T00:15:00Z", None, 0, "2026-01-01T00:20:00Z"),
        (Some(900), None, "2026-01-01T00:41:00Z", Some("2026-01-01T00:40:00Z"), 2, "2026-01-01T00:50:00Z"),
    ] {
        let spec = spec(deadline);
        let status = CronJobStatus { last_schedule_time: last.map(|last| Time(at(last))), ..CronJobStatus::default() };
        let schedule: Schedule = spec.schedule.parse().unwrap();
        let found = due(&spec, &status, created, &schedule, &TimeZone::UTC, at(now));
        assert_eq!(found, Due { missed: missed.map(at), count, next: Some(at(next)) }, "{now} {deadline:?}");
    }
    let year_later = at("2027-01-01T00:05:00Z");
    let spec = spec(None);
    let schedule: Schedule = spec.schedule.parse().unwrap();
    let found = due(&spec, &CronJobStatus::default(), created, &schedule, &TimeZone::UTC, year_later);
    assert_eq!(found.missed, Some(at("2027-01-01T00:00:00Z")));
    assert!(found.count > MANY && found.count < 2 * MANY);
}

#[test]
fn history_keeps_the_newest_of_each_kind() {
    let job = |name: &str, kind: &str, minute: u8| -> Job {
        let time = format!("2026-01-01T00:{minute:02}:00Z");
        serde_json::from_value(json!({"metadata": {"name": name}, "status": {"startTime": time,
            "conditions": [{"type": kind, "status": "True", "lastTransitionTime": time}]}}))
        .unwrap()
    };
    let jobs = [
        job("c", "Complete", 3),
        job("a", "Complete", 1),
        job("b", "Complete", 2),
        job("x", "Failed", 1),
        job("y", "Failed", 2),
        job("r", "Suspended", 0),
    ];
    let spec: CronJobSpec = serde_json::from_value(
        json!({"schedule": "", "successfulJobsHistoryLimit": 2, "failedJobsHistoryLimit": 0, "jobTemplate": {}}),
    )
    .unwrap();
    let doomed: Vec<_> = beyond_history(&spec, &jobs).iter().map(|job| job.metadata.name.clone().unwrap()).collect();
    assert_eq!(doomed, ["a", "x", "y"]);
}

fn started(api: &FakeApi) -> Vec<String> {
    api.all::<Job>().into_iter().filter_map(|job| job.metadata.name).collect()
}

async fn with(policy: &str, check: impl AsyncFn(&FakeApi)) {
    let api = FakeApi::default();
    let begun = tokio::time::Instant::now();
    let start = at("2026-01-01T00:00:30Z");
    let clock = Clock::of(move || start + jiff::SignedDuration::try_from(begun.elapsed()).unwrap());
    let context = api.context(Options::default(), clock);
    tokio::spawn(run(CronJobs::new(&context), context.shutdown.clone()));
    let object: Value = json!({
        "metadata": {"name": "tick", "namespace": "n", "creationTimestamp": "2026-01-01T00:00:30Z"},
        "spec": {"schedule": "* * * * *", "concurrencyPolicy": policy, "timeZone": "Europe/Berlin",
            "jobTemplate": {"metadata": {"labels": {"a": "b"}}, "spec": {"template": {}}}}
    });
    api.put::<CronJob>(object);
    check(&api).await;
    context.shutdown.cancel();
}

#[tokio::test(start_paused = true)]
async fn jobs_start_on_time_and_their_end_is_seen() {
    with("Allow", async |api| {
        let minute = at("2026-01-01T00:01:00Z").as_second() / 60;
        tokio::time::sleep(std::time::Duration::from_secs(40)).await;
        eventually("the first", || started(api) == [format!("tick-{minute}")]).await;
        let job = api.get::<Job>("n", &format!("tick-{minute}")).unwrap();
        assert_eq!(job.metadata.annotations.unwrap()[SCHEDULED_AT], "2026-01-01T01:01:00+01:00");
        api.change::<Job>(
            "n",
            &format!("tick-{minute}"),
            json!({"status": {"conditions": [
            {"type": "Complete", "status": "True", "lastTransitionTime": "2026-01-01T00:01:20Z"}]}}),
        );
        let status = || api.get::<CronJob>("n", "tick").unwrap().status.unwrap_or_default();
        eventually("the success", || status().last_successful_time.is_some() && status().active.is_none()).await;
        tokio::time::sleep(std::time::Duration::from_secs(60)).await;
        eventually("the second", || started(api).len() == 2 && status().active.unwrap_or_default().len() == 1).await;
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn concurrency_is_forbidden_or_the_old_job_is_replaced() {
    with("Forbid", async |api| {
        tokio::time::sleep(std::time::Duration::from_secs(200)).await;
        assert_eq!(started(api).len(), 1);
    })
    .await;
    with("Replace", async |api| {
        tokio::time::sleep(std::time::Duration::from_secs(100)).await;
        let minute = at("2026-01-01T00:02:00Z").as_second() / 60;
        eventually("the second alone", || started(api) == [format!("tick-{minute}")]).await;
    })
    .await;
}

//! What is counted of each flow schema, and upstream's metrics of it.

use super::{FlowControl, reason};
use std::fmt::Write as _;
use std::sync::atomic::{AtomicI64, AtomicU64, Ordering::Relaxed};
use std::time::Duration;
use trireme_fairness::Refused;

/// Upper bounds of the histograms of times, in seconds.
const BUCKETS: [f64; 12] = [0.0, 0.005, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 15.0, 30.0];

/// A histogram of times.
#[derive(Default)]
struct Times {
    buckets: [AtomicU64; BUCKETS.len()],
    count: AtomicU64,
    micros: AtomicU64,
}

impl Times {
    fn add(&self, took: Duration) {
        let seconds = took.as_secs_f64();
        if let Some(first) = BUCKETS.iter().position(|bound| seconds <= *bound)
            && let Some(bucket) = self.buckets.get(first)
        {
            bucket.fetch_add(1, Relaxed);
        }
        self.count.fetch_add(1, Relaxed);
        self.micros.fetch_add(u64::try_from(took.as_micros()).unwrap_or(u64::MAX), Relaxed);
    }

    fn write(&self, out: &mut String, name: &str, labels: &str) {
        let mut below = 0;
        for (bound, bucket) in BUCKETS.iter().zip(&self.buckets) {
            below += bucket.load(Relaxed);
            let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {below}");
        }
        let (count, sum) = (self.count.load(Relaxed), self.micros.load(Relaxed) as f64 / 1e6);
        let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {count}");
        let _ = writeln!(out, "{name}_sum{{{labels}}} {sum}");
        let _ = writeln!(out, "{name}_count{{{labels}}} {count}");
    }
}

/// Numbers of a flow schema.
#[derive(Default)]
pub(super) struct Counters {
    dispatched: AtomicU64,
    rejected: [AtomicU64; 3],
    waiting: AtomicI64,
    waiting_seats: AtomicI64,
    running: AtomicI64,
    running_seats: AtomicI64,
    waited: Times,
    refused_after: Times,
    executed: Times,
}

const REFUSALS: [Refused; 3] = [Refused::ConcurrencyLimit, Refused::QueueFull, Refused::TimedOut];

/// A request that waits to be let in; until it is dropped.
pub(super) struct Waits<'a> {
    counters: &'a Counters,
    seats: i64,
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.counters.waiting.fetch_sub(1, Relaxed);
        self.counters.waiting_seats.fetch_sub(self.seats, Relaxed);
    }
}

impl Counters {
    pub(super) fn waits(&self, seats: u32) -> Waits<'_> {
        let seats = i64::from(seats);
        self.waiting.fetch_add(1, Relaxed);
        self.waiting_seats.fetch_add(seats, Relaxed);
        Waits { counters: self, seats }
    }

    pub(super) fn waited(&self, let_in: bool, took: Duration) {
        if let_in { self.waited.add(took) } else { self.refused_after.add(took) }
    }

    pub(super) fn runs(&self, seats: u32) {
        self.dispatched.fetch_add(1, Relaxed);
        self.running.fetch_add(1, Relaxed);
        self.running_seats.fetch_add(i64::from(seats), Relaxed);
    }

    pub(super) fn ran(&self, seats: u32, took: Duration) {
        self.running.fetch_sub(1, Relaxed);
        self.running_seats.fetch_sub(i64::from(seats), Relaxed);
        self.executed.add(took);
    }

    pub(super) fn refused(&self, why: Refused) {
        if let Some(i) = REFUSALS.iter().position(|r| *r == why)
            && let Some(count) = self.rejected.get(i)
        {
            count.fetch_add(1, Relaxed);
        }
    }
}

impl FlowControl {
    /// The exposition of all schemas and levels.
    pub(crate) fn metrics(&self, out: &mut String) {
        let rules = self.rules.load();
        let head = |out: &mut String, name: &str, kind: &str, help: &str| {
            let _ = writeln!(out, "# HELP {name} {help}\n# TYPE {name} {kind}");
        };
        let labels: Vec<(String, &Counters)> = rules
            .schemas
            .iter()
            .map(|s| (format!("flow_schema=\"{}\",priority_level=\"{}\"", s.name, s.level), &*s.counters))
            .collect();
        type Of = fn(&Counters) -> i64;
        let gauges: [(&str, &str, Of); 4] = [
            ("current_executing_requests", "Requests that run", |c| c.running.load(Relaxed)),
            ("current_executing_seats", "Seats that are taken", |c| c.running_seats.load(Relaxed)),
            ("current_inqueue_requests", "Requests that wait", |c| c.waiting.load(Relaxed)),
            ("current_inqueue_seats", "Seats that are waited for", |c| c.waiting_seats.load(Relaxed)),
        ];
        for (name, help, of) in gauges {
            let name = format!("apiserver_flowcontrol_{name}");
            head(out, &name, "gauge", help);
            for (l, c) in &labels {
                let _ = writeln!(out, "{name}{{{l}}} {}", of(c));
            }
        }
        let name = "apiserver_flowcontrol_dispatched_requests_total";
        head(out, name, "counter", "Requests that were let in");
        for (l, c) in &labels {
            let _ = writeln!(out, "{name}{{{l}}} {}", c.dispatched.load(Relaxed));
        }
        let name = "apiserver_flowcontrol_rejected_requests_total";
        head(out, name, "counter", "Requests that were refused");
        for (l, c) in &labels {
            for (refusal, count) in REFUSALS.iter().zip(&c.rejected) {
                let (why, n) = (reason(*refusal), count.load(Relaxed));
                if n > 0 {
                    let _ = writeln!(out, "{name}{{{l},reason=\"{why}\"}} {n}");
                }
            }
        }
        let name = "apiserver_flowcontrol_request_wait_duration_seconds";
        head(out, name, "histogram", "How long requests waited");
        for (l, c) in &labels {
            c.waited.write(out, name, &format!("execute=\"true\",{l}"));
            if c.refused_after.count.load(Relaxed) > 0 {
                c.refused_after.write(out, name, &format!("execute=\"false\",{l}"));
            }
        }
        let name = "apiserver_flowcontrol_request_execution_seconds";
        head(out, name, "histogram", "How long requests ran");
        labels.iter().for_each(|(l, c)| c.executed.write(out, name, &format!("{l},type=\"regular\"")));
        let numbers: Vec<_> = rules.levels.values().map(|l| (l.name(), l.numbers())).collect();
        type Number = fn(&trireme_fairness::Numbers) -> u64;
        let of_levels: [(&str, &str, Number); 4] = [
            ("nominal_limit_seats", "Seats that are a level's own", |n| n.bounds.nominal.into()),
            ("lower_limit_seats", "Seats that a level does not lend", |n| n.bounds.least.into()),
            ("upper_limit_seats", "Seats with all that a level may borrow", |n| n.bounds.most.into()),
            ("current_limit_seats", "Seats of a level now", |n| n.limit.into()),
        ];
        for (name, help, of) in of_levels {
            let name = format!("apiserver_flowcontrol_{name}");
            head(out, &name, "gauge", help);
            for (level, n) in &numbers {
                let _ = writeln!(out, "{name}{{priority_level=\"{level}\"}} {}", of(n));
            }
        }
    }
}

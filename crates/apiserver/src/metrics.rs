//! Numbers about the server, in Prometheus' text form and under upstream's names.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

/// Upper bounds of the latency histogram, in seconds.
const BUCKETS: [f64; 12] = [0.005, 0.025, 0.05, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 2.0, 10.0, 60.0];

#[derive(Default)]
struct Latency {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

#[derive(Default)]
struct Counts {
    /// By verb, resource and code.
    requests: BTreeMap<(String, String, u16), u64>,
    /// By verb and resource.
    latencies: BTreeMap<(String, String), Latency>,
}

/// Counters of requests.
#[derive(Default)]
pub struct Metrics(Mutex<Counts>);

impl Metrics {
    /// Counts a request.
    pub fn request(&self, verb: &str, resource: &str, code: u16, took: Duration) {
        let mut counts = self.0.lock();
        let verb = verb.to_ascii_uppercase();
        *counts.requests.entry((verb.clone(), resource.to_owned(), code)).or_default() += 1;
        if verb == "WATCH" {
            return;
        }
        let latency = counts.latencies.entry((verb, resource.to_owned())).or_default();
        let seconds = took.as_secs_f64();
        for (i, bound) in BUCKETS.iter().enumerate() {
            latency.buckets[i] += u64::from(seconds <= *bound);
        }
        latency.count += 1;
        latency.sum += seconds;
    }

    /// The exposition.
    pub fn text(&self) -> String {
        let counts = self.0.lock();
        let mut out = String::new();
        let quote = |text: &str| text.replace(['"', '\\', '\n'], "_");
        out.push_str("# HELP apiserver_request_total Requests, by verb, resource and code.\n");
        out.push_str("# TYPE apiserver_request_total counter\n");
        for ((verb, resource, code), n) in &counts.requests {
            let resource = quote(resource);
            let _ =
                writeln!(out, "apiserver_request_total{{code=\"{code}\",resource=\"{resource}\",verb=\"{verb}\"}} {n}");
        }
        out.push_str("# HELP apiserver_request_duration_seconds Time to answer, by verb and resource.\n");
        out.push_str("# TYPE apiserver_request_duration_seconds histogram\n");
        for ((verb, resource), latency) in &counts.latencies {
            let labels = format!("resource=\"{}\",verb=\"{verb}\"", quote(resource));
            for (i, bound) in BUCKETS.iter().enumerate() {
                let n = latency.buckets[i];
                let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"{bound}\"}} {n}");
            }
            let (count, sum) = (latency.count, latency.sum);
            let _ = writeln!(out, "apiserver_request_duration_seconds_bucket{{{labels},le=\"+Inf\"}} {count}");
            let _ = writeln!(out, "apiserver_request_duration_seconds_sum{{{labels}}} {sum}");
            let _ = writeln!(out, "apiserver_request_duration_seconds_count{{{labels}}} {count}");
        }
        out
    }
}

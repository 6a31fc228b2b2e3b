//! What is counted of policies, under upstream's names.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;
use trireme_schema::field;

/// Upper bounds in seconds, upstream's.
const BUCKETS: [(&str, f64); 5] = [("5e-07", 5e-7), ("0.001", 1e-3), ("0.01", 1e-2), ("0.1", 0.1), ("1", 1.0)];

#[derive(Default)]
struct Latency {
    buckets: [u64; BUCKETS.len()],
    count: u64,
    sum: f64,
}

/// By labels, as they are written.
type Latencies = Mutex<BTreeMap<String, Latency>>;

/// Evaluations of policies by what came of them.
#[derive(Default)]
pub(super) struct Metrics {
    validating: Latencies,
    mutating: Latencies,
}

/// How an evaluation failed, by its message.
pub(super) fn error_type(message: &str) -> &'static str {
    if message.starts_with("compilation") {
        "compile_error"
    } else if message.starts_with("validation failed due to running out of cost budget") {
        "out_of_budget"
    } else {
        "invalid_error"
    }
}

/// An evaluation that gave what it should.
pub(super) const NO_ERROR: &str = "no_error";

impl Metrics {
    /// A rule of a validating policy was evaluated, and this (`allow`, `deny`, `audit`, `warn`) is what came of it.
    pub fn validated(&self, [policy, binding]: [&str; 2], error: &str, action: &str, elapsed: Duration) {
        let labels = format!("enforcement_action=\"{action}\",{}", labels(policy, binding, error));
        observe(&self.validating, labels, elapsed);
    }

    /// A mutation was evaluated and applied.
    pub fn mutated(&self, [policy, binding]: [&str; 2], error: &str, elapsed: Duration) {
        observe(&self.mutating, labels(policy, binding, error), elapsed);
    }

    /// The exposition.
    pub fn write(&self, out: &mut String) {
        let kinds = [
            ("apiserver_validating_admission_policy", "rules of validating policies", &self.validating),
            ("apiserver_mutating_admission_policy", "mutations of mutating policies", &self.mutating),
        ];
        for (name, what, latencies) in kinds {
            let latencies = latencies.lock();
            if latencies.is_empty() {
                continue;
            }
            let _ = writeln!(out, "# HELP {name}_check_total Evaluated {what}, by policy and binding.");
            let _ = writeln!(out, "# TYPE {name}_check_total counter");
            for (labels, latency) in latencies.iter() {
                let _ = writeln!(out, "{name}_check_total{{{labels}}} {}", latency.count);
            }
            let name = format!("{name}_check_duration_seconds");
            let _ = writeln!(out, "# HELP {name} Time to evaluate {what}, by policy and binding.");
            let _ = writeln!(out, "# TYPE {name} histogram");
            for (labels, latency) in latencies.iter() {
                for ((bound, _), n) in BUCKETS.iter().zip(latency.buckets) {
                    let _ = writeln!(out, "{name}_bucket{{{labels},le=\"{bound}\"}} {n}");
                }
                let _ = writeln!(out, "{name}_bucket{{{labels},le=\"+Inf\"}} {}", latency.count);
                let _ = writeln!(out, "{name}_sum{{{labels}}} {}", latency.sum);
                let _ = writeln!(out, "{name}_count{{{labels}}} {}", latency.count);
            }
        }
    }
}

fn labels(policy: &str, binding: &str, error: &str) -> String {
    format!("error_type=\"{error}\",policy={},policy_binding={}", field::quote(policy), field::quote(binding))
}

fn observe(latencies: &Latencies, labels: String, elapsed: Duration) {
    let mut latencies = latencies.lock();
    let latency = latencies.entry(labels).or_default();
    let seconds = elapsed.as_secs_f64();
    for (n, (_, bound)) in latency.buckets.iter_mut().zip(BUCKETS) {
        *n += u64::from(seconds <= bound);
    }
    latency.count += 1;
    latency.sum += seconds;
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_came_of_evaluations_is_counted() {
        let metrics = Metrics::default();
        let mut out = String::new();
        metrics.write(&mut out);
        assert!(out.is_empty());
        metrics.validated(["p", "b"], NO_ERROR, "allow", Duration::from_millis(2));
        metrics.mutated(["p", "b"], error_type("compilation failed: x"), Duration::from_secs(2));
        metrics.write(&mut out);
        for line in [
            "apiserver_validating_admission_policy_check_total{enforcement_action=\"allow\",error_type=\"no_error\",policy=\"p\",policy_binding=\"b\"} 1",
            "apiserver_validating_admission_policy_check_duration_seconds_bucket{enforcement_action=\"allow\",error_type=\"no_error\",policy=\"p\",policy_binding=\"b\",le=\"0.001\"} 0",
            "apiserver_mutating_admission_policy_check_duration_seconds_bucket{error_type=\"compile_error\",policy=\"p\",policy_binding=\"b\",le=\"+Inf\"} 1",
        ] {
            assert!(out.lines().any(|there| there == line), "{line}\n{out}");
        }
    }
}

//! What is counted of decisions, by upstream's names.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use parking_lot::Mutex;

/// The numbers of a scheduler.
#[derive(Default)]
pub struct Metrics(Mutex<Numbers>);

#[derive(Default)]
struct Numbers {
    pending: [usize; 4],
    attempts: BTreeMap<(Box<str>, &'static str), u64>,
    took: BTreeMap<(Box<str>, &'static str), Times>,
    sli: BTreeMap<u32, Times>,
    needed_attempts: Times,
    preemptions: u64,
    victims: Times,
    cache: [usize; 3],
}

/// A histogram.
#[derive(Default)]
struct Times {
    buckets: Vec<u64>,
    count: u64,
    sum: f64,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The pod has a node.
    Scheduled,
    /// No node fits.
    Unschedulable,
    /// The attempt went wrong.
    Error,
}

/// Bounds of the times of an attempt: from a millisecond, doubled fifteen times.
fn doubling(first: f64, count: i32) -> Vec<f64> {
    (0..count).map(|power| first * 2_f64.powi(power)).collect()
}

impl Times {
    fn add(&mut self, value: f64, bounds: &[f64]) {
        self.buckets.resize(bounds.len(), 0);
        for (bucket, _) in self.buckets.iter_mut().zip(bounds).filter(|(_, bound)| value <= **bound) {
            *bucket += 1;
        }
        self.count += 1;
        self.sum += value;
    }

    fn write(&self, out: &mut String, name: &str, labels: &str, bounds: &[f64]) {
        let comma = if labels.is_empty() { "" } else { "," };
        for (bound, count) in bounds.iter().zip(&self.buckets) {
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {count}");
        }
        let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {}", self.count);
        let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
        let _ = writeln!(out, "{name}_sum{braced} {}", self.sum);
        let _ = writeln!(out, "{name}_count{braced} {}", self.count);
    }
}

impl Ended {
    fn name(self) -> &'static str {
        match self {
            Self::Scheduled => "scheduled",
            Self::Unschedulable => "unschedulable",
            Self::Error => "error",
        }
    }
}

impl Metrics {
    /// An attempt of a profile ended.
    pub fn attempt(&self, profile: &str, ended: Ended, took: Duration) {
        let mut numbers = self.0.lock();
        let key = (Box::from(profile), ended.name());
        *numbers.attempts.entry(key.clone()).or_default() += 1;
        numbers.took.entry(key).or_default().add(took.as_secs_f64(), &doubling(0.001, 15));
    }

    /// A pod was bound, so long after it was tried first, at this attempt.
    pub fn bound(&self, attempts: u32, waited: Duration) {
        let mut numbers = self.0.lock();
        let capped = attempts.min(16);
        numbers.sli.entry(capped).or_default().add(waited.as_secs_f64(), &doubling(0.01, 20));
        numbers.needed_attempts.add(f64::from(attempts), &doubling(1.0, 5));
    }

    /// Pods are being removed for another.
    pub fn preemption(&self, victims: usize) {
        let mut numbers = self.0.lock();
        numbers.preemptions += 1;
        numbers.victims.add(victims as f64, &doubling(1.0, 7));
    }

    /// How many pods wait (ready, backing off, for an event, at a gate), and how large the picture is (nodes, pods,
    /// assumed pods).
    pub fn sizes(&self, pending: (usize, usize, usize, usize), cache: (usize, usize, usize)) {
        let mut numbers = self.0.lock();
        numbers.pending = [pending.0, pending.1, pending.2, pending.3];
        numbers.cache = [cache.0, cache.1, cache.2];
    }

    /// Writes them in Prometheus' text form.
    pub fn write(&self, out: &mut String) {
        let numbers = self.0.lock();
        head(out, "scheduler_pending_pods", "gauge");
        for (queue, count) in ["active", "backoff", "unschedulable", "gated"].iter().zip(numbers.pending) {
            let _ = writeln!(out, "scheduler_pending_pods{{queue=\"{queue}\"}} {count}");
        }
        head(out, "scheduler_cache_size", "gauge");
        for (kind, count) in ["nodes", "pods", "assumed_pods"].iter().zip(numbers.cache) {
            let _ = writeln!(out, "scheduler_cache_size{{type=\"{kind}\"}} {count}");
        }
        head(out, "scheduler_schedule_attempts_total", "counter");
        for ((profile, result), count) in &numbers.attempts {
            let _ =
                writeln!(out, "scheduler_schedule_attempts_total{{profile=\"{profile}\",result=\"{result}\"}} {count}");
        }
        let name = "scheduler_scheduling_attempt_duration_seconds";
        head(out, name, "histogram");
        for ((profile, result), times) in &numbers.took {
            let labels = format!("profile=\"{profile}\",result=\"{result}\"");
            times.write(out, name, &labels, &doubling(0.001, 15));
        }
        let name = "scheduler_pod_scheduling_sli_duration_seconds";
        head(out, name, "histogram");
        for (attempts, times) in &numbers.sli {
            let shown = if *attempts >= 16 { "16+".to_owned() } else { attempts.to_string() };
            times.write(out, name, &format!("attempts=\"{shown}\""), &doubling(0.01, 20));
        }
        let name = "scheduler_pod_scheduling_attempts";
        head(out, name, "histogram");
        numbers.needed_attempts.write(out, name, "", &doubling(1.0, 5));
        head(out, "scheduler_preemption_attempts_total", "counter");
        let _ = writeln!(out, "scheduler_preemption_attempts_total {}", numbers.preemptions);
        head(out, "scheduler_preemption_victims", "histogram");
        numbers.victims.write(out, "scheduler_preemption_victims", "", &doubling(1.0, 7));
    }
}

fn head(out: &mut String, name: &str, kind: &str) {
    let _ = writeln!(out, "# TYPE {name} {kind}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_by_upstreams_names() {
        let metrics = Metrics::default();
        metrics.attempt("default-scheduler", Ended::Scheduled, Duration::from_millis(3));
        metrics.bound(1, Duration::from_millis(15));
        metrics.preemption(3);
        metrics.sizes((1, 2, 3, 4), (5, 6, 7));
        let mut text = String::new();
        metrics.write(&mut text);
        for line in [
            "scheduler_pending_pods{queue=\"gated\"} 4",
            "scheduler_schedule_attempts_total{profile=\"default-scheduler\",result=\"scheduled\"} 1",
            "scheduler_scheduling_attempt_duration_seconds_bucket{profile=\"default-scheduler\",result=\"scheduled\",le=\"0.002\"} 0",
            "scheduler_scheduling_attempt_duration_seconds_bucket{profile=\"default-scheduler\",result=\"scheduled\",le=\"0.004\"} 1",
            "scheduler_pod_scheduling_sli_duration_seconds_count{attempts=\"1\"} 1",
            "scheduler_preemption_victims_bucket{le=\"4\"} 1",
            "scheduler_preemption_attempts_total 1",
            "scheduler_cache_size{type=\"assumed_pods\"} 7",
        ] {
            assert!(text.lines().any(|written| written == line), "{line} is not in\n{text}");
        }
    }
}

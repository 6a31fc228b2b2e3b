//! What the control plane takes, as its own metrics tell it.

use crate::world::World;
use http::Method;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Its metrics are read this often.
const EVERY: Duration = Duration::from_secs(5);
/// An answer that takes longer is none.
const PATIENCE: Duration = Duration::from_secs(10);

/// What the control plane took. What its metrics do not tell is absent.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Memory in bytes: at the start, in the end, and the most.
    pub memory: Option<Range>,
    /// Seconds of one processor, and the time in which they were taken.
    pub cpu: Option<(f64, Duration)>,
}

/// How a number went.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Range {
    /// In the beginning.
    pub first: f64,
    /// In the end.
    pub last: f64,
    /// The most.
    pub most: f64,
}

#[derive(Debug, Default)]
pub(crate) struct ControlPlane(Mutex<Samples>);

#[derive(Debug, Default)]
struct Samples {
    memory: Option<Range>,
    first: Option<(f64, Instant)>,
    last: Option<(f64, Instant)>,
}

impl Samples {
    fn add(&mut self, memory: Option<f64>, cpu: Option<f64>, now: Instant) {
        if let Some(now) = memory {
            let range = self.memory.get_or_insert(Range { first: now, last: now, most: now });
            (range.last, range.most) = (now, range.most.max(now));
        }
        if let Some(cpu) = cpu {
            // A control plane that was started anew counts from the beginning.
            if self.last.is_some_and(|(last, _)| last > cpu) {
                self.first = None;
            }
            self.first.get_or_insert((cpu, now));
            self.last = Some((cpu, now));
        }
    }

    fn usage(&self) -> Usage {
        let cpu = self.first.zip(self.last).map(|((first, from), (last, to))| (last - first, to - from));
        Usage { memory: self.memory, cpu: cpu.filter(|(_, time)| !time.is_zero()) }
    }
}

/// The value of a metric without labels.
fn metric(text: &str, name: &str) -> Option<f64> {
    let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '))?;
    value.split_whitespace().next()?.parse().ok()
}

impl ControlPlane {
    /// Reads the metrics now and again until the simulation stops.
    pub(crate) async fn run(&self, world: Arc<World>) {
        loop {
            self.read(&world).await;
            tokio::select! {
                () = world.stop.cancelled() => return,
                () = tokio::time::sleep(EVERY) => {}
            }
        }
    }

    /// Reads the metrics once.
    pub(crate) async fn read(&self, world: &World) {
        let client = world.admin();
        let asked = tokio::time::timeout(PATIENCE, client.request(Method::GET, "/metrics", None)).await;
        let Ok(Ok(answer)) = asked else { return };
        let text = String::from_utf8_lossy(answer.body());
        let (memory, cpu) =
            (metric(&text, "process_resident_memory_bytes"), metric(&text, "process_cpu_seconds_total"));
        self.0.lock().add(memory, cpu, Instant::now());
    }

    pub(crate) fn usage(&self) -> Usage {
        self.0.lock().usage()
    }
}

/// Our own memory in bytes: now, and the most so far.
pub(crate) fn own_memory() -> Option<(u64, u64)> {
    let text = std::fs::read_to_string("/proc/self/status").ok()?;
    let bytes = |key: &str| {
        let kib: u64 = text.lines().find_map(|l| l.strip_prefix(key))?.split_whitespace().next()?.parse().ok()?;
        Some(kib * 1024)
    };
    Some((bytes("VmRSS:")?, bytes("VmHWM:")?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn metrics_are_read_by_their_whole_name() {
        let text =
            "# HELP process_cpu_seconds_total x\nprocess_cpu_seconds_total_x 9\nprocess_cpu_seconds_total 1.5e1\n";
        assert_eq!(metric(text, "process_cpu_seconds_total"), Some(15.0));
        assert_eq!(metric(text, "process_resident_memory_bytes"), None);
    }

    #[test]
    fn usage_is_what_was_taken_since_the_first_look() {
        let (mut samples, start) = (Samples::default(), Instant::now());
        assert_eq!(samples.usage(), Usage::default());
        samples.add(Some(100.0), Some(10.0), start);
        samples.add(Some(300.0), Some(14.0), start + Duration::from_secs(5));
        samples.add(Some(200.0), Some(20.0), start + Duration::from_secs(10));
        let memory = Some(Range { first: 100.0, last: 200.0, most: 300.0 });
        assert_eq!(samples.usage(), Usage { memory, cpu: Some((10.0, Duration::from_secs(10))) });
    }

    #[test]
    fn our_own_memory_is_known() {
        let (now, most) = own_memory().unwrap();
        assert!(now > 0 && most >= now);
    }
}

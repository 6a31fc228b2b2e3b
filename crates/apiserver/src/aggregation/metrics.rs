//! Numbers about APIServices, under upstream's names.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;

#[derive(Default)]
struct Counts {
    /// Whether each is available.
    available: BTreeMap<String, bool>,
    /// How often each became unavailable, by name and reason.
    lost: BTreeMap<(String, String), u64>,
}

/// Which APIServices are there, and how often they were not.
#[derive(Default)]
pub(crate) struct Metrics(Mutex<Counts>);

impl Metrics {
    /// Says whether one is available.
    pub fn is(&self, name: &str, available: bool) {
        self.0.lock().available.insert(name.to_owned(), available);
    }

    /// Counts one that was available and is no more.
    pub fn unavailable(&self, name: &str, reason: &str) {
        *self.0.lock().lost.entry((name.to_owned(), reason.to_owned())).or_default() += 1;
    }

    /// Forgets those that are gone.
    pub fn keep(&self, there: impl Fn(&str) -> bool) {
        self.0.lock().available.retain(|name, _| there(name));
    }

    /// The exposition.
    pub fn text(&self, out: &mut String) {
        let counts = self.0.lock();
        let gauge = "aggregator_unavailable_apiservice";
        let help = "[ALPHA] Gauge of APIServices which are marked as unavailable broken down by APIService name.";
        let _ = writeln!(out, "# HELP {gauge} {help}\n# TYPE {gauge} gauge");
        for (name, available) in &counts.available {
            let _ = writeln!(out, "{gauge}{{name=\"{name}\"}} {}", u8::from(!available));
        }
        if counts.lost.is_empty() {
            return;
        }
        let counter = "aggregator_unavailable_apiservice_total";
        let help =
            "[ALPHA] Counter of APIServices which are marked as unavailable broken down by APIService name and reason.";
        let _ = writeln!(out, "# HELP {counter} {help}\n# TYPE {counter} counter");
        for ((name, reason), n) in &counts.lost {
            let _ = writeln!(out, "{counter}{{name=\"{name}\",reason=\"{reason}\"}} {n}");
        }
    }
}

//! Numbers in Prometheus' text form: families of counters, gauges and histograms, by labels.

use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::fmt::Write as _;

/// client_golang's default buckets, in seconds.
pub(crate) const DEFAULT_BUCKETS: &[f64] = &[0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0];
/// Sets of labels that a family has at most; what comes later is not counted.
const MOST: usize = 20_000;

#[derive(Clone, Copy)]
enum Kind {
    Counter,
    Gauge,
    /// With the buckets' upper bounds.
    Histogram(&'static [f64]),
}

/// What is counted for one set of labels.
struct Cell {
    /// A counter's or gauge's value, a histogram's sum.
    value: f64,
    /// How often a histogram fell into each bucket, and at the end above all.
    counts: Box<[u64]>,
}

/// Numbers of one name.
pub(crate) struct Family {
    name: &'static str,
    help: &'static str,
    kind: Kind,
    /// In the order of their names, as Prometheus' own library has them.
    labels: &'static [&'static str],
    /// By the labels as they are written.
    cells: Mutex<BTreeMap<Box<str>, Cell>>,
}

impl Family {
    const fn new(kind: Kind, name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self { name, help, kind, labels, cells: Mutex::new(BTreeMap::new()) }
    }

    /// Numbers that only grow.
    pub(crate) const fn counter(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self::new(Kind::Counter, name, labels, help)
    }

    /// Numbers that go up and down.
    pub(crate) const fn gauge(name: &'static str, labels: &'static [&'static str], help: &'static str) -> Self {
        Self::new(Kind::Gauge, name, labels, help)
    }

    /// How often something was how large.
    pub(crate) const fn histogram(
        name: &'static str,
        labels: &'static [&'static str],
        buckets: &'static [f64],
        help: &'static str,
    ) -> Self {
        Self::new(Kind::Histogram(buckets), name, labels, help)
    }

    fn change(&self, values: &[&str], change: impl FnOnce(&mut Cell)) {
        debug_assert_eq!(values.len(), self.labels.len(), "{}", self.name);
        let mut key = String::with_capacity(32 * values.len());
        for (label, value) in self.labels.iter().zip(values) {
            key.push_str(if key.is_empty() { "" } else { "," });
            let _ = write!(key, "{label}=\"");
            escape(&mut key, value);
            key.push('"');
        }
        let mut cells = self.cells.lock();
        if let Some(cell) = cells.get_mut(key.as_str()) {
            return change(cell);
        }
        if cells.len() < MOST {
            let counts = match self.kind {
                Kind::Histogram(buckets) => vec![0; buckets.len() + 1].into(),
                _ => Box::default(),
            };
            change(cells.entry(key.into()).or_insert(Cell { value: 0.0, counts }));
        }
    }

    /// One more.
    pub(crate) fn add(&self, values: &[&str]) {
        self.add_by(values, 1.0);
    }

    /// So many more.
    pub(crate) fn add_by(&self, values: &[&str], by: f64) {
        self.change(values, |cell| cell.value += by);
    }

    /// So many.
    pub(crate) fn set(&self, values: &[&str], to: f64) {
        self.change(values, |cell| cell.value = to);
    }

    /// Something was so large.
    pub(crate) fn observe(&self, values: &[&str], size: f64) {
        let Kind::Histogram(buckets) = self.kind else { return };
        let at = buckets.iter().position(|bound| size <= *bound).unwrap_or(buckets.len());
        self.change(values, |cell| {
            cell.value += size;
            if let Some(count) = cell.counts.get_mut(at) {
                *count += 1;
            }
        });
    }

    /// The exposition.
    pub(crate) fn write(&self, out: &mut String) {
        let cells = self.cells.lock();
        // A family without labels is there from the start, as upstream's is.
        if cells.is_empty() && !self.labels.is_empty() {
            return;
        }
        let name = self.name;
        let kind = match self.kind {
            Kind::Counter => "counter",
            Kind::Gauge => "gauge",
            Kind::Histogram(_) => "histogram",
        };
        let _ = writeln!(out, "# HELP {name} {}\n# TYPE {name} {kind}", self.help);
        let none = Cell { value: 0.0, counts: Box::default() };
        let empty = cells.is_empty().then_some(("", &none));
        for (labels, cell) in cells.iter().map(|(labels, cell)| (&**labels, cell)).chain(empty) {
            let braced = if labels.is_empty() { String::new() } else { format!("{{{labels}}}") };
            let Kind::Histogram(buckets) = self.kind else {
                let _ = writeln!(out, "{name}{braced} {}", cell.value);
                continue;
            };
            let comma = if labels.is_empty() { "" } else { "," };
            let mut below = 0;
            for (bound, count) in buckets.iter().zip(&cell.counts) {
                below += count;
                let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"{bound}\"}} {below}");
            }
            below += cell.counts.get(buckets.len()).copied().unwrap_or_default();
            let _ = writeln!(out, "{name}_bucket{{{labels}{comma}le=\"+Inf\"}} {below}");
            let _ = writeln!(out, "{name}_sum{braced} {}", cell.value);
            let _ = writeln!(out, "{name}_count{braced} {below}");
        }
    }
}

/// A label's value as it stands between quotes.
fn escape(out: &mut String, text: &str) {
    for c in text.chars() {
        match c {
            '\\' => out.push_str("\\\\"),
            '"' => out.push_str("\\\""),
            '\n' => out.push_str("\\n"),
            c => out.push(c),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn families_are_written_as_prometheus_reads_them() {
        let family = Family::counter("a_total", &["b", "c"], "Of a");
        let mut out = String::new();
        family.write(&mut out);
        assert_eq!(out, "", "nothing is invented");
        family.add(&["x\"y", "z"]);
        family.add_by(&["x\"y", "z"], 2.0);
        family.write(&mut out);
        assert_eq!(out, "# HELP a_total Of a\n# TYPE a_total counter\na_total{b=\"x\\\"y\",c=\"z\"} 3\n");
    }

    #[test]
    fn buckets_hold_what_is_not_above_them() {
        let family = Family::histogram("t_seconds", &[], &[0.1, 1.0], "Time");
        family.observe(&[], 0.1);
        family.observe(&[], 0.5);
        family.observe(&[], 5.0);
        let mut out = String::new();
        family.write(&mut out);
        let lines: Vec<&str> = out.lines().skip(2).collect();
        let wanted = [
            "t_seconds_bucket{le=\"0.1\"} 1",
            "t_seconds_bucket{le=\"1\"} 2",
            "t_seconds_bucket{le=\"+Inf\"} 3",
            "t_seconds_sum 5.6",
            "t_seconds_count 3",
        ];
        assert_eq!(lines, wanted);
    }
}

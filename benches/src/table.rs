//! The table.

use std::fmt;
use std::time::Duration;

/// Rows, in the order in which they were measured.
#[derive(Default)]
pub struct Table(Vec<Row>);

struct Row {
    what: String,
    measured: String,
    beside: String,
    ratio: String,
}

/// Whether more is better.
#[derive(Clone, Copy)]
pub enum Better {
    More,
    Less,
}

impl Table {
    /// A measurement beside a budget. `unit` follows the numbers.
    pub fn budget(&mut self, what: impl Into<String>, measured: f64, unit: &str, budget: f64, better: Better) {
        let (sign, met) = match better {
            Better::More => ("at least", measured >= budget),
            Better::Less => ("under", measured < budget),
        };
        self.0.push(Row {
            what: what.into(),
            measured: format!("{}{unit}", number(measured)),
            beside: format!("budget: {sign} {}{unit}", number(budget)),
            ratio: format!("{:.2}{}", measured / budget, if met { "" } else { " **missed**" }),
        });
    }

    /// A measurement beside a peer's.
    pub fn peer(&mut self, what: impl Into<String>, measured: f64, unit: &str, peer: &str, theirs: f64) {
        self.0.push(Row {
            what: what.into(),
            measured: format!("{}{unit}", number(measured)),
            beside: format!("{peer}: {}{unit}", number(theirs)),
            ratio: format!("{:.2}", measured / theirs),
        });
    }

    /// A measurement with nothing beside it.
    pub fn plain(&mut self, what: impl Into<String>, measured: impl Into<String>) {
        let (beside, ratio) = (String::new(), String::new());
        self.0.push(Row { what: what.into(), measured: measured.into(), beside, ratio });
    }
}

/// Three digits or so.
pub fn number(n: f64) -> String {
    match n.abs() {
        n if n >= 10_000.0 => format!("{:.1}k", n / 1_000.0),
        n if n >= 100.0 => format!("{n:.0}"),
        n if n >= 10.0 => format!("{n:.1}"),
        _ => format!("{n:.2}"),
    }
}

/// The value below which a part of all lies.
pub fn percentile(sorted: &[Duration], part: f64) -> Duration {
    let last = sorted.len().saturating_sub(1);
    let at = (last as f64 * part).round() as usize;
    sorted.get(at).copied().unwrap_or_default()
}

/// In milliseconds.
pub fn millis(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}

impl fmt::Display for Table {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "| what | measured | beside | ratio |\n|---|---|---|---|")?;
        for Row { what, measured, beside, ratio } in &self.0 {
            writeln!(f, "| {what} | {measured} | {beside} | {ratio} |")?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_missed_budget_is_marked() {
        let mut table = Table::default();
        table.budget("start", 600.0, " ms", 500.0, Better::Less);
        table.budget("writes", 80.0, "", 70.0, Better::More);
        let text = table.to_string();
        assert!(text.contains("| start | 600 ms | budget: under 500 ms | 1.20 **missed** |"), "{text}");
        assert!(text.contains("| writes | 80.0 | budget: at least 70.0 | 1.14 |"), "{text}");
    }

    #[test]
    fn percentiles_are_of_what_was_seen() {
        let all: Vec<_> = (1..=100).map(Duration::from_millis).collect();
        assert_eq!(percentile(&all, 0.5), Duration::from_millis(51));
        assert_eq!(percentile(&all, 1.0), Duration::from_millis(100));
        assert_eq!(percentile(&[], 0.5), Duration::ZERO);
    }
}

//! What a machine can run short of, and from where on it is short.

use std::collections::BTreeSet;
use std::fmt;
use std::str::FromStr;
use trireme_schema::Quantity;

/// What is watched (upstream's eviction signals).
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Signal {
    /// Memory.
    Memory,
    /// Bytes of the disk of pods and logs.
    Nodefs,
    /// Inodes of that disk.
    NodefsInodes,
    /// Bytes of the disk of images and containers, where that is another.
    Imagefs,
    /// Inodes of that disk.
    ImagefsInodes,
    /// Numbers of processes.
    Pids,
}

/// What a node tells that it is short of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Pressure {
    Memory,
    Disk,
    Pids,
}

/// Signals by their names. In this order the node sees to them.
const SIGNALS: [(&str, Signal); 6] = [
    ("memory.available", Signal::Memory),
    ("nodefs.available", Signal::Nodefs),
    ("nodefs.inodesFree", Signal::NodefsInodes),
    ("imagefs.available", Signal::Imagefs),
    ("imagefs.inodesFree", Signal::ImagefsInodes),
    ("pid.available", Signal::Pids),
];

impl Signal {
    pub(crate) fn pressure(self) -> Pressure {
        match self {
            Self::Memory => Pressure::Memory,
            Self::Pids => Pressure::Pids,
            _ => Pressure::Disk,
        }
    }

    /// What is taken back, as upstream's messages name it.
    pub(crate) fn resource(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Pids => "pids",
            Self::Nodefs | Self::Imagefs => "ephemeral-storage",
            Self::NodefsInodes | Self::ImagefsInodes => "inodes",
        }
    }
}

impl Pressure {
    /// The condition's type.
    pub(crate) fn condition(self) -> &'static str {
        match self {
            Self::Memory => "MemoryPressure",
            Self::Disk => "DiskPressure",
            Self::Pids => "PIDPressure",
        }
    }
}

/// How much is to be left.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Amount {
    Absolute(Quantity),
    Share(f64),
}

/// From where on a signal tells that there is too little.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Threshold {
    pub(crate) signal: Signal,
    least: Amount,
}

impl Threshold {
    /// The least that is to be left, of so much.
    pub(crate) fn least(&self, capacity: u64) -> u64 {
        match self.least {
            Amount::Absolute(quantity) => u64::try_from(quantity.value()).unwrap_or_default(),
            Amount::Share(share) => (capacity as f64 * share) as u64,
        }
    }
}

/// The thresholds of a node (the kubelet's `--eviction-hard`).
#[derive(Clone, Debug, PartialEq)]
pub struct Thresholds(Vec<Threshold>);

/// A text that says no thresholds.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InvalidThreshold {
    /// It is not of the form.
    #[error("invalid eviction threshold syntax {0}, expected <signal><operator><value>")]
    Syntax(String),
    /// The signal is not known.
    #[error("unsupported eviction signal {0}")]
    Signal(String),
    /// The value is none.
    #[error("eviction threshold {0} must be a quantity or a percentage between 0% and 100%")]
    Value(String),
}

/// Upstream's for Linux. A disk that holds both pods and images is judged as the one of pods.
const DEFAULT: [(Signal, &str); 5] = [
    (Signal::Memory, "100Mi"),
    (Signal::Nodefs, "10%"),
    (Signal::NodefsInodes, "5%"),
    (Signal::Imagefs, "15%"),
    (Signal::ImagefsInodes, "5%"),
];

impl Default for Thresholds {
    fn default() -> Self {
        Self(
            DEFAULT.into_iter().filter_map(|(signal, text)| Some(Threshold { signal, least: amount(text)? })).collect(),
        )
    }
}

fn amount(text: &str) -> Option<Amount> {
    match text.strip_suffix('%') {
        Some(percent) => {
            let percent: f64 = percent.parse().ok()?;
            (0.0..=100.0).contains(&percent).then_some(Amount::Share(percent / 100.0))
        }
        None => text.parse().ok().filter(|q: &Quantity| !q.is_negative()).map(Amount::Absolute),
    }
}

impl FromStr for Thresholds {
    type Err = InvalidThreshold;

    /// Thresholds with commas between, such as `memory.available<200Mi,nodefs.available<5%`.
    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let one = |text: &str| {
            let (name, value) = text.split_once('<').ok_or_else(|| InvalidThreshold::Syntax(text.to_owned()))?;
            let signal = SIGNALS.into_iter().find(|(known, _)| *known == name.trim());
            let (_, signal) = signal.ok_or_else(|| InvalidThreshold::Signal(name.to_owned()))?;
            let least = amount(value.trim()).ok_or_else(|| InvalidThreshold::Value(text.to_owned()))?;
            Ok(Threshold { signal, least })
        };
        let all = text.split(',').filter(|part| !part.trim().is_empty()).map(|part| one(part.trim()));
        let mut all: Vec<Threshold> = all.collect::<Result<_, _>>()?;
        all.sort_by_key(|t| t.signal);
        Ok(Self(all))
    }
}

impl fmt::Display for Thresholds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let one = |t: &Threshold| {
            let name = SIGNALS.into_iter().find(|(_, s)| *s == t.signal).map_or("", |(name, _)| name);
            match t.least {
                Amount::Absolute(quantity) => format!("{name}<{quantity}"),
                Amount::Share(share) => format!("{name}<{}%", share * 100.0),
            }
        };
        f.write_str(&self.0.iter().map(one).collect::<Vec<_>>().join(","))
    }
}

/// What was seen of a signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Observed {
    pub(crate) signal: Signal,
    pub(crate) available: u64,
    pub(crate) capacity: u64,
}

/// A threshold that was passed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Met {
    pub(crate) signal: Signal,
    pub(crate) least: u64,
    pub(crate) available: u64,
}

impl Thresholds {
    /// Those that were passed, the first to be seen to before the others.
    pub(crate) fn met(&self, seen: &[Observed]) -> Vec<Met> {
        let met = |t: &Threshold| {
            let seen = seen.iter().find(|o| o.signal == t.signal)?;
            let least = t.least(seen.capacity);
            (seen.available < least).then_some(Met { signal: t.signal, least, available: seen.available })
        };
        self.0.iter().filter_map(met).collect()
    }

    /// What is kept back of a resource of this capacity, so that pods do not bring the node to its threshold.
    pub(crate) fn kept_back(&self, signal: Signal, capacity: u64) -> u64 {
        self.0.iter().find(|t| t.signal == signal).map_or(0, |t| t.least(capacity))
    }
}

/// What a node is short of when these thresholds were passed.
pub(crate) fn pressures(met: &[Met]) -> BTreeSet<Pressure> {
    met.iter().map(|m| m.signal.pressure()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn thresholds_are_amounts_or_shares() {
        let thresholds: Thresholds = "nodefs.available<10%, memory.available<1Gi".parse().unwrap();
        let seen = |signal, available| Observed { signal, available, capacity: 1000 << 20 };
        let met = |memory: u64, disk: u64| {
            let seen = [seen(Signal::Memory, memory << 20), seen(Signal::Nodefs, disk << 20)];
            thresholds.met(&seen).into_iter().map(|m| m.signal).collect::<Vec<_>>()
        };
        assert_eq!(met(1024, 100), []);
        assert_eq!(met(1023, 100), [Signal::Memory]);
        assert_eq!(met(1023, 99), [Signal::Memory, Signal::Nodefs]);
        assert_eq!(thresholds.kept_back(Signal::Nodefs, 1000), 100);
        assert_eq!(thresholds.kept_back(Signal::Pids, 1000), 0);
    }

    #[test]
    fn what_is_no_threshold_is_told_in_upstreams_words() {
        let error = |text: &str| text.parse::<Thresholds>().unwrap_err().to_string();
        assert_eq!(
            error("memory.available"),
            "invalid eviction threshold syntax memory.available, expected <signal><operator><value>"
        );
        assert_eq!(error("cpu.available<1"), "unsupported eviction signal cpu.available");
        for bad in ["nodefs.available<101%", "nodefs.available<x", "memory.available<-1Mi"] {
            assert!(error(bad).contains("must be"), "{bad}");
        }
    }

    #[test]
    fn thresholds_are_shown_as_they_are_read() {
        let default = Thresholds::default();
        assert_eq!(
            default.to_string(),
            "memory.available<100Mi,nodefs.available<10%,nodefs.inodesFree<5%,imagefs.available<15%,\
             imagefs.inodesFree<5%"
        );
        assert_eq!(default.to_string().parse::<Thresholds>().unwrap(), default);
    }
}

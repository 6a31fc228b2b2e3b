//! What a node is short of, as it tells it: what was so a short while ago is told still, so that a node that swings does not
//! take pods and lose them again.

use super::thresholds::Pressure;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// So long a condition holds after it was seen last (upstream's `evictionPressureTransitionPeriod`).
const LASTING: Duration = Duration::from_secs(300);

/// When each was seen last.
#[derive(Debug, Default)]
pub(super) struct Pressures(BTreeMap<Pressure, Instant>);

impl Pressures {
    /// Takes note of what is seen now; what is to be told.
    pub(super) fn note(&mut self, seen: &BTreeSet<Pressure>, now: Instant) -> BTreeSet<Pressure> {
        self.0.extend(seen.iter().map(|pressure| (*pressure, now)));
        self.0.retain(|_, last| now.duration_since(*last) < LASTING);
        self.0.keys().copied().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pressure_is_told_for_five_minutes_after_it_was_seen() {
        let (mut pressures, start) = (Pressures::default(), Instant::now());
        let disk = BTreeSet::from([Pressure::Disk]);
        let at = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pressures.note(&BTreeSet::new(), start), BTreeSet::new());
        assert_eq!(pressures.note(&disk, start), disk);
        assert_eq!(pressures.note(&BTreeSet::new(), at(299)), disk);
        assert_eq!(pressures.note(&BTreeSet::new(), at(300)), BTreeSet::new());
    }
}

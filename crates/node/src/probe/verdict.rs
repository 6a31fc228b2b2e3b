//! What probes have found, and when enough answers make a finding.

use super::{Kind, Outcome, Rhythm};
use std::collections::{HashMap, HashSet};

/// What probes have found, by container id.
#[derive(Debug, Default)]
pub(crate) struct Verdicts {
    /// Those that are ready.
    pub(crate) ready: HashSet<String>,
    /// Those that have started.
    pub(crate) started: HashSet<String>,
    /// Those that are to end, and which probe says so.
    pub(crate) failed: HashMap<String, Kind>,
}

impl Verdicts {
    /// Forgets all containers but these.
    pub(crate) fn retain(&mut self, alive: &[String]) {
        self.ready.retain(|id| alive.contains(id));
        self.started.retain(|id| alive.contains(id));
        self.failed.retain(|id, _| alive.contains(id));
    }
}

/// Answers of one kind in a row.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Count {
    well: i64,
    ill: i64,
}

impl Count {
    /// Takes an answer; gives a finding once there are as many in a row as the thresholds ask for.
    pub(super) fn take(&mut self, outcome: &Outcome, rhythm: &Rhythm) -> Option<bool> {
        match outcome {
            Outcome::Success | Outcome::Warning(_) => *self = Self { well: self.well + 1, ill: 0 },
            Outcome::Failure(_) => *self = Self { well: 0, ill: self.ill + 1 },
            Outcome::Unknown(_) => return None,
        }
        if self.well >= rhythm.successes {
            Some(true)
        } else if self.ill >= rhythm.failures {
            Some(false)
        } else {
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn findings_need_as_many_answers_in_a_row_as_the_thresholds_say() {
        let rhythm = Rhythm::of(&json::parse(br#"{"successThreshold":2,"failureThreshold":3}"#).unwrap());
        let mut count = Count::default();
        let (well, ill) = (Outcome::Success, Outcome::Failure(String::new()));
        let unknown = Outcome::Unknown(String::new());
        for (answer, finding) in [
            (&well, None),
            (&ill, None),
            (&well, None),
            (&unknown, None),
            (&well, Some(true)),
            (&ill, None),
            (&ill, None),
            (&ill, Some(false)),
            (&well, None),
        ] {
            assert_eq!(count.take(answer, &rhythm), finding, "{answer:?}");
        }
    }
}

//! What failed is not tried again at once, whatever wakes the worker meanwhile.

use std::collections::HashMap;
use std::time::{Duration, Instant};
use trireme_client::Backoff;

/// The longest pause; the shortest is three quarters of it (upstream: ten to fifteen seconds, always).
const LONGEST: Duration = Duration::from_secs(15);

/// What is tried.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) enum Tried {
    /// Making the pod's sandbox.
    Sandbox,
    /// Making a container, by its name.
    Container(String),
}

/// Until when what failed waits.
#[derive(Debug, Default)]
pub(super) struct Pauses(HashMap<Tried, Instant>);

impl Pauses {
    /// How long it still waits.
    pub(super) fn left(&self, tried: &Tried, now: Instant) -> Option<Duration> {
        let left = self.0.get(tried)?.saturating_duration_since(now);
        (!left.is_zero()).then_some(left)
    }

    /// It failed: how long it waits now.
    pub(super) fn failed(&mut self, tried: Tried, now: Instant) -> Duration {
        let pause = Backoff::new(LONGEST, LONGEST).step();
        self.0.insert(tried, now + pause);
        pause
    }

    /// It went well.
    pub(super) fn went_well(&mut self, tried: &Tried) {
        self.0.remove(tried);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_failed_waits_ten_to_fifteen_seconds_and_nothing_else_does() {
        let (mut pauses, container) = (Pauses::default(), Tried::Container("a".into()));
        let start = Instant::now();
        let after = |seconds| start + Duration::from_secs(seconds);
        assert_eq!(pauses.left(&Tried::Sandbox, start), None);
        let pause = pauses.failed(Tried::Sandbox, start);
        assert!((10..=15).contains(&pause.as_secs()), "{pause:?}");
        assert_eq!((pauses.left(&Tried::Sandbox, start), pauses.left(&container, start)), (Some(pause), None));
        assert_eq!(pauses.left(&Tried::Sandbox, after(5)), Some(pause - Duration::from_secs(5)));
        assert_eq!(pauses.left(&Tried::Sandbox, after(15)), None);
        pauses.failed(container.clone(), start);
        pauses.went_well(&container);
        assert_eq!(pauses.left(&container, start), None);
    }
}

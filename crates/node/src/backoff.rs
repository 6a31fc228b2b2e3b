//! Pauses between tries: ten seconds, doubling to five minutes, and from the beginning after ten quiet minutes.

use jiff::Timestamp;
use std::time::Duration;

const FIRST: Duration = Duration::from_secs(10);
const LONGEST: Duration = Duration::from_secs(300);
const FORGET: Duration = Duration::from_secs(600);

/// Pauses of one thing that is tried again and again.
#[derive(Clone, Copy, Debug, Default)]
pub struct Backoff {
    length: Duration,
    tried: Option<Timestamp>,
}

impl Backoff {
    /// How long to wait still after a failure at a time; none when the next try is due.
    pub fn left(&self, failed: Timestamp, now: Timestamp) -> Option<Duration> {
        if self.is_forgotten(failed) {
            return None;
        }
        let left = self.length.saturating_sub(since(failed, now));
        (!left.is_zero()).then_some(left)
    }

    /// Takes note of a try after a failure at a time: the next pause is longer.
    pub fn tried(&mut self, failed: Timestamp, now: Timestamp) {
        self.length = if self.is_forgotten(failed) { FIRST } else { (self.length * 2).min(LONGEST) };
        self.tried = Some(now);
    }

    /// The pause as it is now.
    pub fn length(&self) -> Duration {
        self.length
    }

    fn is_forgotten(&self, failed: Timestamp) -> bool {
        self.tried.is_none_or(|tried| since(tried, failed) > FORGET)
    }
}

fn since(earlier: Timestamp, later: Timestamp) -> Duration {
    Duration::try_from(later.duration_since(earlier)).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    #[test]
    fn pauses_double_from_ten_seconds_to_five_minutes() {
        let mut backoff = Backoff::default();
        let mut now = 0;
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let pause = backoff.left(at(now), at(now)).map_or(0, |d| d.as_secs());
            pauses.push(pause);
            let failed = now;
            now += pause as i64;
            backoff.tried(at(failed), at(now));
        }
        assert_eq!(pauses, [0, 10, 20, 40, 80, 160, 300, 300]);
    }

    #[test]
    fn after_ten_minutes_without_a_failure_all_is_forgotten() {
        let mut backoff = Backoff::default();
        backoff.tried(at(0), at(0));
        backoff.tried(at(10), at(20));
        assert_eq!(backoff.left(at(30), at(30)), Some(Duration::from_secs(20)));
        assert_eq!(backoff.left(at(700), at(700)), None);
        backoff.tried(at(700), at(700));
        assert_eq!(backoff.length(), Duration::from_secs(10));
    }

    #[test]
    fn the_time_that_passed_since_the_failure_counts() {
        let mut backoff = Backoff::default();
        backoff.tried(at(0), at(0));
        assert_eq!(backoff.left(at(1), at(5)), Some(Duration::from_secs(6)));
        assert_eq!(backoff.left(at(1), at(11)), None);
    }
}

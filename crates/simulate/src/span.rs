use rand::Rng;
use rand::rngs::SmallRng;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;
use trireme_schema::time;

/// A time, or one between two: `2s`, `50ms..2s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Span {
    least: Duration,
    most: Duration,
}

/// A text that is no time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadSpan {
    /// It is not in Go's form of durations, or negative.
    #[error("{0:?} is no time: write 50ms, 2s, 1m30s")]
    NoTime(String),
    /// The first time is the longer one.
    #[error("{0:?} begins with the longer time")]
    Reversed(String),
}

impl Span {
    /// Any time from `least` to `most`.
    pub fn new(least: Duration, most: Duration) -> Self {
        Self { least, most: most.max(least) }
    }

    /// One of its times, all as likely.
    pub fn draw(self, chance: &mut SmallRng) -> Duration {
        chance.random_range(self.least..=self.most)
    }
}

/// Reads a time as Go writes durations, such as `1m30s`.
///
/// # Errors
/// For other texts and for times below zero.
pub fn duration(text: &str) -> Result<Duration, BadSpan> {
    let nanos = time::parse_duration(text).and_then(|nanos| u64::try_from(nanos).ok());
    nanos.map(Duration::from_nanos).ok_or_else(|| BadSpan::NoTime(text.to_owned()))
}

impl FromStr for Span {
    type Err = BadSpan;

    fn from_str(text: &str) -> Result<Self, BadSpan> {
        let (least, most) = text.split_once("..").unwrap_or((text, text));
        let (least, most) = (duration(least)?, duration(most)?);
        if least > most { Err(BadSpan::Reversed(text.to_owned())) } else { Ok(Self { least, most }) }
    }
}

impl fmt::Display for Span {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = |time: Duration| time::duration(i64::try_from(time.as_nanos()).unwrap_or(i64::MAX));
        f.write_str(&text(self.least))?;
        if self.most > self.least { write!(f, "..{}", text(self.most)) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn spans_are_read_and_written() {
        for (text, least, most) in [("2s", 2000, 2000), ("50ms..2s", 50, 2000), ("0s..1m30s", 0, 90_000)] {
            let span: Span = text.parse().unwrap();
            assert_eq!(span, Span::new(Duration::from_millis(least), Duration::from_millis(most)));
            assert_eq!(span.to_string(), text);
        }
        for (text, said) in
            [("x", "no time"), ("-1s", "no time"), ("5", "no time"), ("2s..1s", "longer"), ("..", "no time")]
        {
            let error = text.parse::<Span>().unwrap_err().to_string();
            assert!(error.contains(said), "{text}: {error}");
        }
    }

    #[test]
    fn what_is_drawn_is_between_and_follows_the_seed() {
        let span: Span = "50ms..2s".parse().unwrap();
        let draw = |seed| {
            let mut chance = SmallRng::seed_from_u64(seed);
            (0..50).map(|_| span.draw(&mut chance)).collect::<Vec<_>>()
        };
        assert!(draw(1).iter().all(|d| (50..=2000).contains(&d.as_millis())));
        assert_eq!(draw(1), draw(1));
        assert_ne!(draw(1), draw(2));
    }
}

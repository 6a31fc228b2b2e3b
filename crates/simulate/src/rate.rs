use rand::Rng;
use rand::rngs::SmallRng;
use std::str::FromStr;
use std::time::Duration;

/// How likely something is to happen to one of many: `1%/min`.
///
/// It happens at any moment as likely as at any other, so that of many things about the share given meets it in the time
/// given.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Rate {
    per_second: f64,
}

/// A text that is no rate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no rate: write a share and a time, such as 1%/min, 0.5%/h, 10%/s")]
pub struct BadRate(String);

/// What would come later than this does not come.
const LATEST: f64 = 10.0 * 365.0 * 86_400.0;

impl Rate {
    /// The time until it happens next; `None` when it does not.
    pub fn draw(self, chance: &mut SmallRng) -> Option<Duration> {
        if self.per_second <= 0.0 {
            return None;
        }
        let luck: f64 = chance.random_range(f64::MIN_POSITIVE..1.0);
        let seconds = -luck.ln() / self.per_second;
        (seconds < LATEST).then(|| Duration::from_secs_f64(seconds))
    }
}

impl FromStr for Rate {
    type Err = BadRate;

    fn from_str(text: &str) -> Result<Self, BadRate> {
        let bad = || BadRate(text.to_owned());
        let (share, time) = text.split_once('/').ok_or_else(bad)?;
        let percent: f64 = share.trim_end().strip_suffix('%').ok_or_else(bad)?.trim().parse().map_err(|_| bad())?;
        let seconds = match time.trim() {
            "s" | "sec" | "second" => 1.0,
            "m" | "min" | "minute" => 60.0,
            "h" | "hour" => 3600.0,
            _ => return Err(bad()),
        };
        if !(0.0..=1_000_000.0).contains(&percent) {
            return Err(bad());
        }
        Ok(Self { per_second: percent / 100.0 / seconds })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    #[test]
    fn rates_are_read() {
        for (text, per_minute) in
            [("1%/min", 0.01), ("60%/h", 0.01), ("0.5 %/min", 0.005), ("10%/s", 6.0), ("0%/s", 0.0)]
        {
            let rate: Rate = text.parse().unwrap();
            assert!((rate.per_second * 60.0 - per_minute).abs() < 1e-9, "{text}: {rate:?}");
        }
        for text in ["1%", "1/min", "x%/min", "-1%/min", "1%/day", "NaN%/s", ""] {
            assert!(text.parse::<Rate>().is_err(), "{text}");
        }
    }

    #[test]
    fn about_the_share_given_is_met() {
        let rate: Rate = "1%/min".parse().unwrap();
        let mut chance = SmallRng::seed_from_u64(7);
        let minute = Duration::from_secs(60);
        let met = (0..100_000).filter(|_| rate.draw(&mut chance).is_some_and(|at| at <= minute)).count();
        assert!((900..1100).contains(&met), "{met}");
        assert_eq!(Rate::default().draw(&mut chance), None);
    }
}

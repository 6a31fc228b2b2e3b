use serde::Deserialize;
use serde::de::Error;

/// A duration as Go writes it, such as `1m30s`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Duration(pub std::time::Duration);

impl Duration {
    /// So many seconds.
    pub const fn seconds(seconds: u64) -> Self {
        Self(std::time::Duration::from_secs(seconds))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut rest = text;
        let mut total = 0.0;
        while !rest.is_empty() && rest != "0" {
            let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
            let number: f64 = rest.get(..digits)?.parse().ok()?;
            rest = rest.get(digits..)?;
            let end = rest.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(rest.len());
            let unit = match rest.get(..end)? {
                "h" => 3_600.0,
                "m" => 60.0,
                "s" => 1.0,
                "ms" => 1e-3,
                "us" | "µs" => 1e-6,
                "ns" => 1e-9,
                _ => return None,
            };
            total += number * unit;
            rest = rest.get(end..)?;
        }
        let known = !text.is_empty();
        std::time::Duration::try_from_secs_f64(total).ok().filter(|_| known).map(Self)
    }
}

impl<'de> Deserialize<'de> for Duration {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::parse(&text).ok_or_else(|| D::Error::custom(format!("time: invalid duration {text:?}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_gos() {
        for (text, expected) in [
            ("15s", Some(15_000)),
            ("1m30s", Some(90_000)),
            ("1.5h", Some(5_400_000)),
            ("200ms", Some(200)),
            ("0", Some(0)),
            ("5", None),
            ("", None),
            ("1d", None),
        ] {
            let millis = Duration::parse(text).map(|duration| duration.0.as_millis());
            assert_eq!(millis, expected, "{text}");
        }
    }
}

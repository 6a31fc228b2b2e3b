use std::fmt;
use std::str::FromStr;

/// A range of ports, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortRange {
    /// The first port.
    pub first: u16,
    /// The last port.
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let parsed = text
            .split_once('-')
            .and_then(|(first, last)| Some(Self { first: first.parse().ok()?, last: last.parse().ok()? }))
            .filter(|range| range.first > 0 && range.first <= range.last);
        parsed.ok_or_else(|| format!("{text:?} is not a range of ports such as 30000-32767"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_are_read() {
        assert_eq!("30000-32767".parse(), Ok(PortRange { first: 30_000, last: 32_767 }));
        for bad in ["5-1", "0-5", "1", "a-b", "1-99999"] {
            assert!(bad.parse::<PortRange>().is_err(), "{bad}");
        }
    }
}

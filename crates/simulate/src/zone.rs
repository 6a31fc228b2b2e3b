use std::str::FromStr;

/// A zone, and the region that it is in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Zone {
    /// Region, if one was given.
    pub region: Option<String>,
    /// Name.
    pub name: String,
}

/// A text that is no zone.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no zone: write ZONE or REGION/ZONE, in letters, digits, '-', '_' and '.'")]
pub struct BadZone(String);

impl FromStr for Zone {
    type Err = BadZone;

    fn from_str(text: &str) -> Result<Self, BadZone> {
        let (region, name) = text.split_once('/').map_or((None, text), |(region, name)| (Some(region), name));
        // What a label's value may be.
        let fits = |text: &str| {
            let ends = |c: Option<char>| c.is_some_and(|c| c.is_ascii_alphanumeric());
            text.len() <= 63
                && ends(text.chars().next())
                && ends(text.chars().next_back())
                && text.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        };
        if !fits(name) || region.is_some_and(|region| !fits(region)) {
            return Err(BadZone(text.to_owned()));
        }
        Ok(Self { region: region.map(str::to_owned), name: name.to_owned() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn zones_may_have_regions() {
        let zone = |region: Option<&str>, name: &str| Zone { region: region.map(Into::into), name: name.into() };
        for (text, want) in [
            ("a", Some(zone(None, "a"))),
            ("eu/eu-1a", Some(zone(Some("eu"), "eu-1a"))),
            ("", None),
            ("/a", None),
            ("a/", None),
            ("a/b/c", None),
            ("-a", None),
        ] {
            assert_eq!(text.parse::<Zone>().ok(), want, "{text}");
        }
    }
}

//! Times and spans of time.

use jiff::tz::TimeZone;
use std::fmt;

/// A point in time between the years 1 and 9999.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp {
    seconds: i64,
    nanos: u32,
}

/// 0001-01-01T00:00:00Z.
const FIRST: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z.
const LAST: i64 = 253_402_300_799;
const BILLION: i128 = 1_000_000_000;

impl Timestamp {
    /// Seconds since 1970, and nanoseconds on top; none outside the years.
    pub fn new(seconds: i64, nanos: u32) -> Option<Self> {
        ((FIRST..=LAST).contains(&seconds) && i128::from(nanos) < BILLION).then_some(Self { seconds, nanos })
    }

    /// Reads RFC 3339.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let digits = |range: std::ops::Range<usize>, most: i64| {
            let part = text.get(range).filter(|part| part.bytes().all(|b| b.is_ascii_digit()))?;
            part.parse::<i64>().ok().filter(|n| *n <= most)
        };
        let separators = [(4, "-"), (7, "-"), (10, "T"), (13, ":"), (16, ":")];
        if separators.iter().any(|(at, separator)| text.get(*at..*at + 1) != Some(separator)) {
            return None;
        }
        let (year, month, day) = (digits(0..4, 9999)?, digits(5..7, 12)?, digits(8..10, 31)?);
        let of_day = digits(11..13, 23)? * 3600 + digits(14..16, 59)? * 60 + digits(17..19, 59)?;
        let (rest, nanos) = fraction_of(text.get(19..)?)?;
        let offset = if rest == "Z" { 0 } else { zone_offset(rest)? };
        let days = days_before(year, month, day)?;
        Self::new(days * 86400 + of_day - offset, nanos)
    }

    /// Reads RFC 3339 and the forms near it that OpenAPI's `date-time` takes.
    pub(crate) fn lenient(text: &str) -> Option<Self> {
        let upper = text.trim().to_ascii_uppercase().replacen(' ', "T", 1);
        Self::parse(&upper).or_else(|| Self::parse(&format!("{upper}Z")))
    }

    /// Reads `2006-01-02`.
    pub(crate) fn from_date(text: &str) -> Option<Self> {
        Self::parse(&format!("{text}T00:00:00Z"))
    }

    fn new_nanos(nanos: i128) -> Option<Self> {
        let seconds = i64::try_from(nanos.div_euclid(BILLION)).ok()?;
        Self::new(seconds, nanos.rem_euclid(BILLION) as u32)
    }

    fn total(self) -> i128 {
        i128::from(self.seconds) * BILLION + i128::from(self.nanos)
    }

    /// Seconds since 1970.
    pub fn seconds(self) -> i64 {
        self.seconds
    }

    /// Nanoseconds of the second.
    pub(crate) fn nanos(self) -> u32 {
        self.nanos
    }

    /// So many nanoseconds later.
    pub(crate) fn plus(self, nanos: i64) -> Option<Self> {
        Self::new_nanos(self.total() + i128::from(nanos))
    }

    /// So many nanoseconds earlier.
    pub(crate) fn minus(self, nanos: i64) -> Option<Self> {
        Self::new_nanos(self.total() - i128::from(nanos))
    }

    /// The nanoseconds since `earlier`.
    pub(crate) fn since(self, earlier: Self) -> Option<i64> {
        i64::try_from(self.total() - earlier.total()).ok()
    }

    /// The date and the time of day in a zone: a name of the zone database, or an offset like `-08:00`.
    pub(crate) fn parts(self, zone: &str) -> Option<Parts> {
        let offset = match offset(zone) {
            Some(offset) => offset?,
            None => {
                let at = jiff::Timestamp::new(self.seconds, 0).ok()?;
                let zone = if zone == "UTC" || zone.is_empty() { TimeZone::UTC } else { TimeZone::get(zone).ok()? };
                i64::from(zone.to_offset(at).seconds())
            }
        };
        Some(Parts::new(self.seconds + offset))
    }
}

/// An offset in seconds; the inner none if it is a bad one.
fn offset(zone: &str) -> Option<Option<i64>> {
    let (hours, minutes) = zone.split_once(':')?;
    let read = || {
        let negative = hours.starts_with('-');
        let number = |text: &str| text.bytes().all(|b| b.is_ascii_digit()).then(|| text.parse::<i64>().ok()).flatten();
        let hours = number(hours.trim_start_matches(['+', '-'])).filter(|h| *h < 24)?;
        let minutes = number(minutes).filter(|m| *m < 60)?;
        let seconds = hours * 3600 + minutes * 60;
        Some(if negative { -seconds } else { seconds })
    };
    Some(read())
}

/// A date and a time of day.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parts {
    pub(crate) year: i64,
    /// From 0.
    pub(crate) month: i64,
    /// Of the month, from 1.
    pub(crate) day: i64,
    /// Of the year, from 0.
    pub(crate) year_day: i64,
    /// From Sunday, 0.
    pub(crate) week_day: i64,
    pub(crate) hour: i64,
    pub(crate) minute: i64,
    pub(crate) second: i64,
}

/// Days before each month of a year that is no leap year.
const BEFORE: [i64; 12] = [0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334];

impl Parts {
    fn new(seconds: i64) -> Self {
        let (days, of_day) = (seconds.div_euclid(86400), seconds.rem_euclid(86400));
        // Howard Hinnant's civil_from_days: years that begin in March, eras of 400 years.
        let z = days + 719_468;
        let era = z.div_euclid(146_097);
        let doe = z.rem_euclid(146_097);
        let yoe = (doe - doe / 1460 + doe / 36524 - doe / 146_096) / 365;
        let doy = doe - (365 * yoe + yoe / 4 - yoe / 100);
        let mp = (5 * doy + 2) / 153;
        let day = doy - (153 * mp + 2) / 5 + 1;
        let month = if mp < 10 { mp + 2 } else { mp - 10 };
        let year = yoe + era * 400 + i64::from(month < 2);
        let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
        let year_day = BEFORE[month as usize] + day - 1 + i64::from(leap && month > 1);
        Self {
            year,
            month,
            day,
            year_day,
            week_day: (days + 4).rem_euclid(7),
            hour: of_day / 3600,
            minute: of_day / 60 % 60,
            second: of_day % 60,
        }
    }
}

/// The days from 1970 to a date, if there is such a date.
fn days_before(year: i64, month: i64, day: i64) -> Option<i64> {
    let leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    let start = *BEFORE.get(usize::try_from(month - 1).ok()?)?;
    let end = BEFORE.get(month as usize).copied().unwrap_or(365) + i64::from(leap && month == 2);
    if day < 1 || day > end - start {
        return None;
    }
    let past = year - 1;
    let days = past * 365 + past.div_euclid(4) - past.div_euclid(100) + past.div_euclid(400);
    Some(days - 719_162 + start + i64::from(leap && month > 2) + day - 1)
}

/// Takes a fraction of a second off the front.
fn fraction_of(text: &str) -> Option<(&str, u32)> {
    let Some(rest) = text.strip_prefix('.') else { return Some((text, 0)) };
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    let digits = format!("{:0<9.9}", &rest[..end]);
    if end == 0 { None } else { Some((&rest[end..], digits.parse().ok()?)) }
}

/// `+01:30`, in seconds.
fn zone_offset(text: &str) -> Option<i64> {
    let signed = text.len() == 6 && text.starts_with(['+', '-']);
    if signed { offset(text).flatten() } else { None }
}

/// `.5`, or nothing.
fn fraction(nanos: u32) -> String {
    if nanos == 0 { String::new() } else { format!(".{nanos:09}").trim_end_matches('0').to_owned() }
}

impl fmt::Display for Timestamp {
    /// RFC 3339 in UTC.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let p = Parts::new(self.seconds);
        let (month, fraction) = (p.month + 1, fraction(self.nanos));
        write!(f, "{:04}-{month:02}-{:02}T{:02}:{:02}:{:02}{fraction}Z", p.year, p.day, p.hour, p.minute, p.second)
    }
}

/// A span as CEL writes it: in seconds.
pub(crate) fn duration_text(nanos: i64) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    format!("{sign}{}{}s", n / 1_000_000_000, fraction((n % 1_000_000_000) as u32))
}

/// Reads Go's durations, and those with days and weeks that OpenAPI's `duration` takes.
pub(crate) fn lenient_duration(text: &str) -> Option<i64> {
    if let Some(nanos) = trireme_schema::time::parse_duration(text) {
        return Some(nanos);
    }
    let mut total = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != '-')?;
        let number: f64 = rest[..end].parse().ok()?;
        let tail = rest[end..].trim_start();
        let stop = tail.find(|c: char| !c.is_alphabetic()).unwrap_or(tail.len());
        let unit = match tail[..stop].to_lowercase().trim_end_matches('s') {
            "n" | "nano" | "nanosecond" => 1.0,
            "u" | "\u{b5}" | "micro" | "microsecond" => 1e3,
            "m" if tail[..stop].eq_ignore_ascii_case("ms") => 1e6,
            "milli" | "millisecond" => 1e6,
            "" | "sec" | "second" => 1e9,
            "m" | "min" | "minute" => 60e9,
            "h" | "hr" | "hour" => 3600e9,
            "d" | "day" => 86400e9,
            "w" | "wk" | "week" => 604_800e9,
            _ => return None,
        };
        total += number * unit;
        rest = tail[stop..].trim_start_matches([' ', ',']);
    }
    Some(total as i64)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_parts_in_every_zone() {
        let at = Timestamp::parse("2009-02-13T23:31:30.5Z").unwrap();
        assert_eq!(at.to_string(), "2009-02-13T23:31:30.5Z");
        let parts = at.parts("").unwrap();
        assert_eq!((parts.year, parts.month, parts.day, parts.hour), (2009, 1, 13, 23));
        assert_eq!((parts.year_day, parts.week_day, parts.second), (43, 5, 30));
        assert_eq!(at.parts("+02:00").unwrap().day, 14);
        assert_eq!(at.parts("Asia/Kathmandu").unwrap().minute, 16);
        assert_eq!(at.parts("No/Where"), None);
    }

    #[test]
    fn the_years_have_ends() {
        let last = Timestamp::parse("9999-12-31T23:59:59.999999999Z").unwrap();
        assert_eq!(last.plus(1), None);
        let first = Timestamp::parse("0001-01-01T00:00:00Z").unwrap();
        assert_eq!(first.minus(1), None);
        assert_eq!(last.since(first), None);
        assert_eq!(Timestamp::parse("2009-02-13T23:31:30"), None);
    }

    #[test]
    fn spans_are_written_in_seconds() {
        assert_eq!(duration_text(1_500_000_000), "1.5s");
        assert_eq!(duration_text(-1), "-0.000000001s");
        assert_eq!(lenient_duration("1 day"), Some(86_400_000_000_000));
        assert_eq!(lenient_duration("1h30m"), Some(5_400_000_000_000));
        assert_eq!(lenient_duration("x"), None);
    }
}

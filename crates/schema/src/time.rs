//! Times as Kubernetes writes them: RFC 3339 in UTC.

use jiff::Timestamp;
use jiff::tz::{Offset, TimeZone};

/// Reads an RFC 3339 time with any offset.
///
/// # Errors
/// Go's words for what does not fit.
pub fn parse(text: &str) -> Result<Timestamp, String> {
    let bad = |layout: &str, rest: &str| {
        format!("parsing time {text:?} as \"2006-01-02T15:04:05Z07:00\": cannot parse {rest:?} as {layout:?}")
    };
    let bytes = text.as_bytes();
    let layout: [(&str, std::ops::Range<usize>); 11] = [
        ("2006", 0..4),
        ("-", 4..5),
        ("01", 5..7),
        ("-", 7..8),
        ("02", 8..10),
        ("T", 10..11),
        ("15", 11..13),
        (":", 13..14),
        ("04", 14..16),
        (":", 16..17),
        ("05", 17..19),
    ];
    for (want, range) in layout {
        let rest = text.get(range.start.min(text.len())..).unwrap_or_default();
        let got = bytes.get(range.clone());
        let fits = got.is_some_and(|got| match want {
            "-" | "T" | ":" => got == want.as_bytes(),
            _ => got.iter().all(u8::is_ascii_digit),
        });
        if !fits {
            return Err(bad(want, rest));
        }
    }
    let number = |from: usize| text.get(from..from + 2).and_then(|t| t.parse::<u8>().ok()).unwrap_or_default();
    // Go tells the first number that is too large where it reads it, and a day that its month does not have at last.
    let beyond = [("month", 5, 1, 12), ("hour", 11, 0, 23), ("minute", 14, 0, 59), ("second", 17, 0, 59)];
    if let Some((what, ..)) = beyond.iter().find(|(_, at, least, most)| !(*least..=*most).contains(&number(*at))) {
        return Err(format!("parsing time {text:?}: {what} out of range"));
    }
    let rest = text.get(19..).unwrap_or_default();
    let digits = rest.strip_prefix(['.', ',']).map_or(0, |r| r.bytes().take_while(u8::is_ascii_digit).count());
    let zone = if digits > 0 { &rest[digits + 1..] } else { rest };
    let extra = match zone.as_bytes() {
        [b'Z', ..] => &zone[1..],
        [b'+' | b'-', a, b, b':', c, d, ..] if [a, b, c, d].iter().all(|x| x.is_ascii_digit()) => &zone[6..],
        _ => return Err(bad("Z07:00", zone)),
    };
    if !extra.is_empty() {
        return Err(format!("parsing time {text:?}: extra text: {extra:?}"));
    }
    text.parse::<Timestamp>().map_err(|_| format!("parsing time {text:?}: day out of range"))
}

/// Reads a time that must tell microseconds, in upstream's words for what is wrong.
///
/// # Errors
/// The words.
pub fn parse_micros(text: &str) -> Result<Timestamp, String> {
    const LAYOUT: &str = "2006-01-02T15:04:05.000000Z07:00";
    let time = parse(text).map_err(|why| why.replace("2006-01-02T15:04:05Z07:00", LAYOUT))?;
    let rest = text.get(19..).unwrap_or_default();
    let bad = |layout: &str, rest: &str| {
        Err(format!("parsing time {text:?} as {LAYOUT:?}: cannot parse {rest:?} as {layout:?}"))
    };
    let digits = rest.strip_prefix('.').map_or(0, |rest| rest.bytes().take_while(u8::is_ascii_digit).count());
    match digits {
        6 => Ok(time),
        0..6 => bad(".000000", rest),
        _ => bad("Z07:00", rest.get(7..).unwrap_or_default()),
    }
}

/// `2006-01-02T15:04:05Z`.
pub fn seconds(time: Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// `2006-01-02T15:04:05.000000Z`.
pub fn micros(time: Timestamp) -> String {
    let fraction = time.subsec_nanosecond().rem_euclid(1_000_000_000) / 1000;
    let zoned = time.to_zoned(TimeZone::fixed(Offset::UTC));
    format!("{}.{fraction:06}Z", zoned.strftime("%Y-%m-%dT%H:%M:%S"))
}

/// Now, in seconds, as it is put into objects.
pub fn now() -> String {
    seconds(Timestamp::now())
}

/// Reads Go's duration text (`1h2m3.5s`) into nanoseconds.
pub fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text.strip_prefix('+').unwrap_or(text)),
    };
    if rest == "0" {
        return Some(0);
    }
    if rest.is_empty() {
        return None;
    }
    let mut total = 0_u64;
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (whole, fraction) = rest[..end].split_once('.').unwrap_or((&rest[..end], ""));
        if whole.len() + fraction.len() == 0 || fraction.contains('.') {
            return None;
        }
        let tail = &rest[end..];
        let stop = tail.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(tail.len());
        let unit: u64 = match &tail[..stop] {
            "ns" => 1,
            "us" | "µs" | "μs" => 1_000,
            "ms" => 1_000_000,
            "s" => 1_000_000_000,
            "m" => 60_000_000_000,
            "h" => 3_600_000_000_000,
            _ => return None,
        };
        let whole: u64 = if whole.is_empty() { 0 } else { whole.parse().ok()? };
        total = total.checked_add(whole.checked_mul(unit)?)?.checked_add(part(fraction, unit))?;
        if total > 1 << 63 {
            return None;
        }
        rest = &tail[stop..];
    }
    // The most negative duration has no positive twin.
    if negative { 0_i64.checked_sub_unsigned(total) } else { i64::try_from(total).ok() }
}

/// A decimal fraction of a unit. Only this is a float, as in Go: `0.3333333333333333333h` is 20 minutes, `2.01µs` 2010 ns.
fn part(fraction: &str, unit: u64) -> u64 {
    let (mut digits, mut scale) = (0_u64, 1.0);
    for digit in fraction.bytes().map(|b| u64::from(b - b'0')) {
        // Digits that no longer fit do not count.
        match digits.checked_mul(10).and_then(|n| n.checked_add(digit)).filter(|n| *n <= 1 << 63) {
            Some(more) => (digits, scale) = (more, scale * 10.0),
            None => break,
        }
    }
    (digits as f64 * (unit as f64 / scale)) as u64
}

/// Writes nanoseconds as Go does: `1h2m3.5s`, `500ms`, `0s`.
pub fn duration(nanos: i64) -> String {
    fn trimmed(whole: u64, fraction: u64, digits: usize) -> String {
        if fraction == 0 {
            return whole.to_string();
        }
        format!("{whole}.{fraction:0digits$}").trim_end_matches('0').to_owned()
    }
    let sign = if nanos < 0 { "-" } else { "" };
    let n = nanos.unsigned_abs();
    let text = match n {
        0 => "0s".to_owned(),
        1..1_000 => format!("{n}ns"),
        1_000..1_000_000 => format!("{}µs", trimmed(n / 1_000, n % 1_000, 3)),
        1_000_000..1_000_000_000 => format!("{}ms", trimmed(n / 1_000_000, n % 1_000_000, 6)),
        _ => {
            let seconds = n / 1_000_000_000;
            let last = trimmed(seconds % 60, n % 1_000_000_000, 9);
            match (seconds / 3600, seconds / 60 % 60) {
                (0, 0) => format!("{last}s"),
                (0, minutes) => format!("{minutes}m{last}s"),
                (hours, minutes) => format!("{hours}h{minutes}m{last}s"),
            }
        }
    };
    format!("{sign}{text}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fraction_of_a_microsecond_does_not_lose_a_nanosecond() {
        for (text, nanos) in [
            ("2.01µs", Some(2_010)),
            ("1h2m3.5s", Some(3_723_500_000_000)),
            ("0.3333333333333333333h", Some(1_200_000_000_000)),
            ("1.s", Some(1_000_000_000)),
            (".5s", Some(500_000_000)),
            ("-9223372036854775808ns", Some(i64::MIN)),
            ("9223372036854775807ns", Some(i64::MAX)),
            ("9223372036854775808ns", None),
            (".s", None),
            ("1..2s", None),
            ("1", None),
            ("99999999999999999999s", None),
        ] {
            assert_eq!(parse_duration(text), nanos, "{text}");
        }
        for nanos in [1, 999, 1_001, 2_009, 2_010, 123_456_789, 3_600_000_000_001, i64::MAX, i64::MIN] {
            assert_eq!(parse_duration(&duration(nanos)), Some(nanos), "{}", duration(nanos));
        }
    }

    #[test]
    fn times_are_written_in_utc() {
        assert_eq!(seconds(parse("2024-01-02T03:04:05+01:00").unwrap()), "2024-01-02T02:04:05Z");
        assert_eq!(micros(parse("2024-01-02T03:04:05.1Z").unwrap()), "2024-01-02T03:04:05.100000Z");
    }

    #[test]
    fn what_is_no_time_says_where() {
        assert_eq!(
            parse("abc").unwrap_err(),
            "parsing time \"abc\" as \"2006-01-02T15:04:05Z07:00\": cannot parse \"abc\" as \"2006\""
        );
        for (text, why) in [
            ("2024-13-02T03:04:05Z", "month out of range"),
            ("2023-02-29T03:04:05Z", "day out of range"),
            ("2024-12-02T24:04:05Z", "hour out of range"),
            ("2024-12-02T03:04:05.5Zxx", "extra text: \"xx\""),
            ("2024-12-02T03:04:05+01:00x", "extra text: \"x\""),
        ] {
            assert_eq!(parse(text).unwrap_err(), format!("parsing time {text:?}: {why}"));
        }
        assert!(parse("2024-12-02T03:04:05+1").unwrap_err().ends_with("cannot parse \"+1\" as \"Z07:00\""));
        assert!(parse_micros("2024-12-02T03:04:05.5Z").unwrap_err().ends_with("cannot parse \".5Z\" as \".000000\""));
        assert!(parse_micros("2024-12-02T03:04:05.500000Z").is_ok());
        assert!(parse("").is_err());
    }

    #[test]
    fn durations_round_trip() {
        for text in ["0s", "1.5s", "1m0s", "1h2m3.5s", "500ms", "-3s", "15ns", "1.5µs"] {
            assert_eq!(duration(parse_duration(text).unwrap()), text);
        }
        assert_eq!(parse_duration("5"), None);
        assert_eq!(parse_duration("5x"), None);
    }
}

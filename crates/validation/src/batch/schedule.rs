//! Schedules of cron jobs, as text: five fields, or a word for what is often wanted.

use trireme_schema::field::quote;

/// What a field may be: from here to there, with names for the numbers from `from` on.
struct Bounds {
    from: i64,
    to: i64,
    names: &'static [&'static str],
}

const FIELDS: [Bounds; 5] = [
    Bounds { from: 0, to: 59, names: &[] },
    Bounds { from: 0, to: 23, names: &[] },
    Bounds { from: 1, to: 31, names: &[] },
    Bounds {
        from: 1,
        to: 12,
        names: &["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"],
    },
    Bounds { from: 0, to: 6, names: &["sun", "mon", "tue", "wed", "thu", "fri", "sat"] },
];

const WORDS: [&str; 7] = ["@yearly", "@annually", "@monthly", "@weekly", "@daily", "@midnight", "@hourly"];

/// Whether the time zone database knows the name, spelled so.
pub(super) fn is_time_zone(name: &str) -> bool {
    name == "UTC" || jiff::tz::TimeZone::get(name).is_ok_and(|zone| zone.iana_name() == Some(name))
}

/// What is wrong with a schedule, if anything is.
pub(super) fn check(text: &str) -> Result<(), String> {
    let mut rest = text;
    if let Some(zoned) = text.strip_prefix("TZ=").or_else(|| text.strip_prefix("CRON_TZ=")) {
        let (zone, after) = zoned.split_once(' ').unwrap_or((zoned, ""));
        if !zone.is_empty() && !is_time_zone(zone) {
            return Err(format!("provided bad location {zone}: unknown time zone {zone}"));
        }
        rest = after.trim();
    }
    if rest.starts_with('@') {
        return word(rest);
    }
    let fields: Vec<&str> = rest.split_whitespace().collect();
    if fields.len() != FIELDS.len() {
        let (expected, found) = (FIELDS.len(), fields.len());
        return Err(format!("expected exactly {expected} fields, found {found}: [{}]", fields.join(" ")));
    }
    for (field, bounds) in fields.iter().zip(&FIELDS) {
        field.split(',').filter(|part| !part.is_empty()).try_for_each(|part| range(part, bounds))?;
    }
    Ok(())
}

fn word(text: &str) -> Result<(), String> {
    if WORDS.contains(&text) {
        return Ok(());
    }
    match text.strip_prefix("@every ") {
        Some(every) => duration(every).map_err(|why| format!("failed to parse duration {text}: {why}")),
        None => Err(format!("unrecognized descriptor: {text}")),
    }
}

/// Go's durations: `1h30m`.
fn duration(text: &str) -> Result<(), String> {
    let bad = || format!("time: invalid duration {}", quote(text));
    let mut rest = text.strip_prefix(['-', '+']).unwrap_or(text);
    if rest == "0" {
        return Ok(());
    }
    if rest.is_empty() {
        return Err(bad());
    }
    while !rest.is_empty() {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(rest.len());
        let (number, after) = rest.split_at(end);
        if !number.bytes().any(|b| b.is_ascii_digit()) || number.matches('.').count() > 1 {
            return Err(bad());
        }
        let end = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        match unit {
            "" => return Err(format!("time: missing unit in duration {}", quote(text))),
            "ns" | "us" | "µs" | "μs" | "ms" | "s" | "m" | "h" => {}
            _ => return Err(format!("time: unknown unit {} in duration {}", quote(unit), quote(text))),
        }
        rest = after;
    }
    Ok(())
}

fn range(text: &str, bounds: &Bounds) -> Result<(), String> {
    let steps: Vec<&str> = text.split('/').collect();
    let ends: Vec<&str> = steps[0].split('-').collect();
    let (start, mut end) = match ends[..] {
        ["*" | "?", ..] => (bounds.from, bounds.to),
        [one] => named(one, bounds).map(|n| (n, n))?,
        [from, to] => (named(from, bounds)?, named(to, bounds)?),
        [from, ..] => {
            named(from, bounds)?;
            return Err(format!("too many hyphens: {text}"));
        }
        [] => return Ok(()),
    };
    let step = match steps[..] {
        [_] => 1,
        [_, step] => {
            let step = number(step)?;
            if ends.len() == 1 {
                end = bounds.to;
            }
            step
        }
        _ => return Err(format!("too many slashes: {text}")),
    };
    let (from, to) = (bounds.from, bounds.to);
    if start < from {
        return Err(format!("beginning of range ({start}) below minimum ({from}): {text}"));
    }
    if end > to {
        return Err(format!("end of range ({end}) above maximum ({to}): {text}"));
    }
    if start > end {
        return Err(format!("beginning of range ({start}) beyond end of range ({end}): {text}"));
    }
    if step == 0 {
        return Err(format!("step of range should be a positive number: {text}"));
    }
    Ok(())
}

fn named(text: &str, bounds: &Bounds) -> Result<i64, String> {
    let names = bounds.names.iter().zip(bounds.from..);
    match names.into_iter().find(|(name, _)| text.eq_ignore_ascii_case(name)) {
        Some((_, n)) => Ok(n),
        None => number(text),
    }
}

fn number(text: &str) -> Result<i64, String> {
    use std::num::IntErrorKind::{NegOverflow, PosOverflow};
    let value: i64 = text.parse().map_err(|e: std::num::ParseIntError| {
        let large = matches!(e.kind(), PosOverflow | NegOverflow);
        let why = if large { "value out of range" } else { "invalid syntax" };
        format!("failed to parse int from {text}: strconv.Atoi: parsing {}: {why}", quote(text))
    })?;
    if value < 0 { Err(format!("negative number ({value}) not allowed: {text}")) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::{check, is_time_zone};

    #[test]
    fn reads_schedules() {
        for good in ["* * * * *", "*/5 0-6,12 1 JAN mon-fri", "@daily", "@every 1h30m", "0 0 ? * 5/2"] {
            assert_eq!(check(good), Ok(()), "{good}");
        }
        for (bad, why) in [
            ("* * * *", "expected exactly 5 fields, found 4: [* * * *]"),
            ("60 * * * *", "end of range (60) above maximum (59): 60"),
            ("* * 0 * *", "beginning of range (0) below minimum (1): 0"),
            ("5-1 * * * *", "beginning of range (5) beyond end of range (1): 5-1"),
            ("*/0 * * * *", "step of range should be a positive number: */0"),
            ("1-2-3 * * * *", "too many hyphens: 1-2-3"),
            ("*/1/2 * * * *", "too many slashes: */1/2"),
            ("x * * * *", "failed to parse int from x: strconv.Atoi: parsing \"x\": invalid syntax"),
            ("@never", "unrecognized descriptor: @never"),
            ("@every 5", "failed to parse duration @every 5: time: missing unit in duration \"5\""),
        ] {
            assert_eq!(check(bad), Err(why.to_owned()), "{bad}");
        }
    }

    #[test]
    fn knows_time_zones() {
        assert!(is_time_zone("Europe/Berlin") && is_time_zone("UTC") && is_time_zone("Etc/GMT+5"));
        assert!(!is_time_zone("europe/berlin") && !is_time_zone("Europe/Berlinx"));
    }
}

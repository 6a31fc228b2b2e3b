//! Schedules of cron jobs: five fields, names of months and weekdays, `@daily` and its kin, `@every`.

use jiff::civil::{Date, DateTime};
use jiff::tz::TimeZone;
use jiff::{SignedDuration, Timestamp, ToSpan};

/// A schedule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Schedule {
    /// Certain minutes.
    Fields(Fields),
    /// Every so many seconds.
    Every(i64),
}

/// The minutes, hours, days, months and weekdays that a schedule names, a bit for each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Fields {
    minutes: u64,
    hours: u64,
    days: u64,
    months: u64,
    weekdays: u64,
    /// Whether the days and the weekdays were both restricted: then either is enough (POSIX crontab).
    either_day: bool,
}

/// Why a schedule cannot be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadSchedule {
    #[error("expected exactly 5 fields, found {0}")]
    FieldCount(usize),
    #[error("{0:?} is not a value of the field")]
    Value(String),
    #[error("unrecognized descriptor: {0}")]
    Descriptor(String),
}

/// Schedules that never come are searched for so many years.
const YEARS: i16 = 5;
const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];
const WEEKDAYS: [&str; 7] = ["sun", "mon", "tue", "wed", "thu", "fri", "sat"];

impl std::str::FromStr for Schedule {
    type Err = BadSchedule;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let text = text.trim();
        let spelled = match text {
            "@yearly" | "@annually" => "0 0 1 1 *",
            "@monthly" => "0 0 1 * *",
            "@weekly" => "0 0 * * 0",
            "@daily" | "@midnight" => "0 0 * * *",
            "@hourly" => "0 * * * *",
            _ => match text.strip_prefix("@every ") {
                Some(duration) => return every(duration).ok_or_else(|| BadSchedule::Descriptor(text.to_owned())),
                None if text.starts_with('@') => return Err(BadSchedule::Descriptor(text.to_owned())),
                None => text,
            },
        };
        let fields: Vec<&str> = spelled.split_whitespace().collect();
        let [minutes, hours, days, months, weekdays] = fields.as_slice() else {
            return Err(BadSchedule::FieldCount(fields.len()));
        };
        let is_open = |field: &str| field.starts_with('*') || field.starts_with('?');
        let weekday_bits = field(weekdays, 0, 7, &WEEKDAYS, 0)?;
        Ok(Schedule::Fields(Fields {
            minutes: field(minutes, 0, 59, &[], 0)?,
            hours: field(hours, 0, 23, &[], 0)?,
            days: field(days, 1, 31, &[], 0)?,
            months: field(months, 1, 12, &MONTHS, 1)?,
            // Seven is Sunday, too.
            weekdays: (weekday_bits | weekday_bits >> 7) & 0x7f,
            either_day: !is_open(days) && !is_open(weekdays),
        }))
    }
}

/// A duration as Go writes it: `1h30m`, `90s`. Fractions of a second are dropped, and a second is the least.
fn every(text: &str) -> Option<Schedule> {
    let mut seconds: f64 = 0.0;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, tail) = rest.split_at_checked(digits)?;
        let unit_end = tail.find(|c: char| c.is_ascii_digit()).unwrap_or(tail.len());
        let (unit, tail) = tail.split_at_checked(unit_end)?;
        let factor = match unit {
            "h" => 3_600.0,
            "m" => 60.0,
            "s" => 1.0,
            "ms" => 0.001,
            _ => return None,
        };
        seconds += number.parse::<f64>().ok()? * factor;
        rest = tail;
    }
    #[allow(clippy::cast_possible_truncation)]
    let whole = seconds.clamp(1.0, 1e9) as i64;
    Some(Schedule::Every(whole))
}

fn field(text: &str, least: u32, most: u32, names: &[&str], first_name: u32) -> Result<u64, BadSchedule> {
    let bad = || BadSchedule::Value(text.to_owned());
    let number = |text: &str| -> Option<u32> {
        let name = names.iter().position(|name| name.eq_ignore_ascii_case(text));
        let number = match name {
            Some(at) => u32::try_from(at).ok()?.checked_add(first_name)?,
            None => text.parse().ok()?,
        };
        (least..=most).contains(&number).then_some(number)
    };
    let mut bits = 0u64;
    for part in text.split(',') {
        let (range, step) = match part.split_once('/') {
            Some((range, step)) => (range, step.parse::<u32>().ok().filter(|step| *step > 0).ok_or_else(bad)?),
            None => (part, 1),
        };
        let open_end = part.contains('/');
        let (first, last) = match (range, range.split_once('-')) {
            ("*" | "?", _) => (least, most),
            (_, Some((first, last))) => (number(first).ok_or_else(bad)?, number(last).ok_or_else(bad)?),
            (single, None) => {
                let first = number(single).ok_or_else(bad)?;
                (first, if open_end { most } else { first })
            }
        };
        if first > last {
            return Err(bad());
        }
        let mut value = first;
        while value <= last {
            bits |= 1 << value;
            value = value.saturating_add(step);
        }
    }
    Ok(bits)
}

impl Fields {
    fn has_day(&self, date: Date) -> bool {
        let bit = |bits: u64, at: i8| u32::try_from(at).is_ok_and(|at| bits >> at & 1 == 1);
        let day = bit(self.days, date.day());
        let weekday = bit(self.weekdays, date.weekday().to_sunday_zero_offset());
        bit(self.months, date.month()) && if self.either_day { day || weekday } else { day && weekday }
    }

    /// The next minute of the wall clock after `after`.
    fn next(&self, after: DateTime) -> Option<DateTime> {
        let mut date = after.date();
        let last_year = date.year().checked_add(YEARS)?;
        let mut earliest = Some((i32::from(after.hour()), i32::from(after.minute())));
        while date.year() <= last_year {
            if self.has_day(date) {
                let (hour, minute) = earliest.unwrap_or((-1, -1));
                for at in 0..24i8 {
                    if i32::from(at) < hour || self.hours >> at & 1 == 0 {
                        continue;
                    }
                    let from = if i32::from(at) == hour { minute + 1 } else { 0 };
                    if let Some(found) = (0..60i8).find(|m| i32::from(*m) >= from && self.minutes >> *m & 1 == 1) {
                        return Some(date.at(at, found, 0, 0));
                    }
                }
            }
            earliest = None;
            date = date.tomorrow().ok()?;
        }
        None
    }
}

impl Schedule {
    /// The next time after `after`; `None` for a schedule that never comes.
    pub(crate) fn next(&self, after: Timestamp, zone: &TimeZone) -> Option<Timestamp> {
        match self {
            Schedule::Every(seconds) => after.checked_add(SignedDuration::from_secs(*seconds)).ok(),
            Schedule::Fields(fields) => {
                let mut wall = after.to_zoned(zone.clone()).datetime();
                loop {
                    let next = fields.next(wall)?;
                    let ambiguous = zone.to_ambiguous_zoned(next);
                    // A minute that the clock leaps over does not come; one that comes twice counts once.
                    if ambiguous.is_ambiguous() && matches!(ambiguous.offset(), jiff::tz::AmbiguousOffset::Gap { .. }) {
                        wall = next;
                        continue;
                    }
                    let time = ambiguous.earlier().ok()?.timestamp();
                    if time > after {
                        return Some(time);
                    }
                    wall = next.checked_add(0.minutes()).ok()?;
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn next(schedule: &str, after: &str, zone: &str) -> Option<String> {
        let zone = TimeZone::get(zone).unwrap();
        let schedule: Schedule = schedule.parse().unwrap();
        schedule.next(after.parse().unwrap(), &zone).map(|time| time.to_string())
    }

    #[test]
    fn the_next_time_is_found() {
        for (schedule, after, expected) in [
            ("* * * * *", "2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
            ("* * * * *", "2026-01-01T00:00:30Z", "2026-01-01T00:01:00Z"),
            ("*/15 * * * *", "2026-01-01T00:50:00Z", "2026-01-01T01:00:00Z"),
            ("5/20 * * * *", "2026-01-01T00:30:00Z", "2026-01-01T00:45:00Z"),
            ("30 4 1,15 * *", "2026-01-02T00:00:00Z", "2026-01-15T04:30:00Z"),
            ("0 0 29 2 *", "2026-03-01T00:00:00Z", "2028-02-29T00:00:00Z"),
            ("0 9-17/4 * jan-mar MON-fri", "2026-01-02T17:30:00Z", "2026-01-05T09:00:00Z"),
            // The 13th, or any Friday.
            ("0 0 13 * 5", "2026-01-01T00:00:00Z", "2026-01-02T00:00:00Z"),
            ("0 0 * * 7", "2026-01-01T00:00:00Z", "2026-01-04T00:00:00Z"),
            ("@hourly", "2026-01-01T00:00:00Z", "2026-01-01T01:00:00Z"),
            ("@every 1h30m", "2026-01-01T00:00:05Z", "2026-01-01T01:30:05Z"),
        ] {
            assert_eq!(next(schedule, after, "UTC").as_deref(), Some(expected), "{schedule}");
        }
        assert_eq!(next("0 0 31 2 *", "2026-01-01T00:00:00Z", "UTC"), None);
    }

    #[test]
    fn time_zones_shift_and_skip() {
        let berlin = "Europe/Berlin";
        assert_eq!(next("0 8 * * *", "2026-01-01T08:00:00Z", berlin).unwrap(), "2026-01-02T07:00:00Z");
        assert_eq!(next("0 8 * * *", "2026-07-01T08:00:00Z", berlin).unwrap(), "2026-07-02T06:00:00Z");
        // 02:30 does not exist on the last Sunday of March.
        assert_eq!(next("30 2 * * *", "2026-03-28T12:00:00Z", berlin).unwrap(), "2026-03-30T00:30:00Z");
        // 02:30 comes twice on the last Sunday of October.
        assert_eq!(next("30 2 * * *", "2026-10-24T12:00:00Z", berlin).unwrap(), "2026-10-25T00:30:00Z");
        assert_eq!(next("30 2 * * *", "2026-10-25T00:30:00Z", berlin).unwrap(), "2026-10-26T01:30:00Z");
    }

    #[test]
    fn what_is_no_schedule_is_refused() {
        for bad in [
            "",
            "* * * *",
            "* * * * * *",
            "60 * * * *",
            "* 24 * * *",
            "* * 0 * *",
            "5-1 * * * *",
            "*/0 * * * *",
            "@never",
            "@every",
            "@every 5",
            "x * * * *",
            "TZ=UTC * * * * *",
        ] {
            assert!(bad.parse::<Schedule>().is_err(), "{bad}");
        }
    }
}

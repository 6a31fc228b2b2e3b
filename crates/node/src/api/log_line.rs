//! Lines of a container's log: `TIME STREAM F|P TEXT` in CRI's form, shown as the client wants them.

use jiff::Timestamp;

/// Which lines are wanted, and how they are shown.
#[derive(Clone, Debug, Default)]
pub(super) struct Wanted {
    pub(super) timestamps: bool,
    pub(super) since: Option<Timestamp>,
    /// `stdout` or `stderr`; both if none.
    pub(super) stream: Option<String>,
}

/// Shows lines one after the other.
#[derive(Debug)]
pub(super) struct Shown {
    wanted: Wanted,
    /// Whether what was shown last ended its line: what follows a part has no time of its own.
    ended: bool,
}

impl Shown {
    pub(super) fn new(wanted: Wanted) -> Self {
        Self { wanted, ended: true }
    }

    /// A line as it is shown; `None` when it is not wanted or is no line of a log.
    pub(super) fn show(&mut self, line: &[u8]) -> Option<Vec<u8>> {
        let line = line.strip_suffix(b"\n").unwrap_or(line);
        let mut words = line.splitn(4, |b| *b == b' ');
        let at = std::str::from_utf8(words.next()?).ok()?;
        let (stream, tag, text) = (words.next()?, words.next()?, words.next().unwrap_or_default());
        if self.wanted.stream.as_ref().is_some_and(|wanted| !wanted.as_bytes().eq_ignore_ascii_case(stream)) {
            return None;
        }
        if let Some(since) = self.wanted.since
            && at.parse::<Timestamp>().is_ok_and(|at| at < since)
        {
            return None;
        }
        let mut out = Vec::with_capacity(line.len() + 1);
        if self.wanted.timestamps && self.ended {
            out.extend_from_slice(nine_digits(at).as_bytes());
            out.push(b' ');
        }
        out.extend_from_slice(text);
        // More tags may follow after colons (CRI's log format).
        self.ended = tag.split(|b| *b == b':').next() != Some(b"P");
        if self.ended {
            out.push(b'\n');
        }
        Some(out)
    }
}

/// A time of RFC 3339 with all nine digits of its fraction, as upstream shows it; runtimes may leave zeros out.
fn nine_digits(at: &str) -> String {
    let end = at.find(['Z', '+']).or_else(|| at.rfind('-').filter(|i| *i > 10)).unwrap_or(at.len());
    let (time, zone) = at.split_at(end);
    let (seconds, fraction) = time.split_once('.').unwrap_or((time, ""));
    format!("{seconds}.{fraction:0<9}{zone}")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn all(wanted: Wanted, lines: &[&str]) -> String {
        let mut shown = Shown::new(wanted);
        let shown = lines.iter().filter_map(|line| shown.show(line.as_bytes())).flatten().collect();
        String::from_utf8(shown).unwrap()
    }

    const LINES: [&str; 4] = [
        "2026-01-02T03:04:05.1Z stdout F one\n",
        "2026-01-02T03:04:06Z stdout P tw\n",
        "2026-01-02T03:04:06.000000001Z stdout F o\n",
        "2026-01-02T03:04:07.123456789+02:00 stderr F \n",
    ];

    #[test]
    fn parts_are_put_together() {
        assert_eq!(all(Wanted::default(), &LINES), "one\ntwo\n\n");
    }

    #[test]
    fn times_have_nine_digits_and_stand_once_a_line() {
        let wanted = Wanted { timestamps: true, ..Wanted::default() };
        assert_eq!(
            all(wanted, &LINES),
            "2026-01-02T03:04:05.100000000Z one\n2026-01-02T03:04:06.000000000Z two\n\
             2026-01-02T03:04:07.123456789+02:00 \n"
        );
        assert_eq!(nine_digits("2026-01-02T03:04:05-07:00"), "2026-01-02T03:04:05.000000000-07:00");
    }

    #[test]
    fn a_stream_or_a_time_alone_can_be_wanted() {
        let errors = Wanted { stream: Some("Stderr".into()), ..Wanted::default() };
        assert_eq!(all(errors, &LINES), "\n");
        let late = Wanted { since: Some("2026-01-02T03:04:06Z".parse().unwrap()), ..Wanted::default() };
        assert_eq!(all(late, &LINES[..3]), "two\n");
    }

    #[test]
    fn what_is_no_line_is_passed_over_and_bytes_are_kept() {
        assert_eq!(all(Wanted::default(), &["", "garbage", "a b", "\n"]), "");
        let mut shown = Shown::new(Wanted::default());
        assert_eq!(shown.show(b"2026-01-02T03:04:05Z stdout F \xff\xfe\n"), Some(b"\xff\xfe\n".to_vec()));
    }
}

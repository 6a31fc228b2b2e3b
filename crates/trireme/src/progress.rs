//! What a command shows while it works: one line a step, with its time, on standard error.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::io::{IsTerminal, Write};
use std::time::{Duration, Instant};

/// Shows steps as they end.
pub struct Progress {
    begun: Instant,
    colours: bool,
}

impl Progress {
    /// Begins to show.
    pub fn start() -> Self {
        Self { begun: Instant::now(), colours: std::io::stderr().is_terminal() }
    }

    /// A step has ended.
    pub fn done(&self, what: &str) {
        let at = self.begun.elapsed();
        let (green, plain) = if self.colours { ("\x1b[32m", "\x1b[0m") } else { ("", "") };
        self.line(&format!("{green}✓{plain} {what:<44} {:>8}", human(at)));
    }

    /// Something the user should know.
    pub fn say(&self, what: &str) {
        self.line(what);
    }

    fn line(&self, text: &str) {
        // A closed standard error must not stop a cluster.
        let _ = writeln!(std::io::stderr().lock(), "{text}");
    }
}

/// How far one thing has come, in one line of a terminal that is written over; nothing where there is no terminal.
pub struct Bar {
    what: String,
    shown: bool,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    expected: u64,
    counted: u64,
    parts: HashMap<String, u64>,
    drawn: Option<Instant>,
}

/// The line is written at most this often.
const REDRAW: Duration = Duration::from_millis(100);

impl Bar {
    /// Nothing has come yet.
    pub fn new(what: &str) -> Self {
        Self { what: what.to_owned(), shown: std::io::stderr().is_terminal(), state: Mutex::default() }
    }

    /// So many bytes are to come.
    pub fn expect(&self, bytes: u64) {
        self.change(|state| state.expected = bytes);
    }

    /// So many more have come.
    pub fn add(&self, bytes: u64) {
        self.change(|state| state.counted += bytes);
    }

    /// So many of one part have come.
    pub fn part(&self, part: &str, bytes: u64) {
        self.change(|state| {
            state.parts.insert(part.to_owned(), bytes);
        });
    }

    fn change(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.state.lock();
        change(&mut state);
        let now = Instant::now();
        if !self.shown || state.drawn.is_some_and(|drawn| now.duration_since(drawn) < REDRAW) {
            return;
        }
        state.drawn = Some(now);
        let here = state.counted + state.parts.values().sum::<u64>();
        let text = match (here * 100).checked_div(state.expected) {
            Some(percent) => format!("{} {:>3} %", self.what, percent.min(100)),
            None => format!("{} {} kB", self.what, here / 1000),
        };
        let _ = write!(std::io::stderr().lock(), "\r\x1b[2K{text}");
    }
}

impl Drop for Bar {
    fn drop(&mut self) {
        if self.shown && self.state.lock().drawn.is_some() {
            let _ = write!(std::io::stderr().lock(), "\r\x1b[2K");
        }
    }
}

/// A time as people read it.
pub fn human(time: Duration) -> String {
    if time < Duration::from_secs(1) {
        format!("{} ms", time.as_millis())
    } else {
        format!("{:.1} s", time.as_secs_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_short() {
        assert_eq!(human(Duration::from_millis(42)), "42 ms");
        assert_eq!(human(Duration::from_millis(1_540)), "1.5 s");
    }
}

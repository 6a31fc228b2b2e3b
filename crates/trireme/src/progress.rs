//! What a command shows while it works: one line a step, with its time, on standard error.

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

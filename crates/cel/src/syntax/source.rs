//! The text of an expression, and what is wrong with it and where.

use std::fmt;

/// A place in an expression; lines count from 1, columns from 0, in code points.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Location {
    /// The line, from 1; -1 when there is no place.
    pub line: i32,
    /// The column, from 0; -1 when there is no place.
    pub column: i32,
}

impl Location {
    /// For what is wrong with the whole.
    pub const NONE: Self = Self { line: -1, column: -1 };
}

/// What is wrong with an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issue {
    /// Where.
    pub at: Location,
    /// In cel-go's words.
    pub message: String,
}

/// Everything that is wrong with an expression. It displays as cel-go does, with source lines and carets.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", display(.text, .list))]
pub struct Issues {
    text: String,
    list: Vec<Issue>,
}

/// How many issues are written at the most.
const SHOWN: usize = 100;
/// The longest line that is repeated under an issue, in bytes.
const LONGEST_SNIPPET: usize = 16384;

impl Issues {
    pub(crate) fn new(text: &str, mut list: Vec<Issue>) -> Self {
        list.sort_by_key(|issue| issue.at);
        Self { text: text.to_owned(), list }
    }

    /// The issues in the order of their places.
    pub fn list(&self) -> &[Issue] {
        &self.list
    }
}

fn display(text: &str, list: &[Issue]) -> String {
    let mut lines: Vec<String> = list.iter().take(SHOWN).map(|issue| Shown { text, issue }.to_string()).collect();
    if list.len() > SHOWN {
        lines.push(format!("{} more errors were truncated", list.len() - SHOWN));
    }
    lines.join("\n")
}

struct Shown<'a> {
    text: &'a str,
    issue: &'a Issue,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Location { line, column } = self.issue.at;
        write!(f, "ERROR: <input>:{line}:{}: {}", column + 1, self.issue.message)?;
        let snippet = usize::try_from(line - 1).ok().and_then(|n| self.text.split('\n').nth(n));
        let Some(snippet) = snippet.filter(|s| !self.text.is_empty() && s.len() <= LONGEST_SNIPPET) else {
            return Ok(());
        };
        let snippet = snippet.replace('\t', " ");
        write!(f, "\n | {snippet}\n | ")?;
        // Characters outside ASCII are as wide as two: so are the dots under them.
        let mut chars = snippet.chars();
        for _ in 0..column.max(0) {
            let Some(c) = chars.next() else { break };
            f.write_str(if c.is_ascii() { "." } else { "\u{ff0e}" })?;
        }
        f.write_str(if chars.next().is_none_or(|c| c.is_ascii()) { "^" } else { "\u{ff3e}" })
    }
}

/// Finds lines and columns.
pub(crate) struct Places<'a> {
    text: &'a str,
    line_starts: Vec<usize>,
}

impl<'a> Places<'a> {
    pub(crate) fn new(text: &'a str) -> Self {
        let after_breaks = text.bytes().enumerate().filter(|(_, b)| *b == b'\n').map(|(i, _)| i + 1);
        Self { text, line_starts: std::iter::once(0).chain(after_breaks).collect() }
    }

    /// The place of the byte at `offset`.
    pub(crate) fn at(&self, offset: u32) -> Location {
        let offset = (offset as usize).min(self.text.len());
        let line = self.line_starts.partition_point(|start| *start <= offset);
        let start = self.line_starts[line - 1];
        let column = self.text.get(start..offset).map_or(0, |s| s.chars().count());
        Location { line: line as i32, column: column as i32 }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_issue_shows_its_line_and_a_caret() {
        let text = "a &&\n\u{e4}\t b";
        let at = Places::new(text).at(9);
        assert_eq!(at, Location { line: 2, column: 3 });
        let issues = Issues::new(text, vec![Issue { at, message: "no".to_owned() }]);
        assert_eq!(issues.to_string(), "ERROR: <input>:2:4: no\n | \u{e4}  b\n | \u{ff0e}..^");
    }

    #[test]
    fn what_concerns_the_whole_has_no_line() {
        let issues = Issues::new("a", vec![Issue { at: Location::NONE, message: "big".to_owned() }]);
        assert_eq!(issues.to_string(), "ERROR: <input>:-1:0: big");
    }
}

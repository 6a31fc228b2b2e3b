//! Regular expressions as Go writes them (RE2), read by Rust's engine: the same language but for a few signs.

use regex_syntax::ast::{self, ErrorKind};
use std::sync::OnceLock;

/// A regular expression, compiled when it is first used.
#[derive(Debug)]
pub struct Pattern {
    /// As it is written.
    pub text: Box<str>,
    compiled: OnceLock<Option<regex::Regex>>,
}

/// The most memory that the states of one expression take.
const STATES: usize = 64 << 10;

impl Pattern {
    /// An expression, good or bad.
    pub fn new(text: &str) -> Self {
        Self { text: text.into(), compiled: OnceLock::new() }
    }

    /// Whether a text holds what is described; no text does when the expression is none.
    pub fn holds(&self, text: &str) -> bool {
        let compiled = self
            .compiled
            .get_or_init(|| regex::RegexBuilder::new(&translate(&self.text)).dfa_size_limit(STATES).build().ok());
        compiled.as_ref().is_some_and(|r| r.is_match(text))
    }
}

/// What is wrong with an expression, in Go's words.
pub fn error(text: &str) -> Option<String> {
    let words = |what: &str, shown: &str| Some(format!("error parsing regexp: {what}: `{shown}`"));
    if let Some(look) = ["(?=", "(?!", "(?<=", "(?<!"].into_iter().find(|look| text.contains(look)) {
        return words("invalid or unsupported Perl syntax", look);
    }
    let translated = translate(text);
    let error = match ast::parse::Parser::new().parse(&translated) {
        Err(error) => error,
        Ok(_) => {
            let whole = regex_syntax::parse(&translated).err()?;
            return words("invalid character class range", &whole.to_string());
        }
    };
    let at = |span: &ast::Span| translated.get(span.start.offset..span.end.offset).unwrap_or_default();
    let span = error.span();
    match error.kind() {
        ErrorKind::ClassUnclosed => {
            let from = text.find('[').unwrap_or(0);
            words("missing closing ]", &text[from..])
        }
        ErrorKind::GroupUnclosed => words("missing closing )", text),
        ErrorKind::GroupUnopened => words("unexpected )", text),
        ErrorKind::RepetitionMissing => {
            let sign = translated.get(span.start.offset..).and_then(|rest| rest.chars().next());
            words("missing argument to repetition operator", &sign.map(String::from).unwrap_or_default())
        }
        ErrorKind::EscapeUnexpectedEof => words("trailing backslash at end of expression", ""),
        ErrorKind::EscapeUnrecognized => words("invalid escape sequence", at(span)),
        ErrorKind::ClassRangeInvalid => words("invalid character class range", at(span)),
        ErrorKind::RepetitionCountInvalid => words("invalid repeat count", at(span)),
        _ => words("invalid or unsupported Perl syntax", at(span)),
    }
}

/// Go's expression in Rust's signs: classes of letters are ASCII, and nothing is special within brackets but `-`, `^`, `]`
/// and `[:name:]`.
fn translate(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    let mut chars = text.chars().peekable();
    let mut class = false;
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                None => out.push('\\'),
                Some('Q') => {
                    let mut literal = String::new();
                    while let Some(c) = chars.next() {
                        if c == '\\' && chars.peek() == Some(&'E') {
                            chars.next();
                            break;
                        }
                        literal.push(c);
                    }
                    out.push_str(&regex::escape(&literal));
                }
                Some(c) => out.push_str(&escaped(c, class)),
            },
            '[' if !class => {
                class = true;
                out.push('[');
                if chars.peek() == Some(&'^') {
                    chars.next();
                    out.push('^');
                }
                // A bracket that comes first is meant as it is.
                if chars.peek() == Some(&']') {
                    chars.next();
                    out.push_str("\\]");
                }
            }
            '[' if chars.peek() == Some(&':') => {
                out.push('[');
                for c in chars.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            '[' => out.push_str("\\["),
            ']' if class => {
                class = false;
                out.push(']');
            }
            '&' | '~' if class => {
                out.push('\\');
                out.push(c);
            }
            '-' if class && chars.peek() == Some(&'-') => out.push_str("\\-"),
            c => out.push(c),
        }
    }
    out
}

fn escaped(c: char, class: bool) -> String {
    const DIGIT: &str = "0-9";
    const WORD: &str = "0-9A-Za-z_";
    const SPACE: &str = "\\t\\n\\x0C\\r\\x20";
    let set = |members: &str, not: bool| match (class, not) {
        (true, false) => members.to_owned(),
        (_, true) => format!("[^{members}]"),
        (false, false) => format!("[{members}]"),
    };
    match c {
        'd' | 'D' => set(DIGIT, c == 'D'),
        'w' | 'W' => set(WORD, c == 'W'),
        's' | 'S' => set(SPACE, c == 'S'),
        'b' | 'B' if !class => format!("(?-u:\\{c})"),
        c => format!("\\{c}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn expressions_mean_what_they_mean_in_go() {
        for (pattern, good, bad) in [
            (r"^\d+$", "12", "١٢"),
            (r"^[\w.-]+$", "a_1.-", "é"),
            (r"^[a&&b]+$", "a&b", "c"),
            (r"^[[a]+$", "[a", "b"),
            (r"^\Qa.b\E$", "a.b", "axb"),
            (r"^[]a]+$", "]a", "b"),
            (r"^[[:alpha:]]+$", "ab", "1"),
        ] {
            let pattern = Pattern::new(pattern);
            assert!(pattern.holds(good) && !pattern.holds(bad), "{}", pattern.text);
            assert_eq!(error(&pattern.text), None);
        }
    }

    #[test]
    fn bad_expressions_are_told_in_gos_words() {
        for (pattern, why) in [
            ("[", "missing closing ]: `[`"),
            ("a(b", "missing closing ): `a(b`"),
            ("a)", "unexpected ): `a)`"),
            ("*a", "missing argument to repetition operator: `*`"),
            ("(?!x)a", "invalid or unsupported Perl syntax: `(?!`"),
            ("a\\", "trailing backslash at end of expression: ``"),
        ] {
            assert_eq!(error(pattern), Some(format!("error parsing regexp: {why}")));
        }
    }
}

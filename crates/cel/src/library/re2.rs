//! RE2's patterns, as Go has them, in the language of the `regex` crate: it matches in the same way, in linear time, but
//! some things are written or meant otherwise.

use crate::error::EvalError;
use regex::{Regex, RegexBuilder};
use std::iter::Peekable;
use std::str::Chars;

/// The largest program that a pattern may become, in bytes; RE2 has a limit of its own.
const LARGEST: usize = 4 << 20;
/// Go's limit for `x{n}`.
const MOST_REPEATS: u32 = 1000;

/// Compiles a pattern.
///
/// # Errors
/// It is none.
pub fn compile_pattern(pattern: &str) -> Result<Regex, EvalError> {
    let bad = |why: &str| EvalError::new(format!("error parsing regexp: {why}: `{pattern}`"));
    let translated = translate(pattern).map_err(bad)?;
    RegexBuilder::new(&translated).size_limit(LARGEST).build().map_err(|error| match error {
        regex::Error::CompiledTooBig(_) => bad("expression too large"),
        other => {
            let reason = other.to_string();
            bad(reason.lines().last().unwrap_or_default().trim_start_matches("error: "))
        }
    })
}

type Written = Result<String, &'static str>;

fn translate(pattern: &str) -> Written {
    let mut out = String::with_capacity(pattern.len() + 8);
    let mut rest = pattern.chars().peekable();
    while let Some(c) = rest.next() {
        match c {
            '\\' => out.push_str(&escape(&mut rest, false)?),
            '[' => out.push_str(&class(&mut rest)?),
            '{' => out.push_str(&repetition(&mut rest)?),
            '(' => {
                out.push('(');
                flags(&rest)?;
            }
            other => out.push(other),
        }
    }
    Ok(out)
}

/// What a backslash is followed by. `\d`, `\w`, `\s` and `\b` are about ASCII.
fn escape(rest: &mut Peekable<Chars<'_>>, in_class: bool) -> Written {
    let set = |inner: &str| if in_class { inner.to_owned() } else { format!("[{inner}]") };
    let Some(c) = rest.next() else { return Err("trailing backslash at end of expression") };
    Ok(match c {
        'd' => set("0-9"),
        'w' => set("0-9A-Za-z_"),
        's' => set(r"\t\n\x0c\r "),
        'D' => "[^0-9]".to_owned(),
        'W' => "[^0-9A-Za-z_]".to_owned(),
        'S' => r"[^\t\n\x0c\r ]".to_owned(),
        'b' if !in_class => r"(?-u:\b)".to_owned(),
        'B' if !in_class => r"(?-u:\B)".to_owned(),
        'Q' if !in_class => quoted(rest),
        'A' | 'z' if !in_class => format!("\\{c}"),
        'p' | 'P' | 'x' => {
            let mut name = format!("\\{c}");
            if rest.peek() == Some(&'{') {
                name.extend(rest.by_ref().take_while(|c| *c != '}'));
                name.push('}');
            }
            name
        }
        'a' | 'f' | 't' | 'n' | 'r' | 'v' => format!("\\{c}"),
        '0'..='7' => octal(c, rest)?,
        c if c.is_ascii_punctuation() => regex::escape(&c.to_string()),
        _ => return Err("invalid escape sequence"),
    })
}

/// `\Q...\E`.
fn quoted(rest: &mut Peekable<Chars<'_>>) -> String {
    let mut text = String::new();
    while let Some(c) = rest.next() {
        if c == '\\' && rest.peek() == Some(&'E') {
            rest.next();
            break;
        }
        text.push(c);
    }
    regex::escape(&text)
}

/// `\0`, `\012`, `\123`; other digits alone would refer to groups.
fn octal(first: char, rest: &mut Peekable<Chars<'_>>) -> Written {
    let mut value = first.to_digit(8).unwrap_or_default();
    let mut count = 1;
    while let Some(digit) = rest.peek().and_then(|c| c.to_digit(8)).filter(|_| count < 3) {
        rest.next();
        value = value * 8 + digit;
        count += 1;
    }
    if first != '0' && count == 1 { Err("invalid escape sequence") } else { Ok(format!("\\x{{{value:x}}}")) }
}

/// `[...]`: within it `[`, `&&`, `--` and `~~` mean nothing else.
fn class(rest: &mut Peekable<Chars<'_>>) -> Written {
    let mut out = String::from("[");
    if rest.peek() == Some(&'^') {
        rest.next();
        out.push('^');
    }
    // Whether what has been read last can be the beginning of a range.
    let mut begins = false;
    let mut first = true;
    while let Some(c) = rest.next() {
        match c {
            ']' if !first => {
                out.push(']');
                return Ok(out);
            }
            '-' if begins && rest.peek().is_some_and(|c| *c != ']') => {
                out.push('-');
                let Some(last) = rest.next() else { break };
                out.push_str(&member(last, rest)?);
                begins = false;
            }
            '[' if rest.peek() == Some(&':') => {
                // `[:alpha:]`, which the crate has too.
                let name: String = std::iter::once('[').chain(rest.by_ref().take_while(|c| *c != ']')).collect();
                out.push_str(&name);
                out.push(']');
                begins = false;
            }
            other => {
                begins = !(other == '\\' && matches!(rest.peek(), Some('d' | 'D' | 'w' | 'W' | 's' | 'S' | 'p' | 'P')));
                out.push_str(&member(other, rest)?);
            }
        }
        first = false;
    }
    Err("missing closing ]")
}

/// A character of a class.
fn member(c: char, rest: &mut Peekable<Chars<'_>>) -> Written {
    match c {
        '\\' => escape(rest, true),
        ']' | '[' | '&' | '~' | '-' | '^' => Ok(format!("\\{c}")),
        other => Ok(other.to_string()),
    }
}

/// `{2}`, `{2,}`, `{2,3}`, or a brace.
fn repetition(rest: &mut Peekable<Chars<'_>>) -> Written {
    let ahead: String = rest.clone().take_while(|c| *c != '}').collect();
    let closed = rest.clone().nth(ahead.chars().count()) == Some('}');
    let (least, most) = ahead.split_once(',').map_or((ahead.as_str(), None), |(least, most)| (least, Some(most)));
    let number = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit());
    if !closed || !number(least) || most.is_some_and(|most| !most.is_empty() && !number(most)) {
        return Ok("\\{".to_owned());
    }
    let too_many = |text: &str| text.parse::<u32>().map_or(true, |n| n > MOST_REPEATS);
    if too_many(least) || most.is_some_and(|most| !most.is_empty() && too_many(most)) {
        return Err("invalid repeat count");
    }
    // The digits and the brace come by themselves.
    Ok("{".to_owned())
}

/// `(?...` may name a group or set the flags `i`, `m`, `s`, `U`.
fn flags(rest: &Peekable<Chars<'_>>) -> Result<(), &'static str> {
    let mut ahead = rest.clone();
    if ahead.next_if_eq(&'?').is_none() || matches!(ahead.peek(), Some('P' | '<')) {
        return Ok(());
    }
    match ahead.find(|c| !"imsU-".contains(*c)) {
        Some(':' | ')') => Ok(()),
        _ => Err("invalid or unsupported Perl syntax"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_mean_what_they_mean_to_go() {
        for (pattern, text, matches) in [
            (r"^\d+$", "12", true),
            (r"^\d+$", "\u{661}\u{662}", false),
            (r"^\w$", "\u{e4}", false),
            (r"^\W$", "\u{e4}", true),
            (r"^[\w.-]+$", "a_1.-", true),
            (r"\bfoo\b", "a foo b", true),
            (r"\Bb", "ab", true),
            (r"^[[]$", "[", true),
            (r"^[]a]+$", "]a", true),
            (r"^[a&&b]+$", "&ab", true),
            (r"^[+--]$", ",", true),
            (r"^[a-c-]+$", "b-", true),
            (r"^[-a]+$", "-a", true),
            (r"^[\w-]+$", "a-", true),
            (r"^a{$", "a{", true),
            (r"^a{2,3}$", "aaa", true),
            (r"^\Qa.b\E$", "a.b", true),
            (r"^\Qa.b\E$", "axb", false),
            (r"^[[:alpha:]]+$", "abc", true),
            (r"^\x41\101$", "AA", true),
            (r"(?i)ABC", "abc", true),
            (r"^\p{Greek}$", "\u{3b1}", true),
            (r"^[^\s]$", "\u{a0}", true),
            (r"^a/b\-c\_$", "a/b-c_", true),
        ] {
            let compiled = compile_pattern(pattern).unwrap_or_else(|error| panic!("{pattern}: {error}"));
            assert_eq!(compiled.is_match(text), matches, "{pattern} {text}");
        }
    }

    #[test]
    fn what_go_does_not_take_is_refused() {
        for (pattern, why) in [
            ("[a", "missing closing ]"),
            ("a{1001}", "invalid repeat count"),
            ("(?x)a", "invalid or unsupported Perl syntax"),
            ("(?=a)", "invalid or unsupported Perl syntax"),
            (r"\8", "invalid escape sequence"),
            (r"a\", "trailing backslash at end of expression"),
        ] {
            let error = compile_pattern(pattern).expect_err(pattern).to_string();
            assert_eq!(error, format!("error parsing regexp: {why}: `{pattern}`"));
        }
        assert!(compile_pattern("(").is_err());
        assert!(compile_pattern(r"\1").is_err());
    }
}

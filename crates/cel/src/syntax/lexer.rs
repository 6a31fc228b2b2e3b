//! Text to tokens.

use std::fmt;

/// What a token is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Kind {
    Equals,
    NotEquals,
    In,
    Less,
    LessEquals,
    GreaterEquals,
    Greater,
    And,
    Or,
    OpenBracket,
    CloseBracket,
    OpenBrace,
    CloseBrace,
    OpenParen,
    CloseParen,
    Dot,
    Comma,
    Minus,
    Exclam,
    Question,
    Colon,
    Plus,
    Star,
    Slash,
    Percent,
    True,
    False,
    Null,
    Float,
    Int,
    Uint,
    String,
    Bytes,
    Identifier,
    Escaped,
    End,
}

impl fmt::Display for Kind {
    /// As cel-go's grammar names it in error messages.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Kind::Equals => "'=='",
            Kind::NotEquals => "'!='",
            Kind::In => "'in'",
            Kind::Less => "'<'",
            Kind::LessEquals => "'<='",
            Kind::GreaterEquals => "'>='",
            Kind::Greater => "'>'",
            Kind::And => "'&&'",
            Kind::Or => "'||'",
            Kind::OpenBracket => "'['",
            Kind::CloseBracket => "']'",
            Kind::OpenBrace => "'{'",
            Kind::CloseBrace => "'}'",
            Kind::OpenParen => "'('",
            Kind::CloseParen => "')'",
            Kind::Dot => "'.'",
            Kind::Comma => "','",
            Kind::Minus => "'-'",
            Kind::Exclam => "'!'",
            Kind::Question => "'?'",
            Kind::Colon => "':'",
            Kind::Plus => "'+'",
            Kind::Star => "'*'",
            Kind::Slash => "'/'",
            Kind::Percent => "'%'",
            Kind::True => "'true'",
            Kind::False => "'false'",
            Kind::Null => "'null'",
            Kind::Float => "NUM_FLOAT",
            Kind::Int => "NUM_INT",
            Kind::Uint => "NUM_UINT",
            Kind::String => "STRING",
            Kind::Bytes => "BYTES",
            Kind::Identifier => "IDENTIFIER",
            Kind::Escaped => "ESC_IDENTIFIER",
            Kind::End => "<EOF>",
        })
    }
}

/// A piece of the text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Token {
    pub(crate) kind: Kind,
    /// Its first byte.
    pub(crate) start: u32,
    /// The byte after its last.
    pub(crate) end: u32,
}

impl Token {
    pub(crate) fn text<'a>(&self, source: &'a str) -> &'a str {
        source.get(self.start as usize..self.end as usize).unwrap_or_default()
    }
}

/// Text that is no token: from the first byte to the one after the last.
pub(crate) type Unrecognized = (u32, u32);

/// The tokens, with [`Kind::End`] as the last, and what could not be read.
pub(crate) fn tokens(source: &str) -> (Vec<Token>, Vec<Unrecognized>) {
    let (mut found, mut bad) = (Vec::new(), Vec::new());
    let mut at = 0;
    while at < source.len() {
        let rest = &source[at..];
        match scan(rest) {
            Scan::Skip(length) => at += length,
            Scan::Token(kind, length) => {
                found.push(Token { kind, start: at as u32, end: (at + length) as u32 });
                at += length;
            }
            Scan::Bad(length) => {
                bad.push((at as u32, (at + length) as u32));
                at += length;
            }
        }
    }
    found.push(Token { kind: Kind::End, start: at as u32, end: at as u32 });
    (found, bad)
}

enum Scan {
    Skip(usize),
    Token(Kind, usize),
    /// So many bytes led to no token.
    Bad(usize),
}

fn scan(text: &str) -> Scan {
    let bytes = text.as_bytes();
    let second = bytes.get(1).copied();
    match bytes[0] {
        b' ' | b'\t' | b'\r' | b'\n' | 0x0c => {
            Scan::Skip(run(bytes, 0, |b| matches!(b, b' ' | b'\t' | b'\r' | b'\n' | 0x0c)))
        }
        b'/' if second == Some(b'/') => Scan::Skip(run(bytes, 0, |b| b != b'\n')),
        b'0'..=b'9' => number(bytes),
        b'.' if second.is_some_and(|b| b.is_ascii_digit()) => number(bytes),
        b'"' | b'\'' => string(text, 0, false, Kind::String),
        b'r' | b'R' if quote(second) => string(text, 1, true, Kind::String),
        b'b' | b'B' if quote(second) => string(text, 1, false, Kind::Bytes),
        b'b' | b'B' if matches!(second, Some(b'r' | b'R')) && quote(bytes.get(2).copied()) => {
            string(text, 2, true, Kind::Bytes)
        }
        b'_' | b'a'..=b'z' | b'A'..=b'Z' => identifier(text),
        b'`' => {
            let inner = run(bytes, 1, |b| b.is_ascii_alphanumeric() || b"_.-/ ".contains(&b));
            if inner > 1 && bytes.get(inner) == Some(&b'`') {
                Scan::Token(Kind::Escaped, inner + 1)
            } else {
                Scan::Bad(next_char(text, inner))
            }
        }
        first => symbol(text, first, second),
    }
}

fn quote(byte: Option<u8>) -> bool {
    matches!(byte, Some(b'"' | b'\''))
}

/// The end of the bytes from `from` on for which `keep` holds.
fn run(bytes: &[u8], from: usize, keep: impl Fn(u8) -> bool) -> usize {
    bytes[from..].iter().position(|b| !keep(*b)).map_or(bytes.len(), |n| from + n)
}

/// `at`, and the character there if there is one: what the lexer had read when it gave up.
fn next_char(text: &str, at: usize) -> usize {
    at + text[at..].chars().next().map_or(0, char::len_utf8)
}

fn identifier(text: &str) -> Scan {
    let end = run(text.as_bytes(), 0, |b| b.is_ascii_alphanumeric() || b == b'_');
    let kind = match &text[..end] {
        "in" => Kind::In,
        "true" => Kind::True,
        "false" => Kind::False,
        "null" => Kind::Null,
        _ => Kind::Identifier,
    };
    Scan::Token(kind, end)
}

fn symbol(text: &str, first: u8, second: Option<u8>) -> Scan {
    let pair = |with: u8, both: Kind, alone: Kind| {
        if second == Some(with) { Scan::Token(both, 2) } else { Scan::Token(alone, 1) }
    };
    let both = |kind: Kind| {
        if second == Some(first) { Scan::Token(kind, 2) } else { Scan::Bad(next_char(text, 1)) }
    };
    let one = |kind| Scan::Token(kind, 1);
    match first {
        b'=' => both(Kind::Equals),
        b'&' => both(Kind::And),
        b'|' => both(Kind::Or),
        b'!' => pair(b'=', Kind::NotEquals, Kind::Exclam),
        b'<' => pair(b'=', Kind::LessEquals, Kind::Less),
        b'>' => pair(b'=', Kind::GreaterEquals, Kind::Greater),
        b'[' => one(Kind::OpenBracket),
        b']' => one(Kind::CloseBracket),
        b'{' => one(Kind::OpenBrace),
        b'}' => one(Kind::CloseBrace),
        b'(' => one(Kind::OpenParen),
        b')' => one(Kind::CloseParen),
        b'.' => one(Kind::Dot),
        b',' => one(Kind::Comma),
        b'-' => one(Kind::Minus),
        b'?' => one(Kind::Question),
        b':' => one(Kind::Colon),
        b'+' => one(Kind::Plus),
        b'*' => one(Kind::Star),
        b'/' => one(Kind::Slash),
        b'%' => one(Kind::Percent),
        _ => Scan::Bad(next_char(text, 0)),
    }
}

fn number(bytes: &[u8]) -> Scan {
    let digits = |from| run(bytes, from, |b| b.is_ascii_digit());
    let unsigned = |end: usize| match bytes.get(end) {
        Some(b'u' | b'U') => Scan::Token(Kind::Uint, end + 1),
        _ => Scan::Token(Kind::Int, end),
    };
    if bytes.starts_with(b"0x") && bytes.get(2).is_some_and(u8::is_ascii_hexdigit) {
        return unsigned(run(bytes, 2, |b| b.is_ascii_hexdigit()));
    }
    let whole = digits(0);
    let mut end = whole;
    if bytes.get(end) == Some(&b'.') && bytes.get(end + 1).is_some_and(u8::is_ascii_digit) {
        end = digits(end + 1);
    }
    if let Some(b'e' | b'E') = bytes.get(end) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        if bytes.get(end + 1 + sign).is_some_and(u8::is_ascii_digit) {
            end = digits(end + 1 + sign);
        }
    }
    if end > whole { Scan::Token(Kind::Float, end) } else { unsigned(end) }
}

/// A string literal whose quote is at `from`.
fn string(text: &str, from: usize, raw: bool, kind: Kind) -> Scan {
    let bytes = text.as_bytes();
    let quote = bytes[from];
    let triple = bytes[from..].starts_with(&[quote; 3]);
    let mut at = from + if triple { 3 } else { 1 };
    loop {
        match bytes.get(at) {
            Some(&b) if b == quote => {
                if !triple {
                    return Scan::Token(kind, at + 1);
                }
                if bytes[at..].starts_with(&[quote; 3]) {
                    return Scan::Token(kind, at + 3);
                }
                at += 1;
            }
            Some(b'\n' | b'\r') if !triple => break,
            Some(b'\\') if !raw => match escape(&bytes[at..]) {
                Ok(length) => at += length,
                Err(length) => {
                    at += length;
                    break;
                }
            },
            Some(_) => at = next_char(text, at),
            None => break,
        }
    }
    // An open triple quote is an empty string and more.
    if triple {
        return Scan::Token(kind, from + 2);
    }
    // A letter before the quote is a name when the rest is no literal.
    if from > 0 {
        return identifier(text);
    }
    Scan::Bad(next_char(text, at))
}

/// The length of the escape sequence at the start, or how far it was one.
fn escape(bytes: &[u8]) -> Result<usize, usize> {
    let digits = |from: usize, count: usize, fits: fn(&u8) -> bool| {
        let good = bytes[from..].iter().take(count).take_while(|b| fits(b)).count();
        if good == count { Ok(from + count) } else { Err(from + good) }
    };
    match bytes.get(1) {
        Some(b'a' | b'b' | b'f' | b'n' | b'r' | b't' | b'v' | b'"' | b'\'' | b'\\' | b'?' | b'`') => Ok(2),
        Some(b'0'..=b'3') => digits(2, 2, |b| (b'0'..=b'7').contains(b)),
        Some(b'x' | b'X') => digits(2, 2, u8::is_ascii_hexdigit),
        Some(b'u') => digits(2, 4, u8::is_ascii_hexdigit),
        Some(b'U') => digits(2, 8, u8::is_ascii_hexdigit),
        _ => Err(1),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kinds(text: &str) -> (Vec<Kind>, Vec<&str>) {
        let (found, bad) = tokens(text);
        (
            found.iter().map(|t| t.kind).collect(),
            bad.iter().map(|(start, end)| &text[*start as usize..*end as usize]).collect(),
        )
    }

    #[test]
    fn tokens_are_the_longest_that_fit() {
        use Kind::*;
        for (text, want) in [
            ("a==b", vec![Identifier, Equals, Identifier, End]),
            ("1.5e-3 .5 1.x 1e3", vec![Float, Float, Int, Dot, Identifier, Float, End]),
            ("0xAfu 12U 0x", vec![Uint, Uint, Int, Identifier, End]),
            ("in inn true", vec![In, Identifier, True, End]),
            (r#"'a\'b' r'\' b"x" br'\x' '''a'b''' """#, vec![String, String, Bytes, Bytes, String, String, End]),
            ("a // rest\n+ `b-c.d/e`", vec![Identifier, Plus, Escaped, End]),
            ("<= < >= > != ! && ||", vec![LessEquals, Less, GreaterEquals, Greater, NotEquals, Exclam, And, Or, End]),
        ] {
            assert_eq!(kinds(text), (want, vec![]), "{text}");
        }
    }

    #[test]
    fn what_is_no_token_is_told() {
        for (text, want) in [
            ("a = b", vec!["= "]),
            ("\"\"\"", vec!["\""]),
            ("a $ b", vec!["$"]),
            ("'abc", vec!["'abc"]),
            ("a & b", vec!["& "]),
        ] {
            assert_eq!(kinds(text).1, want, "{text}");
        }
    }
}

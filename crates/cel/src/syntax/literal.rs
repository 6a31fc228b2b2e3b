//! What literals stand for.

/// Why a literal stands for nothing.
pub(super) const BAD: &str = "unable to unescape string";

/// The text of a string literal, or the bytes of a bytes literal without its `b`.
///
/// # Errors
/// cel-go's words.
pub(super) fn unquote(literal: &str, bytes: bool) -> Result<Vec<u8>, &'static str> {
    let literal = literal.replace("\r\n", "\n").replace('\r', "\n");
    let (raw, quoted) = match literal.strip_prefix(['r', 'R']) {
        Some(rest) => (true, rest),
        None => (false, literal.as_str()),
    };
    let width = if quoted.len() >= 6 && (quoted.starts_with("'''") || quoted.starts_with("\"\"\"")) { 3 } else { 1 };
    let inner = quoted.get(width..quoted.len().saturating_sub(width)).ok_or(BAD)?;
    if raw {
        return Ok(inner.as_bytes().to_vec());
    }
    let mut out = Vec::with_capacity(inner.len());
    let mut rest = inner;
    while let Some(at) = rest.find('\\') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let used = escape(&rest[at + 1..], bytes, &mut out)?;
        rest = &rest[at + 1 + used..];
    }
    out.extend_from_slice(rest.as_bytes());
    Ok(out)
}

/// Reads one escape sequence after its backslash; gives its length.
fn escape(text: &str, bytes: bool, out: &mut Vec<u8>) -> Result<usize, &'static str> {
    let first = *text.as_bytes().first().ok_or(BAD)?;
    let number = |from: usize, count: usize, radix: u32| {
        text.get(from..from + count).and_then(|digits| u32::from_str_radix(digits, radix).ok()).ok_or(BAD)
    };
    let (value, length) = match first {
        b'a' => (7, 1),
        b'b' => (8, 1),
        b'f' => (12, 1),
        b'n' => (10, 1),
        b'r' => (13, 1),
        b't' => (9, 1),
        b'v' => (11, 1),
        b'\\' | b'\'' | b'"' | b'`' | b'?' => (u32::from(first), 1),
        b'x' | b'X' => (number(1, 2, 16)?, 3),
        b'u' if !bytes => (number(1, 4, 16)?, 5),
        b'U' if !bytes => (number(1, 8, 16)?, 9),
        b'0'..=b'3' => (number(0, 3, 8)?, 3),
        _ => return Err(BAD),
    };
    if bytes {
        out.push(value as u8);
    } else {
        let c = char::from_u32(value).ok_or("invalid unicode code point")?;
        out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
    }
    Ok(length)
}

/// A whole number, with a sign or `0x` in front.
pub(super) fn int(text: &str, negative: bool) -> Option<i64> {
    let digits = match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?,
        None => text.parse().ok()?,
    };
    if negative { 0_i64.checked_sub_unsigned(digits) } else { i64::try_from(digits).ok() }
}

/// A whole number that ends in `u`.
pub(super) fn uint(text: &str) -> Option<u64> {
    let digits = text.strip_suffix(['u', 'U'])?;
    match digits.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok(),
        None => digits.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn escapes_stand_for_characters_in_text_and_for_bytes_in_bytes() {
        for (literal, bytes, want) in [
            (r"'a\n\x41\101\u00e9'", false, Ok("a\nAA\u{e9}".as_bytes().to_vec())),
            (r"'\xff'", false, Ok("\u{ff}".as_bytes().to_vec())),
            (r"'\xff\377'", true, Ok(vec![0xff, 0xff])),
            (r"r'\n'", false, Ok(br"\n".to_vec())),
            ("'''a'b'''", false, Ok(b"a'b".to_vec())),
            ("''", false, Ok(vec![])),
            (r"'\ud800'", false, Err("invalid unicode code point")),
            (r"'\u0041'", true, Err(BAD)),
        ] {
            assert_eq!(unquote(literal, bytes), want, "{literal}");
        }
    }

    #[test]
    fn numbers_fit_or_are_none() {
        assert_eq!(int("9223372036854775808", true), Some(i64::MIN));
        assert_eq!(int("9223372036854775808", false), None);
        assert_eq!(int("0xff", false), Some(255));
        assert_eq!(uint("0xFFu"), Some(255));
        assert_eq!(uint("18446744073709551616u"), None);
    }
}

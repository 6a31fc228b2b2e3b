//! Why a text is no address, in the words of Go's `net/netip`.

/// What is wrong, and from where on.
struct Wrong<'a>(&'static str, &'a str);

/// Why a text, without a zone, is no address.
pub(super) fn unreadable(text: &str) -> String {
    let wrong = match text.bytes().find(|b| matches!(b, b'.' | b':')) {
        Some(b'.') => v4(text).err(),
        Some(_) => v6(text).err(),
        None => None,
    };
    match wrong {
        Some(Wrong(why, "")) => why.to_owned(),
        Some(Wrong(why, at)) => format!("{why} (at {at:?})"),
        None => "unable to parse IP".to_owned(),
    }
}

fn v4(text: &str) -> Result<(), Wrong<'_>> {
    let fields: Vec<&str> = text.split('.').collect();
    let mut at = text;
    for (n, field) in fields.iter().enumerate() {
        if let Some(bad) = field.find(|c: char| !c.is_ascii_digit()) {
            return Err(Wrong("unexpected character", &at[bad..]));
        }
        if field.is_empty() {
            return Err(Wrong("IPv4 field must have at least one digit", at));
        }
        if field.len() > 1 && field.starts_with('0') {
            return Err(Wrong("IPv4 field has octet with leading zero", ""));
        }
        if field.parse::<u8>().is_err() {
            return Err(Wrong("IPv4 field has value >255", ""));
        }
        if n > 3 {
            return Err(Wrong("IPv4 address too long", ""));
        }
        at = at.get(field.len() + 1..).unwrap_or_default();
    }
    if fields.len() < 4 { Err(Wrong("IPv4 address too short", "")) } else { Ok(()) }
}

fn v6(text: &str) -> Result<(), Wrong<'_>> {
    let (mut rest, mut gap) = text.strip_prefix("::").map_or((text, false), |rest| (rest, true));
    let mut bytes = 0;
    while bytes < 16 && !(rest.is_empty() && gap) {
        let digits = rest.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(rest.len());
        match digits {
            0 => return Err(Wrong("each colon-separated field must have at least one digit", rest)),
            1..=4 => {}
            _ => return Err(Wrong("each group must have 4 or less digits", rest)),
        }
        if rest[digits..].starts_with('.') {
            if !gap && bytes != 12 {
                return Err(Wrong("embedded IPv4 address must replace the final 2 fields of the address", rest));
            }
            if bytes > 12 {
                let why = "too many hex fields to fit an embedded IPv4 at the end of the address";
                return Err(Wrong(why, rest));
            }
            v4(rest)?;
            (rest, bytes) = ("", bytes + 4);
            break;
        }
        bytes += 2;
        rest = &rest[digits..];
        if rest.is_empty() {
            break;
        }
        let Some(after) = rest.strip_prefix(':') else { return Err(Wrong("unexpected character, want colon", rest)) };
        if after.is_empty() {
            return Err(Wrong("colon must be followed by more characters", rest));
        }
        rest = after;
        if let Some(after) = rest.strip_prefix(':') {
            if gap {
                return Err(Wrong("multiple :: in address", rest));
            }
            gap = true;
            rest = after;
        }
    }
    match (rest.is_empty(), bytes < 16, gap) {
        (false, ..) => Err(Wrong("trailing garbage after address", rest)),
        (_, true, false) => Err(Wrong("address string too short", "")),
        (_, false, true) => Err(Wrong("the :: must expand to at least one field of zeros", "")),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_no_address_is_told_as_go_tells_it() {
        for (text, want) in [
            ("x", "unable to parse IP"),
            ("192.168.0.1.0", "IPv4 address too long"),
            ("1.2.3", "IPv4 address too short"),
            ("1.2.3.256", "IPv4 field has value >255"),
            ("1..2.3", "IPv4 field must have at least one digit (at \".2.3\")"),
            ("1.2.3.a", "unexpected character (at \"a\")"),
            ("2001:db8:::68", "each colon-separated field must have at least one digit (at \":68\")"),
            ("1::2::3", "multiple :: in address (at \":3\")"),
            ("1:2", "address string too short"),
            ("1:2:3:4:5:6:7:8:9", "trailing garbage after address (at \"9\")"),
            ("12345::", "each group must have 4 or less digits (at \"12345::\")"),
            ("1:", "colon must be followed by more characters (at \":\")"),
        ] {
            assert_eq!(unreadable(text), want, "{text}");
        }
    }
}

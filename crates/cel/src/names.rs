//! How property names become identifiers: `spec.foo-bar` is `spec.foo__dash__bar`, `namespace` is `__namespace__`.

use std::borrow::Cow;

/// Names that no variable or function can have.
pub(crate) const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Words of the language itself: no identifiers either.
const KEYWORDS: [&str; 4] = ["true", "false", "null", "in"];

fn is_taken(word: &str) -> bool {
    KEYWORDS.contains(&word) || RESERVED.contains(&word)
}

const ESCAPES: [(&str, &str); 4] = [("__", "__underscores__"), (".", "__dot__"), ("-", "__dash__"), ("/", "__slash__")];

/// The identifier of a property, or none if it can have no identifier.
pub fn escape(name: &str) -> Option<Cow<'_, str>> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if is_taken(name) {
        return Some(Cow::Owned(format!("__{name}__")));
    }
    if !name.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-/".contains(&b)) {
        return None;
    }
    if !name.contains(['.', '-', '/']) && !name.contains("__") {
        return Some(Cow::Borrowed(name));
    }
    let mut escaped = String::with_capacity(name.len() + 16);
    let mut rest = name;
    while let Some(first) = rest.chars().next() {
        match ESCAPES.iter().find(|(plain, _)| rest.starts_with(plain)) {
            Some((plain, by)) => {
                escaped.push_str(by);
                rest = &rest[plain.len()..];
            }
            None => {
                escaped.push(first);
                rest = &rest[first.len_utf8()..];
            }
        }
    }
    Some(Cow::Owned(escaped))
}

/// The property of an identifier, or none if it has a sequence that stands for nothing.
pub fn unescape(identifier: &str) -> Option<Cow<'_, str>> {
    if !identifier.contains("__") {
        return Some(Cow::Borrowed(identifier));
    }
    let mut name = String::with_capacity(identifier.len());
    let mut rest = identifier;
    while let Some(start) = rest.find("__") {
        // `__`, at least one other character, `__`.
        let after = &rest[start + 2..];
        let length = after.find('_').unwrap_or(after.len());
        if length == 0 || !after[length..].starts_with("__") {
            let skip = start + 1;
            name.push_str(&rest[..skip]);
            rest = &rest[skip..];
            continue;
        }
        let word = &after[..length];
        name.push_str(&rest[..start]);
        match ESCAPES.iter().find(|(_, by)| by[2..by.len() - 2] == *word) {
            Some((plain, _)) => name.push_str(plain),
            None if is_taken(word) && identifier.len() == length + 4 => name.push_str(word),
            None => return None,
        }
        rest = &after[length + 2..];
    }
    name.push_str(rest);
    Some(Cow::Owned(name))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_become_identifiers_and_back() {
        for (name, escaped) in [
            ("a", "a"),
            ("a-b", "a__dash__b"),
            ("a.b/c", "a__dot__b__slash__c"),
            ("__x", "__underscores__x"),
            ("namespace", "__namespace__"),
            ("a_b", "a_b"),
            ("self", "self"),
            ("a___b", "a__underscores___b"),
        ] {
            assert_eq!(escape(name).as_deref(), Some(escaped), "{name}");
            assert_eq!(unescape(escaped).as_deref(), Some(name), "{escaped}");
        }
        assert_eq!(escape("1a"), None);
        assert_eq!(escape("a b"), None);
        assert_eq!(escape(""), None);
        assert_eq!(unescape("__illegal__"), None);
        assert_eq!(unescape("x__in__"), None);
        assert_eq!(unescape("a__").as_deref(), Some("a__"));
    }
}

//! Label and field selectors: text to requirements, and whether an object matches.

use crate::field::quote;
use crate::names;
use crate::value::{Map, Value};

/// How a label is compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Operator {
    /// Has one of these values.
    In(Vec<String>),
    /// Has none of these values, or is absent.
    NotIn(Vec<String>),
    /// Is there.
    Exists,
    /// Is not there.
    DoesNotExist,
    /// Is a number above.
    GreaterThan(i64),
    /// Is a number below.
    LessThan(i64),
}

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Requirement {
    /// The label's key.
    pub key: String,
    /// The comparison.
    pub operator: Operator,
}

/// All requirements must hold; none matches everything.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LabelSelector(pub Vec<Requirement>);

/// A selector that cannot be read, in upstream's words.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[error("{0}")]
pub struct BadSelector(pub String);

#[derive(Clone, Debug, PartialEq, Eq)]
enum Token {
    Word(String),
    Op(&'static str),
    End,
}

impl Token {
    fn text(&self) -> &str {
        match self {
            Token::Word(word) => word,
            Token::Op(op) => op,
            Token::End => "",
        }
    }
}

fn tokens(text: &str) -> Result<Vec<Token>, BadSelector> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        if c.is_ascii_whitespace() {
            rest = &rest[1..];
            continue;
        }
        let op = ["==", "!=", "=", "!", "<", ">", "(", ")", ","].into_iter().find(|op| rest.starts_with(op));
        if let Some(op) = op {
            out.push(Token::Op(op));
            rest = &rest[op.len()..];
            continue;
        }
        let end = rest.find(|c: char| c.is_ascii_whitespace() || "=!<>(),".contains(c)).unwrap_or(rest.len());
        out.push(Token::Word(rest[..end].to_owned()));
        rest = &rest[end..];
    }
    out.push(Token::End);
    Ok(out)
}

struct Cursor {
    tokens: Vec<Token>,
    at: usize,
}

impl Cursor {
    fn peek(&self) -> &Token {
        self.tokens.get(self.at).unwrap_or(&Token::End)
    }

    fn next(&mut self) -> Token {
        let token = self.peek().clone();
        self.at += 1;
        token
    }
}

impl LabelSelector {
    /// Reads `a=b,c in (d,e),!f`.
    ///
    /// # Errors
    /// Upstream's words for what was found and what was expected.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut cursor = Cursor { tokens: tokens(text)?, at: 0 };
        let mut requirements = Vec::new();
        let bad = BadSelector;
        loop {
            match cursor.peek().clone() {
                Token::End if requirements.is_empty() => return Ok(Self(requirements)),
                Token::Word(_) | Token::Op("!") => requirements.push(requirement(&mut cursor)?),
                other => {
                    return Err(bad(format!("found '{}', expected: !, identifier, or 'end of string'", other.text())));
                }
            }
            match cursor.next() {
                Token::End => return Ok(Self(requirements)),
                Token::Op(",") => match cursor.peek() {
                    Token::Word(_) | Token::Op("!") => {}
                    other => {
                        let text = other.text();
                        return Err(bad(format!("found '{text}', expected: identifier after ','")));
                    }
                },
                other => return Err(bad(format!("found '{}', expected: ',' or 'end of string'", other.text()))),
            }
        }
    }

    /// Reads the object form (`matchLabels`, `matchExpressions`). No operator of it compares numbers.
    ///
    /// # Errors
    /// An operator that there is not.
    pub fn from_object(selector: &Value) -> Result<Self, BadSelector> {
        let mut requirements = Vec::new();
        for (key, value) in selector.at(&["matchLabels"]).and_then(Value::as_object).into_iter().flat_map(Map::iter) {
            let value = value.as_str().unwrap_or_default().to_owned();
            requirements.push(Requirement { key: key.to_string(), operator: Operator::In(vec![value]) });
        }
        for expression in selector.list_at(&["matchExpressions"]) {
            let values =
                || expression.list_at(&["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            let operator = match expression.str_at(&["operator"]) {
                "In" => Operator::In(values()),
                "NotIn" => Operator::NotIn(values()),
                "Exists" => Operator::Exists,
                "DoesNotExist" => Operator::DoesNotExist,
                other => return Err(BadSelector(format!("{} is not a valid label selector operator", quote(other)))),
            };
            requirements.push(Requirement { key: expression.str_at(&["key"]).to_owned(), operator });
        }
        Ok(Self(requirements))
    }

    /// Exactly these labels.
    pub fn from_labels<'a>(labels: impl IntoIterator<Item = (&'a str, &'a str)>) -> Self {
        Self(
            labels
                .into_iter()
                .map(|(k, v)| Requirement { key: k.to_owned(), operator: Operator::In(vec![v.to_owned()]) })
                .collect(),
        )
    }

    /// Whether labels (the object `metadata.labels`) match.
    pub fn matches(&self, labels: Option<&Value>) -> bool {
        self.0.iter().all(|r| r.matches(labels.and_then(|l| l.get(&r.key)).and_then(Value::as_str)))
    }

    /// Matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

fn requirement(cursor: &mut Cursor) -> Result<Requirement, BadSelector> {
    let bad = |what: String| BadSelector(format!("unable to parse requirement: {what}"));
    let absent = *cursor.peek() == Token::Op("!");
    if absent {
        cursor.next();
    }
    let key = match cursor.next() {
        Token::Word(word) => word,
        other => return Err(bad(format!("found '{}', expected: identifier", other.text()))),
    };
    let wrong = names::qualified_name(&key);
    if let Some(wrong) = wrong.first() {
        return Err(bad(format!("<nil>: Invalid value: {}: {wrong}", quote(&key))));
    }
    if absent {
        return Ok(Requirement { key, operator: Operator::DoesNotExist });
    }
    let operator = match cursor.peek().clone() {
        Token::End | Token::Op(",") => return Ok(Requirement { key, operator: Operator::Exists }),
        Token::Op(op @ ("=" | "==" | "!=" | "<" | ">")) => {
            cursor.next();
            let value = match cursor.peek().clone() {
                Token::Word(word) => {
                    cursor.next();
                    word
                }
                Token::End | Token::Op(",") => String::new(),
                other => return Err(bad(format!("found '{}', expected: identifier", other.text()))),
            };
            if matches!(op, "<" | ">") {
                let n = value.parse().map_err(|_| {
                    let value = quote(&value);
                    bad(format!(
                        "values[0]: Invalid value: {value}: for 'Gt', 'Lt' operators, the value must be an integer"
                    ))
                })?;
                if op == "<" { Operator::LessThan(n) } else { Operator::GreaterThan(n) }
            } else {
                check_value(&key, &value, 0)?;
                if op == "!=" { Operator::NotIn(vec![value]) } else { Operator::In(vec![value]) }
            }
        }
        Token::Word(word) if word == "in" || word == "notin" => {
            cursor.next();
            let values = values(cursor)?;
            for (i, value) in values.iter().enumerate() {
                check_value(&key, value, i)?;
            }
            if word == "in" { Operator::In(values) } else { Operator::NotIn(values) }
        }
        other => {
            let text = other.text();
            return Err(bad(format!("found '{text}', expected: in, notin, =, ==, !=, gt, lt")));
        }
    };
    Ok(Requirement { key, operator })
}

fn check_value(key: &str, value: &str, i: usize) -> Result<(), BadSelector> {
    match names::label_value(value).first() {
        None => Ok(()),
        Some(wrong) => Err(BadSelector(format!(
            "unable to parse requirement: values[{i}][{key}]: Invalid value: {}: {wrong}",
            quote(value)
        ))),
    }
}

fn values(cursor: &mut Cursor) -> Result<Vec<String>, BadSelector> {
    let bad = |what: String| BadSelector(format!("unable to parse requirement: {what}"));
    match cursor.next() {
        Token::Op("(") => {}
        other => return Err(bad(format!("found '{}' expected: '('", other.text()))),
    }
    let mut out = Vec::new();
    loop {
        match cursor.peek().clone() {
            Token::Word(word) => {
                cursor.next();
                out.push(word);
            }
            Token::Op("," | ")") => out.push(String::new()),
            other => return Err(bad(format!("found '{}', expected: ',', ')' or identifier", other.text()))),
        }
        match cursor.next() {
            Token::Op(",") => {}
            Token::Op(")") => {
                out.sort();
                out.dedup();
                return Ok(out);
            }
            other => return Err(bad(format!("found '{}', expected: ',' or ')'", other.text()))),
        }
    }
}

impl Requirement {
    /// Whether a label's value (`None`: absent) is what it must be.
    pub fn matches(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|v| v.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|v| values.iter().any(|x| x == v)),
            Operator::NotIn(values) => value.is_none_or(|v| values.iter().all(|x| x != v)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::GreaterThan(n) => number().is_some_and(|v| v > *n),
            Operator::LessThan(n) => number().is_some_and(|v| v < *n),
        }
    }
}

/// One comparison of a field selector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FieldRequirement {
    /// The field, `metadata.name`.
    pub field: String,
    /// The text to compare with.
    pub value: String,
    /// Equal, or (false) not equal.
    pub equal: bool,
}

/// All comparisons must hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector(pub Vec<FieldRequirement>);

impl FieldSelector {
    /// Reads `status.phase!=Running,spec.nodeName=n1`.
    ///
    /// # Errors
    /// Upstream's words.
    pub fn parse(text: &str) -> Result<Self, BadSelector> {
        let mut out = Vec::new();
        for term in split_terms(text) {
            if term.is_empty() {
                continue;
            }
            let found = ["!=", "==", "="]
                .into_iter()
                .filter_map(|op| find_op(term, op).map(|at| (at, op)))
                .min_by_key(|(at, op)| (*at, usize::MAX - op.len()));
            let Some((at, op)) = found else {
                return Err(BadSelector(format!("invalid selector: '{text}'; can't understand '{term}'")));
            };
            let value = unescape(&term[at + op.len()..])?;
            out.push(FieldRequirement { field: term[..at].to_owned(), value, equal: op != "!=" });
        }
        Ok(Self(out))
    }

    /// Matches everything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The value that a field must have, when there is just one.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.0.iter().find(|r| r.equal && r.field == field).map(|r| r.value.as_str())
    }
}

fn split_terms(text: &str) -> Vec<&str> {
    let mut out = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (i, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                out.push(&text[start..i]);
                start = i + 1;
            }
            _ => {}
        }
    }
    out.push(&text[start..]);
    out
}

fn find_op(term: &str, op: &str) -> Option<usize> {
    let mut from = 0;
    while let Some(at) = term.get(from..)?.find(op).map(|i| i + from) {
        if !term[..at].ends_with('\\') {
            return Some(at);
        }
        from = at + 1;
    }
    None
}

fn unescape(text: &str) -> Result<String, BadSelector> {
    let mut out = String::with_capacity(text.len());
    let mut chars = text.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(BadSelector(format!("invalid field selector: invalid escape sequence: \\{c}"))),
                None => return Err(BadSelector("invalid field selector: unfinished escape sequence".into())),
            },
            ',' | '=' => {
                return Err(BadSelector(format!("invalid field selector: unescaped character in value: {c}")));
            }
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels(text: &str) -> Value {
        crate::json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn labels_match() {
        let object = labels(r#"{"a":"b","n":"5"}"#);
        for (selector, want) in [
            ("", true),
            ("a=b", true),
            ("a==c", false),
            ("a!=c,z!=q", true),
            ("a in (x,b)", true),
            ("a notin (b)", false),
            ("a", true),
            ("!a", false),
            ("n>4,n<6", true),
            ("z", false),
            ("a=", false),
        ] {
            assert_eq!(LabelSelector::parse(selector).unwrap().matches(Some(&object)), want, "{selector}");
        }
    }

    #[test]
    fn what_cannot_be_read_is_refused() {
        for selector in ["a in b", "a,,b", "=a", "a b", "(a)", "a=b=c", "-a=b", "a>x", "a in (b", ",a"] {
            assert!(LabelSelector::parse(selector).is_err(), "{selector}");
        }
        assert!(FieldSelector::parse("metadata.name").is_err());
    }

    #[test]
    fn field_selectors_unescape() {
        let selector = FieldSelector::parse(r"a=b\,c,d!=e").unwrap();
        assert_eq!(selector.exact("a"), Some("b,c"));
        assert_eq!(selector.0[1], FieldRequirement { field: "d".into(), value: "e".into(), equal: false });
    }

    proptest::proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = LabelSelector::parse(&text);
            let _ = FieldSelector::parse(&text);
        }
    }
}

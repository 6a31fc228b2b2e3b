//! What is said of a request besides its answer: warnings for its client, annotations for the audit log.

use http::{HeaderMap, HeaderValue, header};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Notes that grow on a request's way, shared by all who see it.
#[derive(Clone, Debug, Default)]
pub struct Notes(Arc<Mutex<Noted>>);

#[derive(Debug, Default)]
struct Noted {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

/// Warnings beyond this many bytes are left out; from there on each is cut (apiserver `warning` filter).
const MOST: usize = 4096;
const LONGEST: usize = 256;

impl Notes {
    /// The notes of a request, which it brings in its extensions.
    pub fn of<T>(request: &http::Request<T>) -> Self {
        request.extensions().get::<Self>().cloned().unwrap_or_default()
    }

    /// Tells the client something; a second time it is not told.
    pub fn warn(&self, text: impl Into<String>) {
        let text = text.into();
        let mut noted = self.0.lock();
        if !text.is_empty() && !noted.warnings.contains(&text) {
            noted.warnings.push(text);
        }
    }

    /// Notes something for the audit log. What was noted first stays.
    pub fn annotate(&self, key: &str, value: impl Into<String>) {
        self.0.lock().annotations.entry(key.to_owned()).or_insert_with(|| value.into());
    }

    /// What is noted for the audit log.
    pub fn annotations(&self) -> BTreeMap<String, String> {
        self.0.lock().annotations.clone()
    }

    /// Writes the warnings into an answer's headers (RFC 9111 5.5, code 299).
    pub fn tell(&self, headers: &mut HeaderMap) {
        let noted = self.0.lock();
        let whole = noted.warnings.iter().map(String::len).sum::<usize>() <= MOST;
        let mut told = 0;
        for text in &noted.warnings {
            let text = if whole { text.as_str() } else { cut(text, LONGEST) };
            told += text.len();
            if told > MOST {
                break;
            }
            let line = format!("299 - {}", trireme_schema::field::quote(text));
            if let Ok(value) = HeaderValue::from_str(&line) {
                headers.append(header::WARNING, value);
            }
        }
    }
}

/// The beginning of a text, of at most so many bytes.
fn cut(text: &str, most: usize) -> &str {
    let end = (0..=most.min(text.len())).rev().find(|&i| text.is_char_boundary(i)).unwrap_or_default();
    text.get(..end).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_warning_is_told_once_and_many_are_cut() {
        let notes = Notes::default();
        notes.warn("say \"a\"");
        notes.warn("say \"a\"");
        let mut headers = HeaderMap::new();
        notes.tell(&mut headers);
        let told: Vec<_> = headers.get_all(header::WARNING).iter().collect();
        assert_eq!(told, [r#"299 - "say \"a\"""#]);
        (0..40).for_each(|i| notes.warn(format!("{i} {}", "é".repeat(200))));
        let mut headers = HeaderMap::new();
        notes.tell(&mut headers);
        assert_eq!(headers.get_all(header::WARNING).iter().count(), 16);
    }
}

//! What types and fields are for: upstream's texts, gathered by the build script and kept packed.
//!
//! They are unpacked while a document is made and forgotten after, so that a server that nobody asks to explain
//! anything does not hold two megabytes of prose.

use std::collections::HashMap;
use std::io::Read;

const PACKED: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/descriptions.z"));

/// The text of a type and those of its fields.
struct Described {
    text: String,
    fields: HashMap<String, String>,
}

/// Descriptions by the OpenAPI names of types.
pub struct Descriptions(HashMap<String, Described>);

impl Descriptions {
    /// Unpacks them.
    pub fn load() -> Self {
        let mut all = String::new();
        let unpacked = flate2::read::ZlibDecoder::new(PACKED).read_to_string(&mut all);
        debug_assert!(unpacked.is_ok(), "the build script packs UTF-8");
        let types = all.split_terminator('\u{1e}').map(|record| {
            let mut units = record.split('\u{1f}').map(str::to_owned);
            let (name, text) = (units.next().unwrap_or_default(), units.next().unwrap_or_default());
            let mut fields = HashMap::new();
            while let (Some(field), Some(text)) = (units.next(), units.next()) {
                fields.insert(field, text);
            }
            (name, Described { text, fields })
        });
        Self(types.collect())
    }

    /// What a type is.
    pub fn of_type(&self, name: &str) -> Option<&str> {
        self.0.get(name).map(|d| d.text.as_str()).filter(|t| !t.is_empty())
    }

    /// What a field of a type is.
    pub fn of_field(&self, name: &str, field: &str) -> Option<&str> {
        self.0.get(name)?.fields.get(field).map(String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn types_and_fields_have_their_texts() {
        let all = Descriptions::load();
        assert!(all.0.len() > 500, "{}", all.0.len());
        let name = "io.k8s.api.apps.v1.DeploymentStrategy";
        assert!(all.of_type(name).is_some_and(|t| t.starts_with("DeploymentStrategy describes")));
        assert!(all.of_field(name, "type").is_some_and(|t| t.contains("\"Recreate\"")));
        assert!(all.of_field(name, "rollingUpdate").is_some());
        assert_eq!(all.of_field(name, "none"), None);
    }
}

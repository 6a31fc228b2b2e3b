//! Hashes that become part of names. They must be the same after a restart and on every machine, because the names of
//! replica sets and revisions are found again by them.

use serde::Serialize;
use serde_json::Value;

use crate::Error;
use crate::merge_patch::value;

/// Letters and digits that form no words by accident.
const SAFE: &[u8; 27] = b"bcdfghjklmnpqrstvwxz2456789";

/// 32-bit FNV-1a.
pub(crate) fn fnv(bytes: &[u8]) -> u32 {
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// Writes a hash in the safe alphabet: the characters of its decimal form, each mapped to a letter.
pub(crate) fn safe(hash: u32) -> String {
    let digit = |byte: u8| SAFE.get(usize::from(byte) % SAFE.len()).copied().map_or('b', char::from);
    hash.to_string().bytes().map(digit).collect()
}

/// The hash of an object, by its canonical JSON (sorted keys, absent fields left out), with the number of collisions
/// that were met so far.
pub(crate) fn of<T: Serialize>(object: &T, collisions: Option<i32>) -> Result<String, Error> {
    let mut text = Vec::new();
    canonical(&value(object)?, &mut text);
    if let Some(collisions) = collisions {
        text.extend_from_slice(&collisions.to_le_bytes());
    }
    Ok(safe(fnv(&text)))
}

/// JSON with the keys of every object sorted, whatever order the tree itself keeps.
fn canonical(value: &Value, out: &mut Vec<u8>) {
    match value {
        Value::Object(fields) => {
            let mut fields: Vec<_> = fields.iter().collect();
            fields.sort_unstable_by_key(|(key, _)| *key);
            out.push(b'{');
            for (key, value) in fields {
                out.extend_from_slice(Value::from(key.as_str()).to_string().as_bytes());
                out.push(b':');
                canonical(value, out);
                out.push(b',');
            }
            out.push(b'}');
        }
        Value::Array(items) => {
            out.push(b'[');
            for item in items {
                canonical(item, out);
                out.push(b',');
            }
            out.push(b']');
        }
        scalar => out.extend_from_slice(scalar.to_string().as_bytes()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn hashes_are_stable_and_safe() {
        // FNV test vectors: isthe.com/chongo/tech/comp/fnv.
        assert_eq!(fnv(b""), 0x811c_9dc5);
        assert_eq!(fnv(b"a"), 0xe40c_292c);
        assert_eq!(fnv(b"foobar"), 0xbf9c_f968);
        let one = of(&json!({"b": 1, "a": {"d": 2, "c": 3}}), None).unwrap();
        assert_eq!(one, of(&json!({"a": {"c": 3, "d": 2}, "b": 1}), None).unwrap());
        assert_ne!(one, of(&json!({"a": {"c": 3, "d": 2}, "b": 1}), Some(1)).unwrap());
        assert!(one.bytes().all(|byte| SAFE.contains(&byte)));
        assert_eq!(safe(0).as_bytes(), &SAFE[48 % 27..=48 % 27]);
    }
}

//! Stored objects as protobuf.
//!
//! What is stored is canonical JSON: it goes from text to message without being checked against the schema again. A list
//! is written object by object, so that no tree of it is ever in memory; an event's object is encoded once for all
//! watchers of it.

use crate::catalogue::Served;
use bytes::Bytes;
use trireme_schema::proto::{self, Envelope};
use trireme_schema::{Value, builtin, json};
use trireme_store::Record;

/// A list: its metadata, then its items.
pub(crate) fn list<'a>(served: &Served, meta: Value, items: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    /// The number of `items` in every list type.
    const ITEMS: u8 = 2;
    let schema = builtin();
    let kind = format!("{}List", served.kind());
    let id = schema.kind(&served.resource.gv, &kind)?;
    let mut head = Value::object();
    head.set_at(&["metadata"], meta);
    let (mut raw, mut message) = (Vec::new(), Vec::new());
    proto::message(schema, id, &head, &mut raw);
    for item in items {
        message.clear();
        proto::message(schema, served.id, &json::parse(item).unwrap_or_default(), &mut message);
        put(ITEMS, &message, &mut raw);
    }
    let api_version = served.resource.gv.to_string();
    Some(Envelope { api_version, kind, raw, content_type: String::new() }.seal())
}

/// A stored object in its envelope.
pub(crate) fn object(served: &Served, record: &Record) -> Bytes {
    record.encoded(|value| proto::encode(builtin(), served.id, &json::parse(value).unwrap_or_default()).into())
}

/// One event of a watch stream: a length, then a WatchEvent with its type and the object in its envelope.
pub(crate) fn event(kind: &str, object: &[u8]) -> Bytes {
    let mut raw = Vec::with_capacity(object.len() + 8);
    put(1, object, &mut raw);
    let mut watch_event = Vec::with_capacity(raw.len() + 16);
    put(1, kind.as_bytes(), &mut watch_event);
    put(2, &raw, &mut watch_event);
    let envelope =
        Envelope { api_version: "v1".into(), kind: "WatchEvent".into(), raw: watch_event, content_type: String::new() };
    let sealed = envelope.seal();
    let mut out = Vec::with_capacity(sealed.len() + 4);
    out.extend_from_slice(&(sealed.len() as u32).to_be_bytes());
    out.extend_from_slice(&sealed);
    out.into()
}

fn put(tag: u8, bytes: &[u8], out: &mut Vec<u8>) {
    out.push(tag << 3 | 2);
    let mut n = bytes.len();
    while n >= 0x80 {
        out.push(n as u8 | 0x80);
        n >>= 7;
    }
    out.push(n as u8);
    out.extend_from_slice(bytes);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::answer;
    use crate::catalogue::Catalogue;

    #[test]
    fn a_list_written_object_by_object_is_the_list_written_as_a_whole() {
        let catalogue = Catalogue::builtin();
        let served = catalogue.find("", "v1", "pods").unwrap();
        let items = [
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"a","namespace":"d","resourceVersion":"7","creationTimestamp":"2026-01-02T03:04:05Z","labels":{"x":"y"},"managedFields":[{"manager":"m","operation":"Update","fieldsType":"FieldsV1","fieldsV1":{"f:spec":{}}}]},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"100m"}}}],"terminationGracePeriodSeconds":30},"status":{"phase":"Pending"}}"#,
            r#"{"kind":"Pod","apiVersion":"v1","metadata":{"name":"b","namespace":"d","resourceVersion":"8"},"spec":{"containers":[]},"status":{}}"#,
        ];
        let whole = format!(
            r#"{{"kind":"PodList","apiVersion":"v1","metadata":{{"resourceVersion":"9","continue":"t","remainingItemCount":3}},"items":[{}]}}"#,
            items.join(",")
        );
        let meta = json::parse(br#"{"resourceVersion":"9","continue":"t","remainingItemCount":3}"#).unwrap();
        let list = list(&served, meta, items.iter().map(|i| i.as_bytes())).unwrap();
        assert_eq!(list, answer::to_protobuf(whole.as_bytes()).unwrap());
    }

    #[test]
    fn an_event_is_told_by_its_length() {
        let bytes = event("ADDED", b"k8s\0object");
        let (length, rest) = bytes.split_at(4);
        assert_eq!(u32::from_be_bytes(length.try_into().unwrap()) as usize, rest.len());
        let envelope = Envelope::open(rest).unwrap();
        assert_eq!(envelope.kind, "WatchEvent");
        assert!(envelope.raw.ends_with(b"k8s\0object"));
    }
}

//! Custom objects as they are stored, and as they are read in each version.

use super::Custom;
use crate::catalogue::Served;
use bytes::Bytes;
use trireme_extensions::prune;
use trireme_schema::{Value, json};
use trireme_store::Record;

impl Custom {
    /// An object's bytes in the version that is served. They are the stored ones, unless those are of another version or
    /// older than the schema.
    pub(crate) fn present(&self, served: &Served, record: &Record) -> Bytes {
        let gv = &served.resource.gv;
        if *gv == self.definition.storage && record.mod_revision > self.definition.since {
            return record.value.clone();
        }
        let mut object = json::parse(&record.value).unwrap_or_default();
        let stored = self.definition.as_stored(&mut object);
        if stored != *gv {
            object.set_at(&["apiVersion"], gv.to_string());
            prune::object(&mut object, Some(&self.node));
        }
        json::to_vec(&object).into()
    }

    /// The bytes that are stored, and where in them the hole for the resourceVersion is.
    pub(crate) fn store(&self, object: &mut Value) -> (Vec<u8>, Option<usize>) {
        object.set_at(&["apiVersion"], self.definition.storage.to_string());
        hole(object)
    }
}

/// An object's JSON, and where in it the text of `metadata.resourceVersion` begins: fields are sorted, and a label may have
/// the same name.
pub(crate) fn hole(object: &Value) -> (Vec<u8>, Option<usize>) {
    let mut out = Vec::with_capacity(1024);
    let mut at = None;
    members(object, &mut out, |name, value, out| {
        if name != "metadata" {
            return json::write(value, out);
        }
        members(value, out, |name, value, out| {
            if name == "resourceVersion" {
                at = Some(out.len() + 1);
            }
            json::write(value, out);
        });
    });
    (out, at)
}

fn members(object: &Value, out: &mut Vec<u8>, mut each: impl FnMut(&str, &Value, &mut Vec<u8>)) {
    let Value::Object(map) = object else { return json::write(object, out) };
    out.push(b'{');
    for (i, (name, value)) in map.iter().enumerate() {
        if i > 0 {
            out.push(b',');
        }
        json::write_string(name, out);
        out.push(b':');
        each(name, value, out);
    }
    out.push(b'}');
}

#[cfg(test)]
mod tests {
    use trireme_schema::value;

    #[test]
    fn the_hole_is_that_of_the_object_and_not_of_a_label() {
        let object = value!({"data": {"metadata": {"resourceVersion": ""}},
            "metadata": {"labels": {"resourceVersion": ""}, "resourceVersion": ""}});
        let (bytes, at) = super::hole(&object);
        let text = String::from_utf8(bytes).unwrap();
        assert_eq!(text, trireme_schema::json::to_string(&object));
        assert_eq!(&text[at.unwrap()..], "\"}}");
    }
}

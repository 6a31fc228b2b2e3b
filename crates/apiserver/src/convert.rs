//! Resources that are served in another version than they are stored in.

mod autoscaling;
mod events;

pub(crate) use autoscaling::has_metrics;

use crate::catalogue::Served;
use std::borrow::Cow;
use trireme_schema::{GroupVersion, StructId, Value, builtin, decode, encode, json};
use trireme_store::Record;

/// A version that is served and not stored.
pub(crate) struct Conversion {
    /// What is served: group, version, plural.
    served: [&'static str; 3],
    /// What is stored: group, version, plural.
    stored: [&'static str; 3],
    /// Their kind.
    kind: &'static str,
    up: fn(Value) -> Value,
    down: fn(Value) -> Value,
}

static ALL: [Conversion; 2] = [
    Conversion {
        served: ["events.k8s.io", "v1", "events"],
        stored: ["", "v1", "events"],
        kind: "Event",
        up: events::to_core,
        down: events::from_core,
    },
    Conversion {
        served: ["autoscaling", "v1", "horizontalpodautoscalers"],
        stored: ["autoscaling", "v2", "horizontalpodautoscalers"],
        kind: "HorizontalPodAutoscaler",
        up: autoscaling::to_v2,
        down: autoscaling::to_v1,
    },
];

/// How a resource comes from what is stored, if it is not stored as it is served.
pub(crate) fn of(gv: &GroupVersion, plural: &str) -> Option<&'static Conversion> {
    ALL.iter().find(|c| c.served == [gv.group.as_str(), gv.version.as_str(), plural])
}

/// The other version in which a resource is served.
pub(crate) struct Other {
    /// Its group and version as text.
    pub version: String,
    /// Its type.
    pub id: StructId,
    /// How the two become each other.
    pub conversion: &'static Conversion,
    /// Whether it is this one that is stored.
    pub is_stored: bool,
}

/// The other version of a resource, if there is one.
pub(crate) fn other(served: &Served) -> Option<Other> {
    let gv = &served.resource.gv;
    let place = [gv.group.as_str(), gv.version.as_str(), served.plural()];
    let conversion = ALL.iter().find(|c| c.served == place || c.stored == place)?;
    let is_stored = conversion.served == place;
    let gv = version(if is_stored { conversion.stored } else { conversion.served });
    Some(Other { id: builtin().kind(&gv, conversion.kind)?, version: gv.to_string(), conversion, is_stored })
}

/// An object in the form that rules and columns are about, so that errors name its fields: the one that is stored.
pub(crate) fn meant<'a>(served: &Served, object: &'a Value) -> Cow<'a, Value> {
    match served.conversion {
        Some(conversion) => Cow::Owned(conversion.to_stored(object)),
        None => Cow::Borrowed(object),
    }
}

/// The version and type of that form.
pub(crate) fn meant_type(served: &Served) -> (&str, StructId) {
    let stored = served.conversion.and_then(|c| Some((c.stored[1], builtin().kind(&version(c.stored), c.kind)?)));
    stored.unwrap_or((&served.resource.gv.version, served.id))
}

/// The bytes of an object of one version in another version of the same resource.
pub(crate) fn between(from: &Served, to: &Served, object: &Value) -> Vec<u8> {
    if from.resource.gv == to.resource.gv {
        return from.write(object);
    }
    let stored = match from.conversion {
        None => object.clone(),
        Some(conversion) => conversion.to_stored(object),
    };
    match to.conversion {
        None => {
            let mut stored = stored;
            stored.set_at(&["apiVersion"], to.resource.gv.to_string());
            to.write(&stored)
        }
        Some(conversion) => to.write(&conversion.to_served(stored)),
    }
}

impl std::fmt::Debug for Conversion {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{:?} stored as {:?}", self.served, self.stored)
    }
}

impl Conversion {
    /// The stored resource: group, version, plural.
    pub fn stored(&self) -> [&'static str; 3] {
        self.stored
    }

    /// The stored form of a served object, with its defaults.
    pub fn to_stored(&self, value: &Value) -> Value {
        self.convert(self.stored, self.up, value.clone())
    }

    /// The served form of a stored object.
    pub fn to_served(&self, value: Value) -> Value {
        self.convert(self.served, self.down, value)
    }

    /// The bytes of a stored object in the version that is served.
    pub fn present(&self, record: &Record) -> Vec<u8> {
        self.write(self.served, &self.to_served(json::parse(&record.value).unwrap_or_default()))
    }

    /// The bytes that are stored for a served object.
    pub fn store(&self, value: &Value) -> Vec<u8> {
        self.write(self.stored, &self.to_stored(value))
    }

    fn convert(&self, to: [&str; 3], with: fn(Value) -> Value, value: Value) -> Value {
        let gv = version(to);
        let Some(id) = builtin().kind(&gv, self.kind) else { return value };
        let mut value = with(value);
        value.set_at(&["apiVersion"], gv.to_string());
        // An empty resourceVersion is the hole for the revision; decoding would drop it.
        let hole = value.at(&["metadata", "resourceVersion"]).and_then(Value::as_str) == Some("");
        let mut value = decode::decode(builtin(), id, value).map(|d| d.value).unwrap_or_default();
        crate::defaults::apply(id, &mut value);
        if hole {
            value.set_at(&["metadata", "resourceVersion"], "");
        }
        value
    }

    fn write(&self, place: [&str; 3], value: &Value) -> Vec<u8> {
        let schema = builtin();
        match schema.kind(&version(place), self.kind) {
            Some(id) => encode::to_vec(schema, id, value),
            None => json::to_vec(value),
        }
    }
}

fn version([group, version, _]: [&str; 3]) -> GroupVersion {
    GroupVersion { group: group.to_owned(), version: version.to_owned() }
}

/// Moves a field under another name, if it is there.
fn rename(value: &mut Value, from: &str, to: &str) {
    if let Some(map) = value.as_object_mut()
        && let Some(field) = map.remove(from)
    {
        map.insert(to, field);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_conversion_names_kinds_that_there_are() {
        for conversion in &ALL {
            for place in [conversion.served, conversion.stored] {
                assert!(builtin().kind(&version(place), conversion.kind).is_some(), "{conversion:?}");
            }
        }
    }
}

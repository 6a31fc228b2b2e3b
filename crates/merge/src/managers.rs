//! `metadata.managedFields`: who owns which fields.

use crate::set::Set;
use std::cmp::Ordering;
use trireme_schema::{Map, Value, json, time};

/// How somebody came to own fields.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Operation {
    /// By server-side apply.
    Apply,
    /// By any other write.
    Update,
}

impl Operation {
    fn name(self) -> &'static str {
        match self {
            Self::Apply => "Apply",
            Self::Update => "Update",
        }
    }
}

/// Who owns fields. Those who apply are the same in every version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Manager {
    /// Its name.
    pub name: String,
    /// How it writes.
    pub operation: Operation,
    /// The version in which it writes; empty for those who apply.
    pub api_version: String,
    /// The subresource through which it writes.
    pub subresource: String,
}

impl Manager {
    /// Who writes in a version, through a subresource unless that is empty.
    pub fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        Self {
            // Upstream's name for who has none.
            name: if name.is_empty() { "unknown" } else { name }.to_owned(),
            operation,
            api_version: if operation == Operation::Apply { "" } else { api_version }.to_owned(),
            subresource: subresource.to_owned(),
        }
    }

    /// The text by which upstream tells managers apart, and orders them.
    fn identifier(&self) -> String {
        let fields = [
            ("manager", self.name.as_str()),
            ("operation", self.operation.name()),
            ("apiVersion", &self.api_version),
            ("subresource", &self.subresource),
        ];
        let members = fields.iter().filter(|(_, text)| !text.is_empty());
        let members: Vec<String> =
            members.map(|(name, text)| format!("\"{name}\":{}", json::to_string(&Value::from(*text)))).collect();
        format!("{{{}}}", members.join(","))
    }
}

impl Ord for Manager {
    fn cmp(&self, other: &Self) -> Ordering {
        self.identifier().cmp(&other.identifier())
    }
}

impl PartialOrd for Manager {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// What somebody owns.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Who.
    pub manager: Manager,
    /// The version that the set is about.
    pub api_version: String,
    /// When it last changed; one who applied what was there already has none.
    pub time: Option<String>,
    /// What.
    pub set: Set,
}

/// An entry of `managedFields` that makes no sense.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BadEntry {
    /// Neither `Apply` nor `Update`.
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    /// No version.
    #[error("apiVersion must not be empty")]
    Version,
    /// No `fieldsType`.
    #[error("missing fieldsType in managed fields entry {0}")]
    NoType(usize),
    /// A `fieldsType` other than `FieldsV1`.
    #[error("invalid fieldsType {1:?} in managed fields entry {0}")]
    Type(usize, String),
}

/// The owners of an object's fields.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Managers(Vec<Entry>);

/// The name under which the oldest updates are kept together.
const ANCIENT: &str = "ancient-changes";

impl Managers {
    /// Reads `managedFields`.
    ///
    /// # Errors
    /// The first entry that makes no sense.
    pub fn read(list: &[Value]) -> Result<Self, BadEntry> {
        let mut managers = Self::default();
        for (i, entry) in list.iter().enumerate() {
            let operation = match entry.str_at(&["operation"]) {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(BadEntry::Operation),
            };
            let api_version = entry.str_at(&["apiVersion"]);
            match (api_version, entry.str_at(&["fieldsType"])) {
                ("", _) => return Err(BadEntry::Version),
                (_, "FieldsV1") => {}
                (_, "") => return Err(BadEntry::NoType(i)),
                (_, other) => return Err(BadEntry::Type(i, other.to_owned())),
            }
            let mut manager =
                Manager::new(entry.str_at(&["manager"]), operation, api_version, entry.str_at(&["subresource"]));
            manager.name = entry.str_at(&["manager"]).to_owned();
            let entry = Entry {
                manager,
                api_version: api_version.to_owned(),
                time: entry.get("time").and_then(Value::as_str).map(str::to_owned),
                set: entry.get("fieldsV1").map(Set::read).unwrap_or_default(),
            };
            managers.put(entry);
        }
        Ok(managers)
    }

    /// As `managedFields`: appliers before updaters, then by time and name.
    pub fn write(&self) -> Vec<Value> {
        let mut entries: Vec<&Entry> = self.0.iter().collect();
        entries.sort_by(|a, b| {
            (a.manager.operation.cmp(&b.manager.operation))
                .then_with(|| seconds(a).cmp(&seconds(b)))
                .then_with(|| a.manager.name.cmp(&b.manager.name))
                .then_with(|| a.api_version.cmp(&b.api_version))
                .then_with(|| a.manager.subresource.cmp(&b.manager.subresource))
        });
        let entry = |entry: &Entry| {
            let mut map = Map::from_iter([
                ("operation", entry.manager.operation.name()),
                ("apiVersion", &entry.api_version),
                ("fieldsType", "FieldsV1"),
            ]);
            let texts = [("manager", &entry.manager.name), ("subresource", &entry.manager.subresource)];
            for (name, text) in texts.into_iter().filter(|(_, text)| !text.is_empty()) {
                map.insert(name, text.as_str());
            }
            if let Some(time) = &entry.time {
                map.insert("time", time.as_str());
            }
            map.insert("fieldsV1", entry.set.write());
            Value::Object(map)
        };
        entries.into_iter().map(entry).collect()
    }

    /// Whether nobody owns anything.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = &Entry> {
        self.0.iter()
    }

    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Entry> {
        self.0.iter_mut()
    }

    /// What one owns.
    pub fn get(&self, manager: &Manager) -> Option<&Entry> {
        self.0.iter().find(|entry| entry.manager == *manager)
    }

    pub(crate) fn take(&mut self, manager: &Manager) -> Option<Entry> {
        let at = self.0.iter().position(|entry| entry.manager == *manager)?;
        Some(self.0.swap_remove(at))
    }

    pub(crate) fn retain(&mut self, keep: impl FnMut(&Entry) -> bool) {
        self.0.retain(keep);
    }

    /// Sets what one owns.
    pub(crate) fn put(&mut self, entry: Entry) {
        match self.0.iter_mut().find(|have| have.manager == entry.manager) {
            Some(have) => *have = entry,
            None => self.0.push(entry),
        }
    }

    /// Puts the oldest updaters together, by version, until there are no more than `most`.
    pub(crate) fn cap(&mut self, most: usize) {
        let mut updaters: Vec<Entry> =
            self.0.iter().filter(|e| e.manager.operation == Operation::Update).cloned().collect();
        let mut left = updaters.len();
        if left <= most {
            return;
        }
        updaters.sort_by(|a, b| seconds(a).cmp(&seconds(b)).then_with(|| a.manager.cmp(&b.manager)));
        let mut first_of: Vec<(String, Manager)> = Vec::new();
        for entry in updaters {
            if left <= most {
                return;
            }
            let Some((_, first)) = first_of.iter().find(|(version, _)| *version == entry.api_version) else {
                first_of.push((entry.api_version, entry.manager));
                continue;
            };
            let bucket = Manager::new(ANCIENT, Operation::Update, &entry.api_version, "");
            if self.get(&bucket).is_none()
                && let Some(oldest) = self.take(first)
            {
                self.put(Entry { manager: bucket.clone(), ..oldest });
            }
            let mut set = entry.set;
            if let Some(have) = self.get(&bucket) {
                set.add(&have.set);
            }
            self.put(Entry { manager: bucket, api_version: entry.api_version, time: entry.time, set });
            self.take(&entry.manager);
            left -= 1;
        }
    }
}

impl FromIterator<Entry> for Managers {
    fn from_iter<I: IntoIterator<Item = Entry>>(entries: I) -> Self {
        let mut managers = Self::default();
        entries.into_iter().for_each(|entry| managers.put(entry));
        managers
    }
}

/// When an entry last changed, in whole seconds.
fn seconds(entry: &Entry) -> i64 {
    entry.time.as_deref().and_then(|text| time::parse(text).ok()).map_or(0, |at| at.as_second())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entries(text: &str) -> Vec<Value> {
        json::parse(text.as_bytes()).unwrap().as_array().unwrap().to_vec()
    }

    #[test]
    fn appliers_come_first_then_time_then_name() {
        let text = r#"[{"manager":"b","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:01Z","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}},
            {"manager":"a","operation":"Update","apiVersion":"v1","time":"2026-01-01T00:00:01Z","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}},
            {"manager":"z","operation":"Apply","apiVersion":"v1","time":"2026-01-01T00:00:09Z","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}},
            {"manager":"y","operation":"Apply","apiVersion":"v1","fieldsType":"FieldsV1","fieldsV1":{"f:a":{}}}]"#;
        let written = Managers::read(&entries(text)).unwrap().write();
        let names: Vec<&str> = written.iter().map(|e| e.str_at(&["manager"])).collect();
        assert_eq!(names, ["y", "z", "a", "b"]);
    }

    #[test]
    fn entries_that_make_no_sense_are_told() {
        for (entry, why) in [
            (r#"[{"operation":"Fly"}]"#, "operation must be `Apply` or `Update`"),
            (r#"[{"operation":"Apply"}]"#, "apiVersion must not be empty"),
            (r#"[{"operation":"Apply","apiVersion":"v1"}]"#, "missing fieldsType in managed fields entry 0"),
            (
                r#"[{"operation":"Apply","apiVersion":"v1","fieldsType":"V2"}]"#,
                "invalid fieldsType \"V2\" in managed fields entry 0",
            ),
        ] {
            assert_eq!(Managers::read(&entries(entry)).unwrap_err().to_string(), why);
        }
    }

    #[test]
    fn the_oldest_updaters_are_kept_together() {
        let mut managers = Managers::default();
        for i in 0..12 {
            managers.put(Entry {
                manager: Manager::new(&format!("m{i:02}"), Operation::Update, "v1", ""),
                api_version: "v1".into(),
                time: Some(format!("2026-01-01T00:00:{i:02}Z")),
                set: Set::of_fields([&[format!("f{i}").as_str()][..]]),
            });
        }
        managers.cap(10);
        assert_eq!(managers.iter().count(), 10);
        let ancient = managers.get(&Manager::new(ANCIENT, Operation::Update, "v1", "")).unwrap();
        assert_eq!(json::to_string(&ancient.set.write()), r#"{"f:f0":{},"f:f1":{},"f:f2":{}}"#);
        assert_eq!(ancient.time.as_deref(), Some("2026-01-01T00:00:02Z"));
    }
}

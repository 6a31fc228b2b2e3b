//! A pod, or a template of pods, as the checks see it.

use std::collections::BTreeSet;
use trireme_schema::Value;

/// Metadata and spec of a pod.
#[derive(Clone, Copy, Debug)]
pub struct Pod<'a> {
    object: &'a Value,
}

impl<'a> Pod<'a> {
    /// The pod that an object is; a Pod or a pod template.
    pub fn of(object: &'a Value) -> Self {
        Self { object }
    }

    /// A field of the spec.
    pub(crate) fn spec(&self, field: &str) -> Option<&'a Value> {
        self.object.at(&["spec", field])
    }

    /// Annotations: key and value.
    pub(crate) fn annotations(&self) -> impl Iterator<Item = (&'a str, &'a str)> {
        let map = self.object.at(&["metadata", "annotations"]).and_then(Value::as_object);
        map.into_iter().flat_map(|m| m.iter()).map(|(k, v)| (k.as_str(), v.as_str().unwrap_or_default()))
    }

    /// A field of the pod's security context.
    pub(crate) fn security(&self, path: &[&str]) -> Option<&'a Value> {
        self.spec("securityContext")?.at(path)
    }

    /// All containers, those that start first in front.
    pub(crate) fn containers(&self) -> impl Iterator<Item = Container<'a>> {
        let lists = ["initContainers", "containers", "ephemeralContainers"];
        let object = self.object;
        lists.into_iter().flat_map(move |list| object.list_at(&["spec", list])).map(|value| Container { value })
    }

    /// The containers of which something holds.
    pub(crate) fn containers_that(&self, holds: impl Fn(&Container<'a>) -> bool) -> Named {
        let names = self.containers().filter(holds).map(|c| c.name().to_owned()).collect();
        Named { one: "container", many: "containers", names }
    }

    /// Volumes.
    pub(crate) fn volumes(&self) -> &'a [Value] {
        self.object.list_at(&["spec", "volumes"])
    }

    /// Whether it is for Windows, where most of Linux' settings mean nothing.
    pub(crate) fn is_for_windows(&self) -> bool {
        self.object.str_at(&["spec", "os", "name"]) == "windows"
    }

    /// Whether its users are none of the host's (KEP-127).
    pub(crate) fn has_own_users(&self) -> bool {
        self.spec("hostUsers").and_then(Value::as_bool) == Some(false)
    }
}

/// A container of any sort.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Container<'a> {
    /// The container's object.
    pub(crate) value: &'a Value,
}

impl<'a> Container<'a> {
    pub(crate) fn name(&self) -> &'a str {
        self.value.str_at(&["name"])
    }

    /// A field of its security context.
    pub(crate) fn security(&self, path: &[&str]) -> Option<&'a Value> {
        self.value.at(&["securityContext"])?.at(path)
    }

    /// Texts of a list in its security context.
    pub(crate) fn security_texts(&self, path: &[&str]) -> Vec<&'a str> {
        let list = self.security(path).and_then(Value::as_array).unwrap_or_default();
        list.iter().filter_map(Value::as_str).collect()
    }
}

/// Things by name, as messages list them.
#[derive(Clone, Debug)]
pub(crate) struct Named {
    one: &'static str,
    many: &'static str,
    names: Vec<String>,
}

impl Named {
    /// Volumes.
    pub(crate) fn volumes(names: Vec<String>) -> Self {
        Self { one: "volume", many: "volumes", names }
    }

    /// The same, each once and in the order of names.
    pub(crate) fn sorted(mut self) -> Self {
        self.names.sort();
        self.names.dedup();
        self
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.names.is_empty()
    }

    /// The verb's form for so many.
    pub(crate) fn uses(&self) -> &'static str {
        plural(self.names.len(), "uses", "use")
    }
}

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} {}", plural(self.names.len(), self.one, self.many), quoted(&self.names))
    }
}

/// Who set something forbidden: the pod itself, containers. Nothing when nobody did.
pub(crate) fn setters(pod: bool, containers: &Named) -> Vec<String> {
    let mut all = Vec::new();
    if pod {
        all.push("pod".to_owned());
    }
    if !containers.is_empty() {
        all.push(containers.to_string());
    }
    all
}

/// One form or the other.
pub(crate) fn plural<'a>(n: usize, one: &'a str, many: &'a str) -> &'a str {
    if n == 1 { one } else { many }
}

/// Texts in quotes, with commas between.
pub(crate) fn quoted<T: AsRef<str>>(texts: impl IntoIterator<Item = T>) -> String {
    texts.into_iter().map(|t| format!("\"{}\"", t.as_ref())).collect::<Vec<_>>().join(", ")
}

/// Forbidden values, each once and sorted.
pub(crate) type Values = BTreeSet<String>;

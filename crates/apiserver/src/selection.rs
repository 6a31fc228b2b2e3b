//! Which objects a list or watch is about.

use crate::catalogue::Served;
use crate::request::Query;
use std::sync::Arc;
use trireme_schema::{FieldSelector, LabelSelector, Status, Value, json};
use trireme_store::Record;

/// Labels and fields that objects must have.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    labels: LabelSelector,
    fields: FieldSelector,
}

fn not_selectable(served: &Served, field: &str) -> String {
    if served.resource.field_selectors.is_empty() && served.custom.is_none() {
        return format!("{field:?} is not a known field selector: only \"metadata.name\", \"metadata.namespace\"");
    }
    match (served.kind(), &served.resource.gv) {
        ("Job", _) => format!("field label {field:?} not supported for Job"),
        ("ResourceSlice", gv) => format!("field label not supported for {gv}, Kind=ResourceSlice: {field}"),
        _ => format!("field label not supported: {field}"),
    }
}

/// What selectors look at, worked out once per stored object.
#[derive(Debug)]
pub struct Attributes {
    labels: Value,
    fields: Vec<(String, String)>,
}

impl Selection {
    /// Reads the selectors of a query.
    ///
    /// # Errors
    /// 400 when one cannot be read or names a field that cannot be selected by.
    pub fn read(served: &Served, query: &Query) -> Result<Self, Status> {
        let labels =
            LabelSelector::parse(query.get("labelSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
        let fields =
            FieldSelector::parse(query.get("fieldSelector")).map_err(|e| Status::bad_request(e.to_string()))?;
        for requirement in &fields.0 {
            let field = requirement.field.as_str();
            let own = &served.resource.field_selectors;
            // Kinds with fields of their own say themselves what they have; cluster-wide ones then have no namespace.
            let general = field == "metadata.name"
                || (field == "metadata.namespace" && (served.resource.namespaced || own.is_empty()));
            if !general && !own.iter().any(|f| f == field) {
                return Err(Status::bad_request(not_selectable(served, field)));
            }
        }
        Ok(Self { labels, fields })
    }

    /// Whether everything is selected.
    pub fn is_all(&self) -> bool {
        self.labels.is_empty() && self.fields.is_empty()
    }

    /// Whether a stored object is selected.
    pub fn holds(&self, served: &Served, record: &Record) -> bool {
        if self.is_all() {
            return true;
        }
        let attributes = record.memo(|bytes| Arc::new(Attributes::of(served, &json::parse(bytes).unwrap_or_default())));
        self.matches(&attributes)
    }

    fn matches(&self, attributes: &Attributes) -> bool {
        self.labels.matches(Some(&attributes.labels))
            && self.fields.0.iter().all(|r| {
                let value = attributes.fields.iter().find(|(f, _)| *f == r.field).map_or("", |(_, v)| v.as_str());
                (value == r.value) == r.equal
            })
    }
}

impl Attributes {
    fn of(served: &Served, object: &Value) -> Self {
        let labels = object.at(&["metadata", "labels"]).cloned().unwrap_or_default();
        let mut fields = vec![
            ("metadata.name".to_owned(), object.str_at(&["metadata", "name"]).to_owned()),
            ("metadata.namespace".to_owned(), object.str_at(&["metadata", "namespace"]).to_owned()),
        ];
        // What is worked out is kept with the stored object, for all versions in which it is read.
        let custom = served.custom.as_ref().map(|custom| custom.definition.selectable.as_slice()).unwrap_or_default();
        for field in served.resource.field_selectors.iter().chain(custom) {
            fields.push((field.clone(), field_text(served, object, field)));
        }
        Self { labels, fields }
    }
}

/// A field as text; some selectable names are not paths.
fn field_text(served: &Served, object: &Value, field: &str) -> String {
    let path: Vec<&str> = match (served.kind(), field) {
        ("Event", "source") => vec!["source", "component"],
        ("Event", "reportingComponent") => vec!["reportingComponent"],
        ("Pod", "status.podIPs") => vec!["status", "podIP"],
        _ => field.split('.').collect(),
    };
    match object.at(&path) {
        Some(Value::String(text)) => text.clone(),
        Some(Value::Bool(b)) => b.to_string(),
        Some(Value::Int(n)) => n.to_string(),
        _ if matches!(field, "spec.unschedulable" | "spec.hostNetwork") => "false".to_owned(),
        _ if field == "status.replicas" || field == "status.successful" => "0".to_owned(),
        _ => String::new(),
    }
}

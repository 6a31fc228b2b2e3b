//! Something that somebody wants to do.

use crate::request::RequestInfo;
use crate::user::User;
use trireme_schema::selector::{BadSelector, FieldRequirement, FieldSelector, LabelSelector, Operator, Requirement};
use trireme_schema::{Map, Value};

/// Something that somebody wants to do.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Action {
    /// The verb.
    pub verb: String,
    /// The group; for resources.
    pub group: String,
    /// The version.
    pub version: String,
    /// The resource; empty for paths.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The namespace.
    pub namespace: String,
    /// The name.
    pub name: String,
    /// The path, for what is no resource.
    pub path: String,
    /// To which of many it is done, by fields; nothing where the selector cannot be read.
    pub fields: FieldSelector,
    /// The same by labels.
    pub labels: LabelSelector,
}

impl Action {
    /// What a request wants.
    pub fn of(info: &RequestInfo) -> Self {
        Self {
            verb: info.verb.clone(),
            group: info.group.clone(),
            version: info.version.clone(),
            resource: info.resource.clone(),
            subresource: info.subresource.clone(),
            namespace: info.namespace.clone(),
            name: info.name.clone(),
            path: if info.is_resource { String::new() } else { info.path.clone() },
            fields: FieldSelector::parse(&info.field_selector).unwrap_or_default(),
            labels: LabelSelector::parse(&info.label_selector).unwrap_or_default(),
        }
    }

    /// What a review asks about, and what of it cannot be read.
    pub fn asked(spec: &Value) -> (Self, Vec<String>) {
        let Some(given) = spec.get("resourceAttributes") else {
            let text = |field: &str| spec.str_at(&["nonResourceAttributes", field]).to_owned();
            return (Self { verb: text("verb"), path: text("path"), ..Self::default() }, Vec::new());
        };
        let mut wrong = Vec::new();
        let text = |field: &str| given.str_at(&[field]).to_owned();
        let (fields, unread) = selector(given.get("fieldSelector"), FieldSelector::parse, field, FieldSelector);
        let (labels, unread_labels) = selector(given.get("labelSelector"), LabelSelector::parse, label, LabelSelector);
        for (name, unread) in [("fieldSelector", unread), ("labelSelector", unread_labels)] {
            if let Some(partly) = unread {
                let how = if partly { "partially ignored" } else { "ignored" };
                wrong.push(format!("spec.resourceAttributes.{name} {how} due to parse error"));
            }
        }
        let action = Self {
            verb: text("verb"),
            group: text("group"),
            version: text("version"),
            resource: text("resource"),
            subresource: text("subresource"),
            namespace: text("namespace"),
            name: text("name"),
            path: String::new(),
            fields,
            labels,
        };
        (action, wrong)
    }

    pub(super) fn full_resource(&self) -> String {
        if self.subresource.is_empty() {
            self.resource.clone()
        } else {
            format!("{}/{}", self.resource, self.subresource)
        }
    }

    /// The `spec` of a SubjectAccessReview that asks whether a user may do this. Empty fields are left out, or else all
    /// texts are there, as match conditions see them.
    pub(super) fn review(&self, user: &User, whole: bool) -> Map {
        let mut spec = Map::new();
        let add = |map: &mut Map, name: &str, text: &str| {
            if whole || !text.is_empty() {
                map.insert(name, text);
            }
        };
        let mut about = Map::new();
        if self.path.is_empty() {
            for (name, text) in [
                ("namespace", &self.namespace),
                ("verb", &self.verb),
                ("group", &self.group),
                ("version", &self.version),
                ("resource", &self.resource),
                ("subresource", &self.subresource),
                ("name", &self.name),
            ] {
                add(&mut about, name, text);
            }
            let fields =
                self.fields.0.iter().map(|r| {
                    requirement(&r.field, if r.equal { "In" } else { "NotIn" }, std::slice::from_ref(&r.value))
                });
            let labels = self.labels.0.iter().filter_map(|r| match &r.operator {
                Operator::In(values) => Some(requirement(&r.key, "In", values)),
                Operator::NotIn(values) => Some(requirement(&r.key, "NotIn", values)),
                Operator::Exists => Some(requirement(&r.key, "Exists", &[])),
                Operator::DoesNotExist => Some(requirement(&r.key, "DoesNotExist", &[])),
                // Reviews cannot say it. What is left matches more, which is the safe side.
                Operator::GreaterThan(_) | Operator::LessThan(_) => None,
            });
            let selectors: [(&str, Vec<Value>); 2] =
                [("fieldSelector", fields.collect()), ("labelSelector", labels.collect())];
            for (name, requirements) in selectors {
                if !requirements.is_empty() {
                    about.insert(name, Value::Object(Map::from_iter([("requirements", Value::Array(requirements))])));
                }
            }
            spec.insert("resourceAttributes", Value::Object(about));
        } else {
            add(&mut about, "path", &self.path);
            add(&mut about, "verb", &self.verb);
            spec.insert("nonResourceAttributes", Value::Object(about));
        }
        add(&mut spec, "user", &user.name);
        if whole || !user.groups.is_empty() {
            spec.insert("groups", user.groups.clone());
        }
        if whole || !user.extra.is_empty() {
            let extra = user.extra.iter().map(|(key, values)| (key.as_str(), values.clone()));
            spec.insert("extra", Value::Object(extra.collect()));
        }
        add(&mut spec, "uid", &user.uid);
        spec
    }
}

fn requirement(key: &str, operator: &str, values: &[String]) -> Value {
    let mut map = Map::from_iter([("key", key), ("operator", operator)]);
    if !values.is_empty() {
        map.insert("values", values.to_vec());
    }
    Value::Object(map)
}

/// A selector that a review gives as text or in parts. What cannot be read is told: `Some(true)` if only a part of it is
/// left out, `Some(false)` if all.
fn selector<S, P>(
    given: Option<&Value>,
    parse: fn(&str) -> Result<S, BadSelector>,
    part: fn(&str, &str, Vec<String>) -> Option<P>,
    whole: fn(Vec<P>) -> S,
) -> (S, Option<bool>) {
    let raw = given.map_or("", |given| given.str_at(&["rawSelector"]));
    if !raw.is_empty() {
        return parse(raw).map_or_else(|_| (whole(Vec::new()), Some(false)), |selector| (selector, None));
    }
    let requirements = given.map(|given| given.list_at(&["requirements"])).unwrap_or_default();
    let parts: Vec<P> = requirements
        .iter()
        .filter_map(|r| {
            let values = r.list_at(&["values"]).iter().filter_map(Value::as_str).map(str::to_owned).collect();
            part(r.str_at(&["key"]), r.str_at(&["operator"]), values)
        })
        .collect();
    let wrong = (parts.len() < requirements.len()).then_some(!parts.is_empty());
    (whole(parts), wrong)
}

fn field(key: &str, operator: &str, values: Vec<String>) -> Option<FieldRequirement> {
    let [value] = <[String; 1]>::try_from(values).ok()?;
    let equal = match operator {
        "In" => true,
        "NotIn" => false,
        _ => return None,
    };
    Some(FieldRequirement { field: key.to_owned(), value, equal })
}

fn label(key: &str, operator: &str, values: Vec<String>) -> Option<Requirement> {
    let operator = match (operator, values.is_empty()) {
        ("In", false) => Operator::In(values),
        ("NotIn", false) => Operator::NotIn(values),
        ("Exists", true) => Operator::Exists,
        ("DoesNotExist", true) => Operator::DoesNotExist,
        _ => return None,
    };
    Some(Requirement { key: key.to_owned(), operator })
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn a_review_says_what_is_wanted() {
        let action = Action {
            verb: "list".into(),
            version: "v1".into(),
            resource: "pods".into(),
            fields: FieldSelector::parse("spec.nodeName=a").unwrap(),
            labels: LabelSelector::parse("x in (b,a),!y,n>3").unwrap(),
            ..Action::default()
        };
        let user = User::new("u", &["g"]);
        let text = String::from_utf8(json::to_vec(&Value::Object(action.review(&user, false)))).unwrap();
        let wanted = concat!(
            r#"{"groups":["g","system:authenticated"],"resourceAttributes":{"#,
            r#""fieldSelector":{"requirements":[{"key":"spec.nodeName","operator":"In","values":["a"]}]},"#,
            r#""labelSelector":{"requirements":[{"key":"x","operator":"In","values":["a","b"]},{"key":"y","operator":"DoesNotExist"}]},"#,
            r#""resource":"pods","verb":"list","version":"v1"},"user":"u"}"#
        );
        assert_eq!(text, wanted);
        let path = Action { verb: "get".into(), path: "/healthz".into(), ..Action::default() };
        let spec = Value::Object(path.review(&user, true));
        assert_eq!(spec.str_at(&["nonResourceAttributes", "path"]), "/healthz");
        assert!(spec.get("uid").is_some() && spec.get("extra").is_some() && spec.get("resourceAttributes").is_none());
    }

    #[test]
    fn a_review_is_read_back_and_what_cannot_be_read_is_told() {
        let read = |attributes: &str| {
            Action::asked(&json::parse(format!(r#"{{"resourceAttributes":{attributes}}}"#).as_bytes()).unwrap())
        };
        let (action, wrong) = read(
            r#"{"verb":"list","fieldSelector":{"rawSelector":"a=b"},"labelSelector":{"requirements":[{"key":"k","operator":"Exists"}]}}"#,
        );
        assert_eq!((action.fields.exact("a"), action.labels.0.len(), wrong.len()), (Some("b"), 1, 0));
        let (_, wrong) = read(
            r#"{"fieldSelector":{"requirements":[{"key":"a","operator":"In","values":["b"]},{"key":"a","operator":"Exists"}]},"labelSelector":{"rawSelector":"=,"}}"#,
        );
        assert_eq!(
            wrong,
            [
                "spec.resourceAttributes.fieldSelector partially ignored due to parse error",
                "spec.resourceAttributes.labelSelector ignored due to parse error"
            ]
        );
    }
}

use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

/// Labels, sorted by key. Small and without slack, for there are as many as there are pods and nodes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Labels(Box<[(Box<str>, Box<str>)]>);

/// How a label is compared.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Operator {
    /// Has one of these values.
    In(Box<[Box<str>]>),
    /// Has none of these values, or is absent.
    NotIn(Box<[Box<str>]>),
    /// Is there.
    Exists,
    /// Is not there.
    DoesNotExist,
    /// Is a number above.
    Above(i64),
    /// Is a number below.
    Below(i64),
    /// An operator that there is not, or a bound that is no number: matches nothing.
    Never,
}

/// What one label must be.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "ApiRequirement")]
pub struct Requirement {
    /// The label's key.
    pub key: Box<str>,
    /// The comparison.
    pub operator: Operator,
}

/// All requirements must hold; none matches everything (meta/v1 LabelSelector).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(from = "ApiSelector")]
pub struct LabelSelector(pub Vec<Requirement>);

/// One alternative of a node selector. An empty one matches nothing (core/v1 NodeSelectorTerm).
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeTerm {
    /// What the node's labels must be.
    pub match_expressions: Vec<Requirement>,
    /// What the node's fields must be; the only field is `metadata.name`.
    pub match_fields: Vec<Requirement>,
}

/// Alternatives, of which one must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct NodeSelector {
    /// The alternatives.
    pub node_selector_terms: Vec<NodeTerm>,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct ApiRequirement {
    key: Box<str>,
    operator: String,
    values: Box<[Box<str>]>,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct ApiSelector {
    match_labels: Labels,
    match_expressions: Vec<Requirement>,
}

// === impl Labels ===

impl Labels {
    /// The value of a label.
    pub fn get(&self, key: &str) -> Option<&str> {
        let at = self.0.binary_search_by(|(k, _)| (**k).cmp(key)).ok()?;
        self.0.get(at).map(|(_, value)| &**value)
    }

    /// All labels, by key.
    pub fn iter(&self) -> impl Iterator<Item = (&str, &str)> {
        self.0.iter().map(|(key, value)| (&**key, &**value))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl<K: Into<Box<str>>, V: Into<Box<str>>> FromIterator<(K, V)> for Labels {
    fn from_iter<T: IntoIterator<Item = (K, V)>>(labels: T) -> Self {
        let mut labels: Vec<(Box<str>, Box<str>)> = labels.into_iter().map(|(k, v)| (k.into(), v.into())).collect();
        labels.sort();
        labels.dedup_by(|later, earlier| later.0 == earlier.0);
        Self(labels.into())
    }
}

impl<'de> Deserialize<'de> for Labels {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Entries;
        impl<'de> Visitor<'de> for Entries {
            type Value = Labels;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a map of labels")
            }

            fn visit_unit<E>(self) -> Result<Labels, E> {
                Ok(Labels::default())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Labels, A::Error> {
                let mut labels = Vec::with_capacity(map.size_hint().unwrap_or(0));
                while let Some(entry) = map.next_entry::<Box<str>, Box<str>>()? {
                    labels.push(entry);
                }
                Ok(labels.into_iter().collect())
            }
        }
        deserializer.deserialize_any(Entries)
    }
}

// === impl Requirement ===

impl Requirement {
    /// Has exactly this value.
    pub fn equals(key: &str, value: &str) -> Self {
        Self { key: key.into(), operator: Operator::In([value.into()].into()) }
    }

    /// Whether a value, or its absence, is what is required.
    pub fn holds(&self, value: Option<&str>) -> bool {
        let number = || value.and_then(|value| value.parse::<i64>().ok());
        match &self.operator {
            Operator::In(values) => value.is_some_and(|value| values.iter().any(|v| **v == *value)),
            Operator::NotIn(values) => !value.is_some_and(|value| values.iter().any(|v| **v == *value)),
            Operator::Exists => value.is_some(),
            Operator::DoesNotExist => value.is_none(),
            Operator::Above(bound) => number().is_some_and(|number| number > *bound),
            Operator::Below(bound) => number().is_some_and(|number| number < *bound),
            Operator::Never => false,
        }
    }
}

impl From<ApiRequirement> for Requirement {
    fn from(requirement: ApiRequirement) -> Self {
        let bound = || requirement.values.first().and_then(|value| value.parse().ok());
        let operator = match requirement.operator.as_str() {
            "In" => Operator::In(requirement.values),
            "NotIn" => Operator::NotIn(requirement.values),
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            "Gt" => bound().map_or(Operator::Never, Operator::Above),
            "Lt" => bound().map_or(Operator::Never, Operator::Below),
            _ => Operator::Never,
        };
        Self { key: requirement.key, operator }
    }
}

// === impl LabelSelector ===

impl LabelSelector {
    /// Whether labels match.
    pub fn matches(&self, labels: &Labels) -> bool {
        self.0.iter().all(|requirement| requirement.holds(labels.get(&requirement.key)))
    }
}

impl From<ApiSelector> for LabelSelector {
    fn from(selector: ApiSelector) -> Self {
        let labels = selector.match_labels.iter().map(|(key, value)| Requirement::equals(key, value));
        Self(labels.chain(selector.match_expressions).collect())
    }
}

// === impl NodeSelector ===

impl NodeTerm {
    /// Whether a node of this name and with these labels matches.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        if self.match_expressions.is_empty() && self.match_fields.is_empty() {
            return false;
        }
        self.match_expressions.iter().all(|requirement| requirement.holds(labels.get(&requirement.key)))
            && self
                .match_fields
                .iter()
                .all(|requirement| &*requirement.key == "metadata.name" && requirement.holds(Some(name)))
    }
}

impl NodeSelector {
    /// Whether one of the alternatives matches.
    pub fn matches(&self, name: &str, labels: &Labels) -> bool {
        self.node_selector_terms.iter().any(|term| term.matches(name, labels))
    }

    /// The names of the only nodes that can match, where every alternative names some. Daemon pods have one that does.
    pub fn names(&self) -> Option<Vec<&str>> {
        let mut names = Vec::new();
        for term in &self.node_selector_terms {
            let named = term.match_fields.iter().find_map(|field| match &field.operator {
                Operator::In(values) if &*field.key == "metadata.name" => Some(values),
                _ => None,
            });
            names.extend(named?.iter().map(|name| &**name));
        }
        names.sort_unstable();
        names.dedup();
        (!self.node_selector_terms.is_empty()).then_some(names)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn accepted(term: Value) -> bool {
        let labels: Labels = [("zone", "a"), ("cores", "8")].into_iter().collect();
        serde_json::from_value::<NodeTerm>(term).unwrap().matches("n1", &labels)
    }

    #[test]
    fn requirements_hold_as_the_api_says() {
        let expression = |key: &str, operator: &str, values: &[&str]| {
            accepted(json!({"matchExpressions": [{"key": key, "operator": operator, "values": values}]}))
        };
        for (key, operator, values, expected) in [
            ("zone", "In", &["a", "b"][..], true),
            ("zone", "In", &["b"], false),
            ("zone", "NotIn", &["b"], true),
            ("missing", "NotIn", &["b"], true),
            ("missing", "In", &["b"], false),
            ("zone", "Exists", &[], true),
            ("zone", "DoesNotExist", &[], false),
            ("cores", "Gt", &["4"], true),
            ("cores", "Lt", &["8"], false),
            ("cores", "Gt", &["x"], false),
            ("zone", "Gt", &["1"], false),
            ("zone", "Like", &["a"], false),
        ] {
            assert_eq!(expression(key, operator, values), expected, "{key} {operator} {values:?}");
        }
        assert!(!accepted(json!({})));
        assert!(accepted(json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["n1"]}]})));
    }

    #[test]
    fn a_label_selector_without_requirements_matches_everything() {
        let labels: Labels = [("a", "1")].into_iter().collect();
        let selector = |text: Value| serde_json::from_value::<LabelSelector>(text).unwrap();
        assert!(selector(json!({})).matches(&labels));
        assert!(selector(json!({"matchLabels": {"a": "1"}})).matches(&labels));
        let both = json!({"matchLabels": {"a": "1"}, "matchExpressions": [{"key": "b", "operator": "Exists"}]});
        assert!(!selector(both).matches(&labels));
    }

    #[test]
    fn names_are_known_only_when_every_alternative_names_some() {
        let by_name =
            |name: &str| json!({"matchFields": [{"key": "metadata.name", "operator": "In", "values": [name]}]});
        let selector =
            |terms: Value| serde_json::from_value::<NodeSelector>(json!({"nodeSelectorTerms": terms})).unwrap();
        assert_eq!(selector(json!([by_name("b"), by_name("a")])).names(), Some(vec!["a", "b"]));
        assert_eq!(selector(json!([by_name("b"), {}])).names(), None);
        assert_eq!(selector(json!([])).names(), None);
    }
}

//! Which requests a policy or binding is about (`MatchResources`).

use crate::admission::{Attributes, request};
use crate::catalogue::Served;
use std::sync::Arc;
use trireme_schema::selector::BadSelector;
use trireme_schema::{LabelSelector, Status, Value};
use trireme_webhooks::admission::Rule;

/// What requests must be like.
#[derive(Debug)]
pub(super) struct Matching {
    namespaces: Result<LabelSelector, BadSelector>,
    objects: Result<LabelSelector, BadSelector>,
    rules: Vec<NamedRule>,
    excluded: Vec<NamedRule>,
    /// Whether requests to other versions of the same resources are meant too (`matchPolicy: Equivalent`).
    equivalent: bool,
}

#[derive(Debug)]
struct NamedRule {
    rule: Rule,
    /// Empty for all.
    names: Vec<String>,
}

impl Matching {
    pub fn read(given: &Value) -> Self {
        let selector = |name: &str| LabelSelector::from_object(given.get(name).unwrap_or(&Value::Null));
        let rule = |rule: &Value| NamedRule {
            rule: Rule::read(rule),
            names: rule.list_at(&["resourceNames"]).iter().filter_map(Value::as_str).map(str::to_owned).collect(),
        };
        let rules = |name: &str| given.list_at(&[name]).iter().map(rule).collect();
        Self {
            namespaces: selector("namespaceSelector"),
            objects: selector("objectSelector"),
            rules: rules("resourceRules"),
            excluded: rules("excludeResourceRules"),
            equivalent: given.str_at(&["matchPolicy"]) != "Exact",
        }
    }

    /// The version of the request's resource that is meant; none if the request is not.
    ///
    /// # Errors
    /// It cannot be told, and the request would be meant otherwise.
    pub fn matches(
        &self,
        attributes: &Attributes<'_>,
        object: &Value,
        old: Option<&Value>,
    ) -> Result<Option<Arc<Served>>, String> {
        let internal = |why: &BadSelector| Status::internal(why).message;
        let in_namespace = match &self.namespaces {
            Ok(selector) => request::namespace_fits(attributes, selector, object, old).map_err(|s| s.message),
            Err(why) => Err(internal(why)),
        };
        let labelled = match &self.objects {
            Ok(selector) => Ok(request::object_fits(selector, object, old)),
            Err(why) => Err(internal(why)),
        };
        if in_namespace == Ok(false) || labelled == Ok(false) {
            return Ok(None);
        }
        let name = attributes.name(object);
        if self.meant(&self.excluded, attributes, name).is_some() {
            return Ok(None);
        }
        let meant = match self.rules.is_empty() {
            true => Some(attributes.target.served.clone()),
            false => self.meant(&self.rules, attributes, name),
        };
        // What is not meant fails nothing.
        let Some(served) = meant else { return Ok(None) };
        in_namespace?;
        labelled?;
        Ok(Some(served))
    }

    fn meant(&self, rules: &[NamedRule], attributes: &Attributes<'_>, name: &str) -> Option<Arc<Served>> {
        let target = attributes.target;
        let operation = request::operation(attributes.operation);
        let fits = |rule: &NamedRule, served: &Served| {
            rule.rule.matches(operation, &request::named(served, &target.subresource))
                && (rule.names.is_empty() || rule.names.iter().any(|one| one == name))
        };
        if rules.iter().any(|rule| fits(rule, &target.served)) {
            return Some(target.served.clone());
        }
        if !self.equivalent || rules.is_empty() {
            return None;
        }
        let others = request::equivalents(attributes);
        rules.iter().find_map(|rule| others.iter().find(|served| fits(rule, served)).cloned())
    }
}

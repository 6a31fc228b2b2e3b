//! Which requests a webhook wants to see (`RuleWithOperations`).

use trireme_schema::Value;

/// A resource, as a request or a rule names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Named<'a> {
    /// API group.
    pub group: &'a str,
    /// Version.
    pub version: &'a str,
    /// Plural name.
    pub resource: &'a str,
    /// Subresource; empty for the object itself.
    pub subresource: &'a str,
    /// Whether objects are in a namespace.
    pub namespaced: bool,
}

/// Operations and resources; a request matches when each list has it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Rule {
    operations: Vec<String>,
    groups: Vec<String>,
    versions: Vec<String>,
    resources: Vec<String>,
    scope: String,
}

impl Rule {
    /// Reads a rule.
    pub fn read(rule: &Value) -> Self {
        let list = |field: &str| {
            rule.list_at(&[field]).iter().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<String>>()
        };
        Self {
            operations: list("operations"),
            groups: list("apiGroups"),
            versions: list("apiVersions"),
            resources: list("resources"),
            scope: rule.str_at(&["scope"]).to_owned(),
        }
    }

    /// Whether the rule wants this operation (`CREATE`) on this resource.
    pub fn matches(&self, operation: &str, named: &Named<'_>) -> bool {
        let has = |list: &[String], what: &str| list.iter().any(|x| x == "*" || x == what);
        has(&self.operations, operation)
            && has(&self.groups, named.group)
            && has(&self.versions, named.version)
            && self.scope_fits(named)
            && self.resources.iter().any(|pattern| resource_fits(pattern, named))
    }

    fn scope_fits(&self, named: &Named<'_>) -> bool {
        match self.scope.as_str() {
            // A namespace is an object of the cluster, though it stands in its own URL.
            "Namespaced" => named.namespaced,
            "Cluster" => !named.namespaced,
            _ => true,
        }
    }
}

/// `pods`, `pods/status`, `pods/*`, `*`, `*/scale`, `*/*`.
fn resource_fits(pattern: &str, named: &Named<'_>) -> bool {
    let (resource, subresource) = pattern.split_once('/').unwrap_or((pattern, ""));
    let resource_fits = resource == "*" || resource == named.resource;
    resource_fits && (subresource == "*" || subresource == named.subresource)
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn patterns_of_resources() {
        let pod = |subresource| Named { group: "", version: "v1", resource: "pods", subresource, namespaced: true };
        for (pattern, subresource, fits) in [
            ("pods", "", true),
            ("pods", "status", false),
            ("pods/status", "status", true),
            ("pods/*", "status", true),
            ("pods/*", "", true),
            ("*", "", true),
            ("*", "status", false),
            ("*/status", "status", true),
            ("*/*", "exec", true),
            ("services", "", false),
        ] {
            assert_eq!(resource_fits(pattern, &pod(subresource)), fits, "{pattern} {subresource}");
        }
    }

    #[test]
    fn all_parts_must_fit() {
        let text = br#"{"operations":["CREATE"],"apiGroups":["apps"],"apiVersions":["*"],"resources":["deployments"],"scope":"Namespaced"}"#;
        let rule = Rule::read(&json::parse(text).unwrap());
        let named = Named { group: "apps", version: "v1", resource: "deployments", subresource: "", namespaced: true };
        assert!(rule.matches("CREATE", &named));
        assert!(!rule.matches("UPDATE", &named));
        assert!(!rule.matches("CREATE", &Named { group: "", ..named }));
        assert!(!rule.matches("CREATE", &Named { namespaced: false, ..named }));
    }
}

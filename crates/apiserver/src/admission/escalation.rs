//! Nobody gives away rights that he does not have (RBAC's escalation check), unless he may `escalate` or `bind`.

use super::Attributes;
use crate::authz::{self, Action, Resolved, Rule, listed};
use std::collections::BTreeSet;
use trireme_schema::{Status, Value};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses roles and bindings that would give more than their writer has.
pub(super) async fn check(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let target = attributes.target;
    let served = &target.served;
    if served.group() != GROUP || !attributes.writes() || target.user.is_in("system:masters") {
        return Ok(());
    }
    let may = async |verb: &str, resource: &str, name: &str| {
        let action = Action {
            verb: verb.into(),
            group: GROUP.into(),
            version: "*".into(),
            resource: resource.into(),
            namespace: target.namespace.clone(),
            name: name.into(),
            ..Action::default()
        };
        authz::allows(attributes.server, &target.user, &action).await
    };
    let wanted: Vec<Rule> = match served.kind() {
        "Role" | "ClusterRole" => {
            let same = |field: &str| old.is_some_and(|old| old.get(field) == object.get(field));
            if (same("rules") && same("aggregationRule"))
                || may("escalate", served.plural(), attributes.name(object)).await
            {
                return Ok(());
            }
            let aggregates = |o: &Value| !o.list_at(&["aggregationRule", "clusterRoleSelectors"]).is_empty();
            if (aggregates(object) || old.is_some_and(aggregates))
                && escalation(attributes, Rule::everything().into()).is_err()
            {
                let why = "must have cluster-admin privileges to use the aggregationRule";
                return Err(attributes.forbidden(object, why));
            }
            object.list_at(&["rules"]).iter().map(Rule::read).collect()
        }
        _ => {
            let same = |field: &str| old.is_some_and(|old| old.get(field) == object.get(field));
            let (kind, role) = (object.str_at(&["roleRef", "kind"]), object.str_at(&["roleRef", "name"]));
            let plural = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if (same("subjects") && same("roleRef")) || may("bind", plural, role).await {
                return Ok(());
            }
            let rules = authz::rules_of_role(attributes.server, kind, &target.namespace, role);
            rules.ok_or_else(|| Status::not_found(GROUP, plural, role))?
        }
    };
    escalation(attributes, wanted).map_err(|why| attributes.forbidden(object, &why))
}

/// What of some rules the user does not have himself, as it is told.
fn escalation(attributes: &Attributes<'_>, wanted: Vec<Rule>) -> Result<(), String> {
    let user = &attributes.target.user;
    let Resolved { rules: own, missing: unresolved } =
        authz::resolve(attributes.server, user, &attributes.target.namespace);
    let lacks = |part: &Rule| !own.iter().any(|have| have.covers(part));
    let missing: Vec<Rule> = wanted.iter().flat_map(Rule::parts).filter(lacks).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let lines: BTreeSet<String> = joined(missing).iter().map(Rule::to_string).collect();
    let mut why = format!(
        "user {:?} (groups={}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        listed(&user.groups),
        lines.into_iter().collect::<Vec<_>>().join("\n")
    );
    if !unresolved.is_empty() {
        why.push_str(&format!("; resolution errors: [{}]", unresolved.join(" ")));
    }
    Err(why)
}

/// Rules about the same thing with their verbs together.
fn joined(parts: Vec<Rule>) -> Vec<Rule> {
    let mut rules: Vec<Rule> = Vec::new();
    for part in parts {
        let same = |rule: &&mut Rule| {
            rule.urls.is_empty()
                && part.urls.is_empty()
                && (&rule.groups, &rule.resources, &rule.names) == (&part.groups, &part.resources, &part.names)
        };
        match rules.iter_mut().find(same) {
            Some(rule) => rule.verbs.extend(part.verbs),
            None => rules.push(part),
        }
    }
    rules
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verbs_of_one_resource_are_told_together() {
        let texts = |list: &[&str]| list.iter().map(|t| (*t).to_owned()).collect::<Vec<_>>();
        let rule = Rule {
            verbs: texts(&["get", "list"]),
            groups: texts(&[""]),
            resources: texts(&["a", "b"]),
            ..Rule::default()
        };
        let shown: Vec<String> = joined(rule.parts()).iter().map(Rule::to_string).collect();
        let of = |r: &str| format!(r#"{{APIGroups:[""], Resources:["{r}"], Verbs:["get" "list"]}}"#);
        assert_eq!(shown, [of("a"), of("b")]);
    }
}

//! Nobody gives away rights that he does not have (RBAC's escalation check), unless he may `escalate` or `bind`.

use super::{Attributes, Operation};
use crate::authz::{self, Action, Rule};
use trireme_schema::{Status, Value};

const GROUP: &str = "rbac.authorization.k8s.io";

/// Refuses roles and bindings that would give more than their writer has.
pub(super) fn check(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let target = attributes.target;
    let served = &target.served;
    let writes = matches!(attributes.operation, Operation::Create | Operation::Update);
    if served.group() != GROUP || !writes || target.user.is_in("system:masters") {
        return Ok(());
    }
    let may = |verb: &str, resource: &str, name: &str| {
        let action = Action {
            verb: verb.into(),
            group: GROUP.into(),
            resource: resource.into(),
            namespace: target.namespace.clone(),
            name: name.into(),
            ..Action::default()
        };
        authz::allows(attributes.server, &target.user, &action)
    };
    let name = object.str_at(&["metadata", "name"]);
    let wanted: Vec<Rule> = match served.kind() {
        "Role" | "ClusterRole" => {
            if old.is_some_and(|old| old.get("rules") == object.get("rules")) || may("escalate", served.plural(), name)
            {
                return Ok(());
            }
            object.list_at(&["rules"]).iter().map(Rule::read).collect()
        }
        _ => {
            let (kind, role) = (object.str_at(&["roleRef", "kind"]), object.str_at(&["roleRef", "name"]));
            let plural = if kind == "ClusterRole" { "clusterroles" } else { "roles" };
            if may("bind", plural, role) {
                return Ok(());
            }
            authz::rules_of_role(attributes.server, kind, &target.namespace, role)
        }
    };
    let own = authz::rules_of(attributes.server, &target.user, &target.namespace);
    let missing: Vec<String> =
        wanted.iter().filter(|w| !own.iter().any(|have| have.covers(w))).map(Rule::to_string).collect();
    if missing.is_empty() {
        return Ok(());
    }
    let user = &target.user;
    let why = format!(
        "user {:?} (groups={:?}) is attempting to grant RBAC permissions not currently held:\n{}",
        user.name,
        user.groups,
        missing.join("\n")
    );
    Err(attributes.forbidden(object, &why))
}

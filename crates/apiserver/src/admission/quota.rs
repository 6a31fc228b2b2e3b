//! ResourceQuota: what the namespace's quotas still allow. What a write adds is written into their status in the same
//! transaction, so that what is used is never behind; the quota controller counts anew what goes.

use super::{Attributes, Operation};
use std::collections::BTreeSet;
use trireme_quota::{Amounts, counts, is_countable, matching, pretty, read, scopes_of, subtract, sum, unnamed, usage};
use trireme_schema::{Quantity, Status, Value};
use trireme_store::Txn;

/// Whether quotas have a say in a write.
fn is_counted(attributes: &Attributes<'_>) -> bool {
    let target = attributes.target;
    if !target.served.resource.namespaced {
        return false;
    }
    let changes = match (target.served.group(), target.served.plural()) {
        ("", "pods") => target.subresource == "resize",
        ("", "services" | "persistentvolumeclaims") => target.subresource.is_empty(),
        _ => false,
    };
    match attributes.operation {
        Operation::Create => target.subresource.is_empty(),
        Operation::Update => changes,
        _ => false,
    }
}

/// Refuses what a quota does not allow, or else takes it from the quotas.
pub(super) fn check(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !is_counted(attributes) {
        return Ok(());
    }
    let server = attributes.server;
    let served = &attributes.target.served;
    let (group, plural) = (served.group(), served.plural());
    let taken = usage(group, plural, object);
    let mut uncovered = server.admission.limited.uncovered(group, plural, &taken, object);
    let mut counting = Vec::new();
    let Some(quotas) = server.catalogue.stored("", "resourcequotas") else { return Ok(()) };
    let snapshot = server.store.topic(&quotas.topic).snapshot();
    let prefix = quotas.prefix(&attributes.target.namespace);
    for record in snapshot.range(&prefix, None) {
        let quota = quotas.read(&record.value);
        let hard = read(quota.at(&["status", "hard"]));
        let spec = quota.at(&["spec"]).cloned().unwrap_or_default();
        uncovered.scopes_of(&spec, plural, object);
        // Names that the object has a part in, though it may take none of it.
        let interesting: Vec<&str> = hard
            .keys()
            .map(String::as_str)
            .filter(|name| taken.contains_key(*name) || is_countable(group, plural, name) || is_of(group, plural, name))
            .collect();
        if interesting.is_empty() || !counts(&spec, plural, object) {
            continue;
        }
        uncovered.names.retain(|name| !interesting.contains(&name.as_str()));
        let name = quota.str_at(&["metadata", "name"]).to_owned();
        if (group, plural) == ("", "pods") {
            let missing = unnamed(object, &interesting);
            if !missing.is_empty() {
                let each: Vec<String> = missing.iter().map(|(r, c)| format!("{r} for: {}", c.join(","))).collect();
                let why = format!("failed quota: {name}: must specify {}", each.join("; "));
                return Err(attributes.forbidden(object, &why));
            }
        }
        let used = read(quota.at(&["status", "used"]));
        let unknown: Vec<&str> = interesting.iter().copied().filter(|r| !used.contains_key(*r)).collect();
        if !unknown.is_empty() {
            let why = format!("status unknown for quota: {name}, resources: {}", unknown.join(","));
            return Err(attributes.forbidden(object, &why));
        }
        counting.push((record, quota, hard, used));
    }
    if let Some(why) = uncovered.refusal() {
        return Err(attributes.forbidden(object, &why));
    }
    for (record, mut quota, hard, used) in counting {
        let name = quota.str_at(&["metadata", "name"]).to_owned();
        let mut more = taken.clone();
        if let Some(old) = old.filter(|_| attributes.operation == Operation::Update) {
            subtract(&mut more, &usage(group, plural, old));
        }
        more.retain(|name, amount| hard.contains_key(name) && !amount.is_zero());
        let mut after = used.clone();
        sum(&mut after, &more);
        let exceeded: Vec<&String> = more
            .iter()
            .filter(|(r, add)| **add > Quantity::ZERO && after.get(*r) > hard.get(*r))
            .map(|(r, _)| r)
            .collect();
        if !exceeded.is_empty() {
            let only = |amounts: &Amounts| {
                let some = amounts.iter().filter(|(r, _)| exceeded.contains(r));
                pretty(&some.map(|(r, a)| (r.clone(), *a)).collect())
            };
            let (asked, now, most) = (only(&more), only(&used), only(&hard));
            let why = format!("exceeded quota: {name}, requested: {asked}, used: {now}, limited: {most}");
            return Err(attributes.forbidden(object, &why));
        }
        if more.is_empty() || attributes.dry_run {
            continue;
        }
        for resource in more.keys() {
            if let Some(amount) = after.get(resource) {
                quota.set_at(&["status", "used", resource], amount.to_string());
            }
        }
        let template = server.template(&quotas, &mut quota);
        attributes.riders.lock().push(Txn::update(record.key.clone(), record.mod_revision, template));
    }
    Ok(())
}

/// What may only be had where a quota covers it (`ResourceQuotaConfiguration`).
#[derive(Debug, Default)]
pub(super) struct Limited(Vec<Value>);

impl Limited {
    /// # Errors
    /// A configuration of another kind.
    pub(super) fn read(config: Option<&Value>) -> Result<Self, String> {
        let Some(config) = config else { return Ok(Self::default()) };
        // The name of the kind was shorter once.
        match config.str_at(&["kind"]) {
            "ResourceQuotaConfiguration" | "Configuration" => {}
            kind => return Err(format!("ResourceQuota: kind is {kind:?}, not ResourceQuotaConfiguration")),
        }
        let limits = config.list_at(&["limitedResources"]);
        match limits.iter().position(|limit| limit.str_at(&["resource"]).is_empty()) {
            Some(i) => Err(format!("ResourceQuota: limitedResources[{i}].resource: Required value: must be specified")),
            None => Ok(Self(limits.to_vec())),
        }
    }

    /// What an object takes that a quota must cover.
    fn uncovered(&self, group: &str, plural: &str, taken: &Amounts, object: &Value) -> Uncovered<'_> {
        let about = |l: &&Value| l.str_at(&["apiGroup"]) == group && l.str_at(&["resource"]) == plural;
        let mut uncovered = Uncovered::default();
        for limit in self.0.iter().filter(about) {
            let contains = limit.list_at(&["matchContains"]).iter().filter_map(Value::as_str).collect::<Vec<_>>();
            let names = taken.iter().filter(|(_, amount)| **amount > Quantity::ZERO).map(|(name, _)| name);
            let names = names.filter(|name| contains.iter().any(|part| name.contains(part)));
            uncovered.names.extend(names.cloned());
            uncovered.scopes.extend(matching(limit.list_at(&["matchScopes"]), plural, object));
        }
        uncovered
    }
}

/// What no quota has covered yet.
#[derive(Debug, Default)]
struct Uncovered<'a> {
    names: BTreeSet<String>,
    scopes: Vec<&'a Value>,
}

impl Uncovered<'_> {
    /// A quota covers the scopes that it has and the object is in.
    fn scopes_of(&mut self, spec: &Value, plural: &str, object: &Value) {
        if !self.scopes.is_empty() {
            let covered = scopes_of(spec, plural, object);
            self.scopes.retain(|scope| !covered.contains(&scope.str_at(&["scopeName"])));
        }
    }

    fn refusal(&self) -> Option<String> {
        if !self.names.is_empty() {
            let names: Vec<&str> = self.names.iter().map(String::as_str).collect();
            return Some(format!("insufficient quota to consume: {}", names.join(",")));
        }
        // As Go shows its structs.
        let scopes = self.scopes.iter().map(|scope| {
            let values: Vec<&str> = scope.list_at(&["values"]).iter().filter_map(Value::as_str).collect();
            format!("{{{} {} [{}]}}", scope.str_at(&["scopeName"]), scope.str_at(&["operator"]), values.join(" "))
        });
        let scopes: Vec<String> = scopes.collect();
        (!scopes.is_empty()).then(|| format!("insufficient quota to match these scopes: [{}]", scopes.join(" ")))
    }
}

/// Whether a quota's resource is about a sort of object, so that its scopes and its containers are looked at.
fn is_of(group: &str, plural: &str, name: &str) -> bool {
    match (group, plural) {
        ("", "pods") => {
            matches!(name, "cpu" | "memory" | "ephemeral-storage")
                || ["requests.", "limits.", "hugepages-"].iter().any(|start| name.starts_with(start))
                    && name != "requests.storage"
        }
        ("", "services") => name.starts_with("services."),
        ("", "persistentvolumeclaims") => name == "requests.storage",
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::yaml;

    #[test]
    fn what_is_limited_needs_a_quota_that_covers_it() {
        let limited = Limited::read(Some(
            &yaml::parse(
                "kind: ResourceQuotaConfiguration\nlimitedResources:\n- {resource: persistentvolumeclaims, matchContains: [.storageclass.storage.k8s.io/requests.storage]}\n\
                 - {resource: pods, matchScopes: [{scopeName: PriorityClass, operator: In, values: [high, higher]}]}",
            )
            .unwrap(),
        ))
        .unwrap();
        let claim = yaml::parse("spec: {storageClassName: gold, resources: {requests: {storage: 1Gi}}}").unwrap();
        let taken = usage("", "persistentvolumeclaims", &claim);
        let of_claim = limited.uncovered("", "persistentvolumeclaims", &taken, &claim);
        let why = "insufficient quota to consume: gold.storageclass.storage.k8s.io/requests.storage";
        assert_eq!(of_claim.refusal().as_deref(), Some(why));
        let pod = yaml::parse("spec: {priorityClassName: high, containers: [{name: c}]}").unwrap();
        let mut of_pod = limited.uncovered("", "pods", &Amounts::new(), &pod);
        let why = "insufficient quota to match these scopes: [{PriorityClass In [high higher]}]";
        assert_eq!(of_pod.refusal().as_deref(), Some(why));
        let other = yaml::parse("scopes: [BestEffort]").unwrap();
        of_pod.scopes_of(&other, "pods", &pod);
        assert!(of_pod.refusal().is_some());
        let covering = yaml::parse(
            "scopeSelector: {matchExpressions: [{scopeName: PriorityClass, operator: In, values: [high]}]}",
        );
        of_pod.scopes_of(&covering.unwrap(), "pods", &pod);
        assert_eq!(of_pod.refusal(), None);
        assert!(limited.uncovered("", "pods", &Amounts::new(), &claim).refusal().is_none());
        assert!(Limited::read(Some(&yaml::parse("kind: X").unwrap())).is_err());
    }
}

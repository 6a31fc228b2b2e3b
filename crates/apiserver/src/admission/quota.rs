//! ResourceQuota: what the namespace's quotas still allow. What a write adds is written into their status in the same
//! transaction, so that what is used is never behind; the quota controller counts anew what goes.

use super::{Attributes, Operation};
use trireme_quota::{Amounts, counts, is_countable, pretty, read, subtract, sum, unnamed, usage};
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
    let Some(quotas) = server.catalogue.stored("", "resourcequotas") else { return Ok(()) };
    let snapshot = server.store.topic(&quotas.topic).snapshot();
    for record in snapshot.range(&quotas.prefix(&attributes.target.namespace), None) {
        let mut quota = quotas.read(&record.value);
        let hard = read(quota.at(&["status", "hard"]));
        let spec = quota.at(&["spec"]).cloned().unwrap_or_default();
        let taken = usage(group, plural, object);
        // Names that the object has a part in, though it may take none of it.
        let interesting: Vec<&str> = hard
            .keys()
            .map(String::as_str)
            .filter(|name| taken.contains_key(*name) || is_countable(group, plural, name) || is_of(group, plural, name))
            .collect();
        if interesting.is_empty() || !counts(&spec, plural, object) {
            continue;
        }
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
        let mut more = taken;
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

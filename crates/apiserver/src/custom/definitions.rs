//! Follows the definitions: gives them their names, serves what is established, and clears what is deleted
//! (apiextensions' naming, establishing and finalizing controllers in one).

use super::Definition;
use super::served::{is_true, made_from};
use crate::catalogue::{Served, topic};
use crate::notes::Notes;
use crate::registry::{DeleteOptions, Target, WriteOptions};
use crate::server::ApiServer;
use crate::user::User;
use crate::warnings::Warnings;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, Weak};
use std::time::Duration;
use trireme_extensions::names::{self, Naming, Taken};
use trireme_schema::{Map, Status, Value, time};

const GROUP: &str = "apiextensions.k8s.io";
const PLURAL: &str = "customresourcedefinitions";
/// Holds a definition until its objects are gone.
pub(crate) const CLEANUP: &str = "customresourcecleanup.apiextensions.k8s.io";
/// How long a write that was refused, or a deletion that waits for others, is let rest.
const AGAIN: Duration = Duration::from_secs(1);

/// Serves what is established already, and follows the definitions until the server stops.
pub(crate) async fn start(server: &Arc<ApiServer>) {
    let definitions = server.store.topic(&topic(GROUP, PLURAL));
    let seen = definitions.snapshot().revision;
    let unfinished = reconcile(server).await;
    tokio::spawn(follow(Arc::downgrade(server), server.stopping.clone(), definitions, seen, unfinished));
}

async fn follow(
    server: Weak<ApiServer>,
    stopping: tokio_util::sync::CancellationToken,
    definitions: Arc<trireme_store::Topic>,
    mut seen: i64,
    mut unfinished: bool,
) {
    loop {
        // Events that are gone are as good as seen: the whole state is read each time.
        let Ok(mut events) = definitions.watch("", seen).or_else(|gone| definitions.watch("", gone.oldest)) else {
            return;
        };
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = events.next() => {}
            () = tokio::time::sleep(AGAIN), if unfinished => {}
        }
        let Some(server) = server.upgrade() else { return };
        seen = definitions.snapshot().revision;
        unfinished = reconcile(&server).await;
    }
}

/// One step towards what the definitions say; true when more is to be done that no event will tell of.
async fn reconcile(server: &Arc<ApiServer>) -> bool {
    let all = definitions(server);
    serve(server, &all);
    let mut unfinished = false;
    for (crd, _) in &all {
        let step = if crd.at(&["metadata", "deletionTimestamp"]).is_some() {
            clear(server, crd).await
        } else {
            name(server, crd, &all).await
        };
        unfinished |= step.unwrap_or_else(|status| {
            tracing::debug!(name = crd.str_at(&["metadata", "name"]), %status, "a definition is looked at again");
            true
        });
    }
    unfinished
}

/// The definitions, each with its revision.
fn definitions(server: &ApiServer) -> Vec<(Value, i64)> {
    let Some(served) = server.catalogue.stored(GROUP, PLURAL) else { return Vec::new() };
    let snapshot = server.store.topic(&served.topic).snapshot();
    snapshot.range(&served.prefix(""), None).map(|record| (served.read(&record.value), record.mod_revision)).collect()
}

/// A definition as it is stored.
pub(crate) fn find(server: &ApiServer, name: &str) -> Option<Value> {
    let served = server.catalogue.stored(GROUP, PLURAL)?;
    let record = server.store.get(&served.key("", name))?;
    Some(served.read(&record.value))
}

/// Puts what is established into the catalogue; what did not change stays as it is.
fn serve(server: &ApiServer, all: &[(Value, i64)]) {
    let mut before: BTreeMap<String, Vec<Arc<Served>>> = BTreeMap::new();
    for served in server.catalogue.now().all() {
        if let Some(custom) = &served.custom {
            before.entry(custom.definition.name.clone()).or_default().push(served.clone());
        }
    }
    let (mut now, mut changed) = (Vec::new(), BTreeSet::new());
    for (crd, revision) in all.iter().filter(|(crd, _)| is_true(crd, "Established")) {
        let (group, plural) = (crd.str_at(&["spec", "group"]), crd.str_at(&["spec", "names", "plural"]));
        if server.catalogue.is_builtin(group, plural) {
            continue;
        }
        let known = before.remove(crd.str_at(&["metadata", "name"])).unwrap_or_default();
        let definition = known.first().and_then(|served| Some(&served.custom.as_ref()?.definition));
        match definition {
            Some(definition) if definition.made_from == made_from(crd) => now.extend(known),
            _ => {
                // Under its first schema nothing was stored before.
                let first = crd.int_at(&["metadata", "generation"]) == Some(1);
                now.extend(Definition::serve(crd, if first { 0 } else { *revision }));
                changed.insert(group.to_owned());
                known.iter().filter_map(|s| s.custom.as_ref()).for_each(|c| c.definition.replaced.cancel());
            }
        }
    }
    for custom in before.values().flatten().filter_map(|served| served.custom.as_ref()) {
        custom.definition.replaced.cancel();
        changed.insert(custom.definition.group.clone());
    }
    if !changed.is_empty() {
        server.catalogue.serve_custom(now);
        server.documents.forget(&changed);
    }
}

fn target(served: &Arc<Served>, namespace: &str, name: &str, subresource: &str) -> Target {
    Target {
        served: served.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        subresource: subresource.to_owned(),
        user: Arc::new(User::new("system:apiserver", &["system:masters"])),
        warnings: Warnings::default(),
        empty: Default::default(),
        notes: Notes::default(),
    }
}

/// Gives a definition its names, and establishes it when it has them.
async fn name(server: &Arc<ApiServer>, crd: &Value, all: &[(Value, i64)]) -> Result<bool, Status> {
    let mut taken = Taken::default();
    let same_group = |other: &Value| other.str_at(&["spec", "group"]) == crd.str_at(&["spec", "group"]);
    let is_other = |other: &Value| other.str_at(&["metadata", "name"]) != crd.str_at(&["metadata", "name"]);
    for (other, _) in all.iter().filter(|(other, _)| same_group(other) && is_other(other)) {
        taken.add(other.at(&["status", "acceptedNames"]).unwrap_or(&Value::Null));
    }
    let empty = Value::object();
    let part = |path: &[&str]| crd.at(path).cloned().unwrap_or_else(|| empty.clone());
    let naming = names::accept(&part(&["spec", "names"]), &part(&["status", "acceptedNames"]), &taken);
    if status(crd, &naming) == part(&["status"]) {
        return Ok(false);
    }
    let asked = part(&["spec", "names"]);
    write(server, crd, &|old| {
        // Somebody changed what it asks for: the event will tell.
        let same = old.at(&["spec", "names"]) == Some(&asked);
        same.then(|| status(old, &naming))
    })
    .await?;
    Ok(false)
}

/// The status that a naming leads to.
fn status(crd: &Value, naming: &Naming) -> Value {
    let mut status = crd.at(&["status"]).cloned().unwrap_or_else(Value::object);
    status.set_at(&["acceptedNames"], naming.accepted.clone());
    let (accepted, reason, message) = match &naming.conflict {
        None => (true, "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => (false, *reason, message.clone()),
    };
    condition(&mut status, "NamesAccepted", accepted, reason, &message);
    // What was established once stays so.
    if !is_true(crd, "Established") {
        let message = "the initial names have been accepted";
        match accepted {
            true => condition(&mut status, "Established", true, "InitialNamesAccepted", message),
            false => condition(&mut status, "Established", false, "NotAccepted", "not all names are accepted"),
        }
    }
    status
}

/// Sets a condition; the time of its transition stays while its status does.
pub(crate) fn condition(status: &mut Value, kind: &str, holds: bool, reason: &str, message: &str) {
    let truth = if holds { "True" } else { "False" };
    let mut all = status.list_at(&["conditions"]).to_vec();
    let mut new = Map::from_iter([("type", kind), ("status", truth), ("reason", reason), ("message", message)]);
    let old = all.iter_mut().find(|c| c.str_at(&["type"]) == kind);
    let since = old.as_ref().filter(|c| c.str_at(&["status"]) == truth).map(|c| c.str_at(&["lastTransitionTime"]));
    let since = since.map_or_else(time::now, str::to_owned);
    new.insert("lastTransitionTime", since);
    match old {
        Some(old) => *old = Value::Object(new),
        None => all.push(Value::Object(new)),
    }
    status.set_at(&["conditions"], Value::Array(all));
}

/// Writes the status of a definition, unless the function has none for its present state.
async fn write(
    server: &Arc<ApiServer>,
    crd: &Value,
    change: &(dyn Fn(&Value) -> Option<Value> + Send + Sync),
) -> Result<(), Status> {
    let Some(served) = server.catalogue.stored(GROUP, PLURAL) else { return Ok(()) };
    let target = target(&served, "", crd.str_at(&["metadata", "name"]), "status");
    let options = WriteOptions { field_manager: "kube-apiserver".into(), ..WriteOptions::default() };
    let change = |old: &Value| {
        let mut new = old.clone();
        new.remove_at(&["metadata", "resourceVersion"]);
        if let Some(status) = change(old) {
            new.set_at(&["status"], status);
        }
        Ok(new)
    };
    match server.update(&target, &change, &options).await {
        Err(status) if status.code == 404 => Ok(()),
        other => other.map(drop),
    }
}

/// Deletes the objects of a definition, and lets it go when there are none; true when it waits for them.
async fn clear(server: &Arc<ApiServer>, crd: &Value) -> Result<bool, Status> {
    let held = crd.list_at(&["metadata", "finalizers"]).iter().any(|f| f.as_str() == Some(CLEANUP));
    if !held {
        return Ok(false);
    }
    let (group, plural) = (crd.str_at(&["spec", "group"]), crd.str_at(&["spec", "names", "plural"]));
    let established = is_true(crd, "Established") && !server.catalogue.is_builtin(group, plural);
    if let Some(served) = server.catalogue.stored(group, plural).filter(|_| established) {
        let left = delete_all(server, &served).await;
        if left > 0 {
            let message = "CustomResource deletion is in progress";
            write(server, crd, &|old| {
                let mut status = old.at(&["status"]).cloned().unwrap_or_else(Value::object);
                condition(&mut status, "Terminating", true, "InstanceDeletionInProgress", message);
                Some(status)
            })
            .await?;
            return Ok(true);
        }
    }
    let Some(served) = server.catalogue.stored(GROUP, PLURAL) else { return Ok(false) };
    let let_go = |old: &Value| {
        let mut new = old.clone();
        new.remove_at(&["metadata", "resourceVersion"]);
        let left = old.list_at(&["metadata", "finalizers"]).iter().filter(|f| f.as_str() != Some(CLEANUP)).cloned();
        let left: Vec<Value> = left.collect();
        match left.is_empty() {
            true => drop(new.remove_at(&["metadata", "finalizers"])),
            false => new.set_at(&["metadata", "finalizers"], Value::Array(left)),
        }
        Ok(new)
    };
    let target = target(&served, "", crd.str_at(&["metadata", "name"]), "");
    match server.update(&target, &let_go, &WriteOptions::default()).await {
        Err(status) if status.code == 404 => Ok(false),
        other => other.map(|_| false),
    }
}

/// Asks for the deletion of all objects of a resource; gives how many are left.
async fn delete_all(server: &Arc<ApiServer>, served: &Arc<Served>) -> usize {
    let snapshot = server.store.topic(&served.topic).snapshot();
    for record in snapshot.range(&served.prefix(""), None) {
        let (namespace, name) = crate::shapes::place(served, &record.key);
        if let Err(status) = server.delete(&target(served, &namespace, &name, ""), &DeleteOptions::default()).await {
            tracing::debug!(key = %record.key, %status, "an object of a deleted definition stays for now");
        }
    }
    let snapshot = server.store.topic(&served.topic).snapshot();
    snapshot.range(&served.prefix(""), None).count()
}

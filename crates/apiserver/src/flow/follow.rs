//! Follows the flow schemas and priority levels, and says of each schema whether its level is there.

use super::GROUP;
use super::schema::{self, Schema};
use crate::catalogue::topic;
use crate::notes::Notes;
use crate::registry::{Target, WriteOptions};
use crate::server::ApiServer;
use crate::user::User;
use crate::warnings::Warnings;
use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use trireme_fairness::Spec;
use trireme_schema::{Map, Value, time};

const SCHEMAS: &str = "flowschemas";
const LEVELS: &str = "prioritylevelconfigurations";

/// Takes up the objects as they are, and follows them until the server stops.
pub(crate) async fn start(server: &Arc<ApiServer>) {
    let topics = [SCHEMAS, LEVELS].map(|plural| server.store.topic(&topic(GROUP, plural)));
    let seen = topics.each_ref().map(|t| t.snapshot().revision);
    take_up(server).await;
    tokio::spawn(follow(Arc::downgrade(server), server.stopping.clone(), topics, seen));
}

async fn follow(
    server: Weak<ApiServer>,
    stopping: tokio_util::sync::CancellationToken,
    topics: [Arc<trireme_store::Topic>; 2],
    mut seen: [i64; 2],
) {
    loop {
        // Events that are gone are as good as seen: the whole state is read each time.
        let open = |i: usize| {
            let (topic, from) = (topics.get(i)?, *seen.get(i)?);
            topic.watch("", from).or_else(|gone| topic.watch("", gone.oldest)).ok()
        };
        let (Some(mut schemas), Some(mut levels)) = (open(0), open(1)) else { return };
        tokio::select! {
            () = stopping.cancelled() => return,
            _ = schemas.next() => {}
            _ = levels.next() => {}
        }
        let Some(server) = server.upgrade() else { return };
        seen = topics.each_ref().map(|t| t.snapshot().revision);
        take_up(&server).await;
    }
}

async fn take_up(server: &Arc<ApiServer>) {
    let levels = server.read_all(GROUP, LEVELS, "");
    let uids: BTreeMap<&str, &str> =
        levels.iter().map(|l| (l.str_at(&["metadata", "name"]), l.str_at(&["metadata", "uid"]))).collect();
    let specs: BTreeMap<String, Spec> =
        levels.iter().map(|l| (l.str_at(&["metadata", "name"]).to_owned(), schema::level(l))).collect();
    let objects = server.read_all(GROUP, SCHEMAS, "");
    let level_of = |o: &Value| o.str_at(&["spec", "priorityLevelConfiguration", "name"]).to_owned();
    let usable = objects.iter().filter_map(|o| Some(Schema::read(o, uids.get(level_of(o).as_str())?)));
    server.flow.set(usable.collect(), &specs);
    for object in &objects {
        let level = level_of(object);
        say_whether_dangling(server, object, &level, uids.contains_key(level.as_str())).await;
    }
}

/// Writes the condition `Dangling`, unless it is so already.
async fn say_whether_dangling(server: &Arc<ApiServer>, object: &Value, level: &str, found: bool) {
    let start = format!("This FlowSchema references the PriorityLevelConfiguration object named {level:?}");
    let (status, reason, message) = if found {
        ("False", "Found", format!("{start} and it exists"))
    } else {
        ("True", "NotFound", format!("{start} but there is no such object"))
    };
    let conditions = object.list_at(&["status", "conditions"]);
    let old = conditions.iter().find(|c| c.str_at(&["type"]) == "Dangling");
    if old.is_some_and(|c| c.str_at(&["status"]) == status && c.str_at(&["message"]) == message) {
        return;
    }
    let Some(served) = server.catalogue.stored(GROUP, SCHEMAS) else { return };
    let target = Target {
        served,
        namespace: String::new(),
        name: object.str_at(&["metadata", "name"]).to_owned(),
        subresource: "status".into(),
        user: Arc::new(User::new("system:apiserver", &["system:masters"])),
        warnings: Warnings::default(),
        empty: Default::default(),
        notes: Notes::default(),
    };
    let mut condition = Map::from_iter([("type", "Dangling"), ("status", status), ("reason", reason)]);
    condition.insert("message", message);
    condition.insert("lastTransitionTime", time::now());
    let change = |old: &Value| {
        let mut new = old.clone();
        new.remove_at(&["metadata", "resourceVersion"]);
        let mut all = old.list_at(&["status", "conditions"]).to_vec();
        all.retain(|c| c.str_at(&["type"]) != "Dangling");
        all.push(Value::Object(condition.clone()));
        new.set_at(&["status", "conditions"], Value::Array(all));
        Ok(new)
    };
    let field_manager = "api-priority-and-fairness-config-consumer-v1".into();
    let options = WriteOptions { field_manager, ..WriteOptions::default() };
    if let Err(status) = server.update(&target, &change, &options).await {
        tracing::debug!(%status, "cannot say whether a flow schema has a level");
    }
}

//! APIServices of what this server has itself: made at the start, and kept while definitions come and go.

use super::{condition, priority, service, write};
use crate::server::ApiServer;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use trireme_schema::{Status, Value, json};

/// The label by which an APIService is known to be kept by us.
const MANAGED: &str = "kube-aggregator.kubernetes.io/automanaged";
/// The aggregator's resource.
pub(super) const SERVICES: write::Resource = ("apiregistration.k8s.io", "apiservices");
const DEFINITIONS: write::Resource = ("apiextensions.k8s.io", "customresourcedefinitions");

/// How an APIService is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Keeping {
    /// Looked at once after each start: what the server has by itself.
    OnStart,
    /// Looked at always: what definitions bring.
    Always,
}

impl Keeping {
    fn label(self) -> &'static str {
        match self {
            Self::OnStart => "onstart",
            Self::Always => "true",
        }
    }

    fn of(object: &Value) -> Option<Self> {
        match object.str_at(&["metadata", "labels", MANAGED]) {
            "onstart" => Some(Self::OnStart),
            "true" => Some(Self::Always),
            _ => None,
        }
    }
}

/// An APIService that there should be.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Wanted {
    group: String,
    version: String,
    priority: priority::Priority,
    keeping: Keeping,
}

impl Wanted {
    fn spec(&self) -> Value {
        let mut spec = Value::object();
        spec.set_at(&["version"], self.version.as_str());
        if !self.group.is_empty() {
            spec.set_at(&["group"], self.group.as_str());
        }
        spec.set_at(&["groupPriorityMinimum"], self.priority.0);
        spec.set_at(&["versionPriority"], self.priority.1);
        spec
    }

    fn object(&self) -> Value {
        let mut object = Value::object();
        object.set_at(&["metadata", "name"], service::name_of(&self.group, &self.version));
        object.set_at(&["metadata", "labels", MANAGED], self.keeping.label());
        object.set_at(&["spec"], self.spec());
        object
    }

    /// Whether an object says the same in its spec.
    fn is_like(&self, object: &Value) -> bool {
        let mut spec = object.get("spec").cloned().unwrap_or_default();
        if spec.str_at(&["group"]).is_empty() {
            spec.remove_at(&["group"]);
        }
        if !spec.bool_at(&["insecureSkipTLSVerify"]) {
            spec.remove_at(&["insecureSkipTLSVerify"]);
        }
        spec == self.spec()
    }
}

/// What is to be done about one APIService.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Nothing,
    Create,
    Update,
    Delete,
}

/// What there is of an APIService.
#[derive(Clone, Copy, Debug)]
struct Present {
    keeping: Option<Keeping>,
    /// It says what is wanted.
    like: bool,
}

/// What is to be done (upstream's autoregister controller). `known`: it was brought in order since the start; `at_start`:
/// it was there at the start.
fn step(wanted: Option<Keeping>, present: Option<Present>, known: bool, at_start: bool) -> Step {
    let Some(present) = present else {
        return match wanted {
            Some(Keeping::OnStart) if known => Step::Nothing,
            Some(_) => Step::Create,
            None => Step::Nothing,
        };
    };
    if wanted == Some(Keeping::OnStart) && known {
        return Step::Nothing;
    }
    match (present.keeping, wanted) {
        // Somebody else keeps it, which is how a server is put in the place of ours.
        (None, _) => Step::Nothing,
        (Some(Keeping::OnStart), _) if !at_start || known => Step::Nothing,
        (Some(_), None) => Step::Delete,
        (Some(_), Some(_)) if present.like => Step::Nothing,
        (Some(_), Some(_)) => Step::Update,
    }
}

/// What was seen and done since the start.
#[derive(Debug, Default)]
pub(super) struct Registrar {
    at_start: Option<BTreeSet<String>>,
    known: BTreeSet<String>,
    /// What each definition brings, by its key, and of which revision it was: definitions are large, and most stay.
    brought: HashMap<Arc<str>, (i64, Vec<Wanted>)>,
}

impl Registrar {
    /// All that there should be, by name.
    fn wanted(server: &ApiServer, brought: &mut HashMap<Arc<str>, (i64, Vec<Wanted>)>) -> BTreeMap<String, Wanted> {
        let mut all = BTreeMap::new();
        let mut add = |wanted: &Wanted| {
            all.insert(service::name_of(&wanted.group, &wanted.version), wanted.clone());
        };
        if let Some(served) = server.catalogue.stored(DEFINITIONS.0, DEFINITIONS.1) {
            let mut before = std::mem::take(brought);
            let snapshot = server.store.topic(&served.topic).snapshot();
            for record in snapshot.range(&served.prefix(""), None) {
                let known = before.remove(&record.key).filter(|(revision, _)| *revision == record.mod_revision);
                let read = || self::brought(&json::parse(&record.value).unwrap_or_default());
                let known = known.unwrap_or_else(|| (record.mod_revision, read()));
                known.1.iter().for_each(&mut add);
                brought.insert(record.key.clone(), known);
            }
        }
        for (group, version, priority) in priority::local() {
            let (group, version) = (group.to_owned(), version.to_owned());
            add(&Wanted { group, version, priority, keeping: Keeping::OnStart });
        }
        all
    }

    /// Brings the APIServices in order; false when a write was refused and is to be made again.
    pub async fn reconcile(&mut self, server: &ApiServer) -> bool {
        let present: BTreeMap<String, Value> = server
            .read_all(SERVICES.0, SERVICES.1, "")
            .into_iter()
            .map(|object| (object.str_at(&["metadata", "name"]).to_owned(), object))
            .collect();
        let at_start = self.at_start.get_or_insert_with(|| present.keys().cloned().collect());
        let wanted = Self::wanted(server, &mut self.brought);
        let names: BTreeSet<&String> = present.keys().chain(wanted.keys()).collect();
        let writes = names.into_iter().map(|name| {
            let (wanted, object) = (wanted.get(name), present.get(name));
            let is = object
                .map(|o| Present { keeping: Keeping::of(o), like: wanted.is_some_and(|wanted| wanted.is_like(o)) });
            let step = step(wanted.map(|w| w.keeping), is, self.known.contains(name), at_start.contains(name));
            async move { (name, carry_out(server, step, name, wanted, object).await) }
        });
        let done = futures::future::join_all(writes).await;
        let mut whole = true;
        for (name, result) in done {
            match result {
                Ok(()) => {
                    self.known.insert(name.clone());
                }
                Err(status) => {
                    tracing::debug!(name, %status, "an APIService is looked at again");
                    whole = false;
                }
            }
        }
        // What is gone on both sides would be remembered for ever.
        self.known.retain(|name| present.contains_key(name) || wanted.contains_key(name));
        whole
    }
}

async fn carry_out(
    server: &ApiServer,
    step: Step,
    name: &str,
    wanted: Option<&Wanted>,
    object: Option<&Value>,
) -> Result<(), Status> {
    match (step, wanted, object) {
        (Step::Create, Some(wanted), _) => write::create(server, SERVICES, "", wanted.object()).await,
        (Step::Update, Some(wanted), _) => {
            let change = |old: &Value| {
                let mut new = old.clone();
                new.set_at(&["spec"], wanted.spec());
                // Who took it over meanwhile keeps it.
                Keeping::of(old).map(|_| new)
            };
            write::update(server, SERVICES, ("", name, ""), &change).await
        }
        (Step::Delete, _, Some(object)) => {
            write::delete(server, SERVICES, name, object.str_at(&["metadata", "uid"])).await
        }
        // Where it is this server, there is nothing to look at.
        (_, _, Some(object)) if object.at(&["spec", "service"]).is_none_or(Value::is_null) => {
            let local = condition::Availability::local();
            if local.is_said_of(object) {
                return Ok(());
            }
            let change = |old: &Value| {
                let still = old.at(&["spec", "service"]).is_none_or(Value::is_null);
                still.then(|| local.said_of(old))
            };
            write::update(server, SERVICES, ("", name, "status"), &change).await
        }
        _ => Ok(()),
    }
}

/// What a definition brings.
fn brought(definition: &Value) -> Vec<Wanted> {
    let group = definition.str_at(&["spec", "group"]);
    let served = definition.list_at(&["spec", "versions"]).iter().filter(|v| v.bool_at(&["served"]));
    let wanted = |version: &Value| Wanted {
        group: group.to_owned(),
        version: version.str_at(&["name"]).to_owned(),
        priority: priority::CUSTOM,
        keeping: Keeping::Always,
    };
    served.map(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_kept_as_upstream_keeps_it() {
        use Keeping::{Always, OnStart};
        use Step::{Create, Delete, Nothing, Update};
        // Columns: not wanted, wanted on start, wanted always; known or not.
        type Row = (&'static str, Option<Option<Keeping>>, bool, [Step; 6]);
        let rows: [Row; 5] = [
            ("absent", None, false, [Nothing, Create, Create, Nothing, Nothing, Create]),
            ("somebody else's", Some(None), true, [Nothing; 6]),
            ("of the start, made since", Some(Some(OnStart)), false, [Nothing; 6]),
            ("of the start", Some(Some(OnStart)), true, [Delete, Update, Update, Nothing, Nothing, Nothing]),
            ("kept always", Some(Some(Always)), true, [Delete, Update, Update, Delete, Nothing, Update]),
        ];
        for (what, keeping, at_start, wants) in rows {
            let columns = [(None, false), (Some(OnStart), false), (Some(Always), false)].into_iter().chain([
                (None, true),
                (Some(OnStart), true),
                (Some(Always), true),
            ]);
            for ((wanted, known), want) in columns.zip(wants) {
                let present = keeping.map(|keeping| Present { keeping, like: false });
                assert_eq!(step(wanted, present, known, at_start), want, "{what}: {wanted:?}, known: {known}");
            }
        }
        let same = Some(Present { keeping: Some(Always), like: true });
        assert_eq!(step(Some(Always), same, true, true), Nothing);
    }
}

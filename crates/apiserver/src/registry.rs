//! Create, read, update, delete: the same for every kind.

use crate::admission::{self, Attributes, Operation};
use crate::catalogue::Served;
use crate::convert;
use crate::custom;
use crate::managed;
use crate::notes::Notes;
use crate::server::ApiServer;
use crate::strategy;
use crate::user::User;
use crate::warnings::Warnings;
use bytes::Bytes;
use parking_lot::Mutex;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::MutexGuard;
use trireme_schema::empties::{self, Empty};
use trireme_schema::field::{Error, quote};
use trireme_schema::{Map, Status, Value, time};
use trireme_store::{CommitError, Record, Template, Txn};
use trireme_validation::Subject;

/// How a write is to be done.
#[derive(Clone, Debug, Default)]
pub struct WriteOptions {
    /// Nothing is stored.
    pub dry_run: bool,
    /// Who owns the fields that are written; empty for what the user agent says.
    pub field_manager: String,
}

/// How something is to be deleted (`metav1.DeleteOptions`).
#[derive(Clone, Debug, Default)]
pub struct DeleteOptions {
    /// Nothing is stored.
    pub dry_run: bool,
    /// Seconds that a pod gets.
    pub grace_period_seconds: Option<i64>,
    /// `Orphan`, `Background`, `Foreground`.
    pub propagation: Option<String>,
    /// The object must have this UID.
    pub uid: Option<String>,
    /// The object must have this resourceVersion.
    pub resource_version: Option<String>,
}

/// Who writes what, where.
#[derive(Clone, Debug)]
pub struct Target {
    /// The resource.
    pub served: Arc<Served>,
    /// The namespace; empty for cluster-scoped ones.
    pub namespace: String,
    /// The name; empty to create.
    pub name: String,
    /// The subresource; empty for the object.
    pub subresource: String,
    /// The user.
    pub user: Arc<User>,
    /// What the user is told besides.
    pub warnings: Warnings,
    /// Lists and maps of the object that were given empty.
    pub empty: Empties,
    /// What is noted for the audit log.
    pub notes: Notes,
}

/// Lists and maps that were given empty: by a body, or by what a patch made.
#[derive(Clone, Debug, Default)]
pub struct Empties(Arc<Mutex<Vec<Empty>>>);

impl Empties {
    /// Those of an object.
    pub fn of(empty: Vec<Empty>) -> Self {
        Self(Arc::new(Mutex::new(empty)))
    }

    /// A patch was tried, again if somebody else was faster.
    pub fn replace(&self, empty: Vec<Empty>) {
        *self.0.lock() = empty;
    }

    fn list(&self) -> Vec<Empty> {
        self.0.lock().clone()
    }
}

/// What a write came to.
#[derive(Clone, Debug)]
pub struct Written {
    /// The object as it is sent.
    pub bytes: Bytes,
    /// It was made, not changed.
    pub created: bool,
}

/// What a deletion came to.
#[derive(Clone, Debug)]
pub struct Deleted {
    /// The object's last or present state.
    pub bytes: Bytes,
    /// It is gone; otherwise it waits for its finalizers or its grace period.
    pub gone: bool,
    /// Its UID.
    pub uid: String,
}

/// How many names are made up for an object before its client has to try again.
const GENERATED_NAMES: usize = 8;

/// How often a change is tried again when somebody else was faster.
const ATTEMPTS: usize = 16;

/// Changes an object: gets its present state, gives the new one.
pub type Change<'a> = &'a (dyn Fn(&Value) -> Result<Value, Status> + Send + Sync);

/// What a refused commit is to a client.
pub(crate) fn refused(error: CommitError) -> Status {
    match error {
        CommitError::Conflict { key, .. } => Status::conflict("", "", &key, "the object has been modified"),
        CommitError::Busy => Status::too_many_requests("too many writes are waiting for the disk", 1),
        CommitError::Disk { full: true, .. } => Status::failure(507, "InternalError", error.to_string()),
        other => Status::internal(other),
    }
}

impl Target {
    fn group(&self) -> &str {
        self.served.group()
    }

    fn not_found(&self) -> Status {
        // Upstream looks these up by hand, and names them by their singular.
        let resource = if self.served.kind() == "ComponentStatus" { "componentstatus" } else { self.served.plural() };
        Status::not_found(self.group(), resource, &self.name)
    }

    /// The key that upstream's store has for the object, as its messages show it.
    fn storage_key(&self, dry_run: bool) -> String {
        let group = self.group();
        let resource = match (group, self.served.plural()) {
            ("", "services") => "services/specs".to_owned(),
            ("", "endpoints") => "services/endpoints".to_owned(),
            ("", "nodes") => "minions".to_owned(),
            ("", "replicationcontrollers") => "controllers".to_owned(),
            ("networking.k8s.io", "ingresses") => "ingress".to_owned(),
            ("apiextensions.k8s.io" | "apiregistration.k8s.io", plural) => format!("{group}/{plural}"),
            (_, plural) => plural.to_owned(),
        };
        let root = if dry_run { "" } else { "/registry" };
        match self.namespace.as_str() {
            "" => format!("{root}/{resource}/{}", self.name),
            namespace => format!("{root}/{resource}/{namespace}/{}", self.name),
        }
    }

    /// Checks an object that is to be stored in the place of `old`; `gone` is what was given empty.
    fn check(&self, new: &Value, old: Option<&Value>, gone: &[Empty]) -> Result<(), Status> {
        let served = &self.served;
        if custom::strategy::lets_go(self, old, new) {
            return Ok(());
        }
        let empty = self.empty.list();
        let mut as_given = None;
        if custom::strategy::is_definition(self) && !empty.is_empty() {
            // A definition's schema is checked as it was given: some of its maps count when they are empty.
            empties::restore(as_given.insert(new.clone()), &empty);
        }
        let new = as_given.as_ref().unwrap_or(new);
        let (version, id) = convert::meant_type(served);
        let (meant, meant_old) = (convert::meant(served, new), old.map(|old| convert::meant(served, old)));
        let subject = Subject {
            group: served.group(),
            version,
            kind: served.kind(),
            id,
            namespaced: served.resource.namespaced,
            subresource: &self.subresource,
            new: &meant,
            old: meant_old.as_deref(),
        };
        let mut errors = trireme_validation::validate(&subject);
        errors.extend(custom::check(self, new, old));
        if errors.is_empty() {
            self.warnings.add(trireme_validation::warnings(&subject));
            self.warnings.add(custom::warnings(self, new, old));
            return Ok(());
        }
        if !(gone.is_empty() && empty.is_empty()) && served.conversion.is_none() {
            // Upstream shows empty lists and maps as they were given.
            let mut given = new.clone();
            empties::restore(&mut given, &empty);
            empties::restore(&mut given, gone);
            shown_as_given(&mut errors, trireme_validation::validate(&Subject { new: &given, ..subject }));
        }
        let name = new.str_at(&["metadata", "name"]);
        let group = served.conversion.map_or(served.group(), |c| c.stored()[0]);
        Err(Status::invalid(group, served.kind(), name, &errors))
    }

    /// Refuses what names an object by its UID, when that is not the one that is there (which may be none).
    ///
    /// # Errors
    /// 409.
    pub(crate) fn check_uid(&self, given: &Value, old: Option<&Value>, dry_run: bool) -> Result<(), Status> {
        let uid = given.str_at(&["metadata", "uid"]);
        let conflict = |why: String| Err(Status::conflict(self.group(), self.served.plural(), &self.name, &why));
        match old.map(|old| old.str_at(&["metadata", "uid"])) {
            _ if uid.is_empty() => Ok(()),
            None => conflict(format!(
                "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
            )),
            Some(found) if found != uid => conflict(format!(
                "StorageError: invalid object, Code: 4, Key: {}, ResourceVersion: 0, AdditionalErrorMsg: Precondition failed: UID in precondition: {uid}, UID in object meta: {found}",
                self.storage_key(dry_run)
            )),
            Some(_) => Ok(()),
        }
    }

    /// 409 for a new object whose name another has.
    fn taken(&self, object: &Value, current: Option<&Record>) -> Status {
        let mut status =
            Status::already_exists(self.group(), self.served.plural(), object.str_at(&["metadata", "name"]));
        if current.is_some_and(|c| self.served.read(&c.value).at(&["metadata", "deletionTimestamp"]).is_some()) {
            status.message.insert_str(0, "object is being deleted: ");
        }
        if !object.str_at(&["metadata", "generateName"]).is_empty() {
            status.message.push_str(", the server was not able to generate a unique name for the object");
            if let Some(details) = &mut status.details {
                details.retry_after_seconds = 1;
            }
        }
        status
    }

    fn modified(&self) -> Status {
        Status::modified(self.group(), self.served.plural(), &self.name)
    }
}

impl ApiServer {
    /// The stored record of an object.
    ///
    /// # Errors
    /// 404.
    pub fn record(&self, target: &Target) -> Result<Arc<Record>, Status> {
        let key = target.served.key(&target.namespace, &target.name);
        self.store.get(&key).ok_or_else(|| target.not_found())
    }

    /// An object's bytes in the version of its target.
    pub fn present(&self, served: &Served, record: &Record) -> Bytes {
        match (served.conversion, &served.custom) {
            (Some(conversion), _) => conversion.present(record).into(),
            (None, Some(custom)) => custom.present(served, record),
            (None, None) => record.value.clone(),
        }
    }

    /// An object read by its place; `None` when there is none.
    pub fn read(&self, group: &str, plural: &str, namespace: &str, name: &str) -> Option<Value> {
        let served = self.catalogue.stored(group, plural)?;
        let record = self.store.get(&served.key(namespace, name))?;
        Some(served.read(&record.value))
    }

    /// All objects of a resource (in a namespace, unless that is empty).
    pub fn read_all(&self, group: &str, plural: &str, namespace: &str) -> Vec<Value> {
        let Some(served) = self.catalogue.stored(group, plural) else { return Vec::new() };
        let snapshot = self.store.topic(&served.topic).snapshot();
        snapshot.range(&served.prefix(namespace), None).map(|r| served.read(&r.value)).collect()
    }

    /// The value with a hole for its resourceVersion.
    pub(crate) fn template(&self, served: &Served, value: &mut Value) -> Template {
        value.set_at(&["metadata", "resourceVersion"], "");
        if let Some(custom) = &served.custom {
            return match custom.store(value) {
                (bytes, Some(at)) => Template::with_hole(bytes, at),
                (bytes, None) => Template::plain(bytes),
            };
        }
        let bytes = match served.conversion {
            None => served.write(value),
            Some(conversion) => conversion.store(value),
        };
        const MARK: &[u8] = b"\"resourceVersion\":\"";
        match bytes.windows(MARK.len()).position(|w| w == MARK) {
            Some(at) => Template::with_hole(bytes, at + MARK.len()),
            None => Template::plain(bytes),
        }
    }

    async fn written(&self, served: &Served, records: &[Option<Arc<Record>>]) -> Result<Bytes, Status> {
        let Some(Some(record)) = records.first() else { return Ok(Bytes::new()) };
        Ok(self.present(served, &*self.one_in_version(served, record.clone()).await?))
    }

    /// Creates an object.
    ///
    /// # Errors
    /// What admission, validation or the store refuse.
    pub async fn create(&self, target: &Target, object: Value, options: &WriteOptions) -> Result<Written, Status> {
        let generates =
            object.str_at(&["metadata", "name"]).is_empty() && object.at(&["metadata", "generateName"]).is_some();
        if generates {
            // Names that are made up may meet; another one is tried then.
            for _ in 1..GENERATED_NAMES {
                match self.create_once(target, object.clone(), options).await {
                    Err(status) if status.reason == "AlreadyExists" => {}
                    other => return other,
                }
            }
        }
        self.create_once(target, object, options).await
    }

    async fn create_once(&self, target: &Target, mut object: Value, options: &WriteOptions) -> Result<Written, Status> {
        let served = &target.served;
        self.check_place(target, &mut object)?;
        // What admission and the kind itself fill in is nobody's.
        let kind = managed::Kind::new(served, &target.subresource);
        managed::written(&kind, None, &mut object, &options.field_manager);
        // Definitions are stored as JSON, which tells empty from absent: so does what checks them.
        let is_definition = custom::strategy::is_definition(target);
        let gone = if is_definition { Vec::new() } else { empties::forget(served.schema(), served.id, &mut object) };
        strategy::name_generated(served, &mut object);
        let mut attributes = Attributes::new(self, target, Operation::Create).dry_run(options.dry_run);
        admission::mutate(&mut attributes, &mut object, None).await?;
        before_create(served, &mut object);
        strategy::prepare_create(self, target, &mut object)?;
        let _turn = self.turn(target, Operation::Create).await;
        strategy::allocate(self, target, &mut object, None, options)?;
        let name = object.str_at(&["metadata", "name"]).to_owned();
        target.check(&object, None, &gone)?;
        strategy::checked(target, &mut object);
        if is_definition {
            drop(empties::forget(served.schema(), served.id, &mut object));
        }
        let key = served.key(&target.namespace, &name);
        let mut line = None;
        for _ in 0..ATTEMPTS {
            admission::validate(&attributes, &object, None).await?;
            let template = self.stored_form(served, &mut object).await?;
            if options.dry_run {
                if let Some(current) = self.store.get(&key) {
                    return Err(target.taken(&object, Some(&current)));
                }
                object.remove_at(&["metadata", "resourceVersion"]);
                return Ok(Written { bytes: served.write(&object).into(), created: true });
            }
            let txn = Txn::create(key.clone(), template);
            let txn = if served.kind() == "Event" { txn.expiring(self.event_expiry()) } else { txn };
            match self.store.commit(attributes.with_riders(txn)).await {
                Ok(done) => return Ok(Written { bytes: self.written(served, &done.records).await?, created: true }),
                Err(CommitError::Conflict { key: other, current }) if other == key => {
                    return Err(target.taken(&object, current.as_deref()));
                }
                // What went with it has changed: a quota.
                Err(CommitError::Conflict { key: other, current }) => self.lost(&other, &mut line, current).await,
                Err(error) => return Err(refused(error)),
            }
        }
        Err(target.modified())
    }

    /// Checks that the object belongs where it is put, and fills in its namespace.
    fn check_place(&self, target: &Target, object: &mut Value) -> Result<(), Status> {
        let served = &target.served;
        let given = object.str_at(&["metadata", "namespace"]).to_owned();
        if served.resource.namespaced {
            if given.is_empty() {
                object.set_at(&["metadata", "namespace"], target.namespace.as_str());
            } else if given != target.namespace {
                return Err(Status::bad_request(
                    "the namespace of the provided object does not match the namespace sent on the request",
                ));
            }
        } else if !given.is_empty() {
            object.remove_at(&["metadata", "namespace"]);
        }
        let name = object.str_at(&["metadata", "name"]);
        if !target.name.is_empty() && name.is_empty() {
            return Err(Status::bad_request(format!(
                "the name of the object ({} based on URL) was undeterminable: name must be provided",
                target.name
            )));
        }
        if !target.name.is_empty() && name != target.name {
            return Err(Status::bad_request(format!(
                "the name of the object ({name}) does not match the name on the URL ({})",
                target.name
            )));
        }
        Ok(())
    }

    /// Changes an object by a function that may be called again on a newer state.
    ///
    /// # Errors
    /// What the function, admission, validation or the store refuse.
    pub async fn update(&self, target: &Target, change: Change<'_>, options: &WriteOptions) -> Result<Written, Status> {
        let served = &target.served;
        let key = served.key(&target.namespace, &target.name);
        let mut line = None;
        let kind = managed::Kind::new(served, &target.subresource);
        for _ in 0..ATTEMPTS {
            let record = self.store.get(&key).ok_or_else(|| target.not_found())?;
            let record = self.one_in_version(served, record).await?;
            let old = self.old_value(served, &record);
            let mut new = change(&old)?;
            let asked = new.str_at(&["metadata", "resourceVersion"]).to_owned();
            if !asked.is_empty() && asked != record.mod_revision.to_string() {
                return Err(unread_version(&asked).unwrap_or_else(|| target.modified()));
            }
            self.check_place(target, &mut new)?;
            managed::written(&kind, Some(&old), &mut new, &options.field_manager);
            let is_definition = custom::strategy::is_definition(target);
            let empty = if is_definition { Vec::new() } else { empties::forget(served.schema(), served.id, &mut new) };
            before_update(&old, &mut new);
            let mut attributes = Attributes::new(self, target, Operation::Update).dry_run(options.dry_run);
            strategy::prepare_update(target, &old, &mut new);
            admission::mutate(&mut attributes, &mut new, Some(&old)).await?;
            let turn = self.turn(target, Operation::Update).await;
            strategy::allocate(self, target, &mut new, Some(&old), options)?;
            target.check(&new, Some(&old), &empty)?;
            if is_definition {
                drop(empties::forget(served.schema(), served.id, &mut new));
            }
            admission::validate(&attributes, &new, Some(&old)).await?;
            new.set_at(&["metadata", "resourceVersion"], record.mod_revision.to_string());
            if managed::same_but_for_times(&old, &new) {
                return Ok(Written { bytes: self.present(served, &record), created: false });
            }
            let gone = is_finished(&new);
            if options.dry_run {
                return Ok(Written { bytes: served.write(&new).into(), created: false });
            }
            let template = self.stored_form(served, &mut new).await?;
            let txn = if gone {
                Txn::delete(key.clone(), record.mod_revision, Some(template))
            } else {
                let txn = Txn::update(key.clone(), record.mod_revision, template);
                match record.expires {
                    Some(_) => txn.expiring(self.event_expiry()),
                    None => txn,
                }
            };
            let committed = self.store.commit(attributes.with_riders(txn)).await;
            // Nobody waits in line for his retry while he keeps others from counting.
            drop(turn);
            match committed {
                // What went with this write is shown at the revision that it had.
                Ok(_) if gone => {
                    new.set_at(&["metadata", "resourceVersion"], record.mod_revision.to_string());
                    return Ok(Written { bytes: served.write(&new).into(), created: false });
                }
                Ok(done) => {
                    return Ok(Written { bytes: self.written(served, &done.records).await?, created: false });
                }
                // Either the object has changed, or what goes with the write: a quota.
                Err(CommitError::Conflict { key: other, current }) if asked.is_empty() || other != key => {
                    self.lost(&key, &mut line, current).await
                }
                Err(CommitError::Conflict { .. }) => return Err(target.modified()),
                Err(error) => return Err(refused(error)),
            }
        }
        Err(target.modified())
    }

    /// A write that counts what there is (addresses and ports that are taken, a quota's use) has its turn alone, from
    /// the count to the commit; all others go side by side and share their flush to disk.
    async fn turn(&self, target: &Target, operation: Operation) -> Option<tokio::sync::MutexGuard<'_, ()>> {
        let counts = strategy::allocates(target)
            || (operation == Operation::Create
                && target.subresource.is_empty()
                && target.served.resource.namespaced
                && self.has_quota(&target.namespace));
        if counts { Some(self.turns.lock().await) } else { None }
    }

    fn has_quota(&self, namespace: &str) -> bool {
        let Some(quotas) = self.catalogue.stored("", "resourcequotas") else { return false };
        let snapshot = self.store.topic(&quotas.topic).snapshot();
        snapshot.range(&quotas.prefix(namespace), None).next().is_some()
    }

    /// Somebody else's write was faster: waits in line with the others that lost, and until what was in the way can be
    /// read (it is ordered already, but not on disk yet).
    async fn lost<'a>(&'a self, key: &str, line: &mut Option<MutexGuard<'a, ()>>, current: Option<Arc<Record>>) {
        const PATIENCE: Duration = Duration::from_secs(1);
        let revision = current.map_or_else(|| self.store.revision() + 1, |record| record.mod_revision);
        if line.is_none() {
            *line = Some(self.retries.turn(key).await);
        }
        self.store.wait_for(revision, PATIENCE).await;
    }

    fn old_value(&self, served: &Served, record: &Record) -> Value {
        served.read(&self.present(served, record))
    }

    /// Deletes an object, or marks it to be deleted.
    ///
    /// # Errors
    /// 404, 409 for preconditions, what admission refuses.
    pub async fn delete(&self, target: &Target, options: &DeleteOptions) -> Result<Deleted, Status> {
        let served = &target.served;
        let key = served.key(&target.namespace, &target.name);
        let mut line = None;
        for _ in 0..ATTEMPTS {
            let record = self.store.get(&key).ok_or_else(|| target.not_found())?;
            let record = self.one_in_version(served, record).await?;
            let old = self.old_value(served, &record);
            let uid = old.str_at(&["metadata", "uid"]).to_owned();
            let version = record.mod_revision.to_string();
            let conflict = |why: String| Status::conflict(target.group(), served.kind(), &target.name, &why);
            if let Some(want) = options.uid.as_ref().filter(|want| **want != uid) {
                return Err(conflict(format!(
                    "the UID in the precondition ({want}) does not match the UID in record ({uid}). The object might have been deleted and then recreated"
                )));
            }
            if let Some(want) = options.resource_version.as_ref().filter(|want| **want != version) {
                return Err(conflict(format!(
                    "the ResourceVersion in the precondition ({want}) does not match the ResourceVersion in record ({version}). The object might have been modified"
                )));
            }
            let attributes = Attributes::new(self, target, Operation::Delete).dry_run(options.dry_run);
            admission::delete(&attributes, &old).await?;
            let mut new = old.clone();
            if custom::strategy::is_definition(target) {
                custom::strategy::definition_deleted(&mut new);
            }
            let gone = mark_deleted(served, &mut new, options);
            if !gone && new == old {
                return Ok(Deleted { bytes: self.present(served, &record), gone: false, uid });
            }
            if options.dry_run {
                return Ok(Deleted { bytes: served.write(&new).into(), gone, uid });
            }
            let template = self.stored_form(served, &mut new).await?;
            let txn = if gone {
                Txn::delete(key.clone(), record.mod_revision, Some(template))
            } else {
                Txn::update(key.clone(), record.mod_revision, template)
            };
            match self.store.commit(txn).await {
                Ok(done) => return Ok(Deleted { bytes: self.written(served, &done.records).await?, gone, uid }),
                Err(CommitError::Conflict { current, .. }) => self.lost(&key, &mut line, current).await,
                Err(error) => return Err(refused(error)),
            }
        }
        Err(target.modified())
    }
}

/// Sets what every new object has.
fn before_create(served: &Served, object: &mut Value) {
    let Some(meta) = object.as_object_mut().map(|o| o.object("metadata")) else { return };
    for gone in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink", "resourceVersion"] {
        meta.remove(gone);
    }
    meta.insert("uid", uuid::Uuid::new_v4().to_string());
    meta.insert("creationTimestamp", time::now());
    object.set_at(&["apiVersion"], served.resource.gv.to_string());
    object.set_at(&["kind"], served.kind());
}

/// Keeps what an update cannot change; validation refuses what is given all the same and differs.
fn before_update(old: &Value, new: &mut Value) {
    for name in ["creationTimestamp", "generation", "selfLink"] {
        match old.at(&["metadata", name]) {
            Some(value) => new.set_at(&["metadata", name], value.clone()),
            None => drop(new.remove_at(&["metadata", name])),
        }
    }
    if let Some(time) = old.at(&["metadata", "deletionTimestamp"]) {
        new.set_at(&["metadata", "deletionTimestamp"], time.clone());
    }
    for name in ["uid", "deletionGracePeriodSeconds"] {
        if let (Some(value), None) = (old.at(&["metadata", name]), new.at(&["metadata", name])) {
            new.set_at(&["metadata", name], value.clone());
        }
    }
    new.set_at(&["apiVersion"], old.str_at(&["apiVersion"]));
    new.set_at(&["kind"], old.str_at(&["kind"]));
}

/// Takes the words of errors from those of the same fields in another list.
fn shown_as_given(errors: &mut [Error], mut given: Vec<Error>) {
    let same = |a: &Error, b: &Error| a.kind == b.kind && a.field == b.field;
    let count = |list: &[Error], error: &Error| list.iter().filter(|e| same(e, error)).count();
    for at in 0..errors.len() {
        let as_often = count(&errors[at..], &errors[at]) == count(&given, &errors[at]);
        if let Some(i) = given.iter().position(|e| as_often && same(e, &errors[at])) {
            errors[at] = given.remove(i);
        }
    }
}

/// A version that is none is answered as upstream does, whose parser's error nobody expected.
fn unread_version(text: &str) -> Option<Status> {
    let wrong = text.parse::<u64>().err()?;
    let why = match wrong.kind() {
        std::num::IntErrorKind::PosOverflow => "value out of range",
        _ => "invalid syntax",
    };
    Some(Status::failure(500, "", format!("strconv.ParseUint: parsing {}: {why}", quote(text))))
}

/// Whether an object that is being deleted has nothing left to wait for.
fn is_finished(object: &Value) -> bool {
    let meta = |name| object.at(&["metadata", name]);
    meta("deletionTimestamp").is_some()
        && meta("finalizers").and_then(Value::as_array).is_none_or(<[Value]>::is_empty)
        && meta("deletionGracePeriodSeconds").and_then(Value::as_int).unwrap_or_default() == 0
        && (object.str_at(&["kind"]) != "Namespace" || object.list_at(&["spec", "finalizers"]).is_empty())
}

/// Changes an object as a deletion does; true when nothing holds it.
fn mark_deleted(served: &Served, object: &mut Value, options: &DeleteOptions) -> bool {
    let deleting = object.at(&["metadata", "deletionTimestamp"]).is_some();
    let mut grace = 0;
    if served.kind() == "Pod" {
        let own = object.int_at(&["spec", "terminationGracePeriodSeconds"]).unwrap_or(30);
        grace = match options.grace_period_seconds.unwrap_or(own) {
            // A pod that may take no time at all still gets a second.
            ..0 => 1,
            seconds => seconds,
        };
        let phase = object.str_at(&["status", "phase"]);
        if object.str_at(&["spec", "nodeName"]).is_empty() || matches!(phase, "Failed" | "Succeeded") {
            grace = 0;
        }
    }
    let finalizers = object.as_object_mut().map(|o| o.object("metadata")).map(finalizer_list).unwrap_or_default();
    let mut wanted: Vec<Value> = finalizers.clone();
    let change = |list: &mut Vec<Value>, name: &str, there: bool| {
        list.retain(|f| f.as_str() != Some(name));
        if there {
            list.push(name.into());
        }
    };
    match options.propagation.as_deref().or_else(|| strategy::propagation(served, &finalizers)) {
        Some("Orphan") => {
            change(&mut wanted, "foregroundDeletion", false);
            change(&mut wanted, "orphan", true);
        }
        Some("Foreground") => {
            change(&mut wanted, "orphan", false);
            change(&mut wanted, "foregroundDeletion", true);
        }
        Some("Background") => {
            change(&mut wanted, "orphan", false);
            change(&mut wanted, "foregroundDeletion", false);
        }
        _ => {}
    }
    if wanted != finalizers {
        if wanted.is_empty() {
            object.remove_at(&["metadata", "finalizers"]);
        } else {
            object.set_at(&["metadata", "finalizers"], Value::Array(wanted.clone()));
        }
    }
    let held = !wanted.is_empty()
        || grace > 0
        || (served.kind() == "Namespace" && !object.list_at(&["spec", "finalizers"]).is_empty());
    let now = jiff::Timestamp::now();
    let until = now + jiff::SignedDuration::from_secs(grace.min(i64::from(i32::MAX)));
    if deleting {
        // A grace period can only be cut short.
        let present = object.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default();
        if grace < present {
            object.set_at(&["metadata", "deletionTimestamp"], time::seconds(until));
            object.set_at(&["metadata", "deletionGracePeriodSeconds"], grace);
        }
        let left = object.int_at(&["metadata", "deletionGracePeriodSeconds"]).unwrap_or_default();
        let namespace = served.kind() == "Namespace" && !object.list_at(&["spec", "finalizers"]).is_empty();
        return wanted.is_empty() && left == 0 && !namespace;
    }
    // A pod says when it went even if it goes at once.
    if held || served.kind() == "Pod" {
        object.set_at(&["metadata", "deletionTimestamp"], time::seconds(until));
        if served.kind() != "Namespace" {
            object.set_at(&["metadata", "deletionGracePeriodSeconds"], grace);
        }
        if let Some(generation) = object.int_at(&["metadata", "generation"]) {
            object.set_at(&["metadata", "generation"], generation + 1);
        }
        if served.kind() == "Namespace" {
            object.set_at(&["status", "phase"], "Terminating");
        }
    }
    !held
}

fn finalizer_list(meta: &mut Map) -> Vec<Value> {
    meta.get("finalizers").and_then(Value::as_array).map(<[Value]>::to_vec).unwrap_or_default()
}

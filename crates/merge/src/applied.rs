//! What a write or an applied configuration does to an object and to who owns its fields.

use crate::combine::combine;
use crate::compare::{Difference, compare};
use crate::element::{Element, same};
use crate::fields::{fields_of, reconciled, with_named};
use crate::managers::{Entry, Manager, Managers, Operation};
use crate::remove::without;
use crate::set::Set;
use crate::types::{Place, Type};
use crate::validate::{Invalid, Repeated, validate};
use std::borrow::Cow;
use trireme_schema::Value;

/// The versions in which a kind is served.
pub trait Versions {
    /// Its types.
    type Type: Type;
    /// The type in a version; `None` when that version is not served.
    fn place(&self, version: &str) -> Option<Place<Self::Type>>;
    /// An object of one version in another that is served.
    fn convert<'v>(&self, object: &'v Value, from: &str, to: &str) -> Option<Cow<'v, Value>>;
    /// What a write through this (sub)resource cannot change, and so nobody owns by it.
    fn ignored(&self, version: &str) -> &Set;
    /// What nobody owns, whoever writes it: an object's name and its like.
    fn unowned(&self) -> &Set;
}

/// A path that somebody else owns with another value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// Who owns it.
    pub manager: Manager,
    /// What.
    pub path: Vec<Element>,
}

/// A configuration cannot be applied.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// The configuration does not fit its type.
    #[error("the configuration does not fit its type: {0}")]
    Applied(Invalid),
    /// What is there does not.
    #[error("the object does not fit its type: {0}")]
    Live(Invalid),
    /// Others own what it changes.
    #[error("{} conflicts", .0.len())]
    Conflicts(Vec<Conflict>),
    /// The version is not served.
    #[error("no version {0}")]
    Version(String),
}

/// More updaters than this are not kept apart.
const MOST_UPDATERS: usize = 10;

/// Notes what a write other than an apply changes as its manager's.
///
/// Objects whose lists cannot be told apart element by element lose all owners, as upstream does it.
pub fn update<V: Versions>(
    versions: &V,
    (live, new): (&Value, &Value),
    version: &str,
    managers: &mut Managers,
    manager: Manager,
    now: &str,
) {
    let Some(place) = versions.place(version) else { return };
    let difference = compare(place, live, new);
    if difference.unkeyed {
        *managers = Managers::default();
        return;
    }
    reconcile(versions, managers);
    disown(versions, (live, new), version, &difference, managers, None);
    let mut changed = difference.changed();
    changed.cut(versions.ignored(version));
    changed.subtract(versions.unowned());
    if !changed.is_empty() {
        // Who writes again keeps what it owned.
        if let Some(own) = managers.get(&manager) {
            changed.add(&own.set);
        }
        let entry = Entry { manager, api_version: version.to_owned(), time: Some(now.to_owned()), set: changed };
        managers.put(entry);
    }
    managers.cap(MOST_UPDATERS);
}

/// Applies a configuration. `None` stands for an object that stays as it is; who owns what may change all the same.
///
/// # Errors
/// When the configuration does not fit its type, or changes what others own and is not forced.
pub fn apply<V: Versions>(
    versions: &V,
    (live, applied): (&Value, &Value),
    version: &str,
    managers: &mut Managers,
    manager: Manager,
    force: bool,
    now: &str,
) -> Result<Option<Value>, Failure> {
    let place = versions.place(version).ok_or_else(|| Failure::Version(version.to_owned()))?;
    validate(place, applied, Repeated::Refused).map_err(Failure::Applied)?;
    validate(place, live, Repeated::Allowed).map_err(Failure::Live)?;
    reconcile(versions, managers);
    let merged = combine(place, live, applied);
    let mut set = fields_of(place, applied);
    set.cut(versions.ignored(version));
    let last = managers.get(&manager).cloned();
    let time = last.as_ref().and_then(|entry| entry.time.clone());
    managers.put(Entry { manager: manager.clone(), api_version: version.to_owned(), time, set });
    let new = match &last {
        Some(last) if !last.set.is_empty() => prune(versions, merged, version, managers, last),
        _ => merged,
    };
    let difference = compare(place, live, &new);
    let conflicts = disown(versions, (live, &new), version, &difference, managers, Some((&manager, force)));
    if !conflicts.is_empty() && !force {
        return Err(Failure::Conflicts(conflicts));
    }
    let unchanged = same(live, &new);
    if let Some(own) = managers.iter_mut().find(|entry| entry.manager == manager) {
        own.set.subtract(versions.unowned());
        if !unchanged {
            own.time = Some(now.to_owned());
        }
    }
    managers.retain(|entry| !entry.set.is_empty());
    Ok((!unchanged).then_some(new))
}

/// Who owned parts of what is atomic now owns the whole.
fn reconcile<V: Versions>(versions: &V, managers: &mut Managers) {
    for entry in managers.iter_mut() {
        if let Some(place) = versions.place(&entry.api_version) {
            entry.set = reconciled(place, &entry.set);
        }
    }
}

/// Takes what changed and what is gone from all but the applier; gives back what they owned of what changed.
fn disown<V: Versions>(
    versions: &V,
    (live, new): (&Value, &Value),
    version: &str,
    difference: &Difference,
    managers: &mut Managers,
    applier: Option<(&Manager, bool)>,
) -> Vec<Conflict> {
    let ignoring = |difference: Difference, version: &str| difference.ignoring(versions.ignored(version));
    let mut known = vec![(version.to_owned(), ignoring(difference.clone(), version))];
    let mut kept = Vec::new();
    let mut conflicts: Vec<(Manager, Set)> = Vec::new();
    for mut entry in managers.iter().cloned().collect::<Vec<_>>() {
        if applier.is_some_and(|(applier, _)| *applier == entry.manager) {
            kept.push(entry);
            continue;
        }
        if !known.iter().any(|(version, _)| *version == entry.api_version) {
            // Who wrote in a version that is no more owns nothing that could be told.
            let Some(place) = versions.place(&entry.api_version) else { continue };
            let converted = |object| versions.convert(object, version, &entry.api_version);
            let (Some(live), Some(new)) = (converted(live), converted(new)) else { continue };
            known.push((entry.api_version.clone(), ignoring(compare(place, &live, &new), &entry.api_version)));
        }
        let Some((_, difference)) = known.iter().find(|(version, _)| *version == entry.api_version) else { continue };
        let common = entry.set.common(&difference.changed());
        entry.set.subtract(&common);
        if !common.is_empty() {
            conflicts.push((entry.manager.clone(), common));
        }
        entry.set.subtract(&difference.removed);
        kept.push(entry);
    }
    if conflicts.is_empty() || applier.is_none_or(|(_, force)| force) {
        managers.retain(|_| false);
        kept.into_iter().filter(|entry| !entry.set.is_empty()).for_each(|entry| managers.put(entry));
    }
    conflicts.sort_by(|(a, _), (b, _)| a.cmp(b));
    let each = |(manager, set): (Manager, Set)| {
        set.paths().into_iter().map(move |path| Conflict { manager: manager.clone(), path })
    };
    conflicts.into_iter().flat_map(each).collect()
}

/// Takes out what the applier gave the last time and gives no more, unless others own it.
fn prune<V: Versions>(versions: &V, merged: Value, version: &str, managers: &Managers, last: &Entry) -> Value {
    let at = last.api_version.as_str();
    let Some(place) = versions.place(at) else { return merged };
    let Some(converted) = versions.convert(&merged, version, at).map(Cow::into_owned) else { return merged };
    let gone = with_named(place, &last.set);
    let pruned = without(place, &converted, &gone);
    let pruned = with_owned(versions, &converted, pruned, at, managers);
    // Only what the applier owned may go.
    let left = with_named(place, &fields_of(place, &pruned));
    let all = with_named(place, &fields_of(place, &converted));
    let pruned = without(place, &converted, &all.minus(&left).common(&gone));
    match versions.convert(&pruned, at, version) {
        Some(pruned) => pruned.into_owned(),
        None => merged,
    }
}

/// Adds back what others own, version by version; the one that was pruned first, since others may not convert without.
fn with_owned<V: Versions>(versions: &V, merged: &Value, pruned: Value, at: &str, managers: &Managers) -> Value {
    let mut owned: Vec<(&str, Set)> = vec![(at, Set::default())];
    for entry in managers.iter() {
        match owned.iter_mut().find(|(version, _)| *version == entry.api_version) {
            Some((_, set)) => set.add(&entry.set),
            None => owned.push((&entry.api_version, entry.set.clone())),
        }
    }
    let mut pruned = pruned;
    for (version, set) in owned {
        let Some(place) = versions.place(version) else { continue };
        let both = (versions.convert(merged, at, version), versions.convert(&pruned, at, version));
        let (Some(merged), Some(left)) = both else { continue };
        let kept = with_named(place, &fields_of(place, &left)).union(&with_named(place, &set));
        let gone = with_named(place, &fields_of(place, &merged)).minus(&kept);
        let result = without(place, &merged, &gone);
        if let Some(result) = versions.convert(&result, version, at).map(Cow::into_owned) {
            pruned = result;
        }
    }
    pruned
}

impl Conflict {
    /// The path as messages show it.
    pub fn shown(&self) -> String {
        self.path.iter().map(ToString::to_string).collect()
    }

    /// Who is in the way, as messages say it.
    pub fn owner(&self) -> String {
        let mut text = trireme_schema::field::quote(&self.manager.name);
        if !self.manager.subresource.is_empty() {
            text.push_str(&format!(" with subresource {}", trireme_schema::field::quote(&self.manager.subresource)));
        }
        if self.manager.operation == Operation::Update {
            text.push_str(&format!(" using {}", self.manager.api_version));
        }
        text
    }
}

//! Who owns whom.

use std::collections::{HashMap, HashSet};

use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use trireme_client::{Key, Queue, Resource};

use super::{FOREGROUND, ORPHAN, has};
use crate::view::Metadata;

/// All objects and their owners.
#[derive(Default)]
pub(crate) struct Graph {
    nodes: HashMap<String, Node>,
    /// The uids of the objects that name an owner, whether it exists or not.
    dependents: HashMap<String, HashSet<String>>,
    pub(crate) queue: Option<Queue<Key>>,
}

/// An object, as far as collection goes.
#[derive(Clone, Debug)]
pub(crate) struct Node {
    pub(crate) resource: Resource,
    pub(crate) key: Key,
    pub(crate) owners: Vec<OwnerReference>,
    pub(crate) deleting: bool,
    pub(crate) foreground: bool,
    pub(crate) orphan: bool,
}

/// What is known of an owner.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// It is there and stays.
    Solid,
    /// It is there, but only until its dependents are gone.
    Waiting,
    /// It does not exist.
    Gone,
}

/// What to do about an object.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: its owners are there.
    Keep,
    /// Take the owners away that are gone or going; others stay.
    Unlink,
    /// Delete it before its own owner, and its dependents before it.
    DeleteForeground,
    /// Delete it.
    Delete,
}

/// The verdict on an owner that is there.
pub(crate) fn verdict(owner: &Metadata) -> Verdict {
    if owner.deletion_timestamp.is_some() && has(owner, FOREGROUND) { Verdict::Waiting } else { Verdict::Solid }
}

/// Decides about an object by the verdicts on its owners.
pub(crate) fn decide(owners: &[Verdict], has_dependents: bool) -> Step {
    let solid = owners.iter().filter(|verdict| **verdict == Verdict::Solid).count();
    if owners.is_empty() || solid == owners.len() {
        Step::Keep
    } else if solid > 0 {
        Step::Unlink
    } else if owners.contains(&Verdict::Waiting) && has_dependents {
        Step::DeleteForeground
    } else {
        Step::Delete
    }
}

impl Graph {
    pub(crate) fn get(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(uid)
    }

    /// Takes an object's present state in; gives the uids to look at.
    pub(crate) fn set(&mut self, resource: &Resource, metadata: Metadata) -> Vec<String> {
        let uid = metadata.uid.clone();
        let deleting = metadata.deletion_timestamp.is_some();
        let node = Node {
            resource: resource.clone(),
            key: Key::new(&metadata.namespace, &metadata.name),
            deleting,
            foreground: has(&metadata, FOREGROUND),
            orphan: has(&metadata, ORPHAN),
            owners: metadata.owner_references,
        };
        let mut touched = Vec::new();
        let old = self.nodes.get(&uid);
        let owners_changed = old.is_none_or(|old| old.owners != node.owners);
        if let Some(old) = old {
            let lost = old.owners.iter().filter(|owner| !node.owners.iter().any(|now| now.uid == owner.uid));
            let lost: Vec<String> = lost.map(|owner| owner.uid.clone()).collect();
            // An owner that waits for its dependents need not wait for one that it has lost.
            touched.extend(lost.iter().filter(|owner| self.waits(owner)).cloned());
            for owner in lost {
                self.unlink(&owner, &uid);
            }
            // One that no longer blocks, too.
            if owners_changed {
                touched.extend(node.owners.iter().filter(|owner| self.waits(&owner.uid)).map(|o| o.uid.clone()));
            }
        }
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(uid.clone());
        }
        let uncertain = || {
            node.owners.iter().any(|owner| match self.nodes.get(&owner.uid) {
                None => true,
                Some(known) => known.deleting && known.foreground || !same(known, owner, &node.key),
            })
        };
        if deleting && (node.foreground || node.orphan) {
            touched.push(uid.clone());
            touched.extend(self.dependents.get(&uid).into_iter().flatten().filter(|_| node.foreground).cloned());
        } else if !deleting && owners_changed && uncertain() {
            touched.push(uid.clone());
        }
        self.nodes.insert(uid, node);
        touched
    }

    /// Takes a deleted object out; gives the uids to look at: its dependents, and owners that waited for it.
    pub(crate) fn remove(&mut self, uid: &str) -> Vec<String> {
        let Some(node) = self.nodes.remove(uid) else { return Vec::new() };
        for owner in &node.owners {
            self.unlink(&owner.uid, uid);
        }
        let mut touched: Vec<String> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        touched.extend(node.owners.iter().filter(|owner| self.waits(&owner.uid)).map(|owner| owner.uid.clone()));
        touched
    }

    /// Takes all objects of a resource out that is not served any more.
    pub(crate) fn remove_resource(&mut self, resource: &Resource) -> Vec<String> {
        let of_resource = self.nodes.iter().filter(|(_, node)| node.resource == *resource);
        let uids: Vec<String> = of_resource.map(|(uid, _)| uid.clone()).collect();
        uids.iter().flat_map(|uid| self.remove(uid)).collect()
    }

    fn unlink(&mut self, owner: &str, dependent: &str) {
        if let Some(dependents) = self.dependents.get_mut(owner) {
            dependents.remove(dependent);
            if dependents.is_empty() {
                self.dependents.remove(owner);
            }
        }
    }

    fn waits(&self, uid: &str) -> bool {
        self.nodes.get(uid).is_some_and(|node| node.deleting && node.foreground)
    }

    /// The verdict on an owner, if the graph knows it; one that it does not know may be new.
    pub(crate) fn owner(&self, dependent: &Node, owner: &OwnerReference) -> Option<Verdict> {
        let node = self.nodes.get(&owner.uid).filter(|node| same(node, owner, &dependent.key))?;
        Some(if node.deleting && node.foreground { Verdict::Waiting } else { Verdict::Solid })
    }

    pub(crate) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }

    /// The objects that name this owner.
    pub(crate) fn dependents(&self, uid: &str) -> Vec<(String, Node)> {
        let uids = self.dependents.get(uid).into_iter().flatten();
        uids.filter_map(|uid| Some((uid.clone(), self.nodes.get(uid)?.clone()))).collect()
    }

    /// The dependents that must go before this owner may.
    pub(crate) fn blocking(&self, uid: &str) -> Vec<String> {
        let blocks =
            |node: &Node| node.owners.iter().any(|owner| owner.uid == uid && owner.block_owner_deletion == Some(true));
        self.dependents(uid).into_iter().filter(|(_, node)| blocks(node)).map(|(uid, _)| uid).collect()
    }
}

/// Whether an object is what a reference means: owners are in the namespace of their dependents, or in none.
fn same(node: &Node, reference: &OwnerReference, dependent: &Key) -> bool {
    let in_reach = node.key.namespace.is_empty() || node.key.namespace == dependent.namespace;
    in_reach && *node.resource.kind == reference.kind && *node.key.name == reference.name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_goes_when_no_owner_is_left() {
        use Verdict::{Gone, Solid, Waiting};
        for (owners, has_dependents, expected) in [
            (vec![], false, Step::Keep),
            (vec![Solid, Solid], false, Step::Keep),
            (vec![Solid, Gone], false, Step::Unlink),
            (vec![Solid, Waiting], true, Step::Unlink),
            (vec![Gone, Gone], false, Step::Delete),
            (vec![Waiting], false, Step::Delete),
            (vec![Waiting, Gone], true, Step::DeleteForeground),
            (vec![Gone], true, Step::Delete),
        ] {
            assert_eq!(decide(&owners, has_dependents), expected, "{owners:?}");
        }
    }
}

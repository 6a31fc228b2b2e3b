use std::collections::HashMap;
use std::sync::Arc;

use crate::Labels;

/// The number of a topology key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct KeyId(u32);

/// The number of a value of a key among those in use; [`Domains::NONE`] for nodes without the label.
pub type Domain = u32;

/// Which nodes are in which domain, for every key that somebody asked about.
#[derive(Default)]
pub struct Domains {
    keys: Vec<Key>,
    by_name: HashMap<Box<str>, KeyId>,
}

struct Key {
    name: Box<str>,
    by_value: HashMap<Box<str>, Domain>,
    /// How many nodes each domain has.
    nodes: Vec<u32>,
    free: Vec<Domain>,
    /// By slot.
    of: Arc<Vec<Domain>>,
}

impl Domains {
    /// No domain.
    pub const NONE: Domain = Domain::MAX;

    /// The number of a key, if somebody asked about it.
    pub fn key(&self, name: &str) -> Option<KeyId> {
        self.by_name.get(name).copied()
    }

    /// The number of a key. `nodes` gives the labels of nodes by slot, should nobody have asked about it yet.
    pub fn key_or_new<'a>(&mut self, name: &str, nodes: impl Iterator<Item = (usize, &'a Labels)>) -> KeyId {
        if let Some(id) = self.by_name.get(name) {
            return *id;
        }
        let id = KeyId(u32::try_from(self.keys.len()).unwrap_or(u32::MAX));
        let mut key = Key {
            name: name.into(),
            by_value: HashMap::new(),
            nodes: Vec::new(),
            free: Vec::new(),
            of: Arc::default(),
        };
        for (slot, labels) in nodes {
            key.set(slot, labels.get(name));
        }
        self.keys.push(key);
        self.by_name.insert(name.into(), id);
        id
    }

    /// The domain of each slot; slots beyond the end have none.
    pub fn of(&self, key: KeyId) -> &Arc<Vec<Domain>> {
        &self.keys[key.0 as usize].of
    }

    /// The domain of a slot.
    pub fn at(&self, key: KeyId, slot: usize) -> Domain {
        self.of(key).get(slot).copied().unwrap_or(Self::NONE)
    }

    /// How many numbers of domains are in use, or were.
    pub fn len(&self, key: KeyId) -> usize {
        self.keys[key.0 as usize].nodes.len()
    }

    /// The node of a slot has these labels, or is gone.
    pub fn set_node(&mut self, slot: usize, labels: Option<&Labels>) {
        for key in &mut self.keys {
            let name = key.name.clone();
            key.set(slot, labels.and_then(|labels| labels.get(&name)));
        }
    }
}

impl Key {
    fn set(&mut self, slot: usize, value: Option<&str>) {
        let old = self.of.get(slot).copied().unwrap_or(Domains::NONE);
        if old != Domains::NONE && value.and_then(|value| self.by_value.get(value)) == Some(&old) {
            return;
        }
        let new = value.map_or(Domains::NONE, |value| self.enter(value));
        if old != Domains::NONE {
            self.leave(old);
        }
        if old == new {
            return;
        }
        let of = Arc::make_mut(&mut self.of);
        if of.len() <= slot {
            of.resize(slot + 1, Domains::NONE);
        }
        if let Some(place) = of.get_mut(slot) {
            *place = new;
        }
    }

    fn enter(&mut self, value: &str) -> Domain {
        let domain = match self.by_value.get(value) {
            Some(domain) => *domain,
            None => {
                // A number is free only when no node has it, and then nothing is counted under it.
                let domain = self.free.pop().unwrap_or_else(|| {
                    self.nodes.push(0);
                    Domain::try_from(self.nodes.len() - 1).unwrap_or(Domains::NONE)
                });
                self.by_value.insert(value.into(), domain);
                domain
            }
        };
        if let Some(nodes) = self.nodes.get_mut(domain as usize) {
            *nodes += 1;
        }
        domain
    }

    fn leave(&mut self, domain: Domain) {
        let Some(nodes) = self.nodes.get_mut(domain as usize) else { return };
        *nodes -= 1;
        if *nodes == 0 {
            self.by_value.retain(|_, known| *known != domain);
            self.free.push(domain);
        }
    }
}

//! Counts for affinity and spreading, kept up to date by every change, so that a decision never looks at all pods.

mod counter;
mod domains;

use std::collections::HashMap;
use std::sync::Arc;

pub use counter::Nodes;
pub use domains::{Domain, Domains, KeyId};

use crate::shape::{Namespaces, PodSelector, PodShape, Term};
use crate::{Labels, NodeSpec, PodInfo};
use counter::Counter;
pub use counter::change;

/// The labels of namespaces.
pub type NamespaceLabels = HashMap<Box<str>, Labels>;

/// How many counters are kept. One that was not used for long is made anew when it is asked for, which takes a look at
/// every node.
const COUNTERS: usize = 1_024;
/// How many shapes without pods are remembered.
const IDLE_SHAPES: usize = 1_024;

/// The counts.
#[derive(Default)]
pub struct Index {
    domains: Domains,
    /// By slot.
    nodes: Vec<Option<Node>>,
    shapes: Slab<Shape>,
    by_shape: HashMap<usize, usize>,
    idle: usize,
    queries: Slab<Query>,
    by_query: HashMap<Pods, usize>,
    counters: Slab<Counter>,
    by_counter: HashMap<(usize, Nodes, KeyId), usize>,
    terms: Slab<HeldTerm>,
    by_term: HashMap<(usize, KeyId, Kind), usize>,
    uses: u64,
}

/// What pods are counted: those that all of these select.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Pods {
    /// The selectors.
    pub selectors: Vec<PodSelector>,
    /// Whether pods that are being deleted are left out.
    pub living: bool,
}

/// What a term of a placed pod says of those pods that it selects.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// They must not come near.
    Repels,
    /// The pod had to come near them.
    Needs,
    /// They are liked near, or with a negative weight disliked.
    Likes(i64),
}

/// How many pods there are, by domain.
#[derive(Clone, Debug, Default)]
pub struct Count {
    /// The domain of each slot.
    pub domains: Arc<Vec<Domain>>,
    /// By domain, pods.
    pub pods: Vec<u32>,
    /// By domain, nodes that are counted.
    pub sizes: Vec<u32>,
}

/// The terms of one kind and key that select a pod, by domain how often they are held.
#[derive(Clone, Debug)]
pub struct Held {
    /// The key.
    pub key: KeyId,
    /// What the terms say.
    pub kind: Kind,
    /// By domain, how many placed pods say so.
    pub holders: Vec<u32>,
}

struct Node {
    name: Box<str>,
    spec: Arc<NodeSpec>,
    /// Shapes of its pods, with how many are living and how many are being deleted.
    pods: Vec<(usize, [u32; 2])>,
}

struct Shape {
    shape: Arc<PodShape>,
    pods: usize,
    /// Queries that select it.
    queries: Vec<usize>,
    /// Terms that its pods hold, once there are any.
    terms: Vec<usize>,
}

struct Query {
    pods: Pods,
    counters: Vec<usize>,
    terms: Vec<usize>,
}

struct HeldTerm {
    query: usize,
    key: KeyId,
    kind: Kind,
    /// How many shapes hold it.
    shapes: usize,
    holders: Vec<u32>,
}

/// Numbered places, used again when free.
struct Slab<T> {
    places: Vec<Option<T>>,
    free: Vec<usize>,
}

// === impl Index: changes ===

impl Index {
    /// A pod was placed on the node of a slot.
    pub fn add_pod(&mut self, pod: &PodInfo, slot: usize, namespaces: &NamespaceLabels) {
        let id = self.shape(&pod.shape, namespaces);
        self.hold_terms(id, namespaces);
        let Some(shape) = self.shapes.get_mut(id) else { return };
        if shape.pods == 0 {
            self.idle -= 1;
        }
        shape.pods += 1;
        let Some(Some(node)) = self.nodes.get_mut(slot) else { return };
        let dying = usize::from(pod.terminating);
        match node.pods.iter_mut().find(|(known, _)| *known == id) {
            Some((_, counts)) => counts[dying] += 1,
            None => {
                let mut counts = [0, 0];
                counts[dying] = 1;
                node.pods.push((id, counts));
            }
        }
        let mut one = [0, 0];
        one[dying] = 1;
        self.contribute(id, slot, one, true);
    }

    /// A pod was taken off the node of a slot.
    pub fn remove_pod(&mut self, pod: &PodInfo, slot: usize) {
        let Some(id) = self.by_shape.get(&address(&pod.shape)).copied() else { return };
        let mut one = [0, 0];
        one[usize::from(pod.terminating)] = 1;
        self.contribute(id, slot, one, false);
        if let Some(Some(node)) = self.nodes.get_mut(slot)
            && let Some(at) = node.pods.iter().position(|(known, _)| *known == id)
            && let Some((_, counts)) = node.pods.get_mut(at)
        {
            counts[usize::from(pod.terminating)] = counts[usize::from(pod.terminating)].saturating_sub(1);
            if *counts == [0, 0] {
                node.pods.swap_remove(at);
            }
        }
        let Some(shape) = self.shapes.get_mut(id) else { return };
        shape.pods = shape.pods.saturating_sub(1);
        if shape.pods == 0 {
            self.idle += 1;
            self.release_terms(id);
            self.sweep_shapes();
        }
    }

    /// The node of a slot is new, changed, or gone.
    pub fn set_node(&mut self, slot: usize, name: &str, spec: Option<&Arc<NodeSpec>>) {
        if self.nodes.len() <= slot {
            self.nodes.resize_with(slot + 1, || None);
        }
        let known = self.nodes.get_mut(slot).and_then(Option::as_mut);
        if let (Some(known), Some(spec)) = (known, spec)
            && known.spec.labels == spec.labels
            && known.spec.taints == spec.taints
        {
            known.spec = Arc::clone(spec);
            return;
        }
        let pods = self.nodes.get_mut(slot).and_then(Option::take).map(|node| node.pods).unwrap_or_default();
        for (id, counts) in &pods {
            self.contribute(*id, slot, *counts, false);
        }
        for counter in self.counters.iter_mut() {
            counter.leave(slot, &self.domains);
        }
        self.domains.set_node(slot, spec.map(|spec| &spec.labels));
        let Some(spec) = spec else { return };
        for counter in self.counters.iter_mut() {
            counter.enter(slot, name, spec, &self.domains);
        }
        for (id, counts) in &pods {
            self.contribute(*id, slot, *counts, true);
        }
        if let Some(place) = self.nodes.get_mut(slot) {
            *place = Some(Node { name: name.into(), spec: Arc::clone(spec), pods });
        }
    }

    /// The labels of a namespace changed.
    pub fn namespaces_changed(&mut self, namespaces: &NamespaceLabels) {
        let by_label = |selector: &PodSelector| matches!(selector.namespaces, Namespaces::Selected(..));
        let affected: Vec<usize> = self
            .queries
            .numbers()
            .filter(|id| self.queries.get(*id).is_some_and(|query| query.pods.selectors.iter().any(by_label)))
            .collect();
        for id in affected {
            // Counts are made anew when they are asked for; who holds a term does not depend on namespaces.
            for counter in self.queries.get(id).map(|query| query.counters.clone()).unwrap_or_default() {
                self.drop_counter(counter);
            }
            let Some(query) = self.queries.get(id) else { continue };
            for shape in self.shapes.iter_mut() {
                shape.queries.retain(|known| *known != id);
                if query.pods.select(&shape.shape, namespaces) {
                    shape.queries.push(id);
                }
            }
        }
    }

    /// Adds what pods of a shape on a node mean to all counts, or takes it away.
    fn contribute(&mut self, id: usize, slot: usize, [living, dying]: [u32; 2], came: bool) {
        let Some(shape) = self.shapes.get(id) else { return };
        for query in shape.queries.iter().filter_map(|query| self.queries.get(*query)) {
            let pods = if query.pods.living { living } else { living + dying };
            for counter in &query.counters {
                if let Some(counter) = self.counters.get_mut(*counter) {
                    counter.change(slot, pods, came, &self.domains);
                }
            }
        }
        for term in &shape.terms {
            if let Some(term) = self.terms.get_mut(*term) {
                change(&mut term.holders, self.domains.at(term.key, slot), living + dying, came);
            }
        }
    }

    /// The number of a shape; for a new one it is found out which queries select it.
    fn shape(&mut self, shape: &Arc<PodShape>, namespaces: &NamespaceLabels) -> usize {
        if let Some(id) = self.by_shape.get(&address(shape)) {
            return *id;
        }
        let select = |id: &usize| self.queries.get(*id).is_some_and(|query| query.pods.select(shape, namespaces));
        let queries = self.queries.numbers().filter(select).collect();
        let id = self.shapes.put(Shape { shape: Arc::clone(shape), pods: 0, queries, terms: Vec::new() });
        self.by_shape.insert(address(shape), id);
        self.idle += 1;
        id
    }

    fn sweep_shapes(&mut self) {
        if self.idle <= IDLE_SHAPES {
            return;
        }
        let idle: Vec<usize> =
            self.shapes.numbers().filter(|id| self.shapes.get(*id).is_some_and(|shape| shape.pods == 0)).collect();
        for id in idle {
            if let Some(shape) = self.shapes.take(id) {
                self.by_shape.remove(&address(&shape.shape));
            }
        }
        self.idle = 0;
    }

    /// The first pod of a shape was placed: its terms are held from now on.
    fn hold_terms(&mut self, id: usize, namespaces: &NamespaceLabels) {
        let Some(shape) = self.shapes.get(id).filter(|shape| shape.pods == 0) else { return };
        let shape = Arc::clone(&shape.shape);
        let repels = shape.anti_affinity.iter().map(|term| (Kind::Repels, term));
        let needs = shape.affinity.iter().map(|term| (Kind::Needs, term));
        let likes = shape.preferred_pods.iter().map(|(weight, term)| (Kind::Likes(*weight), term));
        let terms: Vec<usize> =
            repels.chain(needs).chain(likes).map(|(kind, term)| self.term(kind, term, namespaces)).collect();
        for term in terms.iter().filter_map(|term| self.terms.get(*term).map(|_| *term)).collect::<Vec<_>>() {
            if let Some(term) = self.terms.get_mut(term) {
                term.shapes += 1;
            }
        }
        if let Some(shape) = self.shapes.get_mut(id) {
            shape.terms = terms;
        }
    }

    fn release_terms(&mut self, id: usize) {
        let terms = self.shapes.get_mut(id).map(|shape| std::mem::take(&mut shape.terms)).unwrap_or_default();
        for term in terms {
            let Some(held) = self.terms.get_mut(term) else { continue };
            held.shapes -= 1;
            if held.shapes > 0 {
                continue;
            }
            if let Some(HeldTerm { query, key, kind, .. }) = self.terms.take(term) {
                self.by_term.remove(&(query, key, kind));
                if let Some(query) = self.queries.get_mut(query) {
                    query.terms.retain(|known| *known != term);
                }
                self.drop_query(query);
            }
        }
    }

    fn term(&mut self, kind: Kind, term: &Term, namespaces: &NamespaceLabels) -> usize {
        let query = self.query(Pods { selectors: vec![term.pods.clone()], living: false }, namespaces);
        let key = self.key(&term.key);
        if let Some(id) = self.by_term.get(&(query, key, kind)) {
            return *id;
        }
        let id = self.terms.put(HeldTerm { query, key, kind, shapes: 0, holders: Vec::new() });
        self.by_term.insert((query, key, kind), id);
        if let Some(query) = self.queries.get_mut(query) {
            query.terms.push(id);
        }
        id
    }

    fn query(&mut self, pods: Pods, namespaces: &NamespaceLabels) -> usize {
        if let Some(id) = self.by_query.get(&pods) {
            return *id;
        }
        let id = self.queries.put(Query { pods: pods.clone(), counters: Vec::new(), terms: Vec::new() });
        for shape in self.shapes.iter_mut() {
            if pods.select(&shape.shape, namespaces) {
                shape.queries.push(id);
            }
        }
        self.by_query.insert(pods, id);
        id
    }

    /// Forgets a query that nobody uses.
    fn drop_query(&mut self, id: usize) {
        if self.queries.get(id).is_none_or(|query| !query.counters.is_empty() || !query.terms.is_empty()) {
            return;
        }
        if let Some(query) = self.queries.take(id) {
            self.by_query.remove(&query.pods);
            for shape in self.shapes.iter_mut() {
                shape.queries.retain(|known| *known != id);
            }
        }
    }

    fn drop_counter(&mut self, id: usize) {
        let Some(counter) = self.counters.take(id) else { return };
        if let Some(query) = self.queries.get_mut(counter.query) {
            query.counters.retain(|known| *known != id);
        }
        self.by_counter.remove(&(counter.query, counter.nodes, counter.key));
    }

    fn counter(&mut self, query: usize, nodes: Nodes, key: KeyId) -> usize {
        let asked = query;
        if self.by_counter.len() >= COUNTERS {
            let used = |id: &usize| self.counters.get(*id).map_or(0, |counter| counter.used);
            if let Some(oldest) = self.counters.numbers().min_by_key(used) {
                let query = self.counters.get(oldest).map(|counter| counter.query);
                self.drop_counter(oldest);
                // Not the one that is about to be used.
                query.into_iter().filter(|old| *old != asked).for_each(|old| self.drop_query(old));
            }
        }
        let mut counter = Counter::new(query, nodes.clone(), key);
        let living = self.queries.get(query).is_some_and(|query| query.pods.living);
        for (slot, node) in self.nodes.iter().enumerate().filter_map(|(slot, node)| Some((slot, node.as_ref()?))) {
            counter.enter(slot, &node.name, &node.spec, &self.domains);
            let selected = |id: usize| self.shapes.get(id).is_some_and(|shape| shape.queries.contains(&query));
            for (_, [alive, dying]) in node.pods.iter().filter(|(id, _)| selected(*id)) {
                counter.change(slot, if living { *alive } else { alive + dying }, true, &self.domains);
            }
        }
        let id = self.counters.put(counter);
        self.by_counter.insert((query, nodes, key), id);
        if let Some(query) = self.queries.get_mut(query) {
            query.counters.push(id);
        }
        id
    }
}

// === impl Index: questions ===

impl Index {
    /// The number of a topology key.
    pub fn key(&mut self, name: &str) -> KeyId {
        let nodes = self.nodes.iter().enumerate();
        self.domains.key_or_new(name, nodes.filter_map(|(slot, node)| Some((slot, &node.as_ref()?.spec.labels))))
    }

    /// The domain of each slot.
    pub fn domains(&self, key: KeyId) -> Arc<Vec<Domain>> {
        Arc::clone(self.domains.of(key))
    }

    /// How many pods there are by domain, on the nodes that are counted.
    pub fn count(&mut self, pods: Pods, nodes: Nodes, key: &str, namespaces: &NamespaceLabels) -> Count {
        self.uses += 1;
        let uses = self.uses;
        let key = self.key(key);
        let query = self.query(pods, namespaces);
        let known = (query, nodes, key);
        let id = match self.by_counter.get(&known) {
            Some(id) => *id,
            None => self.counter(query, known.1, key),
        };
        let domains = self.domains(key);
        let Some(counter) = self.counters.get_mut(id) else { return Count { domains, ..Count::default() } };
        counter.used = uses;
        let mut count = Count { domains, pods: counter.pods.clone(), sizes: counter.sizes.clone() };
        let len = self.domains.len(key);
        count.pods.resize(len, 0);
        count.sizes.resize(len, 0);
        count
    }

    /// What placed pods say of a pod of this shape.
    pub fn held(&mut self, shape: &Arc<PodShape>, namespaces: &NamespaceLabels) -> Vec<Held> {
        if self.by_term.is_empty() {
            return Vec::new();
        }
        let id = self.shape(shape, namespaces);
        let queries = self.shapes.get(id).map(|shape| shape.queries.as_slice()).unwrap_or_default();
        let terms = queries.iter().filter_map(|query| self.queries.get(*query)).flat_map(|query| &query.terms);
        let mut held = Vec::new();
        for term in terms.filter_map(|term| self.terms.get(*term)) {
            let mut holders = term.holders.clone();
            holders.resize(self.domains.len(term.key), 0);
            held.push(Held { key: term.key, kind: term.kind, holders });
        }
        self.sweep_shapes();
        held
    }

    /// Whether placed pods say anything of a pod of this shape.
    pub fn is_minded(&mut self, shape: &Arc<PodShape>, namespaces: &NamespaceLabels) -> bool {
        if self.by_term.is_empty() {
            return false;
        }
        let id = self.shape(shape, namespaces);
        let queries = self.shapes.get(id).map(|shape| shape.queries.as_slice()).unwrap_or_default();
        queries.iter().filter_map(|query| self.queries.get(*query)).any(|query| !query.terms.is_empty())
    }
}

impl Count {
    /// The pods in the domain of a slot; `None` for a node without the label.
    pub fn at(&self, slot: usize) -> Option<u32> {
        let domain = self.domains.get(slot).copied().unwrap_or(Domains::NONE);
        if domain == Domains::NONE { None } else { Some(self.pods.get(domain as usize).copied().unwrap_or(0)) }
    }

    /// Counts a pod that came to a slot, or went; tells whether it changes anything.
    pub fn suppose(&mut self, slot: usize, came: bool) -> bool {
        let domain = self.domains.get(slot).copied().unwrap_or(Domains::NONE);
        change(&mut self.pods, domain, 1, came);
        domain != Domains::NONE
    }
}

impl Pods {
    /// Whether pods of a shape are meant.
    pub fn select(&self, shape: &PodShape, namespaces: &NamespaceLabels) -> bool {
        self.selectors
            .iter()
            .all(|selector| selector.matches(&shape.namespace, &shape.labels, |name| namespaces.get(name)))
    }
}

fn address(shape: &Arc<PodShape>) -> usize {
    Arc::as_ptr(shape) as usize
}

// === impl Slab ===

impl<T> Default for Slab<T> {
    fn default() -> Self {
        Self { places: Vec::new(), free: Vec::new() }
    }
}

impl<T> Slab<T> {
    fn put(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(at) => {
                if let Some(place) = self.places.get_mut(at) {
                    *place = Some(value);
                }
                at
            }
            None => {
                self.places.push(Some(value));
                self.places.len() - 1
            }
        }
    }

    fn take(&mut self, at: usize) -> Option<T> {
        let value = self.places.get_mut(at)?.take()?;
        self.free.push(at);
        Some(value)
    }

    fn get(&self, at: usize) -> Option<&T> {
        self.places.get(at)?.as_ref()
    }

    fn get_mut(&mut self, at: usize) -> Option<&mut T> {
        self.places.get_mut(at)?.as_mut()
    }

    fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.places.iter_mut().flatten()
    }

    fn numbers(&self) -> impl Iterator<Item = usize> {
        self.places.iter().enumerate().filter(|(_, place)| place.is_some()).map(|(at, _)| at)
    }
}

#[cfg(test)]
mod tests;

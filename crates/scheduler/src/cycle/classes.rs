//! What was found out about nodes for pods of one shape, so that the next pod of the shape need not ask again.

use std::collections::HashMap;
use std::sync::Arc;

use crate::framework::{Context, CycleState, Mask, Point, Profile, Status};
use crate::shape::PodShape;
use crate::{Cluster, NodeInfo};

/// How many shapes are remembered. Each takes some 16 bytes per node once it has come twice.
const KEPT: usize = 64;

/// Shapes that came lately.
#[derive(Default)]
pub struct Classes {
    by_shape: HashMap<usize, Class>,
    uses: u64,
}

/// One shape.
pub struct Class {
    /// Held, so that the address stays the shape's.
    shape: Arc<PodShape>,
    used: u64,
    built: bool,
    /// Up to which change of the cluster this is true.
    seen: u64,
    epoch: u64,
    /// By slot.
    pub kept: Vec<Kept>,
    /// Why nodes were rejected.
    pub statuses: Vec<Status>,
    /// The scores of plugins that normalise.
    pub raw: Vec<Raw>,
}

/// The scores of a plugin that normalises.
pub struct Raw {
    /// The plugin's number.
    pub plugin: usize,
    /// By slot.
    pub scores: Vec<i64>,
    /// How many are not zero; without any there is nothing to compare.
    pub set: usize,
}

/// One node.
#[derive(Clone, Copy, Default)]
pub struct Kept {
    /// The node's generation when this was found.
    generation: u64,
    /// Whether the node fits.
    pub verdict: Verdict,
    /// The weighted sum of the scores that stand for themselves.
    pub score: i32,
}

/// Whether a node fits, as far as plugins go that look at the node alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Verdict {
    /// There is no node.
    #[default]
    Absent,
    /// It fits.
    Fits,
    /// It does not, for the reason of this number.
    Rejected(u32),
}

/// Which plugins look at the node alone.
#[derive(Clone, Copy)]
pub struct Local {
    /// That filter.
    pub filter: Mask,
    /// That score, each node for itself.
    pub score: Mask,
    /// That score and then normalise.
    pub normalized: Mask,
}

impl Classes {
    /// What is known for the pod's shape, true as of now. `None` when the shape has not come before: then it is not worth
    /// to look at all nodes.
    pub fn of(&mut self, cx: Context<'_>, profile: &Profile, state: &CycleState, local: Local) -> Option<&Class> {
        self.uses += 1;
        let key = Arc::as_ptr(&cx.pod.shape) as usize;
        if !self.by_shape.contains_key(&key) {
            self.evict();
            self.by_shape.insert(key, Class::new(Arc::clone(&cx.pod.shape), self.uses));
            return None;
        }
        let class = self.by_shape.get_mut(&key)?;
        class.used = self.uses;
        class.refresh(cx, profile, state, local);
        Some(class)
    }

    fn evict(&mut self) {
        if self.by_shape.len() < KEPT {
            return;
        }
        let oldest = self.by_shape.iter().min_by_key(|(_, class)| class.used).map(|(key, _)| *key);
        if let Some(oldest) = oldest {
            self.by_shape.remove(&oldest);
        }
    }
}

impl Class {
    fn new(shape: Arc<PodShape>, used: u64) -> Self {
        Self { shape, used, built: false, seen: 0, epoch: 0, kept: Vec::new(), statuses: Vec::new(), raw: Vec::new() }
    }

    fn refresh(&mut self, cx: Context<'_>, profile: &Profile, state: &CycleState, local: Local) {
        let cluster = cx.cluster;
        debug_assert!(Arc::ptr_eq(&self.shape, &cx.pod.shape));
        let epoch = epoch(cx, profile);
        let slots = cluster.slots();
        let few = cluster.now().saturating_sub(self.seen) < slots as u64 / 2 + 16;
        let changed = cluster.changed_since(self.seen).filter(|_| self.built && few && epoch == self.epoch);
        match changed {
            Some(changed) => {
                self.grow(slots);
                for slot in changed {
                    self.look_at(cx, profile, state, local, slot);
                }
            }
            None => {
                self.kept.clear();
                self.statuses.clear();
                self.raw = profile
                    .at(Point::Score)
                    .filter(|(at, _)| local.normalized.has(*at))
                    .map(|(plugin, _)| Raw { plugin, scores: Vec::new(), set: 0 })
                    .collect();
                self.grow(slots);
                for slot in 0..slots {
                    self.look_at(cx, profile, state, local, slot);
                }
                self.built = true;
            }
        }
        (self.seen, self.epoch) = (cluster.now(), epoch);
    }

    fn grow(&mut self, slots: usize) {
        self.kept.resize(slots, Kept::default());
        for raw in &mut self.raw {
            raw.scores.resize(slots, 0);
        }
    }

    fn look_at(&mut self, cx: Context<'_>, profile: &Profile, state: &CycleState, local: Local, slot: usize) {
        let Some(kept) = self.kept.get_mut(slot) else { return };
        let Some(node) = cx.cluster.at(slot) else {
            *kept = Kept::default();
            self.raw.iter_mut().for_each(|raw| raw.put(slot, 0));
            return;
        };
        if kept.verdict != Verdict::Absent && kept.generation == node.generation {
            return;
        }
        kept.generation = node.generation;
        kept.verdict = match profile.filter_with_nominated(cx, state, node, local.filter) {
            Ok(()) => Verdict::Fits,
            Err(status) => {
                let known = self.statuses.iter().position(|known| *known == status);
                let at = known.unwrap_or_else(|| {
                    self.statuses.push(status);
                    self.statuses.len() - 1
                });
                Verdict::Rejected(u32::try_from(at).unwrap_or(u32::MAX))
            }
        };
        if kept.verdict != Verdict::Fits {
            self.raw.iter_mut().for_each(|raw| raw.put(slot, 0));
            return;
        }
        kept.score = i32::try_from(local_score(cx, profile, state, local.score, node)).unwrap_or(i32::MAX);
        for raw in &mut self.raw {
            if let Some(enabled) = profile.plugins().get(raw.plugin) {
                raw.put(slot, enabled.plugin.score(cx, state, node));
            }
        }
    }
}

impl Raw {
    fn put(&mut self, slot: usize, score: i64) {
        if let Some(place) = self.scores.get_mut(slot) {
            let before = std::mem::replace(place, score);
            self.set = self.set + usize::from(score != 0) - usize::from(before != 0);
        }
    }
}

fn local_score(cx: Context<'_>, profile: &Profile, state: &CycleState, of: Mask, node: &NodeInfo) -> i64 {
    profile
        .at(Point::Score)
        .filter(|(at, _)| of.has(*at))
        .map(|(_, enabled)| enabled.plugin.score(cx, state, node) * enabled.weight)
        .sum()
}

fn epoch(cx: Context<'_>, profile: &Profile) -> u64 {
    let of = |cluster: &Cluster| {
        profile.plugins().iter().map(|enabled| enabled.plugin.epoch(cx.pod, cluster)).fold(0_u64, u64::wrapping_add)
    };
    of(cx.cluster)
}

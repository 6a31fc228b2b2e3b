use rand::Rng;
use rand::rngs::SmallRng;

use super::classes::{Class, Classes, Kept, Local, Verdict};
use super::sample::enough;
use crate::framework::{Context, CycleState, MAX_SCORE, Mask, Point, PreScore, Profile, Reach, Status};
use crate::{Diagnosis, NodeInfo};

/// Makes decisions, and remembers between them what saves work.
pub struct Chooser {
    classes: Classes,
    /// Where the next decision begins, so that all nodes get their turn when not all are looked at.
    start: usize,
    rng: SmallRng,
}

/// The nodes that fit.
pub struct Feasible {
    /// By slot.
    pub slots: Vec<usize>,
    /// Scores that are known already, in the same order; of those plugins.
    known: Vec<i64>,
    scored: Mask,
    raw: Vec<(usize, Vec<i64>)>,
    /// Plugins that tell nodes apart.
    vocal: Mask,
    /// How many nodes were looked at.
    pub evaluated: usize,
}

/// A node was chosen.
#[derive(Debug, PartialEq, Eq)]
pub struct Chosen {
    /// Its name.
    pub node: Box<str>,
    /// How many nodes were looked at.
    pub evaluated: usize,
    /// How many fitted.
    pub feasible: usize,
}

/// No node was chosen.
#[derive(Debug)]
pub enum Unfit {
    /// None fits.
    Rejected(Box<Diagnosis>),
    /// Something went wrong.
    Failed(Status),
}

/// Which plugins have something to say about a pod, and how far each looks.
struct Plan {
    filters: Mask,
    local: Local,
    /// Those that tell nodes apart for this pod.
    vocal: Mask,
    /// Whether nothing may be used again.
    personal: bool,
}

impl Chooser {
    /// Chooses among equals by these random numbers.
    pub fn new(rng: SmallRng) -> Self {
        Self { classes: Classes::default(), start: 0, rng }
    }

    /// Chooses a node for a pod, or says for each node why not.
    ///
    /// # Errors
    /// Why not.
    pub fn choose(&mut self, cx: Context<'_>, profile: &Profile, state: &mut CycleState) -> Result<Chosen, Unfit> {
        let feasible = self.feasible(cx, profile, state)?;
        self.best(cx, profile, state, feasible)
    }

    /// The nodes that fit.
    ///
    /// # Errors
    /// Why there are none.
    pub fn feasible(&mut self, cx: Context<'_>, profile: &Profile, state: &mut CycleState) -> Result<Feasible, Unfit> {
        let cluster = cx.cluster;
        if cluster.is_empty() {
            return Err(Unfit::Rejected(Box::new(Diagnosis::new(0))));
        }
        let prepared = profile.pre_filter(cx, state).map_err(|status| {
            if status.is_rejection() {
                Unfit::Rejected(Box::new(Diagnosis::rejected_at_once(cluster.len(), status)))
            } else {
                Unfit::Failed(status)
            }
        })?;
        let plan = Plan::of(cx, profile, prepared.skipped);
        state.set(Active(plan.filters));
        let mut diagnosis = Diagnosis::new(cluster.len());
        if let Some(nominated) = cx.nominator.node_of(&cx.pod.uid)
            && let Some(node) = cluster.node(nominated)
            && prepared.only.as_ref().is_none_or(|(names, _)| names.iter().any(|name| **name == *nominated))
            && profile.filter_with_nominated(cx, state, node, plan.filters).is_ok()
        {
            return Ok(Feasible::of(vec![node.slot], 1, plan.vocal));
        }
        let feasible = match prepared.only {
            Some((names, mut by)) => {
                by.sort_unstable();
                let reason = format!("node(s) didn't satisfy plugin(s) [{}]", by.join(" "));
                diagnosis.set_absent(Status::unresolvable(reason).by(by.first().copied().unwrap_or_default()));
                let nodes = names.iter().filter_map(|name| cluster.node(name));
                filter(cx, profile, state, &plan, nodes, usize::MAX, &mut diagnosis)?
            }
            None => self.among_all(cx, profile, state, &plan, &mut diagnosis)?,
        };
        if feasible.slots.is_empty() { Err(Unfit::Rejected(Box::new(diagnosis))) } else { Ok(feasible) }
    }

    /// The best of these nodes.
    ///
    /// # Errors
    /// What went wrong.
    pub fn best(
        &mut self,
        cx: Context<'_>,
        profile: &Profile,
        state: &mut CycleState,
        feasible: Feasible,
    ) -> Result<Chosen, Unfit> {
        let (evaluated, count) = (feasible.evaluated, feasible.slots.len());
        let at = if count == 1 { 0 } else { self.compare(cx, profile, state, &feasible).map_err(Unfit::Failed)? };
        let node = feasible.slots.get(at).and_then(|slot| cx.cluster.at(*slot));
        match node {
            Some(node) => Ok(Chosen { node: node.name.clone(), evaluated, feasible: count }),
            None => Err(Unfit::Failed(Status::error("the chosen node is gone"))),
        }
    }

    fn among_all(
        &mut self,
        cx: Context<'_>,
        profile: &Profile,
        state: &CycleState,
        plan: &Plan,
        diagnosis: &mut Diagnosis,
    ) -> Result<Feasible, Unfit> {
        let cluster = cx.cluster;
        let slots = cluster.slots();
        let start = self.start % slots.max(1);
        let limit = enough(cluster.len(), profile.percentage);
        if !plan.personal
            && let Some(class) = self.classes.of(cx, profile, state, plan.local)
        {
            let rest = plan.filters.without(plan.local.filter);
            let quiet = plan.vocal.without(plan.local.score.with(plan.local.normalized)).is_empty();
            // Where nothing is left to ask, all nodes are compared: that costs less than asking some.
            let limit = if rest.is_empty() && quiet { usize::MAX } else { limit };
            if limit == usize::MAX
                && class.raw.iter().all(|raw| raw.set == 0)
                && let Some(slot) = highest(&class.kept, &mut self.rng)
            {
                return Ok(Feasible::of(vec![slot], cluster.len(), plan.vocal));
            }
            let feasible = remembered(cx, profile, state, plan, class, start, limit, diagnosis);
            if limit != usize::MAX {
                self.start = start + feasible.evaluated;
            }
            return Ok(feasible);
        }
        let nodes = (start..slots).chain(0..start).filter_map(|slot| cluster.at(slot));
        let feasible = filter(cx, profile, state, plan, nodes, limit, diagnosis)?;
        self.start = start + feasible.evaluated;
        Ok(feasible)
    }

    /// The place of the best among the nodes that fit; among equals one at random, so that pods spread.
    fn compare(
        &mut self,
        cx: Context<'_>,
        profile: &Profile,
        state: &mut CycleState,
        feasible: &Feasible,
    ) -> Result<usize, Status> {
        let mut totals = feasible.known.clone();
        totals.resize(feasible.slots.len(), 0);
        let mut nodes: Vec<&NodeInfo> = Vec::new();
        let rest = |at: usize| feasible.vocal.without(feasible.scored).has(at);
        let asked = profile.at(Point::Score).any(|(at, _)| rest(at));
        if asked || !feasible.raw.is_empty() {
            nodes = feasible.slots.iter().filter_map(|slot| cx.cluster.at(*slot)).collect();
        }
        for (at, raw) in &feasible.raw {
            let Some(enabled) = profile.plugins().get(*at) else { continue };
            if !all_equal(raw) {
                let mut scores = raw.clone();
                enabled.plugin.normalize(state, &nodes, &mut scores);
                add(&mut totals, &scores, enabled.weight);
            }
        }
        if asked {
            let mut skipped = Mask::default();
            for (at, enabled) in profile.at(Point::PreScore).filter(|(at, _)| rest(*at)) {
                let found = enabled.plugin.pre_score(cx, state, &nodes);
                if found.map_err(|status| status.by(enabled.plugin.name()))? == PreScore::Skip {
                    skipped.add(at);
                }
            }
            for (_, enabled) in profile.at(Point::Score).filter(|(at, _)| rest(*at) && !skipped.has(*at)) {
                let plugin = &enabled.plugin;
                let mut scores: Vec<i64> = nodes.iter().map(|node| plugin.score(cx, state, node)).collect();
                if plugin.normalizes() {
                    plugin.normalize(state, &nodes, &mut scores);
                }
                add(&mut totals, &scores, enabled.weight);
            }
        }
        Ok(self.highest(&totals))
    }

    fn highest(&mut self, totals: &[i64]) -> usize {
        let most = totals.iter().copied().max().unwrap_or(0);
        let equals = totals.iter().filter(|total| **total == most).count();
        let pick = if equals > 1 { self.rng.random_range(0..equals) } else { 0 };
        totals.iter().enumerate().filter(|(_, total)| **total == most).nth(pick).map_or(0, |(at, _)| at)
    }
}

/// Which filters are asked in this decision, kept for those who ask them again in a "what if".
#[derive(Clone, Copy, Debug, Default)]
pub struct Active(pub Mask);

impl Feasible {
    /// These nodes, without scores.
    fn of(slots: Vec<usize>, evaluated: usize, vocal: Mask) -> Self {
        Self { slots, known: Vec::new(), scored: Mask::default(), raw: Vec::new(), vocal, evaluated }
    }
}

impl Plan {
    fn of(cx: Context<'_>, profile: &Profile, skipped: Mask) -> Self {
        let mut plan = Self {
            filters: Mask::default(),
            local: Local { filter: Mask::default(), score: Mask::default(), normalized: Mask::default() },
            vocal: Mask::default(),
            personal: false,
        };
        for (at, enabled) in profile.at(Point::Filter).filter(|(at, _)| !skipped.has(*at)) {
            plan.filters.add(at);
            match enabled.plugin.reach(cx.pod) {
                Reach::Node => plan.local.filter.add(at),
                Reach::Cluster => {}
                Reach::Pod => plan.personal = true,
            }
        }
        for (at, enabled) in profile.at(Point::Score) {
            if !enabled.plugin.indifferent(cx.pod, cx.cluster) {
                plan.vocal.add(at);
            }
            match enabled.plugin.reach(cx.pod) {
                Reach::Node if enabled.plugin.normalizes() => plan.local.normalized.add(at),
                Reach::Node => plan.local.score.add(at),
                Reach::Cluster => {}
                // What it says of nodes is only compared, so that filters may be used again all the same.
                Reach::Pod => {}
            }
        }
        plan
    }
}

/// Asks nodes one by one until enough fit.
fn filter<'a>(
    cx: Context<'_>,
    profile: &Profile,
    state: &CycleState,
    plan: &Plan,
    nodes: impl Iterator<Item = &'a NodeInfo>,
    limit: usize,
    diagnosis: &mut Diagnosis,
) -> Result<Feasible, Unfit> {
    let mut feasible = Feasible::of(Vec::new(), 0, plan.vocal);
    for node in nodes {
        if feasible.slots.len() >= limit {
            break;
        }
        feasible.evaluated += 1;
        match profile.filter_with_nominated(cx, state, node, plan.filters) {
            Ok(()) => feasible.slots.push(node.slot),
            Err(status) if status.is_rejection() => diagnosis.reject(node.slot, status),
            Err(status) => return Err(Unfit::Failed(status)),
        }
    }
    Ok(feasible)
}

/// Takes what is known of a shape, and asks only those plugins that look further than the node.
#[allow(clippy::too_many_arguments, reason = "one decision, in two halves")]
fn remembered(
    cx: Context<'_>,
    profile: &Profile,
    state: &CycleState,
    plan: &Plan,
    class: &Class,
    start: usize,
    limit: usize,
    diagnosis: &mut Diagnosis,
) -> Feasible {
    let rest = plan.filters.without(plan.local.filter);
    let mut feasible = Feasible::of(Vec::new(), 0, plan.vocal);
    let mut numbers: Vec<u32> = Vec::new();
    let slots = class.kept.len();
    for slot in (start..slots).chain(0..start.min(slots)) {
        if feasible.slots.len() >= limit {
            break;
        }
        let Some(kept) = class.kept.get(slot) else { continue };
        feasible.evaluated += 1;
        match kept.verdict {
            Verdict::Absent => feasible.evaluated -= 1,
            Verdict::Rejected(number) => {
                let number = number as usize;
                if numbers.len() <= number {
                    numbers.resize(number + 1, 0);
                }
                if let (Some(known), Some(status)) = (numbers.get_mut(number), class.statuses.get(number)) {
                    if *known == 0 {
                        *known = diagnosis.number(status.clone());
                    }
                    diagnosis.set(slot, *known);
                }
            }
            Verdict::Fits => {
                if !rest.is_empty()
                    && let Some(node) = cx.cluster.at(slot)
                {
                    let expected = !cx.nominator.on(&node.name).is_empty();
                    let found = if expected {
                        profile.filter_with_nominated(cx, state, node, plan.filters)
                    } else {
                        profile.filter(cx, state, node, rest)
                    };
                    if let Err(status) = found {
                        diagnosis.reject(slot, status);
                        continue;
                    }
                }
                feasible.slots.push(slot);
            }
        }
    }
    let of = |slot: &usize| class.kept.get(*slot).map_or(0, |kept| i64::from(kept.score));
    feasible.known = feasible.slots.iter().map(of).collect();
    let raw = |raw: &[i64]| feasible.slots.iter().map(|slot| raw.get(*slot).copied().unwrap_or(0)).collect();
    let told = class.raw.iter().filter(|raw| raw.set > 0);
    feasible.raw = told.map(|told| (told.plugin, raw(&told.scores))).collect();
    feasible.scored = plan.local.score.with(plan.local.normalized);
    feasible
}

/// The slot of the highest score among the nodes that fit; among equals one at random.
fn highest(kept: &[Kept], rng: &mut SmallRng) -> Option<usize> {
    let (mut most, mut equals) = (i32::MIN, 0_usize);
    for node in kept.iter().filter(|node| node.verdict == Verdict::Fits) {
        match node.score.cmp(&most) {
            std::cmp::Ordering::Greater => (most, equals) = (node.score, 1),
            std::cmp::Ordering::Equal => equals += 1,
            std::cmp::Ordering::Less => {}
        }
    }
    let pick = if equals > 1 { rng.random_range(0..equals) } else { 0 };
    let mut best = kept.iter().enumerate().filter(|(_, node)| node.verdict == Verdict::Fits && node.score == most);
    best.nth(pick).map(|(slot, _)| slot)
}

fn all_equal(scores: &[i64]) -> bool {
    scores.windows(2).all(|pair| pair.first() == pair.last())
}

fn add(totals: &mut [i64], scores: &[i64], weight: i64) {
    for (total, score) in totals.iter_mut().zip(scores) {
        *total += score.clamp(&0, &MAX_SCORE) * weight;
    }
}

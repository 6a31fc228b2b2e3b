use super::HOSTNAME;
use crate::NodeInfo;
use crate::framework::{Context, MAX_SCORE};
use crate::index::{Count, Domains, Nodes, Pods};
use crate::shape::Spread;

/// The constraints that should hold, with what is there by domain.
#[derive(Clone)]
pub struct Liked {
    constraints: Vec<Constraint>,
    /// Whether nodes without one of the labels are left out.
    all_keys: bool,
}

#[derive(Clone)]
struct Constraint {
    count: Count,
    /// The more domains there are, the more the count of one says.
    weight: f64,
    max_skew: f64,
}

impl Liked {
    /// Counts what is there.
    pub fn of(cx: Context<'_>, spreads: Vec<Spread>, all_keys: bool, nodes: &[&NodeInfo]) -> Self {
        let keys: Vec<Box<str>> =
            if all_keys { spreads.iter().map(|spread| spread.key.clone()).collect() } else { Vec::new() };
        let count = |spread: &Spread| {
            // On the node itself all pods count: it is one of those that fit.
            let counted = if &*spread.key == HOSTNAME {
                Nodes::default()
            } else {
                Nodes::of(cx.pod, keys.clone(), spread.honor_affinity, spread.honor_taints)
            };
            let pods = Pods { selectors: vec![spread.pods.clone()], living: true };
            cx.cluster.with_index(|index, namespaces| index.count(pods, counted, &spread.key, namespaces))
        };
        let counts: Vec<Count> = spreads.iter().map(count).collect();
        let looked_at: Vec<usize> = nodes
            .iter()
            .map(|node| node.slot)
            .filter(|slot| !all_keys || counts.iter().all(|count| count.at(*slot).is_some()))
            .collect();
        let constraint = |(spread, count): (Spread, Count)| {
            let size = if &*spread.key == HOSTNAME { looked_at.len() } else { domains(&count, &looked_at) };
            Constraint { weight: ((size + 2) as f64).ln(), max_skew: spread.max_skew as f64, count }
        };
        let constraints = spreads.into_iter().zip(counts).map(constraint).collect();
        Self { constraints, all_keys }
    }

    /// The lower the better, until normalised.
    pub fn score(&self, slot: usize) -> i64 {
        if self.leaves_out(slot) {
            return 0;
        }
        let of = |constraint: &Constraint| {
            let pods = f64::from(constraint.count.at(slot)?);
            Some(pods * constraint.weight + (constraint.max_skew - 1.0))
        };
        self.constraints.iter().filter_map(of).sum::<f64>().round() as i64
    }

    /// Turns scores round, so that the higher are better.
    pub fn normalize(&self, nodes: &[&NodeInfo], scores: &mut [i64]) {
        let out: Vec<bool> = nodes.iter().map(|node| self.leaves_out(node.slot)).collect();
        let compared = scores.iter().zip(&out).filter(|(_, out)| !**out).map(|(score, _)| *score);
        let (least, most) = compared.fold((i64::MAX, 0), |(l, m), score| (l.min(score), m.max(score)));
        for (score, out) in scores.iter_mut().zip(out) {
            *score = match most {
                _ if out => 0,
                0 => MAX_SCORE,
                _ => MAX_SCORE * (most + least - *score) / most,
            };
        }
    }

    fn leaves_out(&self, slot: usize) -> bool {
        self.all_keys && self.constraints.iter().any(|constraint| constraint.count.at(slot).is_none())
    }
}

/// How many domains these slots are in.
fn domains(count: &Count, slots: &[usize]) -> usize {
    let mut seen = vec![false; count.pods.len()];
    let mut number = 0;
    for slot in slots {
        let domain = count.domains.get(*slot).copied().unwrap_or(Domains::NONE);
        if let Some(seen) = seen.get_mut(domain as usize) {
            number += usize::from(!std::mem::replace(seen, true));
        }
    }
    number
}

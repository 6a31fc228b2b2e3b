//! Which of the nodes on which room can be made.

use std::cmp::Reverse;
use std::sync::Arc;

use super::Victims;
use super::dry_run::started;
use crate::framework::Status;

/// What makes one choice better than another, in this order; the least is best.
type Cost = (usize, i32, i64, usize, Reverse<i64>);

/// The best of these nodes, by slot; among equals the first.
pub fn best(candidates: &[(usize, Arc<Result<Victims, Status>>)]) -> Option<&(usize, Arc<Result<Victims, Status>>)> {
    candidates.iter().filter(|(_, found)| found.is_ok()).min_by_key(|(_, found)| (**found).as_ref().map_or(NEVER, cost))
}

const NEVER: Cost = (usize::MAX, i32::MAX, i64::MAX, usize::MAX, Reverse(i64::MIN));

/// Fewest violated budgets, then the least important victim at the top, the least sum of priorities, the fewest victims,
/// and of the most important victims the latest start of the earliest.
fn cost(victims: &Victims) -> Cost {
    let highest = victims.pods.first().map_or(i32::MIN, |pod| pod.priority);
    // Shifted, so that more victims never cost less than fewer, whatever their priorities.
    let sum = victims.pods.iter().map(|pod| i64::from(pod.priority) + i64::from(i32::MAX) + 1).sum();
    let earliest = victims.pods.iter().filter(|pod| pod.priority == highest).map(|pod| started(pod)).min();
    (victims.violations, highest, sum, victims.pods.len(), Reverse(earliest.unwrap_or(i64::MAX)))
}

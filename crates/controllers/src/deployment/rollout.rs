//! What a deployment decides about the sizes of its replica sets.

use k8s_openapi::api::apps::v1::DeploymentSpec;
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;

use crate::percent::scaled;

/// A replica set, as far as sizes go.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Set {
    pub(crate) name: String,
    /// `spec.replicas`.
    pub(crate) size: i32,
    /// `status.replicas`.
    pub(crate) present: i32,
    /// `status.availableReplicas`.
    pub(crate) available: i32,
    /// The size that the whole deployment should have had when this set was sized last.
    pub(crate) desired: Option<i32>,
    /// The most pods that the deployment could have had when this set was sized last.
    pub(crate) most: Option<i32>,
}

/// The bounds of a rollout in pods.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Bounds {
    pub(crate) replicas: i32,
    pub(crate) max_surge: i32,
    pub(crate) max_unavailable: i32,
}

/// A new size for a set.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Resize {
    pub(crate) name: String,
    pub(crate) size: i32,
}

/// Whether a deployment replaces its pods step by step.
pub(crate) fn is_rolling(spec: &DeploymentSpec) -> bool {
    spec.strategy.as_ref().and_then(|strategy| strategy.type_.as_deref()) != Some("Recreate")
}

impl Bounds {
    /// The bounds of a deployment: surge is rounded up, unavailability down, and one of both is at least one, since
    /// otherwise nothing could ever move.
    pub(crate) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1).max(0);
        if !is_rolling(spec) {
            return Self { replicas, max_surge: 0, max_unavailable: 0 };
        }
        let rolling = spec.strategy.as_ref().and_then(|strategy| strategy.rolling_update.as_ref());
        let quarter = IntOrString::String("25%".to_owned());
        let of = |value: Option<&IntOrString>, up| scaled(value.unwrap_or(&quarter), replicas, up).unwrap_or(0).max(0);
        let max_surge = of(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
        let mut max_unavailable = of(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
        if max_surge == 0 && max_unavailable == 0 {
            max_unavailable = 1;
        }
        Self { replicas, max_surge, max_unavailable: max_unavailable.min(replicas) }
    }

    /// The most pods that there may be.
    pub(crate) fn most(&self) -> i32 {
        self.replicas.saturating_add(self.max_surge)
    }

    /// The fewest pods that must be available.
    pub(crate) fn min_available(&self) -> i32 {
        self.replicas - self.max_unavailable
    }
}

fn total(sets: &[Set]) -> i32 {
    sets.iter().fold(0, |sum, set| sum.saturating_add(set.size))
}

/// The size that the new set may have in a rolling update, while `old` stand beside it.
pub(crate) fn new_size(bounds: Bounds, new: i32, old: &[Set]) -> i32 {
    if new >= bounds.replicas {
        return bounds.replicas;
    }
    let room = bounds.most() - new.saturating_add(total(old));
    new + room.clamp(0, bounds.replicas - new)
}

/// The sizes that the old sets may shrink to in a rolling update: first pods that serve nobody, then as many others as
/// availability allows. `old` is sorted by age.
pub(crate) fn shrink_old(bounds: Bounds, new: &Set, old: &[Set]) -> Vec<Resize> {
    let all = new.size.saturating_add(total(old));
    let spare = all - bounds.min_available() - (new.size - new.available);
    if spare <= 0 || total(old) == 0 {
        return Vec::new();
    }
    let mut sets = old.to_vec();
    let mut left = spare;
    for set in &mut sets {
        let unhealthy = (set.size - set.available).max(0).min(left);
        set.size -= unhealthy;
        left -= unhealthy;
    }
    let available = old.iter().fold(new.available, |sum, set| sum.saturating_add(set.available));
    let mut left = available - bounds.min_available();
    for set in &mut sets {
        let less = set.size.min(left.max(0));
        set.size -= less;
        left -= less;
    }
    let changed = sets.into_iter().zip(old).filter(|(now, was)| now.size != was.size);
    changed.map(|(now, _)| Resize { name: now.name, size: now.size }).collect()
}

/// The sizes after the deployment itself was resized, in the middle of a rollout or not: what is added or removed is
/// shared out in proportion to the sizes that the sets have. `sets` is sorted by age; `new` is among them.
pub(crate) fn rescale(rolling: bool, bounds: Bounds, sets: &[Set], new: Option<&str>) -> Vec<Resize> {
    let active: Vec<&Set> = sets.iter().filter(|set| set.size > 0).collect();
    let resize = |set: &Set, size: i32| Resize { name: set.name.clone(), size };
    let single = match active.as_slice() {
        [] => new.and_then(|new| sets.iter().find(|set| set.name == new)).or(sets.last()),
        [only] => Some(*only),
        _ => None,
    };
    if let Some(single) = single {
        // Of the same size, too: what the deployment wanted is written on the set, and must be what it wants now.
        return vec![resize(single, bounds.replicas)];
    }
    let newest = new.and_then(|new| active.iter().find(|set| set.name == new));
    let saturated = newest.is_some_and(|set| {
        set.size == bounds.replicas && set.desired == Some(bounds.replicas) && set.available == bounds.replicas
    });
    if saturated {
        return active.iter().filter(|set| Some(set.name.as_str()) != new).map(|set| resize(set, 0)).collect();
    }
    if !rolling {
        return active.into_iter().map(|set| resize(set, set.size)).collect();
    }
    let allowed = if bounds.replicas > 0 { bounds.most() } else { 0 };
    let change = allowed - active.iter().map(|set| set.size).sum::<i32>();
    // The largest sets take the most; of equal ones the newer grow first and the older shrink first.
    let mut order: Vec<(usize, &Set)> = active.iter().copied().enumerate().collect();
    order.sort_by(|(at, a), (bt, b)| b.size.cmp(&a.size).then(if change > 0 { bt.cmp(at) } else { at.cmp(bt) }));
    let mut left = change;
    let mut sizes: Vec<(&Set, i32)> = Vec::new();
    for (_, set) in order {
        let share = share(set, bounds);
        let part = if change > 0 { share.clamp(0, left) } else { share.clamp(left, 0) };
        left -= part;
        sizes.push((set, set.size + part));
    }
    if let Some((_, size)) = sizes.first_mut() {
        *size = (*size + left).max(0);
    }
    sizes.into_iter().map(|(set, size)| resize(set, size)).collect()
}

/// By how much a set would change if it kept its proportion of the deployment.
fn share(set: &Set, bounds: Bounds) -> i32 {
    if bounds.replicas == 0 {
        return -set.size;
    }
    let before = set.most.filter(|most| *most > 0).unwrap_or_else(|| bounds.most()).max(1);
    let (size, now, before) = (i64::from(set.size), i64::from(bounds.most()), i64::from(before));
    // Rounded half away from zero.
    let target = (2 * size * now + before) / (2 * before);
    i32::try_from(target).unwrap_or(i32::MAX).saturating_sub(set.size)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn set(name: &str, size: i32, available: i32) -> Set {
        Set { name: name.into(), size, present: size, available, desired: None, most: None }
    }

    fn bounds(replicas: i32, max_surge: i32, max_unavailable: i32) -> Bounds {
        Bounds { replicas, max_surge, max_unavailable }
    }

    #[test]
    fn bounds_round_surge_up_and_unavailability_down() {
        for (replicas, rolling, surge, unavailable) in [
            (10, json!({}), 3, 2),
            (1, json!({}), 1, 0),
            (4, json!({"maxSurge": 0, "maxUnavailable": "10%"}), 0, 1),
            (4, json!({"maxSurge": "50%", "maxUnavailable": 9}), 2, 4),
        ] {
            let spec = serde_json::from_value(json!({
                "replicas": replicas, "selector": {}, "template": {},
                "strategy": {"type": "RollingUpdate", "rollingUpdate": rolling}
            }))
            .unwrap();
            assert_eq!(Bounds::of(&spec), bounds(replicas, surge, unavailable));
        }
    }

    #[test]
    fn the_new_set_grows_into_the_room_that_there_is() {
        for (bounds, new, old, expected) in [
            (bounds(10, 3, 2), 0, vec![set("o", 10, 10)], 3),
            (bounds(10, 3, 2), 3, vec![set("o", 8, 8)], 5),
            (bounds(10, 0, 1), 0, vec![set("o", 10, 10)], 0),
            (bounds(10, 0, 1), 0, vec![], 10),
            (bounds(3, 1, 0), 5, vec![], 3),
            (bounds(10, 0, 1), 4, vec![set("o", 20, 20)], 4),
        ] {
            assert_eq!(new_size(bounds, new, &old), expected);
        }
    }

    #[test]
    fn old_sets_shrink_by_what_is_unhealthy_and_then_by_what_is_spare() {
        for (bounds, new, old, expected) in [
            // Ten old, the new ones not available yet: two may go.
            (bounds(10, 3, 2), set("n", 3, 0), vec![set("o", 10, 10)], vec![("o", 8)]),
            // Everything is needed.
            (bounds(10, 3, 0), set("n", 3, 0), vec![set("o", 10, 10)], vec![]),
            // Three new are available: three old may go.
            (bounds(10, 3, 0), set("n", 3, 3), vec![set("o", 10, 10)], vec![("o", 7)]),
            // Old pods that never worked go first, from the oldest on.
            (bounds(10, 0, 2), set("n", 0, 0), vec![set("a", 4, 0), set("b", 6, 6)], vec![("a", 2)]),
            (bounds(2, 1, 0), set("n", 2, 2), vec![set("o", 1, 1)], vec![("o", 0)]),
            (bounds(2, 1, 0), set("n", 2, 2), vec![set("o", 0, 0)], vec![]),
        ] {
            let sizes = shrink_old(bounds, &new, &old);
            let sizes: Vec<_> = sizes.iter().map(|resize| (resize.name.as_str(), resize.size)).collect();
            assert_eq!(sizes, expected);
        }
    }

    #[test]
    fn a_resize_is_shared_out_in_proportion() {
        let sized = |name: &str, size, available, desired, most| Set {
            desired: Some(desired),
            most: Some(most),
            ..set(name, size, available)
        };
        for (bounds, sets, new, expected) in [
            (bounds(5, 1, 0), vec![set("a", 3, 3)], Some("a"), vec![("a", 5)]),
            (bounds(5, 1, 0), vec![set("a", 5, 5)], Some("a"), vec![("a", 5)]),
            (bounds(5, 1, 0), vec![set("a", 0, 0), set("b", 0, 0)], Some("b"), vec![("b", 5)]),
            // In the middle of a rollout of 10 (+2): doubled to 20 (+4).
            (
                bounds(20, 4, 0),
                vec![sized("a", 8, 8, 10, 12), sized("b", 4, 4, 10, 12)],
                Some("b"),
                vec![("a", 16), ("b", 8)],
            ),
            (
                bounds(5, 1, 0),
                vec![sized("a", 8, 8, 10, 12), sized("b", 4, 4, 10, 12)],
                Some("b"),
                vec![("a", 4), ("b", 2)],
            ),
            (
                bounds(0, 0, 0),
                vec![sized("a", 8, 8, 10, 12), sized("b", 4, 4, 10, 12)],
                Some("b"),
                vec![("a", 0), ("b", 0)],
            ),
            // The new set is whole: the old ones go.
            (bounds(4, 1, 0), vec![sized("a", 2, 2, 4, 5), sized("b", 4, 4, 4, 5)], Some("b"), vec![("a", 0)]),
        ] {
            let sizes = rescale(true, bounds, &sets, new);
            let sizes: Vec<_> = sizes.iter().map(|resize| (resize.name.as_str(), resize.size)).collect();
            assert_eq!(sizes, expected);
        }
    }
}

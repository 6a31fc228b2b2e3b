//! How fast nodes of a zone may lose their pods. When many nodes fall silent at once it is rather the network, or
//! ourselves, that has failed: moving all pods would make it worse.

use std::collections::HashMap;

use jiff::Timestamp;

/// Seconds between two nodes that lose their pods.
const NORMAL: i64 = 10;
/// The same in a zone of which most nodes are silent.
const DISRUPTED: i64 = 100;
/// From this share of silent nodes on, a zone is disrupted.
const UNHEALTHY: f64 = 0.55;
/// A smaller zone that is disrupted loses no pods at all.
const LARGE: usize = 50;

/// The nodes of all zones, and when the last of each lost its pods.
#[derive(Default)]
pub(crate) struct Zones {
    nodes: HashMap<String, (String, bool)>,
    last: HashMap<String, Timestamp>,
    /// The silent nodes that have leave already.
    granted: HashMap<String, ()>,
}

/// How a zone is doing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Health {
    Normal,
    Partial { size: usize },
    Full,
}

fn health(ready: usize, silent: usize) -> Health {
    #[allow(clippy::cast_precision_loss)]
    let share = silent as f64 / (ready + silent).max(1) as f64;
    if ready == 0 && silent > 0 {
        Health::Full
    } else if silent > 2 && share >= UNHEALTHY {
        Health::Partial { size: ready + silent }
    } else {
        Health::Normal
    }
}

/// Seconds between two nodes that lose their pods; `None` when none may.
fn pace(zone: Health, all_full: bool) -> Option<i64> {
    match zone {
        _ if all_full => None,
        Health::Normal | Health::Full => Some(NORMAL),
        Health::Partial { size } if size > LARGE => Some(DISRUPTED),
        Health::Partial { .. } => None,
    }
}

impl Zones {
    /// Takes a node's state in. Gives whether it may lose its pods now, and if not, in how many seconds to ask again.
    pub(crate) fn see(&mut self, zone: &str, node: &str, ready: bool, now: Timestamp) -> (bool, Option<i64>) {
        self.nodes.insert(node.to_owned(), (zone.to_owned(), ready));
        if ready {
            self.granted.remove(node);
            return (false, None);
        }
        if self.granted.contains_key(node) {
            return (true, None);
        }
        let all_full = !self.nodes.values().any(|(_, ready)| *ready);
        let Some(pace) = pace(self.health(zone), all_full) else { return (false, Some(NORMAL)) };
        let free = self.last.get(zone).map_or(0, |last| last.as_second() + pace - now.as_second());
        if free > 0 {
            return (false, Some(free));
        }
        self.last.insert(zone.to_owned(), now);
        self.granted.insert(node.to_owned(), ());
        (true, None)
    }

    /// The node is gone.
    pub(crate) fn forget(&mut self, node: &str) {
        self.nodes.remove(node);
        self.granted.remove(node);
    }

    fn health(&self, zone: &str) -> Health {
        let of_zone = || self.nodes.values().filter(|(of, _)| of == zone);
        let ready = of_zone().filter(|(_, ready)| *ready).count();
        health(ready, of_zone().count() - ready)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_zone_is_judged_by_the_share_of_its_silent_nodes() {
        for (ready, silent, expected) in [
            (10, 0, Health::Normal),
            (1, 2, Health::Normal),
            (4, 6, Health::Partial { size: 10 }),
            (6, 4, Health::Normal),
            (0, 3, Health::Full),
            (0, 0, Health::Normal),
        ] {
            assert_eq!(health(ready, silent), expected);
        }
        assert_eq!(pace(Health::Partial { size: 10 }, false), None);
        assert_eq!(pace(Health::Partial { size: 100 }, false), Some(DISRUPTED));
        assert_eq!(pace(Health::Full, false), Some(NORMAL));
        assert_eq!(pace(Health::Full, true), None);
    }

    #[test]
    fn nodes_lose_their_pods_one_after_the_other() {
        let at = |second: i64| Timestamp::from_second(1_000 + second).unwrap();
        let mut zones = Zones::default();
        for node in ["a", "b", "c", "d"] {
            assert_eq!(zones.see("z", node, true, at(0)), (false, None));
        }
        assert_eq!(zones.see("z", "a", false, at(1)), (true, None));
        assert_eq!(zones.see("z", "b", false, at(4)), (false, Some(7)));
        assert_eq!(zones.see("z", "a", false, at(4)), (true, None));
        assert_eq!(zones.see("z", "b", false, at(11)), (true, None));
    }

    #[test]
    fn when_all_nodes_are_silent_nothing_moves() {
        let mut zones = Zones::default();
        assert_eq!(zones.see("z", "a", false, Timestamp::UNIX_EPOCH), (false, Some(NORMAL)));
    }
}

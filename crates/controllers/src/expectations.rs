//! What a controller has asked for and not yet seen: its informer is a little behind its own writes, and deciding on
//! the old picture would create or delete twice.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;
use trireme_client::Change;

/// After this long an event has been missed, and what the informer shows is the truth.
const FORGET: Duration = Duration::from_secs(300);

/// Creations and deletions on their way, by the owner's uid.
#[derive(Default)]
pub(crate) struct Expectations {
    by_owner: Mutex<HashMap<String, Expected>>,
}

struct Expected {
    creations: usize,
    deletions: HashSet<String>,
    since: Instant,
}

impl Expectations {
    /// Whether everything that was asked for has been seen.
    pub(crate) fn met(&self, owner: &str) -> bool {
        let mut by_owner = self.by_owner.lock();
        let Some(expected) = by_owner.get(owner) else { return true };
        let met = expected.creations == 0 && expected.deletions.is_empty() || expected.since.elapsed() > FORGET;
        if met {
            by_owner.remove(owner);
        }
        met
    }

    /// Announces creations, before they are asked for.
    pub(crate) fn creations(&self, owner: &str, count: usize) {
        self.expect(owner, |expected| expected.creations += count);
    }

    /// Announces a deletion, before it is asked for.
    pub(crate) fn deletion(&self, owner: &str, uid: &str) {
        self.expect(owner, |expected| {
            expected.deletions.insert(uid.to_owned());
        });
    }

    /// A creation was seen, or will not happen.
    pub(crate) fn created(&self, owner: &str) {
        if let Some(expected) = self.by_owner.lock().get_mut(owner) {
            expected.creations = expected.creations.saturating_sub(1);
        }
    }

    /// A deletion was seen, or will not happen.
    pub(crate) fn deleted(&self, owner: &str, uid: &str) {
        if let Some(expected) = self.by_owner.lock().get_mut(owner) {
            expected.deletions.remove(uid);
        }
    }

    /// The owner is gone.
    pub(crate) fn forget(&self, owner: &str) {
        self.by_owner.lock().remove(owner);
    }

    /// Looks at a change of an owned object. An object that is being deleted counts as deleted already.
    pub(crate) fn observe<K>(&self, change: &Change<K>) {
        let Some(latest) = change.latest() else { return };
        let Some(owner) = &latest.meta.controller else { return };
        let replaced = match (&change.old, &change.new) {
            (Some(old), Some(new)) => old.meta.uid != new.meta.uid,
            _ => false,
        };
        if replaced && let Some(old) = &change.old {
            self.deleted(&owner.uid, &old.meta.uid);
        }
        if change.new.is_some() && (change.old.is_none() || replaced) {
            self.created(&owner.uid);
        }
        if change.new.is_none() || latest.meta.deleting {
            self.deleted(&owner.uid, &latest.meta.uid);
        }
    }

    fn expect(&self, owner: &str, change: impl FnOnce(&mut Expected)) {
        let mut by_owner = self.by_owner.lock();
        let expected = by_owner.entry(owner.to_owned()).or_insert_with(|| Expected {
            creations: 0,
            deletions: HashSet::new(),
            since: Instant::now(),
        });
        expected.since = Instant::now();
        change(expected);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn expectations_hold_until_seen_or_forgotten() {
        let expectations = Expectations::default();
        assert!(expectations.met("a"));
        expectations.creations("a", 2);
        expectations.deletion("a", "p");
        expectations.created("a");
        assert!(!expectations.met("a"));
        expectations.created("a");
        assert!(!expectations.met("a"));
        expectations.deleted("a", "p");
        assert!(expectations.met("a"));
        expectations.creations("a", 1);
        tokio::time::advance(FORGET + Duration::from_secs(1)).await;
        assert!(expectations.met("a"));
    }
}

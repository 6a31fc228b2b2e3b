use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;

use crate::framework::ClusterEvent;

/// What happened since attempts began that have not ended, so that a change during an attempt is not lost.
#[derive(Default)]
pub struct InFlight {
    events: VecDeque<Arc<ClusterEvent>>,
    /// The number of the first event that is kept.
    first: u64,
    /// How many attempts began at which number.
    begun: BTreeMap<u64, usize>,
}

impl InFlight {
    /// How many events are kept. An attempt that missed some is taken to be helped by them.
    const KEPT: usize = 10_000;

    /// An attempt begins; gives the number with which it ends.
    pub fn begin(&mut self) -> u64 {
        let now = self.first + self.events.len() as u64;
        *self.begun.entry(now).or_default() += 1;
        now
    }

    /// An attempt ends.
    pub fn end(&mut self, begun: u64) {
        if let Some(count) = self.begun.get_mut(&begun) {
            *count -= 1;
            if *count == 0 {
                self.begun.remove(&begun);
            }
        }
        let needed = self.begun.first_key_value().map_or(u64::MAX, |(begun, _)| *begun);
        while self.first < needed && self.events.pop_front().is_some() {
            self.first += 1;
        }
    }

    /// Something happened.
    pub fn push(&mut self, event: &Arc<ClusterEvent>) {
        if self.begun.is_empty() {
            return;
        }
        if self.events.len() == Self::KEPT {
            self.events.pop_front();
            self.first += 1;
        }
        self.events.push_back(Arc::clone(event));
    }

    /// What happened since an attempt began; `None` when not all of it is known any more.
    pub fn since(&self, begun: u64) -> Option<impl Iterator<Item = &Arc<ClusterEvent>>> {
        let skip = usize::try_from(begun.checked_sub(self.first)?).ok()?;
        Some(self.events.iter().skip(skip))
    }

    /// How many events are kept.
    pub fn len(&self) -> usize {
        self.events.len()
    }
}

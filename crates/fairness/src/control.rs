//! All levels together, and the moving of seats between them.

use crate::allocation::{Shares, allocate, bounds};
use crate::level::Level;
use crate::{Bounds, Spec};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;

/// What levels have in common.
pub(crate) struct Shared {
    total: u32,
    /// Requests that wait at any level.
    pub(crate) waiting: AtomicUsize,
    levels: Mutex<Vec<Arc<Level>>>,
}

impl Shared {
    /// Moves seats from levels that do not need them to those that do.
    pub(crate) fn rebalance(&self) {
        let levels = self.levels.lock();
        let wanted: Vec<(Bounds, u32)> = levels
            .iter()
            .map(|level| {
                let state = level.state.lock();
                (state.bounds, if state.exempt { 0 } else { state.demand() })
            })
            .collect();
        for (level, limit) in levels.iter().zip(allocate(self.total, &wanted)) {
            let mut state = level.state.lock();
            state.limit = limit;
            level.dispatch(&mut state);
        }
    }
}

/// The seats of a server.
pub struct Control {
    shared: Arc<Shared>,
}

impl Control {
    /// So many seats, and no levels yet.
    pub fn new(total: u32) -> Self {
        Self { shared: Arc::new(Shared { total, waiting: AtomicUsize::new(0), levels: Mutex::default() }) }
    }

    /// Sets the levels. Those that stay keep who runs and waits; of those that are gone the requests run to their end.
    pub fn set(&self, specs: &BTreeMap<String, Spec>) -> BTreeMap<String, Arc<Level>> {
        let shares: Vec<Shares> = specs
            .values()
            .map(|spec| match spec {
                Spec::Limited { shares, .. } => *shares,
                Spec::Exempt => Shares::default(),
            })
            .collect();
        let mut levels = self.shared.levels.lock();
        let old: BTreeMap<String, Arc<Level>> = levels.iter().map(|l| (l.name().to_owned(), l.clone())).collect();
        let mut new = BTreeMap::new();
        for ((name, spec), bounds) in specs.iter().zip(bounds(self.shared.total, &shares)) {
            let level = match old.get(name) {
                Some(level) => {
                    level.change(spec, bounds);
                    level.clone()
                }
                None => Arc::new(Level::new(name, spec, bounds, self.shared.clone())),
            };
            new.insert(name.clone(), level);
        }
        *levels = new.values().cloned().collect();
        new
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Queuing, Refused};
    use std::time::Duration;

    fn limited(nominal: u32, lendable_percent: u32, queuing: Option<Queuing>) -> Spec {
        Spec::Limited { shares: Shares { nominal, lendable_percent, borrowing_percent: None }, queuing }
    }

    fn levels(total: u32, specs: &[(&str, Spec)]) -> BTreeMap<String, Arc<Level>> {
        Control::new(total).set(&specs.iter().map(|(n, s)| ((*n).to_owned(), *s)).collect())
    }

    const QUEUES: Option<Queuing> = Some(Queuing { queues: 8, hand: 2, length: 2 });
    const SOON: Duration = Duration::from_millis(20);

    #[tokio::test]
    async fn who_finds_no_seat_waits_until_one_is_free() {
        let all = levels(1, &[("a", limited(1, 0, QUEUES))]);
        let level = &all["a"];
        let first = level.enter(1, 1, SOON).await.unwrap();
        let second = tokio::spawn({
            let level = level.clone();
            async move { level.enter(2, 1, Duration::from_secs(5)).await.is_ok() }
        });
        while level.numbers().waiting == 0 {
            tokio::task::yield_now().await;
        }
        assert_eq!(level.numbers().running, 1);
        drop(first);
        assert!(second.await.unwrap());
        assert_eq!(level.numbers().used, 0);
    }

    #[tokio::test]
    async fn who_waits_too_long_or_finds_no_queue_is_refused() {
        let all = levels(2, &[("a", limited(1, 0, QUEUES)), ("b", limited(1, 0, None))]);
        let _held = all["a"].enter(1, 1, SOON).await.unwrap();
        assert_eq!(all["a"].enter(1, 1, SOON).await.err(), Some(Refused::TimedOut));
        let _other = all["b"].enter(1, 1, SOON).await.unwrap();
        assert_eq!(all["b"].enter(1, 1, SOON).await.err(), Some(Refused::ConcurrencyLimit));
        let waits: Vec<_> = (0..4)
            .map(|_| {
                tokio::spawn({
                    let level = all["a"].clone();
                    async move { level.enter(1, 1, Duration::from_secs(5)).await.is_ok() }
                })
            })
            .collect();
        while all["a"].numbers().waiting < 4 {
            tokio::task::yield_now().await;
        }
        assert_eq!(all["a"].enter(1, 1, SOON).await.err(), Some(Refused::QueueFull));
        drop(_held);
        for wait in waits {
            assert!(wait.await.unwrap());
        }
    }

    #[tokio::test]
    async fn a_busy_level_borrows_what_an_idle_one_lends() {
        let all = levels(10, &[("busy", limited(5, 0, QUEUES)), ("idle", limited(5, 60, QUEUES))]);
        let mut held = Vec::new();
        for flow in 0..8 {
            held.push(all["busy"].enter(flow, 1, SOON).await.unwrap());
        }
        assert_eq!(all["busy"].enter(9, 1, SOON).await.err(), Some(Refused::TimedOut));
        // What was not lent is there at once.
        let own = all["idle"].enter(1, 2, SOON).await.unwrap();
        drop((held, own));
        assert_eq!(all["busy"].numbers().used, 0);
    }

    #[tokio::test]
    async fn the_exempt_never_wait() {
        let all = levels(1, &[("e", Spec::Exempt), ("a", limited(1, 0, None))]);
        let mut held = Vec::new();
        for _ in 0..100 {
            held.push(all["e"].enter(0, 1, SOON).await.unwrap());
        }
        assert!(all["a"].enter(0, 1, SOON).await.is_ok());
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn seats_are_never_lost() {
        let all = levels(6, &[("a", limited(2, 50, QUEUES)), ("b", limited(4, 50, QUEUES))]);
        let mut tasks = Vec::new();
        for n in 0..400_u64 {
            let level = all[if n % 3 == 0 { "a" } else { "b" }].clone();
            tasks.push(tokio::spawn(async move {
                if let Ok(permit) = level.enter(n % 17, 1 + (n % 2) as u32, Duration::from_millis(n % 5)).await {
                    tokio::task::yield_now().await;
                    drop(permit);
                }
            }));
        }
        for task in tasks {
            task.await.unwrap();
        }
        for level in all.values() {
            assert_eq!((level.numbers().used, level.numbers().running), (0, 0), "{}", level.name());
            assert!(level.enter(1, 1, Duration::from_secs(1)).await.is_ok());
        }
    }
}

//! Queues that flows are dealt, and the order in which they are served.

use std::collections::VecDeque;

/// How requests of a level wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Queuing {
    /// Queues in all.
    pub queues: usize,
    /// Queues that a flow is dealt.
    pub hand: usize,
    /// Requests in a queue at most.
    pub length: usize,
}

/// Something that waits, with the seats that it needs.
pub(crate) struct Entry<T> {
    pub(crate) seats: u32,
    pub(crate) item: T,
}

struct Queue<T> {
    entries: VecDeque<Entry<T>>,
    /// When, in virtual time, the last request taken from it will have had its part.
    finish: f64,
}

/// The queues of a level.
pub(crate) struct Queues<T> {
    how: Queuing,
    queues: Vec<Queue<T>>,
    waiting: usize,
    seats: u32,
    /// Virtual time: the start of what was taken last.
    now: f64,
}

/// What a request is taken to need before it is known: seconds.
const GUESS: f64 = 0.003;

impl<T> Queues<T> {
    pub(crate) fn new(how: Queuing) -> Self {
        let queue = || Queue { entries: VecDeque::new(), finish: 0.0 };
        Self { how, queues: (0..how.queues.max(1)).map(|_| queue()).collect(), waiting: 0, seats: 0, now: 0.0 }
    }

    pub(crate) fn how(&self) -> Queuing {
        self.how
    }

    /// Requests that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.waiting
    }

    /// Seats that those need.
    pub(crate) fn seats(&self) -> u32 {
        self.seats
    }

    /// Puts a request into the shortest queue of its flow's hand; gives it back when that is full of what still waits.
    pub(crate) fn push(
        &mut self,
        flow: u64,
        entry: Entry<T>,
        still_waits: impl Fn(&T) -> bool,
    ) -> Result<(), Entry<T>> {
        let hand = deal(flow, self.queues.len(), self.how.hand);
        let load = |i: &usize| self.queues.get(*i).map_or(u32::MAX, |q| q.entries.iter().map(|e| e.seats).sum());
        let Some(chosen) = hand.into_iter().min_by_key(load) else { return Err(entry) };
        let Some(queue) = self.queues.get_mut(chosen) else { return Err(entry) };
        if queue.entries.len() >= self.how.length {
            let (before, seats) = (queue.entries.len(), queue.entries.iter().map(|e| e.seats).sum::<u32>());
            queue.entries.retain(|e| still_waits(&e.item));
            self.waiting -= before - queue.entries.len();
            self.seats -= seats - queue.entries.iter().map(|e| e.seats).sum::<u32>();
            if queue.entries.len() >= self.how.length {
                return Err(entry);
            }
        }
        if queue.entries.is_empty() {
            queue.finish = queue.finish.max(self.now);
        }
        self.waiting += 1;
        self.seats += entry.seats;
        queue.entries.push_back(entry);
        Ok(())
    }

    /// The queue whose turn it is: the one whose part is the furthest behind.
    fn next(&self) -> Option<usize> {
        let busy = self.queues.iter().enumerate().filter(|(_, q)| !q.entries.is_empty());
        busy.min_by(|(_, a), (_, b)| a.finish.total_cmp(&b.finish)).map(|(i, _)| i)
    }

    /// The seats of the request whose turn it is.
    pub(crate) fn next_seats(&self) -> Option<u32> {
        self.queues.get(self.next()?)?.entries.front().map(|e| e.seats)
    }

    /// Takes the request whose turn it is, and tells its queue.
    pub(crate) fn pop(&mut self) -> Option<(usize, Entry<T>)> {
        let i = self.next()?;
        let queue = self.queues.get_mut(i)?;
        let entry = queue.entries.pop_front()?;
        self.now = queue.finish;
        queue.finish += GUESS * f64::from(entry.seats);
        self.waiting -= 1;
        self.seats -= entry.seats;
        Some((i, entry))
    }

    /// Puts right what a queue was charged, when a request from it has taken so many seconds.
    pub(crate) fn done(&mut self, queue: usize, seats: u32, took: f64) {
        if let Some(queue) = self.queues.get_mut(queue) {
            queue.finish += (took - GUESS) * f64::from(seats);
        }
    }

    /// All that waits, when there are no such queues any longer.
    pub(crate) fn drain(&mut self) -> impl Iterator<Item = Entry<T>> {
        (self.waiting, self.seats) = (0, 0);
        self.queues.iter_mut().flat_map(|q| q.entries.drain(..))
    }
}

/// The queues of a flow: `hand` different ones of `queues`, by its hash (shuffle sharding).
fn deal(hash: u64, queues: usize, hand: usize) -> Vec<usize> {
    let mut dealt: Vec<usize> = Vec::with_capacity(hand.min(queues));
    let mut rest = hash;
    for taken in 0..hand.min(queues) {
        let left = (queues - taken) as u64;
        let mut card = (rest % left) as usize;
        rest /= left;
        // Cards that are dealt are no longer in the deck.
        let mut sorted = dealt.clone();
        sorted.sort_unstable();
        for before in sorted {
            if before <= card {
                card += 1;
            }
        }
        dealt.push(card);
    }
    dealt
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hand_has_different_queues() {
        for hash in [0, 1, 12345, u64::MAX, 0xdead_beef_cafe] {
            let mut hand = deal(hash, 16, 6);
            assert!(hand.iter().all(|q| *q < 16));
            hand.sort_unstable();
            hand.dedup();
            assert_eq!(hand.len(), 6, "{hash}");
        }
        assert_eq!(deal(7, 2, 5).len(), 2);
    }

    #[test]
    fn a_flow_of_few_passes_a_flow_of_many() {
        let mut queues = Queues::new(Queuing { queues: 64, hand: 1, length: 100 });
        let entry = |item| Entry { seats: 1, item };
        (0..50).for_each(|_| assert!(queues.push(1, entry("elephant"), |_| true).is_ok()));
        (0..10).for_each(|_| assert!(queues.pop().is_some()));
        assert!(queues.push(2, entry("mouse"), |_| true).is_ok());
        let order: Vec<&str> = (0..3).filter_map(|_| queues.pop()).map(|(_, e)| e.item).collect();
        assert!(order.contains(&"mouse"), "{order:?}");
    }

    #[test]
    fn a_full_queue_forgets_those_who_left_and_then_refuses() {
        let mut queues = Queues::new(Queuing { queues: 1, hand: 1, length: 2 });
        let entry = |item| Entry { seats: 2, item };
        assert!(queues.push(1, entry(1), |_| true).is_ok() && queues.push(1, entry(2), |_| true).is_ok());
        assert!(queues.push(1, entry(3), |_| true).is_err());
        assert!(queues.push(1, entry(3), |item| *item != 1).is_ok());
        assert_eq!((queues.waiting(), queues.seats()), (2, 4));
        assert_eq!(queues.pop().map(|(_, e)| e.item), Some(2));
    }
}

//! Answers of services elsewhere, kept for a while.

use parking_lot::Mutex;
use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

/// Answers by question. Each has its own time to live; when there are too many, those that have expired go, and then all.
pub(crate) struct Remembered<K, V> {
    answers: Mutex<HashMap<K, (Instant, V)>>,
    most: usize,
}

impl<K: Eq + Hash, V: Clone> Remembered<K, V> {
    /// Room for so many.
    pub(crate) fn new(most: usize) -> Self {
        Self { answers: Mutex::default(), most }
    }

    /// What was answered, unless it has expired.
    pub(crate) fn get(&self, question: &K) -> Option<V> {
        let now = Instant::now();
        self.answers.lock().get(question).filter(|(until, _)| *until > now).map(|(_, answer)| answer.clone())
    }

    /// Keeps an answer; for no time at all, it does not.
    pub(crate) fn keep(&self, question: K, answer: V, life: Duration) {
        if life.is_zero() {
            return;
        }
        let now = Instant::now();
        let Some(until) = now.checked_add(life) else { return };
        let mut answers = self.answers.lock();
        if answers.len() >= self.most {
            answers.retain(|_, (until, _)| *until > now);
            if answers.len() >= self.most {
                answers.clear();
            }
        }
        answers.insert(question, (until, answer));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_has_expired_is_forgotten() {
        let answers = Remembered::new(2);
        answers.keep(1, "a", Duration::from_secs(60));
        answers.keep(2, "b", Duration::ZERO);
        answers.keep(3, "c", Duration::from_nanos(1));
        std::thread::yield_now();
        assert_eq!((answers.get(&1), answers.get(&2), answers.get(&3)), (Some("a"), None, None));
        // The one that expired makes room.
        answers.keep(4, "d", Duration::from_secs(60));
        assert_eq!((answers.get(&1), answers.get(&4)), (Some("a"), Some("d")));
    }
}

//! A priority level: who runs, who waits.

use crate::control::Shared;
use crate::queues::{Entry, Queues};
use crate::{Bounds, Spec};
use parking_lot::Mutex;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// Why a request is not let in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// All seats are taken, and nobody waits at this level.
    ConcurrencyLimit,
    /// The queues of its flow are full.
    QueueFull,
    /// It has waited too long.
    TimedOut,
}

/// What a level does now.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Its bounds.
    pub bounds: Bounds,
    /// Its seats now.
    pub limit: u32,
    /// Seats that are taken.
    pub used: u32,
    /// Requests that run.
    pub running: u32,
    /// Requests that wait.
    pub waiting: usize,
}

/// A priority level.
pub struct Level {
    name: String,
    shared: Arc<Shared>,
    pub(crate) state: Mutex<State>,
}

pub(crate) struct State {
    pub(crate) exempt: bool,
    pub(crate) bounds: Bounds,
    pub(crate) limit: u32,
    used: u32,
    running: u32,
    queues: Option<Queues<oneshot::Sender<Permit>>>,
}

impl State {
    /// Seats that are taken or waited for.
    pub(crate) fn demand(&self) -> u32 {
        self.used + self.queues.as_ref().map_or(0, Queues::seats)
    }

    fn has_room(&self, seats: u32) -> bool {
        self.used + seats <= self.limit || self.used == 0
    }
}

/// The right to run; ends when it is dropped.
pub struct Permit {
    level: Arc<Level>,
    seats: u32,
    queue: Option<usize>,
    since: Instant,
    /// Its seats have been given back already.
    spent: bool,
}

impl Level {
    pub(crate) fn new(name: &str, spec: &Spec, bounds: Bounds, shared: Arc<Shared>) -> Self {
        let queues = match spec {
            Spec::Limited { queuing: Some(how), .. } => Some(Queues::new(*how)),
            _ => None,
        };
        let exempt = *spec == Spec::Exempt;
        let state = State { exempt, bounds, limit: bounds.nominal, used: 0, running: 0, queues };
        Self { name: name.to_owned(), shared, state: Mutex::new(state) }
    }

    /// The level's name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Takes up a changed specification; what waits in queues that are no more runs.
    pub(crate) fn change(self: &Arc<Self>, spec: &Spec, bounds: Bounds) {
        let mut state = self.state.lock();
        state.exempt = *spec == Spec::Exempt;
        state.bounds = bounds;
        state.limit = bounds.nominal;
        let how = match spec {
            Spec::Limited { queuing, .. } => *queuing,
            Spec::Exempt => None,
        };
        if state.queues.as_ref().map(Queues::how) != how {
            let old = std::mem::replace(&mut state.queues, how.map(Queues::new));
            if let Some(mut old) = old {
                self.shared.waiting.fetch_sub(old.waiting(), Ordering::Relaxed);
                for Entry { seats, item } in old.drain() {
                    let permit = self.permit(&mut state, seats, None);
                    hand_over(&mut state, item, permit);
                }
            }
        }
    }

    fn permit(self: &Arc<Self>, state: &mut State, seats: u32, queue: Option<usize>) -> Permit {
        state.used += seats;
        state.running += 1;
        Permit { level: self.clone(), seats, queue, since: Instant::now(), spent: false }
    }

    /// Lets a request of a flow in that needs so many seats, at once or when it is its turn.
    ///
    /// # Errors
    /// When it cannot wait, or has waited for `patience`.
    pub async fn enter(self: &Arc<Self>, flow: u64, seats: u32, patience: Duration) -> Result<Permit, Refused> {
        let waits = {
            let mut state = self.state.lock();
            let seats = seats.clamp(1, state.bounds.most.max(1));
            let free =
                state.exempt || (state.has_room(seats) && state.queues.as_ref().is_none_or(|q| q.waiting() == 0));
            if free {
                return Ok(self.permit(&mut state, seats, None));
            }
            let Some(queues) = &mut state.queues else {
                drop(state);
                // It may be that others have seats to lend for the next one.
                self.shared.rebalance();
                return self.second(seats);
            };
            let (sender, receiver) = oneshot::channel();
            let before = queues.waiting();
            let pushed = queues.push(flow, Entry { seats, item: sender }, |s| !s.is_closed());
            let gone = before + usize::from(pushed.is_ok()) - queues.waiting();
            self.shared.waiting.fetch_add(usize::from(pushed.is_ok()), Ordering::Relaxed);
            self.shared.waiting.fetch_sub(gone, Ordering::Relaxed);
            pushed.map(|()| receiver).map_err(|_| Refused::QueueFull)
        };
        self.shared.rebalance();
        match tokio::time::timeout(patience, waits?).await {
            Ok(Ok(permit)) => Ok(permit),
            Ok(Err(_)) | Err(_) => Err(Refused::TimedOut),
        }
    }

    /// One more try after seats may have moved.
    fn second(self: &Arc<Self>, seats: u32) -> Result<Permit, Refused> {
        let mut state = self.state.lock();
        if state.has_room(seats) { Ok(self.permit(&mut state, seats, None)) } else { Err(Refused::ConcurrencyLimit) }
    }

    /// Lets in who waits, while there are seats.
    pub(crate) fn dispatch(self: &Arc<Self>, state: &mut State) {
        while let Some(seats) = state.queues.as_ref().and_then(Queues::next_seats) {
            if !state.has_room(seats) {
                break;
            }
            let Some((queue, entry)) = state.queues.as_mut().and_then(Queues::pop) else { break };
            self.shared.waiting.fetch_sub(1, Ordering::Relaxed);
            if entry.item.is_closed() {
                continue;
            }
            let permit = self.permit(state, seats, Some(queue));
            hand_over(state, entry.item, permit);
        }
    }

    /// What it does now.
    pub fn numbers(&self) -> Numbers {
        let state = self.state.lock();
        Numbers {
            bounds: state.bounds,
            limit: state.limit,
            used: state.used,
            running: state.running,
            waiting: state.queues.as_ref().map_or(0, Queues::waiting),
        }
    }
}

/// Gives a permit to who waits for it. When he has just left, the seats are free again; the level's lock is held here, so
/// that the permit must not take it when it is dropped.
fn hand_over(state: &mut State, to: oneshot::Sender<Permit>, permit: Permit) {
    if let Err(mut permit) = to.send(permit) {
        state.used -= permit.seats;
        state.running -= 1;
        permit.spent = true;
    }
}

impl Permit {
    /// The seats.
    pub fn seats(&self) -> u32 {
        self.seats
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        if self.spent {
            return;
        }
        let spare = {
            let mut state = self.level.state.lock();
            state.used -= self.seats;
            state.running -= 1;
            let took = self.since.elapsed().as_secs_f64();
            if let (Some(queue), Some(queues)) = (self.queue, &mut state.queues) {
                queues.done(queue, self.seats, took);
            }
            self.level.dispatch(&mut state);
            state.used < state.limit
        };
        if spare && self.level.shared.waiting.load(Ordering::Relaxed) > 0 {
            self.level.shared.rebalance();
        }
    }
}

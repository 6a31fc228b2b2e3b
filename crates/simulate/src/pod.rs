//! A pod as a machine: what has become of its containers by a time. It knows no clock, no server and no specification.

use crate::script::Script;
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use trireme_node::Backoff;

/// The exit code of a program that was killed since it did not stop (128 and SIGKILL).
const KILLED: i32 = 137;

/// A pod on a node.
#[derive(Clone, Debug)]
pub(crate) struct Pod {
    script: Script,
    /// When the node took it.
    pub(crate) taken: Timestamp,
    pub(crate) stage: Stage,
    /// When its init containers were done with and its others started.
    pub(crate) started: Option<Timestamp>,
    /// Its main containers, in their order.
    pub(crate) containers: Box<[Container]>,
}

/// How far a pod is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Stage {
    /// Its containers start at a time.
    Starting { at: Timestamp },
    /// They have started.
    Running,
    /// All have ended, and none is started again.
    Over { at: Timestamp },
    /// It was told to end: its containers do so at a time.
    Stopping { at: Timestamp, code: i32 },
    /// It was told to end, and nothing of it runs.
    Stopped { at: Timestamp },
}

/// A main container.
#[derive(Clone, Debug, Default)]
pub(crate) struct Container {
    probes: Probes,
    /// How often it was started again.
    pub(crate) attempt: u32,
    pub(crate) backoff: Backoff,
    pub(crate) state: State,
    /// How it ended before.
    pub(crate) last: Option<End>,
}

/// How long after its start a container is seen to have started, and to be ready.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Probes {
    pub(crate) startup: Duration,
    pub(crate) readiness: Duration,
}

/// The state of a container.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// It has not been started.
    #[default]
    Waiting,
    Running {
        since: Timestamp,
        /// When it ends by itself, and with which exit code.
        ends: Option<(Timestamp, i32)>,
        started: bool,
        ready: bool,
    },
    /// It has ended and is started again at a time.
    Paused {
        end: End,
        until: Timestamp,
    },
    Ended(End),
}

/// How a container ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) started: Timestamp,
    pub(crate) finished: Timestamp,
    pub(crate) code: i32,
}

/// What has happened since the last time.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Moved {
    /// The status is another.
    pub(crate) changed: bool,
    /// Its containers started.
    pub(crate) started: bool,
    /// It is over.
    pub(crate) over: bool,
    /// So many containers were started again.
    pub(crate) restarted: u32,
}

/// What a pod does not know itself.
pub(crate) struct Outside<'a> {
    /// Whether a container is started again that ended with a code.
    pub(crate) restarts: &'a dyn Fn(usize, i32) -> bool,
    /// After how long a container that starts now fails by chance.
    pub(crate) chance: &'a mut dyn FnMut() -> Option<Duration>,
}

pub(crate) fn after(time: Timestamp, wait: Duration) -> Timestamp {
    let wait = SignedDuration::try_from(wait).unwrap_or(SignedDuration::MAX);
    time.checked_add(wait).unwrap_or(Timestamp::MAX)
}

impl Pod {
    /// A pod that a node hears of now. `late` is how much longer than usual it takes to start.
    pub(crate) fn new(script: Script, probes: &[Probes], late: Duration, now: Timestamp) -> Self {
        let containers = probes.iter().map(|probes| Container { probes: *probes, ..Container::default() });
        Self {
            script,
            taken: now,
            stage: Stage::Starting { at: after(now, script.start.saturating_add(late)) },
            started: None,
            containers: containers.collect(),
        }
    }

    /// Takes up a pod that a node of this name ran before: its containers have been running since those times.
    pub(crate) fn take_up(&mut self, taken: Timestamp, running: &[(Timestamp, u32)], outside: &mut Outside<'_>) {
        self.taken = taken;
        self.stage = Stage::Running;
        self.started = running.iter().map(|(since, _)| *since).min().or(Some(taken));
        for (container, (since, attempt)) in self.containers.iter_mut().zip(running) {
            container.attempt = *attempt;
            container.run(*since, &self.script, outside);
        }
    }

    /// Takes up a pod that was over before.
    pub(crate) fn was_over(&mut self, at: Timestamp) {
        self.stage = Stage::Over { at };
    }

    /// When something is to happen next.
    pub(crate) fn next(&self) -> Option<Timestamp> {
        match self.stage {
            Stage::Starting { at } | Stage::Stopping { at, .. } => Some(at),
            Stage::Running => self.containers.iter().filter_map(Container::next).min(),
            Stage::Over { .. } | Stage::Stopped { .. } => None,
        }
    }

    /// Lets happen what was to happen by now.
    pub(crate) fn advance(&mut self, now: Timestamp, outside: &mut Outside<'_>) -> Moved {
        let mut moved = Moved::default();
        match self.stage {
            Stage::Starting { at } if at <= now => {
                self.stage = Stage::Running;
                self.started = Some(now);
                (moved.changed, moved.started) = (true, true);
                self.containers.iter_mut().for_each(|c| c.run(now, &self.script, outside));
            }
            Stage::Running => {
                for (index, container) in self.containers.iter_mut().enumerate() {
                    container.advance(index, now, &self.script, outside, &mut moved);
                }
                if self.containers.iter().all(|c| matches!(c.state, State::Ended(_))) {
                    self.stage = Stage::Over { at: now };
                    (moved.changed, moved.over) = (true, true);
                }
            }
            Stage::Stopping { at, code } if at <= now => {
                self.stage = Stage::Stopped { at: now };
                moved.changed = true;
                self.containers.iter_mut().for_each(|c| c.stop(now, code));
            }
            _ => {}
        }
        moved
    }

    /// Tells it to end within `grace`; when it was told before, the sooner end counts.
    pub(crate) fn stop(&mut self, now: Timestamp, grace: Duration) {
        self.stage = match self.stage {
            // None of its containers has run, or all have ended.
            Stage::Starting { .. } | Stage::Over { .. } => Stage::Stopped { at: now },
            Stage::Running => {
                let obeys = self.script.stop <= grace;
                let code = if obeys { 0 } else { KILLED };
                Stage::Stopping { at: after(now, self.script.stop.min(grace)), code }
            }
            Stage::Stopping { at, .. } if after(now, grace) < at => {
                Stage::Stopping { at: after(now, grace), code: KILLED }
            }
            same @ (Stage::Stopping { .. } | Stage::Stopped { .. }) => same,
        };
    }

    pub(crate) fn is_stopped(&self) -> bool {
        matches!(self.stage, Stage::Stopped { .. })
    }
}

impl Container {
    fn run(&mut self, now: Timestamp, script: &Script, outside: &mut Outside<'_>) {
        let ends = script.end((outside.chance)()).map(|(wait, code)| (after(now, wait), code));
        let started = self.probes.startup.is_zero();
        let ready = started && self.probes.readiness.is_zero();
        self.state = State::Running { since: now, ends, started, ready };
    }

    fn next(&self) -> Option<Timestamp> {
        match self.state {
            State::Running { since, ends, started, ready } => {
                let probe = match (started, ready) {
                    (false, _) => Some(after(since, self.probes.startup)),
                    (true, false) => Some(after(since, self.probes.readiness)),
                    (true, true) => None,
                };
                ends.map(|(at, _)| at).into_iter().chain(probe).min()
            }
            State::Paused { until, .. } => Some(until),
            State::Waiting | State::Ended(_) => None,
        }
    }

    fn advance(&mut self, index: usize, now: Timestamp, script: &Script, outside: &mut Outside<'_>, moved: &mut Moved) {
        match &mut self.state {
            State::Running { since, ends: Some((at, code)), .. } if *at <= now => {
                let end = End { started: *since, finished: now, code: *code };
                moved.changed = true;
                if !(outside.restarts)(index, end.code) {
                    self.state = State::Ended(end);
                } else if let Some(left) = self.backoff.left(now, now) {
                    self.state = State::Paused { end, until: after(now, left) };
                } else {
                    self.again(end, now, script, outside, moved);
                }
            }
            State::Running { since, started, ready, .. } => {
                let seen = after(*since, self.probes.startup) <= now;
                let serves = seen && after(*since, self.probes.readiness) <= now;
                moved.changed |= (*started, *ready) != (seen, serves);
                (*started, *ready) = (seen, serves);
            }
            State::Paused { end, until } if *until <= now => {
                let end = *end;
                self.again(end, now, script, outside, moved);
            }
            State::Waiting | State::Paused { .. } | State::Ended(_) => {}
        }
    }

    fn again(&mut self, end: End, now: Timestamp, script: &Script, outside: &mut Outside<'_>, moved: &mut Moved) {
        self.last = Some(end);
        self.attempt += 1;
        self.backoff.tried(end.finished, now);
        self.run(now, script, outside);
        moved.changed = true;
        moved.restarted += 1;
    }

    fn stop(&mut self, now: Timestamp, code: i32) {
        match self.state {
            State::Running { since, .. } => self.state = State::Ended(End { started: since, finished: now, code }),
            State::Paused { end, .. } => self.state = State::Ended(end),
            State::Waiting | State::Ended(_) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_000_000 + seconds).unwrap()
    }

    fn seconds(seconds: u64) -> Duration {
        Duration::from_secs(seconds)
    }

    const SCRIPT: Script =
        Script { start: Duration::from_secs(2), run: None, exit: 0, fail_after: None, stop: Duration::from_secs(1) };

    /// Runs a pod by a virtual clock until a time, and tells what happened when.
    fn run(pod: &mut Pod, policy: &str, until: i64) -> Vec<(i64, Moved)> {
        let restarts = |_, code: i32| policy == "Always" || (policy == "OnFailure" && code != 0);
        let mut happened = Vec::new();
        while let Some(now) = pod.next().filter(|now| *now <= at(until)) {
            let moved = pod.advance(now, &mut Outside { restarts: &restarts, chance: &mut || None });
            happened.push((now.as_second() - 1_000_000, moved));
        }
        happened
    }

    #[test]
    fn a_pod_starts_after_its_time_and_runs_on() {
        let mut pod = Pod::new(SCRIPT, &[Probes::default(); 2], seconds(3), at(0));
        let started = Moved { changed: true, started: true, ..Moved::default() };
        assert_eq!(run(&mut pod, "Always", 1000), [(5, started)]);
        assert_eq!((pod.next(), pod.started), (None, Some(at(5))));
        assert!(pod.containers.iter().all(|c| matches!(c.state, State::Running { ready: true, .. })));
    }

    #[test]
    fn a_pod_that_is_to_end_ends_and_one_that_failed_is_tried_again() {
        let over = Moved { changed: true, over: true, ..Moved::default() };
        let started = Moved { changed: true, started: true, ..Moved::default() };
        for (policy, exit, want) in [("Never", 0, vec![12]), ("OnFailure", 0, vec![12]), ("Never", 3, vec![12])] {
            let mut pod =
                Pod::new(Script { run: Some(seconds(10)), exit, ..SCRIPT }, &[Probes::default()], seconds(0), at(0));
            let mut all = vec![(2, started)];
            all.extend(want.into_iter().map(|when| (when, over)));
            assert_eq!(run(&mut pod, policy, 1000), all, "{policy} {exit}");
            let State::Ended(end) = pod.containers[0].state else { panic!() };
            assert_eq!(end, End { started: at(2), finished: at(12), code: exit });
        }
    }

    #[test]
    fn pauses_between_failures_double_from_ten_seconds_and_the_first_try_is_at_once() {
        let mut pod =
            Pod::new(Script { fail_after: Some(seconds(1)), ..SCRIPT }, &[Probes::default()], seconds(0), at(0));
        let restarts: Vec<i64> =
            run(&mut pod, "Always", 100).into_iter().filter(|(_, m)| m.restarted > 0).map(|(when, _)| when).collect();
        // Runs from 2 to 3, again at once; from 3 to 4, ten seconds; from 14 to 15, twenty; from 35 to 36, forty.
        assert_eq!(restarts, [3, 14, 35, 76]);
        assert_eq!(pod.containers[0].attempt, 4);
        assert_eq!(pod.containers[0].last, Some(End { started: at(35), finished: at(36), code: 1 }));
        assert!(matches!(pod.containers[0].state, State::Paused { until, .. } if until == at(157)));
    }

    #[test]
    fn a_pod_with_probes_is_ready_when_they_have_spoken() {
        let probes = Probes { startup: seconds(5), readiness: seconds(20) };
        let mut pod = Pod::new(SCRIPT, &[probes], seconds(0), at(0));
        let moments: Vec<i64> = run(&mut pod, "Always", 1000).into_iter().map(|(when, _)| when).collect();
        assert_eq!(moments, [2, 7, 22]);
        assert!(matches!(pod.containers[0].state, State::Running { started: true, ready: true, .. }));
    }

    #[test]
    fn a_pod_that_is_told_to_end_does_so_in_its_time_or_is_killed() {
        for (grace, end, code) in [(30, 11, 0), (1, 11, 0), (0, 10, KILLED)] {
            let mut pod = Pod::new(SCRIPT, &[Probes::default()], seconds(0), at(0));
            run(&mut pod, "Always", 9);
            pod.stop(at(10), seconds(grace));
            run(&mut pod, "Always", 1000);
            assert!(pod.is_stopped());
            let State::Ended(ended) = pod.containers[0].state else { panic!() };
            assert_eq!(ended, End { started: at(2), finished: at(end), code }, "{grace}");
        }
    }

    #[test]
    fn who_is_in_a_hurry_the_second_time_is_heard() {
        let mut pod = Pod::new(Script { stop: seconds(60), ..SCRIPT }, &[Probes::default()], seconds(0), at(0));
        run(&mut pod, "Always", 9);
        pod.stop(at(10), seconds(30));
        assert_eq!(pod.next(), Some(at(40)));
        pod.stop(at(12), seconds(5));
        assert_eq!(pod.next(), Some(at(17)));
        pod.stop(at(13), seconds(50));
        assert_eq!(pod.next(), Some(at(17)));
    }

    #[test]
    fn what_does_not_run_is_stopped_at_once() {
        let mut pod = Pod::new(SCRIPT, &[Probes::default()], seconds(0), at(0));
        pod.stop(at(1), seconds(30));
        assert_eq!(pod.stage, Stage::Stopped { at: at(1) });
        let mut pod = Pod::new(Script { run: Some(seconds(1)), ..SCRIPT }, &[Probes::default()], seconds(0), at(0));
        run(&mut pod, "Never", 10);
        pod.stop(at(11), seconds(30));
        assert!(pod.is_stopped());
    }

    #[test]
    fn chance_fails_what_would_run_on() {
        let mut pod = Pod::new(SCRIPT, &[Probes::default()], seconds(0), at(0));
        let mut draws = vec![None, Some(seconds(4))];
        let mut chance = || draws.pop().flatten();
        let mut outside = Outside { restarts: &|_, _| true, chance: &mut chance };
        pod.advance(at(2), &mut outside);
        assert_eq!(pod.next(), Some(at(6)));
        let moved = pod.advance(at(6), &mut outside);
        assert_eq!(moved, Moved { changed: true, restarted: 1, ..Moved::default() });
        assert_eq!(pod.next(), None);
    }

    #[test]
    fn a_pod_that_ran_before_is_taken_up() {
        let mut pod = Pod::new(SCRIPT, &[Probes::default()], seconds(0), at(100));
        pod.take_up(at(1), &[(at(3), 2)], &mut Outside { restarts: &|_, _| true, chance: &mut || None });
        assert_eq!((pod.taken, pod.started, pod.containers[0].attempt), (at(1), Some(at(3)), 2));
        assert_eq!(pod.next(), None);
    }
}

//! What becomes of a pod: how long it takes to start, when it ends and how. Annotations of the pod say it, or chance.

use crate::options::Times;
use crate::span;
use rand::rngs::SmallRng;
use std::time::Duration;
use trireme_schema::Value;

/// What the annotations' names begin with.
const PREFIX: &str = "simulate.trireme.dev/";
/// The exit code of a container that fails.
pub(crate) const FAILURE: i32 = 1;

/// What becomes of one pod.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Script {
    /// From when the node hears of it until its containers run.
    pub(crate) start: Duration,
    /// How long a container runs; it does not end by itself when there is none.
    pub(crate) run: Option<Duration>,
    /// The exit code then.
    pub(crate) exit: i32,
    /// After how long a container fails.
    pub(crate) fail_after: Option<Duration>,
    /// How long it takes to stop.
    pub(crate) stop: Duration,
}

impl Script {
    pub(crate) fn of(pod: &Value, times: &Times, chance: &mut SmallRng) -> Self {
        // All is drawn, whatever the annotations say, so that one pod's annotation does not change what others draw.
        let (start, run, stop) = (times.start.draw(chance), times.run.draw(chance), times.stop.draw(chance));
        let ends = matches!(pod.str_at(&["spec", "restartPolicy"]), "Never" | "OnFailure");
        Self {
            start: said(pod, "start-time", span::duration).unwrap_or(start),
            run: said(pod, "run-time", span::duration).or(ends.then_some(run)),
            exit: said(pod, "exit-code", code).unwrap_or(0),
            fail_after: said(pod, "fail-after", span::duration),
            stop,
        }
    }

    /// When a container ends that starts now, and with which exit code; `chance` is when it fails by chance.
    pub(crate) fn end(&self, chance: Option<Duration>) -> Option<(Duration, i32)> {
        let failure = if self.exit == 0 { FAILURE } else { self.exit };
        let ends = [
            self.run.map(|after| (after, self.exit)),
            self.fail_after.map(|after| (after, failure)),
            chance.map(|after| (after, FAILURE)),
        ];
        ends.into_iter().flatten().min_by_key(|(after, _)| *after)
    }
}

fn code(text: &str) -> Result<i32, std::num::ParseIntError> {
    text.parse::<u8>().map(i32::from)
}

/// What an annotation says.
fn said<T, E: std::fmt::Display>(pod: &Value, name: &str, read: impl Fn(&str) -> Result<T, E>) -> Option<T> {
    let text = pod.at(&["metadata", "annotations", &format!("{PREFIX}{name}")])?.as_str()?;
    match read(text) {
        Ok(read) => Some(read),
        Err(error) => {
            let pod = pod.str_at(&["metadata", "name"]);
            tracing::warn!(pod, annotation = name, %error, "an annotation is passed over");
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;
    use trireme_schema::json;

    fn script(text: &str) -> Script {
        Script::of(&json::parse(text.as_bytes()).unwrap(), &Times::default(), &mut SmallRng::seed_from_u64(3))
    }

    #[test]
    fn a_pod_ends_by_itself_when_it_is_not_always_restarted() {
        for (policy, run) in [("Always", None), ("OnFailure", Some(10)), ("Never", Some(10))] {
            let script = script(&format!(r#"{{"spec":{{"restartPolicy":"{policy}"}}}}"#));
            assert_eq!((script.run, script.exit), (run.map(Duration::from_secs), 0), "{policy}");
        }
    }

    #[test]
    fn annotations_come_before_chance_and_bad_ones_are_passed_over() {
        let drawn = script(r#"{"spec":{"restartPolicy":"Always"}}"#);
        let said = script(
            r#"{"metadata":{"annotations":{"simulate.trireme.dev/start-time":"3s","simulate.trireme.dev/run-time":"1m",
                "simulate.trireme.dev/exit-code":"7","simulate.trireme.dev/fail-after":"soon"}},
                "spec":{"restartPolicy":"Always"}}"#,
        );
        let want = Script { start: Duration::from_secs(3), run: Some(Duration::from_secs(60)), exit: 7, ..drawn };
        assert_eq!(said, want);
        assert_eq!(script(r#"{"metadata":{"annotations":{"simulate.trireme.dev/exit-code":"256"}}}"#).exit, 0);
    }

    #[test]
    fn what_comes_first_ends_a_container() {
        let seconds = Duration::from_secs;
        let script = |run: Option<u64>, exit, fail: Option<u64>| Script {
            start: seconds(0),
            run: run.map(seconds),
            exit,
            fail_after: fail.map(seconds),
            stop: seconds(0),
        };
        for (script, chance, want) in [
            (script(None, 0, None), None, None),
            (script(Some(5), 0, None), None, Some((5, 0))),
            (script(Some(5), 3, Some(2)), None, Some((2, 3))),
            (script(Some(5), 0, Some(9)), None, Some((5, 0))),
            (script(None, 0, Some(9)), Some(4), Some((4, 1))),
        ] {
            let end = script.end(chance.map(seconds));
            assert_eq!(end, want.map(|(after, code)| (seconds(after), code)), "{script:?}");
        }
    }
}

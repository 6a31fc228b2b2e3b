//! What is to be done for a pod: a function of what it asks for and what there is.

use crate::spec::{is_sidecar, restarts};
use std::collections::{BTreeMap, BTreeSet};
use trireme_cri::{ContainerState, ContainerStatus};
use trireme_schema::Value;

/// What there is of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Seen {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Ended with a code.
    Exited(i32),
}

/// What there is of a pod.
#[derive(Clone, Debug, Default)]
pub(crate) struct Observed {
    /// Whether its sandbox is ready.
    pub(crate) sandbox: bool,
    /// The newest container of each name.
    pub(crate) containers: BTreeMap<String, Seen>,
    /// Those of a sandbox that is no more.
    pub(crate) stale: BTreeSet<String>,
    /// Containers that have started as their startup probe says (those without one: that run).
    pub(crate) started: BTreeSet<String>,
}

/// The next steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// Make the sandbox.
    StartSandbox,
    /// Start a container (again).
    Start(String),
    /// All is over: nothing will be started any more.
    Finish,
}

impl Observed {
    /// Adds what the runtime says of a container.
    pub(crate) fn note(&mut self, name: &str, status: &ContainerStatus) {
        let seen = match status.state() {
            ContainerState::ContainerRunning => Seen::Running,
            ContainerState::ContainerExited => Seen::Exited(status.exit_code),
            _ => Seen::Created,
        };
        self.containers.insert(name.to_owned(), seen);
    }

    /// Names of containers that run.
    pub(crate) fn running(&self) -> BTreeSet<String> {
        let running = self.containers.iter().filter(|(_, seen)| **seen == Seen::Running);
        running.map(|(name, _)| name.clone()).collect()
    }
}

fn name(container: &Value) -> &str {
    container.str_at(&["name"])
}

/// The steps that are due; none means: wait.
pub(crate) fn plan(pod: &Value, observed: &Observed) -> Vec<Action> {
    let main = pod.list_at(&["spec", "containers"]);
    let ended = |c: &Value| match observed.containers.get(name(c)) {
        Some(Seen::Exited(code)) => Some(*code),
        _ => None,
    };
    if !main.is_empty() && main.iter().all(|c| ended(c).is_some_and(|code| !restarts(pod, c, code))) {
        return vec![Action::Finish];
    }
    let init_failed =
        |c: &Value| !is_sidecar(pod, name(c)) && ended(c).is_some_and(|code| code != 0 && !restarts(pod, c, code));
    if pod.list_at(&["spec", "initContainers"]).iter().any(init_failed) {
        return vec![Action::Finish];
    }
    if !observed.sandbox {
        return vec![Action::StartSandbox];
    }
    // In a new sandbox all begins anew.
    let here = |c: &Value| observed.containers.get(name(c)).filter(|_| !observed.stale.contains(name(c)));
    let start = |c: &Value| Action::Start(name(c).to_owned());
    // Once a main container was started, init containers that ended need not run again.
    let begun = main.iter().any(|c| here(c).is_some());
    let mut actions = Vec::new();
    for container in pod.list_at(&["spec", "initContainers"]) {
        if is_sidecar(pod, name(container)) {
            match here(container) {
                Some(Seen::Running) if begun || observed.started.contains(name(container)) => {}
                Some(Seen::Running) => return actions,
                _ => {
                    actions.push(start(container));
                    if !begun {
                        return actions;
                    }
                }
            }
            continue;
        }
        match here(container) {
            Some(Seen::Exited(0)) => {}
            _ if begun => {}
            Some(Seen::Running) => return actions,
            _ => {
                actions.push(start(container));
                return actions;
            }
        }
    }
    for container in main {
        match observed.containers.get(name(container)) {
            Some(Seen::Running) => {}
            Some(Seen::Exited(code)) if !restarts(pod, container, *code) => {}
            _ => actions.push(start(container)),
        }
    }
    for container in pod.list_at(&["spec", "ephemeralContainers"]) {
        // They are never started again.
        if !matches!(observed.containers.get(name(container)), Some(Seen::Running | Seen::Exited(_))) {
            actions.push(start(container));
        }
    }
    actions
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn pod(text: &str) -> Value {
        json::parse(format!("{{\"spec\":{text}}}").as_bytes()).unwrap()
    }

    fn seen(sandbox: bool, containers: &[(&str, Seen)]) -> Observed {
        let containers = containers.iter().map(|(n, s)| ((*n).to_owned(), s.clone())).collect();
        Observed { sandbox, containers, ..Observed::default() }
    }

    fn start(name: &str) -> Action {
        Action::Start(name.to_owned())
    }

    #[test]
    fn init_containers_run_one_after_the_other_and_before_all_others() {
        let pod = pod(r#"{"initContainers":[{"name":"a"},{"name":"b"}],"containers":[{"name":"c"},{"name":"d"}]}"#);
        for (observed, actions) in [
            (seen(false, &[]), vec![Action::StartSandbox]),
            (seen(true, &[]), vec![start("a")]),
            (seen(true, &[("a", Seen::Created)]), vec![start("a")]),
            (seen(true, &[("a", Seen::Running)]), vec![]),
            (seen(true, &[("a", Seen::Exited(1))]), vec![start("a")]),
            (seen(true, &[("a", Seen::Exited(0))]), vec![start("b")]),
            (seen(true, &[("a", Seen::Exited(0)), ("b", Seen::Exited(0))]), vec![start("c"), start("d")]),
        ] {
            assert_eq!(plan(&pod, &observed), actions, "{observed:?}");
        }
    }

    #[test]
    fn restart_policies_hold() {
        for (policy, code, actions) in [
            ("Always", 0, vec![start("c")]),
            ("OnFailure", 1, vec![start("c")]),
            ("OnFailure", 0, vec![Action::Finish]),
            ("Never", 1, vec![Action::Finish]),
        ] {
            let pod = pod(&format!(r#"{{"restartPolicy":"{policy}","containers":[{{"name":"c"}}]}}"#));
            assert_eq!(plan(&pod, &seen(true, &[("c", Seen::Exited(code))])), actions, "{policy} {code}");
        }
    }

    #[test]
    fn a_failed_init_container_that_is_not_started_again_ends_the_pod() {
        let pod = pod(r#"{"restartPolicy":"Never","initContainers":[{"name":"a"}],"containers":[{"name":"c"}]}"#);
        assert_eq!(plan(&pod, &seen(true, &[("a", Seen::Exited(1))])), [Action::Finish]);
    }

    #[test]
    fn a_sidecar_starts_before_and_runs_beside() {
        let pod = pod(r#"{"initContainers":[{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"c"}]}"#);
        assert_eq!(plan(&pod, &seen(true, &[])), [start("s")]);
        assert_eq!(plan(&pod, &seen(true, &[("s", Seen::Running)])), []);
        let mut started = seen(true, &[("s", Seen::Running)]);
        started.started.insert("s".into());
        assert_eq!(plan(&pod, &started), [start("c")]);
        let ended = seen(true, &[("s", Seen::Exited(0)), ("c", Seen::Running)]);
        assert_eq!(plan(&pod, &ended), [start("s")]);
    }

    #[test]
    fn a_new_sandbox_runs_the_init_containers_again() {
        let pod = pod(r#"{"initContainers":[{"name":"a"}],"containers":[{"name":"c"}]}"#);
        let mut observed = seen(true, &[("a", Seen::Exited(0)), ("c", Seen::Exited(255))]);
        observed.stale = ["a".to_owned(), "c".to_owned()].into();
        assert_eq!(plan(&pod, &observed), [start("a")]);
    }

    #[test]
    fn ephemeral_containers_start_once() {
        let pod = pod(r#"{"containers":[{"name":"c"}],"ephemeralContainers":[{"name":"e"}]}"#);
        assert_eq!(plan(&pod, &seen(true, &[("c", Seen::Running)])), [start("e")]);
        assert_eq!(plan(&pod, &seen(true, &[("c", Seen::Running), ("e", Seen::Exited(1))])), []);
    }
}

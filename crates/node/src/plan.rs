//! What is to be done for a pod: a function of what it asks for and what there is.

use std::collections::BTreeMap;
use trireme_cri::{ContainerState, ContainerStatus};
use trireme_schema::Value;

/// What there is of a container.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Seen {
    /// Made, not started.
    Created,
    /// Runs.
    Running,
    /// Ended with a code.
    Exited(i32),
}

/// What there is of a pod.
#[derive(Clone, Debug, Default)]
pub struct Observed {
    /// Whether its sandbox is ready.
    pub sandbox: bool,
    /// The newest container of each name.
    pub containers: BTreeMap<String, Seen>,
    /// Containers that have started as their startup probe says (those without one: that run).
    pub started: Vec<String>,
}

/// The next steps.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Action {
    /// Make the sandbox.
    StartSandbox,
    /// Start a container (again).
    Start(String),
    /// All is over: nothing will be started any more.
    Finish,
}

impl Observed {
    /// Adds what the runtime says of a container; newer attempts hide older ones.
    pub fn note(&mut self, name: &str, status: &ContainerStatus) {
        let seen = match status.state() {
            ContainerState::ContainerRunning => Seen::Running,
            ContainerState::ContainerExited => Seen::Exited(status.exit_code),
            _ => Seen::Created,
        };
        self.containers.insert(name.to_owned(), seen);
    }
}

fn is_sidecar(container: &Value) -> bool {
    container.str_at(&["restartPolicy"]) == "Always"
}

/// Whether a container that ended with a code is started again.
fn restarts(policy: &str, code: i32) -> bool {
    match policy {
        "Never" => false,
        "OnFailure" => code != 0,
        _ => true,
    }
}

/// The steps that are due; none means: wait.
pub fn plan(pod: &Value, observed: &Observed) -> Vec<Action> {
    let policy = pod.str_at(&["spec", "restartPolicy"]);
    let main = pod.list_at(&["spec", "containers"]);
    let name = |c: &Value| c.str_at(&["name"]).to_owned();
    let over = |c: &Value| matches!(observed.containers.get(c.str_at(&["name"])), Some(Seen::Exited(code)) if !restarts(policy, *code));
    if !main.is_empty() && main.iter().all(over) {
        return vec![Action::Finish];
    }
    if !observed.sandbox {
        return vec![Action::StartSandbox];
    }
    let mut actions = Vec::new();
    for container in pod.list_at(&["spec", "initContainers"]) {
        let seen = observed.containers.get(container.str_at(&["name"]));
        // Once a main container was started, those that ended well need not run again.
        let begun = main.iter().any(|c| observed.containers.contains_key(c.str_at(&["name"])));
        if is_sidecar(container) {
            match seen {
                Some(Seen::Running) if observed.started.contains(&name(container)) || begun => continue,
                Some(Seen::Running) => return actions,
                _ => {
                    actions.push(Action::Start(name(container)));
                    if begun {
                        continue;
                    }
                    return actions;
                }
            }
        }
        match seen {
            Some(Seen::Exited(0)) => {}
            _ if begun => {}
            Some(Seen::Running) => return actions,
            Some(Seen::Exited(code)) if policy == "Never" && *code != 0 => return vec![Action::Finish],
            _ => {
                actions.push(Action::Start(name(container)));
                return actions;
            }
        }
    }
    for container in main.iter().chain(pod.list_at(&["spec", "ephemeralContainers"])) {
        let ephemeral = container.get("targetContainerName").is_some()
            || pod.list_at(&["spec", "ephemeralContainers"]).contains(container);
        match observed.containers.get(container.str_at(&["name"])) {
            Some(Seen::Running) => {}
            Some(Seen::Exited(code)) if ephemeral || !restarts(policy, *code) => {}
            _ => actions.push(Action::Start(name(container))),
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
        Observed { sandbox, containers, started: Vec::new() }
    }

    #[test]
    fn init_containers_run_one_after_the_other_and_before_all_others() {
        let pod = pod(r#"{"initContainers":[{"name":"a"},{"name":"b"}],"containers":[{"name":"c"},{"name":"d"}]}"#);
        let start = |n: &str| Action::Start(n.to_owned());
        for (observed, actions) in [
            (seen(false, &[]), vec![Action::StartSandbox]),
            (seen(true, &[]), vec![start("a")]),
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
            ("Always", 0, vec![Action::Start("c".into())]),
            ("OnFailure", 1, vec![Action::Start("c".into())]),
            ("OnFailure", 0, vec![Action::Finish]),
            ("Never", 1, vec![Action::Finish]),
        ] {
            let pod = pod(&format!(r#"{{"restartPolicy":"{policy}","containers":[{{"name":"c"}}]}}"#));
            assert_eq!(plan(&pod, &seen(true, &[("c", Seen::Exited(code))])), actions, "{policy} {code}");
        }
    }

    #[test]
    fn a_sidecar_starts_before_and_runs_beside() {
        let pod = pod(r#"{"initContainers":[{"name":"s","restartPolicy":"Always"}],"containers":[{"name":"c"}]}"#);
        assert_eq!(plan(&pod, &seen(true, &[])), [Action::Start("s".into())]);
        assert_eq!(plan(&pod, &seen(true, &[("s", Seen::Running)])), []);
        let mut started = seen(true, &[("s", Seen::Running)]);
        started.started.push("s".into());
        assert_eq!(plan(&pod, &started), [Action::Start("c".into())]);
    }
}

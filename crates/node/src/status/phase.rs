//! A pod's phase, out of the states of its containers.

use crate::spec::is_sidecar;
use trireme_schema::Value;

/// What a pod's phase is, given the statuses of its containers; `over` says that nothing will be started any more.
pub(super) fn phase(pod: &Value, init: &[Value], main: &[Value], over: bool) -> &'static str {
    let state = |s: &Value, kind: &str| s.at(&["state", kind]).is_some();
    let code = |s: &Value, of: &str| s.int_at(&[of, "terminated", "exitCode"]);
    let (mut pending, mut failed) = (false, false);
    for (spec, status) in pod.list_at(&["spec", "initContainers"]).iter().zip(init) {
        if is_sidecar(pod, spec.str_at(&["name"])) {
            pending |= !status.bool_at(&["started"]) && !over;
            continue;
        }
        let ended = code(status, "state").or_else(|| code(status, "lastState"));
        match ended {
            Some(0) if state(status, "terminated") => {}
            Some(n) if n != 0 && !crate::spec::restarts(pod, spec, n as i32) => failed = true,
            _ => pending = true,
        }
    }
    if failed {
        return "Failed";
    }
    let (mut running, mut stopped, mut succeeded, mut waiting) = (0, 0, 0, 0);
    // Something that ended will be started again.
    let mut again = false;
    for (spec, status) in pod.list_at(&["spec", "containers"]).iter().zip(main) {
        if state(status, "running") {
            running += 1;
        } else if let Some(code) = code(status, "state") {
            stopped += 1;
            succeeded += usize::from(code == 0);
            again |= crate::spec::restarts(pod, spec, code as i32);
        } else if code(status, "lastState").is_some() {
            stopped += 1;
            again = true;
        } else {
            waiting += 1;
        }
    }
    let begun = running + stopped > 0;
    if waiting > 0 || (pending && !begun) {
        return if over && !pending && running == 0 && stopped > 0 { "Failed" } else { "Pending" };
    }
    if running > 0 {
        return "Running";
    }
    match stopped {
        0 => "Pending",
        _ if again && !over => "Running",
        _ if stopped == succeeded => "Succeeded",
        _ => "Failed",
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    const RUNS: &str = r#"{"state":{"running":{}}}"#;
    const WAITS: &str = r#"{"state":{"waiting":{}}}"#;
    const WELL: &str = r#"{"state":{"terminated":{"exitCode":0}}}"#;
    const ILL: &str = r#"{"state":{"terminated":{"exitCode":1}}}"#;
    const CRASHED: &str = r#"{"state":{"waiting":{}},"lastState":{"terminated":{"exitCode":1}}}"#;

    #[test]
    fn phases_follow_the_states_of_the_main_containers() {
        for (policy, states, over, want) in [
            ("Always", vec![WAITS], false, "Pending"),
            ("Always", vec![RUNS, WAITS], false, "Pending"),
            ("Always", vec![RUNS, ILL], false, "Running"),
            ("Always", vec![CRASHED], false, "Running"),
            ("Always", vec![WELL], false, "Running"),
            ("Always", vec![WELL], true, "Succeeded"),
            ("Always", vec![ILL], true, "Failed"),
            ("Never", vec![WELL, WELL], false, "Succeeded"),
            ("Never", vec![WELL, ILL], false, "Failed"),
            ("OnFailure", vec![WELL, ILL], false, "Running"),
            ("OnFailure", vec![WELL], false, "Succeeded"),
        ] {
            let text = format!(r#"{{"spec":{{"restartPolicy":"{policy}","containers":[{{}},{{}}]}}}}"#);
            let pod = json::parse(text.as_bytes()).unwrap();
            let main: Vec<Value> = states.iter().map(|s| json::parse(s.as_bytes()).unwrap()).collect();
            assert_eq!(phase(&pod, &[], &main, over), want, "{policy} {states:?} {over}");
        }
    }

    #[test]
    fn a_container_whose_rules_start_it_again_keeps_its_pod_running() {
        let rule = r#"{"action":"Restart","exitCodes":{"operator":"In","values":[1]}}"#;
        let text =
            format!(r#"{{"spec":{{"restartPolicy":"Never","containers":[{{"restartPolicyRules":[{rule}]}}]}}}}"#);
        let pod = json::parse(text.as_bytes()).unwrap();
        assert_eq!(phase(&pod, &[], &[json::parse(ILL.as_bytes()).unwrap()], false), "Running");
        assert_eq!(phase(&pod, &[], &[json::parse(WELL.as_bytes()).unwrap()], false), "Succeeded");
    }

    #[test]
    fn init_containers_hold_a_pod_back_or_fail_it() {
        for (policy, state, want) in [
            ("Always", RUNS, "Pending"),
            ("Always", ILL, "Pending"),
            ("Never", ILL, "Failed"),
            ("Always", WELL, "Pending"),
        ] {
            let text = format!(
                r#"{{"spec":{{"restartPolicy":"{policy}","initContainers":[{{"name":"i"}}],"containers":[{{}}]}}}}"#
            );
            let pod = json::parse(text.as_bytes()).unwrap();
            let value = |t: &str| json::parse(t.as_bytes()).unwrap();
            assert_eq!(phase(&pod, &[value(state)], &[value(WAITS)], false), want, "{policy} {state}");
        }
    }
}

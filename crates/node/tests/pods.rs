//! Real pods on the embedded runtime, against the real API server, in one process. Needs root.
#![allow(clippy::unwrap_used, clippy::print_stdout, clippy::print_stderr)] // a test with its own main function

mod lab;

use lab::Lab;
use trireme_schema::Value;

/// By this word the program knows that it is a shim.
const SHIM: &str = "__shim";

fn main() {
    let args: Vec<String> = std::env::args().collect();
    if args.get(1).map(String::as_str) == Some(SHIM) {
        trireme_runtime::shim::run(std::path::Path::new(&args[2])).unwrap();
        return;
    }
    if !rustix::process::geteuid().is_root() || !std::path::Path::new("/bin/busybox").exists() {
        println!("skipped: pods need root, and a static /bin/busybox");
        return;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
    let failed = runtime.block_on(async {
        let mut lab = Lab::new().await;
        let outcome = futures::FutureExt::catch_unwind(std::panic::AssertUnwindSafe(all(&mut lab))).await;
        lab.end().await;
        outcome.is_err()
    });
    std::process::exit(i32::from(failed));
}

async fn all(lab: &mut Lab) {
    let begun = std::time::Instant::now();
    let said = |name: &str| println!("ok {name} ({:.1} s)", begun.elapsed().as_secs_f64());
    a_pod_that_ends_tells_how(lab).await;
    said("a_pod_that_ends_tells_how");
    a_container_that_is_not_alive_is_started_again(lab).await;
    said("a_container_that_is_not_alive_is_started_again");
    sidecars_end_last_and_their_pod_succeeds(lab).await;
    said("sidecars_end_last_and_their_pod_succeeds");
    volumes_follow_their_sources(lab).await;
    said("volumes_follow_their_sources");
    a_pod_that_does_not_fit_is_refused(lab).await;
    said("a_pod_that_does_not_fit_is_refused");
    a_pod_is_not_active_longer_than_it_may(lab).await;
    said("a_pod_is_not_active_longer_than_it_may");
    a_running_container_gets_other_resources(lab).await;
    said("a_running_container_gets_other_resources");
    what_ran_is_found_again_when_the_agent_comes_back(lab).await;
    said("what_ran_is_found_again_when_the_agent_comes_back");
}

fn phase(pod: &Value) -> &str {
    pod.str_at(&["status", "phase"])
}

fn container(pod: &Value) -> &Value {
    pod.list_at(&["status", "containerStatuses"]).first().unwrap_or(&Value::Null)
}

fn ended(pod: &Value) -> Option<i64> {
    container(pod).int_at(&["state", "terminated", "exitCode"])
}

fn runs(pod: &Value) -> bool {
    container(pod).at(&["state", "running"]).is_some()
}

async fn a_pod_that_ends_tells_how(lab: &Lab) {
    let spec = r#""restartPolicy":"Never","containers":[{"name":"c","image":"IMAGE",
        "command":["sh","-c","echo -n words > /dev/termination-log; exit 3"]}]"#;
    lab.pod("ends", spec).await;
    let pod = lab.until("ends", |p| phase(p) == "Failed").await;
    let state = container(&pod).at(&["state", "terminated"]).unwrap();
    assert_eq!((state.int_at(&["exitCode"]), state.str_at(&["message"])), (Some(3), "words"));
    assert_eq!(state.str_at(&["reason"]), "Error");
    lab.delete("ends").await;
    lab.gone("ends").await;
}

async fn a_container_that_is_not_alive_is_started_again(lab: &Lab) {
    let spec = r#""containers":[{"name":"c","image":"IMAGE","command":["sh","-c","sleep 1; touch /dead; sleep 100"],
        "livenessProbe":{"exec":{"command":["sh","-c","! cat /dead"]},"periodSeconds":1,"failureThreshold":1}}]"#;
    lab.pod("dies", spec).await;
    let pod = lab.until("dies", |p| container(p).int_at(&["restartCount"]) == Some(1)).await;
    assert_eq!(container(&pod).int_at(&["lastState", "terminated", "exitCode"]), Some(137));
    assert_eq!(lab.event("dies", "Killing").await, "Container c failed liveness probe, will be restarted");
    assert!(lab.event("dies", "Unhealthy").await.starts_with("Liveness probe failed: "));
    lab.delete("dies").await;
    lab.gone("dies").await;
}

async fn sidecars_end_last_and_their_pod_succeeds(lab: &Lab) {
    let loops = r#"["sh","-c","trap 'exit 0' TERM; while true; do sleep 0.1; done"]"#;
    let spec = format!(
        r#""restartPolicy":"Never","initContainers":[{{"name":"i","image":"IMAGE","command":["true"]}},
            {{"name":"s","image":"IMAGE","restartPolicy":"Always","command":{loops}}}],
            "containers":[{{"name":"c","image":"IMAGE","command":["sleep","1"]}}]"#
    );
    lab.pod("beside", &spec).await;
    let pod = lab.until("beside", |p| phase(p) == "Succeeded").await;
    let sidecar = pod.list_at(&["status", "initContainerStatuses"]).get(1).unwrap();
    let end = sidecar.str_at(&["state", "terminated", "finishedAt"]);
    assert!(end >= container(&pod).str_at(&["state", "terminated", "finishedAt"]), "{end}");
    lab.delete("beside").await;
    lab.gone("beside").await;
}

async fn volumes_follow_their_sources(lab: &Lab) {
    let map = r#"{"kind":"ConfigMap","apiVersion":"v1","metadata":{"name":"m"},"data":{"k":"old"}}"#;
    let spec = r#""restartPolicy":"Never","volumes":[{"name":"v","configMap":{"name":"m"}}],
        "containers":[{"name":"c","image":"IMAGE","volumeMounts":[{"name":"v","mountPath":"/v"}],
        "command":["sh","-c","while [ $(cat /v/k) = old ]; do sleep 0.1; done; cat /v/k > /dev/termination-log"]}]"#;
    lab.pod("follows", spec).await;
    assert_eq!(
        lab.event("follows", "FailedMount").await,
        "MountVolume.SetUp failed for volume \"v\" : configmap \"m\" not found"
    );
    lab.create("configmaps", map).await;
    lab.until("follows", runs).await;
    lab.patch("configmaps/m", r#"{"data":{"k":"new"}}"#).await;
    let pod = lab.until("follows", |p| phase(p) == "Succeeded").await;
    assert_eq!(container(&pod).str_at(&["state", "terminated", "message"]), "new");
    lab.delete("follows").await;
    lab.gone("follows").await;
}

async fn a_pod_that_does_not_fit_is_refused(lab: &Lab) {
    let spec = r#""containers":[{"name":"c","image":"IMAGE","resources":{"requests":{"cpu":"1000"}}}]"#;
    lab.pod("big", spec).await;
    let pod = lab.until("big", |p| phase(p) == "Failed").await;
    assert_eq!(pod.str_at(&["status", "reason"]), "OutOfcpu");
    lab.delete("big").await;
    lab.gone("big").await;
}

async fn a_pod_is_not_active_longer_than_it_may(lab: &Lab) {
    let spec = r#""activeDeadlineSeconds":3,"containers":[{"name":"c","image":"IMAGE","command":["sleep","100"]}]"#;
    lab.pod("late", spec).await;
    let pod = lab.until("late", |p| phase(p) == "Failed").await;
    assert_eq!(pod.str_at(&["status", "reason"]), "DeadlineExceeded");
    assert!(ended(&pod).is_some(), "a pod that is over runs nothing");
    lab.delete("late").await;
    lab.gone("late").await;
}

async fn a_running_container_gets_other_resources(lab: &Lab) {
    let with = |cpu: &str| {
        format!(
            r#""resources":{{"requests":{{"cpu":"{cpu}","memory":"32Mi"}},"limits":{{"cpu":"{cpu}","memory":"32Mi"}}}}"#
        )
    };
    let spec = format!(r#""containers":[{{"name":"c","image":"IMAGE","command":["sleep","100"],{}}}]"#, with("100m"));
    lab.pod("grows", &spec).await;
    let first = lab.until("grows", runs).await;
    let patch = format!(r#"{{"spec":{{"containers":[{{"name":"c",{}}}]}}}}"#, with("150m"));
    lab.patch("pods/grows/resize", &patch).await;
    let pod = lab.until("grows", |p| container(p).str_at(&["resources", "limits", "cpu"]) == "150m").await;
    assert_eq!(container(&pod).str_at(&["allocatedResources", "cpu"]), "150m");
    assert_eq!(container(&pod).get("containerID"), container(&first).get("containerID"));
    lab.delete("grows").await;
    lab.gone("grows").await;
}

async fn what_ran_is_found_again_when_the_agent_comes_back(lab: &mut Lab) {
    let stays = r#""containers":[{"name":"c","image":"IMAGE","command":["sleep","1000"]}]"#;
    let ends = r#""restartPolicy":"Never","containers":[{"name":"c","image":"IMAGE",
        "command":["sh","-c","while [ ! -e /go/on ]; do sleep 0.1; done; exit 7"],
        "volumeMounts":[{"name":"go","mountPath":"/go"}]}],"volumes":[{"name":"go","hostPath":{"path":"GO"}}]"#;
    let go = tempfile::tempdir().unwrap();
    lab.pod("stays", stays).await;
    lab.pod("leaves", &ends.replace("GO", &go.path().display().to_string())).await;
    let before = lab.until("stays", runs).await;
    lab.until("leaves", runs).await;
    lab.stop().await;
    std::fs::write(go.path().join("on"), "").unwrap();
    lab.start().await;
    let pod = lab.until("leaves", |p| phase(p) == "Failed").await;
    assert_eq!(ended(&pod), Some(7));
    let after = lab.until("stays", runs).await;
    assert_eq!(container(&after).get("containerID"), container(&before).get("containerID"));
    assert_eq!(container(&after).int_at(&["restartCount"]), Some(0));
    for name in ["stays", "leaves"] {
        lab.delete(name).await;
        lab.gone(name).await;
    }
}

//! What a pod shares with its host: namespaces, ports, hosts that probes reach, Windows' host processes.

use crate::evaluate::Violation;
use crate::pod::{Container, Pod, Values, plural, quoted, setters};
use trireme_schema::Value;

/// No namespace of the host.
pub(crate) fn namespaces(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let is_set = |field: &&str| pod.spec(field).and_then(Value::as_bool) == Some(true);
    let set: Vec<String> =
        ["hostNetwork", "hostPID", "hostIPC"].iter().filter(|f| is_set(f)).map(|f| format!("{f}=true")).collect();
    (!set.is_empty()).then(|| Violation { reason: "host namespaces", detail: set.join(", ") })
}

/// No port of the host.
pub(crate) fn ports(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let of = |c: &Container<'_>| -> Vec<String> {
        let ports = c.value.list_at(&["ports"]).iter().filter_map(|p| p.int_at(&["hostPort"]));
        ports.filter(|p| *p != 0).map(|p| p.to_string()).collect()
    };
    let bad = pod.containers_that(|c| !of(c).is_empty());
    let all: Values = pod.containers().flat_map(|c| of(&c)).collect();
    let list = all.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let detail = || format!("{bad} {} {} {list}", bad.uses(), plural(all.len(), "hostPort", "hostPorts"));
    (!bad.is_empty()).then(|| Violation { reason: "hostPort", detail: detail() })
}

/// Probes and hooks reach the pod alone, not the network that its node sees.
pub(crate) fn probes(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const HANDLERS: [&[&str]; 5] = [
        &["livenessProbe"],
        &["readinessProbe"],
        &["startupProbe"],
        &["lifecycle", "postStart"],
        &["lifecycle", "preStop"],
    ];
    let of = |c: &Container<'_>| -> Vec<String> {
        let handlers = HANDLERS.iter().filter_map(|path| c.value.at(path));
        let hosts = handlers.flat_map(|h| [h.str_at(&["httpGet", "host"]), h.str_at(&["tcpSocket", "host"])]);
        hosts.filter(|h| !h.is_empty()).map(str::to_owned).collect()
    };
    let bad = pod.containers_that(|c| !of(c).is_empty()).sorted();
    let all: Values = pod.containers().flat_map(|c| of(&c)).collect();
    let what = plural(all.len(), "probe or lifecycle host", "probe or lifecycle hosts");
    let detail = || format!("{bad} {} {what} {}", bad.uses(), quoted(&all));
    (!bad.is_empty()).then(|| Violation { reason: "probe or lifecycle host", detail: detail() })
}

/// No process of the Windows host.
pub(crate) fn process(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    const FIELD: [&str; 2] = ["windowsOptions", "hostProcess"];
    let is = |value: Option<&Value>| value.and_then(Value::as_bool) == Some(true);
    let who = setters(is(pod.security(&FIELD)), &pod.containers_that(|c| is(c.security(&FIELD))));
    let detail = || format!("{} must not set securityContext.windowsOptions.hostProcess=true", who.join(" and "));
    (!who.is_empty()).then(|| Violation { reason: "hostProcess", detail: detail() })
}

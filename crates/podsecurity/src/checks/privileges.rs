//! What containers may do beyond others: privileged mode, escalation, capabilities, an unmasked /proc.

use crate::evaluate::Violation;
use crate::pod::{Container, Pod, Values, quoted};
use trireme_schema::Value;

/// No privileged containers.
pub(crate) fn privileged(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let bad = pod.containers_that(|c| c.security(&["privileged"]).and_then(Value::as_bool) == Some(true));
    let detail = || format!("{bad} must not set securityContext.privileged=true");
    (!bad.is_empty()).then(|| Violation { reason: "privileged", detail: detail() })
}

/// Containers say that no privileges are gained.
pub(crate) fn escalation(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= 25 && pod.is_for_windows() {
        return None;
    }
    let bad =
        pod.containers_that(|c| c.security(&["allowPrivilegeEscalation"]).and_then(Value::as_bool) != Some(false));
    let detail = || format!("{bad} must set securityContext.allowPrivilegeEscalation=false");
    (!bad.is_empty()).then(|| Violation { reason: "allowPrivilegeEscalation != false", detail: detail() })
}

/// The capabilities that container runtimes give, but for NET_RAW.
const DEFAULT: [&str; 13] = [
    "AUDIT_WRITE",
    "CHOWN",
    "DAC_OVERRIDE",
    "FOWNER",
    "FSETID",
    "KILL",
    "MKNOD",
    "NET_BIND_SERVICE",
    "SETFCAP",
    "SETGID",
    "SETPCAP",
    "SETUID",
    "SYS_CHROOT",
];

/// Containers that add others than the allowed capabilities: who, and what.
fn added(pod: &Pod<'_>, allowed: &[&str]) -> Option<String> {
    let of = |c: &Container<'_>| -> Vec<String> {
        let given = c.security_texts(&["capabilities", "add"]);
        given.into_iter().filter(|cap| !allowed.contains(cap)).map(str::to_owned).collect()
    };
    let bad = pod.containers_that(|c| !of(c).is_empty());
    let all: Values = pod.containers().flat_map(|c| of(&c)).collect();
    (!bad.is_empty()).then(|| format!("{bad} must not include {} in securityContext.capabilities.add", quoted(&all)))
}

/// No capabilities beyond the default ones.
pub(crate) fn capabilities_baseline(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    added(pod, &DEFAULT).map(|detail| Violation { reason: "non-default capabilities", detail })
}

/// All capabilities dropped, and none but NET_BIND_SERVICE added.
pub(crate) fn capabilities_restricted(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= 25 && pod.is_for_windows() {
        return None;
    }
    let missing = pod.containers_that(|c| !c.security_texts(&["capabilities", "drop"]).contains(&"ALL"));
    let mut details = Vec::new();
    if !missing.is_empty() {
        details.push(format!("{missing} must set securityContext.capabilities.drop=[\"ALL\"]"));
    }
    details.extend(added(pod, &["NET_BIND_SERVICE"]));
    (!details.is_empty()).then(|| Violation { reason: "unrestricted capabilities", detail: details.join("; ") })
}

/// The default masks over /proc.
pub(crate) fn proc_mount(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    fn of<'a>(c: &Container<'a>) -> Option<&'a str> {
        c.security(&["procMount"]).and_then(Value::as_str).filter(|t| *t != "Default")
    }
    let bad = pod.containers_that(|c| of(c).is_some());
    let all: Values = pod.containers().filter_map(|c| of(&c)).map(str::to_owned).collect();
    let detail = || format!("{bad} must not set securityContext.procMount to {}", quoted(&all));
    (!bad.is_empty()).then(|| Violation { reason: "procMount", detail: detail() })
}

/// The default masks over /proc, unless the pod's users are its own.
pub(crate) fn proc_mount_baseline(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= 35 && pod.has_own_users() { None } else { proc_mount(pod, minor) }
}

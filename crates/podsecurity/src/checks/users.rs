//! As whom containers run.

use crate::evaluate::Violation;
use crate::pod::{Pod, setters};
use trireme_schema::Value;

/// Since 1.35 root in a user namespace of the pod's own is no root (KEP-127).
fn is_relaxed(pod: &Pod<'_>, minor: u32) -> bool {
    minor >= 35 && pod.has_own_users()
}

/// Containers say that they do not run as root.
pub(crate) fn non_root(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if is_relaxed(pod, minor) {
        return None;
    }
    let set = |value: Option<&Value>| value.and_then(Value::as_bool);
    let by_pod = set(pod.security(&["runAsNonRoot"]));
    let who =
        setters(by_pod == Some(false), &pod.containers_that(|c| set(c.security(&["runAsNonRoot"])) == Some(false)));
    let unset = pod.containers_that(|c| set(c.security(&["runAsNonRoot"])).is_none() && by_pod != Some(true));
    let detail = if !who.is_empty() {
        format!("{} must not set securityContext.runAsNonRoot=false", who.join(" and "))
    } else if !unset.is_empty() {
        format!("pod or {unset} must set securityContext.runAsNonRoot=true")
    } else {
        return None;
    };
    Some(Violation { reason: "runAsNonRoot != true", detail })
}

/// Nobody runs as user 0.
pub(crate) fn not_zero(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if is_relaxed(pod, minor) {
        return None;
    }
    let zero = |value: Option<&Value>| value.and_then(Value::as_int) == Some(0);
    let who = setters(zero(pod.security(&["runAsUser"])), &pod.containers_that(|c| zero(c.security(&["runAsUser"]))));
    let detail = || format!("{} must not set runAsUser=0", who.join(" and "));
    (!who.is_empty()).then(|| Violation { reason: "runAsUser=0", detail: detail() })
}

//! Profiles of the kernel's security modules, seccomp's filters, sysctls.

use crate::evaluate::Violation;
use crate::pod::{Container, Named, Pod, Values, plural, quoted, setters};
use trireme_schema::{Value, field};

/// What a field says that may not: by pod, by containers, the values.
struct Forbidden {
    by_pod: bool,
    by: Named,
    values: Values,
}

/// A profile's type, wherever it is neither the runtime's nor one of the node's.
fn types(pod: &Pod<'_>, profile: &str) -> Forbidden {
    let path = [profile, "type"];
    let bad = |value: Option<&Value>| -> Option<String> {
        let text = value?.as_str().unwrap_or_default();
        (!matches!(text, "RuntimeDefault" | "Localhost")).then(|| text.to_owned())
    };
    let values = pod.containers().filter_map(|c| bad(c.security(&path))).chain(bad(pod.security(&path))).collect();
    let by = pod.containers_that(|c| bad(c.security(&path)).is_some());
    Forbidden { by_pod: bad(pod.security(&path)).is_some(), by, values }
}

/// AppArmor profiles are the runtime's or the node's; those of old stand in annotations.
pub(crate) fn app_armor(pod: &Pod<'_>, _: u32) -> Option<Violation> {
    let found = types(pod, "appArmorProfile");
    let mut who = setters(found.by_pod, &found.by);
    let mut annotations: Vec<String> = pod
        .annotations()
        .filter(|(key, _)| key.starts_with("container.apparmor.security.beta.kubernetes.io/"))
        .filter(|(_, value)| !(value.is_empty() || *value == "runtime/default" || value.starts_with("localhost/")))
        .map(|(key, value)| format!("{key}={}", field::quote(value)))
        .collect();
    annotations.sort();
    let mut values: Vec<String> = found.values.into_iter().collect();
    if !annotations.is_empty() {
        who.push(plural(annotations.len(), "annotation", "annotations").to_owned());
        values.extend(annotations);
    }
    let detail = || format!("{} must not set AppArmor profile type to {}", who.join(" and "), quoted(&values));
    let reason = plural(values.len(), "forbidden AppArmor profile", "forbidden AppArmor profiles");
    (!who.is_empty()).then(|| Violation { reason, detail: detail() })
}

/// SELinux types of containers; no user and no role.
pub(crate) fn se_linux(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let allowed = |kind: &str| match kind {
        "" | "container_t" | "container_init_t" | "container_kvm_t" => true,
        "container_engine_t" => minor >= 31,
        _ => false,
    };
    let is_bad = |options: Option<&Value>| {
        options.is_some_and(|o| {
            !allowed(o.str_at(&["type"])) || !o.str_at(&["user"]).is_empty() || !o.str_at(&["role"]).is_empty()
        })
    };
    let of = |c: &Container<'_>| c.security(&["seLinuxOptions"]).cloned();
    let all: Vec<Value> =
        pod.security(&["seLinuxOptions"]).cloned().into_iter().chain(pod.containers().filter_map(|c| of(&c))).collect();
    let who = setters(
        is_bad(pod.security(&["seLinuxOptions"])),
        &pod.containers_that(|c| is_bad(c.security(&["seLinuxOptions"]))),
    );
    let types: Values = all.iter().map(|o| o.str_at(&["type"])).filter(|t| !allowed(t)).map(str::to_owned).collect();
    let mut what = Vec::new();
    if !types.is_empty() {
        what.push(format!("{} {}", plural(types.len(), "type", "types"), quoted(&types)));
    }
    for field in ["user", "role"] {
        if all.iter().any(|o| !o.str_at(&[field]).is_empty()) {
            what.push(format!("{field} may not be set"));
        }
    }
    let detail = || format!("{} set forbidden securityContext.seLinuxOptions: {}", who.join(" and "), what.join("; "));
    (!who.is_empty()).then(|| Violation { reason: "seLinuxOptions", detail: detail() })
}

const SECCOMP: &str = "seccompProfile";

fn forbidden_seccomp(pod: &Pod<'_>) -> Option<Violation> {
    let found = types(pod, SECCOMP);
    let who = setters(found.by_pod, &found.by);
    let detail = || {
        format!("{} must not set securityContext.seccompProfile.type to {}", who.join(" and "), quoted(&found.values))
    };
    (!who.is_empty()).then(|| Violation { reason: SECCOMP, detail: detail() })
}

/// Seccomp is not turned off: by annotations before 1.19, by fields since.
pub(crate) fn seccomp_baseline(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= 19 {
        return forbidden_seccomp(pod);
    }
    const POD: &str = "seccomp.security.alpha.kubernetes.io/pod";
    const CONTAINER: &str = "container.seccomp.security.alpha.kubernetes.io/";
    let fine = |v: &str| matches!(v, "runtime/default" | "docker/default") || v.starts_with("localhost/");
    let names: Vec<&str> = pod.containers().map(|c| c.name()).collect();
    let meant = |key: &str| key == POD || key.strip_prefix(CONTAINER).is_some_and(|name| names.contains(&name));
    let bad: Values = pod
        .annotations()
        .filter(|(key, value)| meant(key) && !fine(value))
        .map(|(key, value)| format!("{key}={}", field::quote(value)))
        .collect();
    let list = bad.iter().map(String::as_str).collect::<Vec<_>>().join(", ");
    let detail = || format!("forbidden {} {list}", plural(bad.len(), "annotation", "annotations"));
    (!bad.is_empty()).then(|| Violation { reason: SECCOMP, detail: detail() })
}

/// Every container has a seccomp profile.
pub(crate) fn seccomp_restricted(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    if minor >= 25 && pod.is_for_windows() {
        return None;
    }
    if let Some(forbidden) = forbidden_seccomp(pod) {
        return Some(forbidden);
    }
    let by_pod = pod.security(&[SECCOMP]).is_some();
    let unset = pod.containers_that(|c| !by_pod && c.security(&[SECCOMP]).is_none());
    let detail = || {
        format!("pod or {unset} must set securityContext.seccompProfile.type to \"RuntimeDefault\" or \"Localhost\"")
    };
    (!unset.is_empty()).then(|| Violation { reason: SECCOMP, detail: detail() })
}

/// Sysctls that are a pod's own and harmless, with the version since when they are known to be.
const SYSCTLS: [(&str, u32); 14] = [
    ("kernel.shm_rmid_forced", 0),
    ("net.ipv4.ip_local_port_range", 0),
    ("net.ipv4.tcp_syncookies", 0),
    ("net.ipv4.ping_group_range", 0),
    ("net.ipv4.ip_unprivileged_port_start", 0),
    ("net.ipv4.ip_local_reserved_ports", 27),
    ("net.ipv4.tcp_keepalive_time", 29),
    ("net.ipv4.tcp_fin_timeout", 29),
    ("net.ipv4.tcp_keepalive_intvl", 29),
    ("net.ipv4.tcp_keepalive_probes", 29),
    ("net.ipv4.tcp_rmem", 32),
    ("net.ipv4.tcp_wmem", 32),
    ("net.ipv4.tcp_slow_start_after_idle", 37),
    ("net.ipv4.tcp_notsent_lowat", 37),
];

/// Only safe sysctls.
pub(crate) fn sysctls(pod: &Pod<'_>, minor: u32) -> Option<Violation> {
    let safe = |name: &&str| SYSCTLS.iter().any(|(known, since)| known == name && minor >= *since);
    let list = pod.security(&["sysctls"]).and_then(Value::as_array).unwrap_or_default();
    let bad: Vec<&str> = list.iter().map(|s| s.str_at(&["name"])).filter(|name| !safe(name)).collect();
    (!bad.is_empty()).then(|| Violation { reason: "forbidden sysctls", detail: bad.join(", ") })
}

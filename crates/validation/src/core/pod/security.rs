//! Security contexts.

use crate::core::volume;
use crate::{Errors, Place};
use std::collections::HashSet;
use trireme_schema::Value;

/// A pod's security context; much of it is in the table.
pub(super) fn pod(context: &Place<'_>, errors: &mut Errors) {
    let Some(spec) = context.parent() else { return };
    if spec.is("shareProcessNamespace") && spec.is("hostPID") {
        let why = "ShareProcessNamespace and HostPID cannot both be enabled";
        errors.invalid_value(&context.child("shareProcessNamespace"), true, why);
    }
    let mut seen = HashSet::new();
    for sysctl in context.items("sysctls") {
        let name = sysctl.child("name");
        let text = sysctl.text("name");
        if text.is_empty() {
            errors.required(&name, "");
        } else if !is_sysctl(text) {
            let why = "must have at most 253 characters and match regex ^([a-z0-9]([-_a-z0-9]*[a-z0-9])?[\\./])*[a-z0-9]([-_a-z0-9]*[a-z0-9])?$";
            errors.invalid_value(&name, text, why);
        } else if seen.contains(text) {
            errors.duplicate(&name, text);
        }
        seen.insert(text);
        let dotted = text.replace('/', ".");
        if spec.is("hostNetwork") && dotted.starts_with("net.") {
            errors.invalid_value(&name, text, "may not be specified when 'hostNetwork' is true");
        } else if spec.is("hostIPC") && is_ipc(&dotted) {
            errors.invalid_value(&name, text, "may not be specified when 'hostIPC' is true");
        }
    }
}

fn is_ipc(name: &str) -> bool {
    name == "kernel.sem" || ["kernel.shm", "kernel.msg", "fs.mqueue."].iter().any(|p| name.starts_with(p))
}

fn is_sysctl(name: &str) -> bool {
    let segment = |s: &str| {
        let edge = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
        match s.as_bytes() {
            [] => false,
            [only] => edge(*only),
            [first, middle @ .., last] => {
                edge(*first) && edge(*last) && middle.iter().all(|&b| edge(b) || matches!(b, b'-' | b'_'))
            }
        }
    };
    name.len() <= 253 && name.split(['.', '/']).all(segment)
}

/// A container's security context; much of it is in the table.
pub(super) fn container(context: &Place<'_>, errors: &mut Errors) {
    let spec = context.parent().and_then(|container| container.parent());
    let host_users = spec.is_none_or(|s| s.value.get("hostUsers").and_then(Value::as_bool) != Some(false));
    if context.text("procMount") == "Unmasked" && host_users {
        errors.invalid(&context.child("procMount"), "`hostUsers` must be false to use `Unmasked`");
    }
    if context.value.get("allowPrivilegeEscalation").and_then(Value::as_bool) != Some(false) {
        return;
    }
    let why = "cannot set `allowPrivilegeEscalation` to false and";
    if context.is("privileged") {
        errors.invalid_internal(context, "core.v1.SecurityContext", format!("{why} `privileged` to true"));
    }
    for added in context.value.list_at(&["capabilities", "add"]) {
        if added.as_str() == Some("CAP_SYS_ADMIN") {
            let why = format!("{why} `capabilities.Add` CAP_SYS_ADMIN");
            errors.invalid_internal(context, "core.v1.SecurityContext", why);
        }
    }
}

pub(super) fn seccomp(profile: &Place<'_>, errors: &mut Errors) {
    let path = profile.child("localhostProfile");
    match (profile.text("type"), path.is_set()) {
        ("Localhost", false) => errors.required(&path, "must be set when seccomp type is Localhost"),
        ("Localhost", true) => volume::descending_path(&path, path.str(), errors),
        (_, true) => {
            let shown = crate::internal::show("core.v1.SeccompProfile", profile.value);
            errors.invalid_shown(&path, shown, "can only be set when seccomp type is Localhost");
        }
        _ => {}
    }
}

pub(super) fn app_armor(profile: &Place<'_>, errors: &mut Errors) {
    const MISSING: &str = "must be set when AppArmor type is Localhost";
    const LONGEST: usize = 4095;
    let name = profile.child("localhostProfile");
    match (profile.text("type"), name.is_set()) {
        ("Localhost", false) => errors.required(&name, MISSING),
        ("Localhost", true) => {
            if name.str().trim() != name.str() {
                errors.invalid(&name, "must not be padded with whitespace");
            } else if name.str().is_empty() {
                errors.required(&name, MISSING);
            }
            if name.str().len() > LONGEST {
                errors.too_long(&name, LONGEST);
            }
        }
        ("RuntimeDefault" | "Unconfined", true) => {
            errors.invalid(&name, "can only be set when AppArmor type is Localhost");
        }
        _ => {}
    }
}

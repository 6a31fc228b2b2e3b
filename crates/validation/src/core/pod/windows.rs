//! What is different for pods on Windows.

use super::for_each_container;
use crate::{Errors, Place};
use trireme_schema::{Value, names};

const CREDENTIALS: usize = 64 << 10;
const DOMAIN: usize = 256;
const USER: usize = 104;

/// What a pod for Windows cannot have.
pub(super) fn forbidden(spec: &Place<'_>, errors: &mut Errors) {
    const WHY: &str = "cannot be set for a windows pod";
    let context = spec.child("securityContext");
    for field in ["hostUsers", "shareProcessNamespace", "hostPID", "hostIPC"] {
        if spec.is(field) || (spec.has(field) && !field.starts_with("hostP") && field != "hostIPC") {
            errors.forbidden(&spec.child(field), WHY);
        }
    }
    let of_pod = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "fsGroup",
        "fsGroupChangePolicy",
        "sysctls",
        "runAsUser",
        "runAsGroup",
        "supplementalGroups",
        "supplementalGroupsPolicy",
        "seLinuxChangePolicy",
    ];
    for field in of_pod.into_iter().filter(|f| context.has(f)) {
        errors.forbidden(&context.child(field), WHY);
    }
    let of_container = [
        "appArmorProfile",
        "seLinuxOptions",
        "seccompProfile",
        "capabilities",
        "readOnlyRootFilesystem",
        "privileged",
        "allowPrivilegeEscalation",
        "procMount",
        "runAsUser",
        "runAsGroup",
    ];
    for_each_container(spec, |container| {
        let context = container.child("securityContext");
        for field in of_container.into_iter().filter(|f| context.has(f)) {
            errors.forbidden(&context.child(field), WHY);
        }
    });
}

/// Containers that are processes of the host: all of a pod's, or none.
pub(super) fn host_process(spec: &Place<'_>, errors: &mut Errors) {
    const PATH: [&str; 3] = ["securityContext", "windowsOptions", "hostProcess"];
    let of_pod = spec.value.at(&PATH).and_then(Value::as_bool);
    let (mut all, mut host) = (0, 0);
    for_each_container(spec, |container| {
        all += 1;
        let own = container.value.at(&PATH).and_then(Value::as_bool);
        if let (Some(pod), Some(own)) = (of_pod, own)
            && pod != own
        {
            let why = format!("pod hostProcess value must be identical if both are specified, was {pod}");
            errors.invalid_value(&container.child("securityContext.windowsOptions.hostProcess"), own, why);
        }
        host += usize::from(own.or(of_pod) == Some(true));
    });
    if host == 0 {
        return;
    }
    if host != all {
        let why = "If pod contains any hostProcess containers then all containers must be HostProcess containers";
        errors.invalid_value(spec, "", why);
    }
    if !spec.is("hostNetwork") {
        let why = "hostNetwork must be true if pod contains any hostProcess containers";
        errors.invalid_value(&spec.child("hostNetwork"), false, why);
    }
}

pub(super) fn options(options: &Place<'_>, errors: &mut Errors) {
    if let Some(name) = options.field("gmsaCredentialSpecName") {
        errors.format(&name, name.str(), names::dns1123_subdomain(name.str()));
    }
    if let Some(spec) = options.field("gmsaCredentialSpec") {
        if spec.str().is_empty() {
            errors.invalid(&spec, "gmsaCredentialSpec cannot be an empty string");
        } else if spec.str().len() > CREDENTIALS {
            errors.invalid(&spec, format!("gmsaCredentialSpec size must be under {} KiB", CREDENTIALS >> 10));
        }
    }
    if let Some(name) = options.field("runAsUserName") {
        user_name(&name, errors);
    }
}

/// `DOMAIN\user`, the domain being optional.
fn user_name(place: &Place<'_>, errors: &mut Errors) {
    let text = place.str();
    if text.is_empty() {
        return errors.invalid(place, "runAsUserName cannot be an empty string");
    }
    if text.chars().any(|c| c.is_ascii_control()) {
        return errors.invalid(place, "runAsUserName cannot contain control characters");
    }
    let (domain, user) = match text.split('\\').collect::<Vec<_>>()[..] {
        [user] => (None, user),
        [domain, user] => (Some(domain), user),
        _ => return errors.invalid(place, "runAsUserName cannot contain more than one backslash"),
    };
    if domain.is_some_and(|d| d.len() >= DOMAIN) {
        errors.invalid(place, format!("runAsUserName's Domain length must be under {DOMAIN} characters"));
    }
    if domain.is_some_and(|d| !is_netbios(d) && !is_dns(d)) {
        errors.invalid(place, "runAsUserName's Domain doesn't match the NetBios nor the DNS format");
    }
    if user.is_empty() {
        errors.invalid(place, "runAsUserName's User cannot be empty");
    } else if user.len() > USER {
        errors.invalid(place, format!("runAsUserName's User length must not be longer than {USER} characters"));
    }
    if !user.is_empty() && user.chars().all(|c| matches!(c, '.' | ' ')) {
        errors.invalid(place, "runAsUserName's User cannot contain only periods or spaces");
    }
    if user.contains(['"', '/', '\\', ':', ';', '|', '=', ',', '+', '*', '?', '<', '>', '@', '[', ']']) {
        let why = "runAsUserName's User cannot contain the following characters: \"/\\:;|=,+*?<>@[]";
        errors.invalid(place, why);
    }
}

fn is_netbios(domain: &str) -> bool {
    let bad = ['\\', '/', ':', '*', '?', '"', '<', '>', '|'];
    (1..=15).contains(&domain.chars().count()) && !domain.starts_with('.') && !domain.contains(bad)
}

fn is_dns(domain: &str) -> bool {
    domain.split('.').all(|label| {
        let bytes = label.as_bytes();
        let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
        bytes.len() <= 63
            && edge(bytes.first())
            && edge(bytes.last())
            && bytes.iter().all(|b| b.is_ascii_alphanumeric() || *b == b'-')
    })
}

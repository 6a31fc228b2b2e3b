//! What still works in pods but should not be used, or does not do what it looks like (`pkg/api/pod/warnings.go`).

use super::for_each_container;
use crate::{Place, Subject, core};
use std::collections::{HashMap, HashSet};
use trireme_schema::field::quote;
use trireme_schema::{Map, Quantity, Value, names};

const NULL_SELECTOR: &str = "a null labelSelector results in matching no pod";

pub(super) fn pod(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    if !matches!(subject.subresource, "" | "ephemeralcontainers" | "resize") {
        return;
    }
    let root = Place::root(subject);
    if subject.is_create() {
        let name = subject.new.str_at(&["metadata", "name"]);
        let wrong = names::dns1123_label(name);
        if !wrong.is_empty() {
            warnings.push(format!(
                "metadata.name: this is used in the Pod's hostname, which can result in surprising behavior; a DNS label is recommended: [{}]",
                wrong.join(" ")
            ));
        }
    }
    spec_and_metadata(&root, true, warnings);
}

pub(super) fn pod_template(subject: &Subject<'_>, warnings: &mut Vec<String>) {
    spec_and_metadata(&Place::root(subject).child("template"), false, warnings);
}

/// The warnings of a kind that makes pods: of its name when it is made, if pods get it, and of its template when that
/// is new.
pub(crate) fn workload(subject: &Subject<'_>, template: &[&str], names_pods: bool, warnings: &mut Vec<String>) {
    if !subject.subresource.is_empty() {
        return;
    }
    let name = subject.new.str_at(&["metadata", "name"]);
    let wrong = if subject.is_create() && names_pods { names::dns1123_label(name) } else { Vec::new() };
    if !wrong.is_empty() {
        warnings.push(format!(
            "metadata.name: this is used in Pod names and hostnames, which can result in surprising behavior; a DNS label is recommended: [{}]",
            wrong.join(" ")
        ));
    }
    let generation = |object: &Value| object.int_at(&["metadata", "generation"]);
    if subject.old.is_some_and(|old| generation(old) == generation(subject.new)) {
        return;
    }
    let path = template.join(".");
    spec_and_metadata(&Place::root(subject).child(&path), false, warnings);
}

/// Labels of nodes that have new names.
fn old_label(key: &str) -> Option<String> {
    let (since, new) = match key {
        "beta.kubernetes.io/arch" => ("1.14", "kubernetes.io/arch"),
        "beta.kubernetes.io/os" => ("1.14", "kubernetes.io/os"),
        "failure-domain.beta.kubernetes.io/region" => ("1.17", "topology.kubernetes.io/region"),
        "failure-domain.beta.kubernetes.io/zone" => ("1.17", "topology.kubernetes.io/zone"),
        "beta.kubernetes.io/instance-type" => ("1.17", "node.kubernetes.io/instance-type"),
        _ => return None,
    };
    Some(format!("deprecated since v{since}; use {} instead", quote(new)))
}

/// Old labels in a selector's term.
pub(crate) fn node_term(term: &Place<'_>, warnings: &mut Vec<String>) {
    for expression in term.items("matchExpressions") {
        if let Some(why) = old_label(expression.text("key")) {
            warnings.push(format!("{}: {} is {why}", expression.child("key"), expression.text("key")));
        }
    }
}

fn spec_and_metadata(place: &Place<'_>, is_pod: bool, warnings: &mut Vec<String>) {
    let spec = place.child("spec");
    let annotations = place.child("metadata.annotations");
    scheduling(&spec, warnings);
    for (key, why) in [
        ("scheduler.alpha.kubernetes.io/critical-pod", "1.16+; use the \"priorityClassName\" field instead"),
        ("security.alpha.kubernetes.io/sysctls", "1.11+; use the \"sysctls\" field instead"),
        ("security.alpha.kubernetes.io/unsafe-sysctls", "1.11+; use the \"sysctls\" field instead"),
    ] {
        if annotations.value.get(key).is_some() {
            warnings.push(format!("{}: non-functional in v{why}", annotations.key(key)));
        }
    }
    volumes(&spec, warnings);
    lists(&spec, warnings);
    for name in ["memory", "ephemeral-storage"] {
        fraction(&spec.entry("overhead", name), warnings);
    }
    const SECCOMP: &str = "non-functional in v1.27+; use the \"seccompProfile\" field instead";
    let unused = |context: &Place<'_>, key: &str, warnings: &mut Vec<String>| {
        if !context.has("seccompProfile") && annotations.value.get(key).is_some() {
            warnings.push(format!("{}: {SECCOMP}", annotations.key(key)));
        }
    };
    unused(&spec.child("securityContext"), "seccomp.security.alpha.kubernetes.io/pod", warnings);
    let pod_profile = spec.child("securityContext").has("appArmorProfile");
    for_each_container(&spec, |container| {
        let context = container.child("securityContext");
        let name = container.text("name");
        unused(&context, &format!("container.seccomp.security.alpha.kubernetes.io/{name}"), warnings);
        let key = format!("container.apparmor.security.beta.kubernetes.io/{name}");
        if !is_pod && !pod_profile && !context.has("appArmorProfile") && annotations.value.get(&key).is_some() {
            let why = "deprecated since v1.30; use the \"appArmorProfile\" field instead";
            warnings.push(format!("{}: {why}", annotations.key(&key)));
        }
        let resources = container.child("resources");
        for resource in ["memory", "ephemeral-storage"] {
            fraction(&resources.entry("limits", resource), warnings);
            fraction(&resources.entry("requests", resource), warnings);
        }
        variables(container, warnings);
    });
    ports(&spec, warnings);
    if let Some(grace) = spec.int("terminationGracePeriodSeconds").filter(|n| *n < 0) {
        let _shown = grace;
        let path = spec.child("terminationGracePeriodSeconds");
        warnings.push(format!("{path}: must be >= 0; negative values are invalid and will be treated as 1"));
    }
    affinity_selectors(&spec, warnings);
}

fn scheduling(spec: &Place<'_>, warnings: &mut Vec<String>) {
    for (key, place) in spec.entries("nodeSelector") {
        if let Some(why) = old_label(key) {
            warnings.push(format!("{place}: {why}"));
        }
    }
    let affinity = spec.child("affinity.nodeAffinity");
    let required = affinity.child("requiredDuringSchedulingIgnoredDuringExecution");
    required.items("nodeSelectorTerms").for_each(|term| node_term(&term, warnings));
    for preferred in affinity.items("preferredDuringSchedulingIgnoredDuringExecution") {
        node_term(&preferred.child("preference"), warnings);
    }
    for constraint in spec.items("topologySpreadConstraints") {
        let key = constraint.text("topologyKey");
        if let Some(why) = old_label(key) {
            warnings.push(format!("{}: {key} is {why}", constraint.child("topologyKey")));
        }
        if !constraint.has("labelSelector") {
            warnings.push(format!("{}: {NULL_SELECTOR}", constraint.child("labelSelector")));
        }
    }
}

fn affinity_selectors(spec: &Place<'_>, warnings: &mut Vec<String>) {
    let affinity = spec.child("affinity");
    for kind in ["podAffinity", "podAntiAffinity"] {
        let terms = affinity.child(kind);
        for term in terms.items("requiredDuringSchedulingIgnoredDuringExecution") {
            if !term.has("labelSelector") {
                warnings.push(format!("{}: {NULL_SELECTOR}", term.child("labelSelector")));
            }
        }
        for weighted in terms.items("preferredDuringSchedulingIgnoredDuringExecution") {
            let term = weighted.child("podAffinityTerm");
            if !term.has("labelSelector") {
                warnings.push(format!("{}: {NULL_SELECTOR}", term.child("labelSelector")));
            }
        }
    }
}

fn fraction(amount: &Place<'_>, warnings: &mut Vec<String>) {
    let Some(quantity) = amount.quantity().filter(|q: &Quantity| q.milli_value() % 1000 != 0) else { return };
    let shown = quote(&quantity.to_string());
    warnings.push(format!("{amount}: fractional byte value {shown} is invalid, must be an integer"));
}

fn volumes(spec: &Place<'_>, warnings: &mut Vec<String>) {
    const OLD: [(&str, &str, &str); 9] = [
        ("photonPersistentDisk", "photonPersistentDisk", "1.11, non-functional in v1.16+"),
        ("gitRepo", "gitRepo", "1.11, and disabled by default in v1.33+"),
        ("scaleIO", "scaleIO", "1.16, non-functional in v1.22+"),
        ("flocker", "flocker", "1.22, non-functional in v1.25+"),
        ("storageos", "storageOS", "1.22, non-functional in v1.25+"),
        ("quobyte", "quobyte", "1.22, non-functional in v1.25+"),
        ("glusterfs", "glusterfs", "1.25, non-functional in v1.26+"),
        ("cephfs", "cephfs", "1.28, non-functional in v1.31+"),
        ("rbd", "rbd", "1.28, non-functional in v1.31+"),
    ];
    for volume in spec.items("volumes") {
        for (field, shown, since) in OLD {
            if volume.has(field) {
                warnings.push(format!("{}: deprecated in v{since}", volume.child(shown)));
            }
        }
        let template = volume.child("ephemeral.volumeClaimTemplate.spec");
        core::claim::spec_warnings(&template, warnings);
    }
    for volume in spec.items("volumes") {
        overlaps(&volume, warnings);
    }
}

/// Files of a volume that lie in each other's way.
fn overlaps(volume: &Place<'_>, warnings: &mut Vec<String>) {
    let name = quote(volume.text("name"));
    let mut paths: Vec<(String, String)> = Vec::new();
    let mut add = |of: &str, source: &str, path: &str, warnings: &mut Vec<String>| {
        let clean = path.trim_end_matches('/').to_owned();
        for (other, other_source) in &paths {
            let within = |a: &str, b: &str| b.strip_prefix(a).is_some_and(|rest| rest.starts_with('/'));
            if *other == clean || within(other, &clean) || within(&clean, other) {
                let with = if source == other_source || other_source.is_empty() {
                    quote(other)
                } else {
                    format!("{} ({other_source})", quote(other))
                };
                warnings.push(format!("volume {name} ({of}): overlapping paths: {} with {with}", quote(&clean)));
            }
        }
        paths.push((clean, source.to_owned()));
    };
    let items =
        |source: &Place<'_>| source.list("items").iter().map(|i| i.str_at(&["path"]).to_owned()).collect::<Vec<_>>();
    if let Some(map) = volume.field("configMap") {
        let of = format!("ConfigMap {}", quote(map.text("name")));
        items(&map).iter().for_each(|path| add(&of, "", path, warnings));
    }
    if let Some(secret) = volume.field("secret") {
        let of = format!("Secret {}", quote(secret.text("secretName")));
        items(&secret).iter().for_each(|path| add(&of, "", path, warnings));
    }
    if let Some(api) = volume.field("downwardAPI") {
        items(&api).iter().for_each(|path| add("DownwardAPI", "", path, warnings));
    }
    let Some(projected) = volume.field("projected") else { return };
    for source in projected.items("sources") {
        if let Some(map) = source.field("configMap") {
            let of = format!("ConfigMap {}", quote(map.text("name")));
            items(&map).iter().for_each(|path| add(&format!("Projected {of}"), &of, path, warnings));
        } else if let Some(secret) = source.field("secret") {
            let of = format!("Secret {}", quote(secret.text("name")));
            items(&secret).iter().for_each(|path| add(&format!("Projected {of}"), &of, path, warnings));
        } else if let Some(api) = source.field("downwardAPI") {
            items(&api).iter().for_each(|path| add("Projected DownwardAPI", "DownwardAPI", path, warnings));
        } else if let Some(token) = source.field("serviceAccountToken") {
            add("Projected ServiceAccountToken", "ServiceAccountToken", token.text("path"), warnings);
        } else if let Some(bundle) = source.field("clusterTrustBundle") {
            add("Projected ClusterTrustBundle", "ClusterTrustBundle", bundle.text("path"), warnings);
        } else if source.value.as_object().is_none_or(Map::is_empty) {
            warnings.push(format!("volume {name} (Projected) has no sources provided"));
        }
    }
}

fn lists(spec: &Place<'_>, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for alias in spec.items("hostAliases") {
        if !seen.insert(alias.text("ip")) {
            warnings.push(format!("{}: duplicate ip {}", alias.child("ip"), quote(alias.text("ip"))));
        }
    }
    let mut seen = HashSet::new();
    for secret in spec.items("imagePullSecrets") {
        if !seen.insert(secret.text("name")) {
            warnings.push(format!("{}: duplicate name {}", secret.child("name"), quote(secret.text("name"))));
        }
    }
    for secret in spec.items("imagePullSecrets").filter(|s| s.text("name").is_empty()) {
        warnings.push(format!("{}: invalid empty name \"\"", secret.child("name")));
    }
}

fn variables(container: &Place<'_>, warnings: &mut Vec<String>) {
    let mut seen = HashSet::new();
    for variable in container.items("env") {
        let name = variable.text("name");
        if seen.insert(name) {
            continue;
        }
        // `A=$(A):more` builds on what it hides.
        let own = format!("$({name})");
        let value = variable.text("value");
        if variable.has("valueFrom") || value == own || !value.contains(&own) {
            let why = "which may be dropped when using apply";
            warnings.push(format!("{variable}: hides previous definition of {}, {why}", quote(name)));
        }
    }
}

fn ports(spec: &Place<'_>, warnings: &mut Vec<String>) {
    type Seen = HashMap<(i64, String), Vec<(String, String, i64)>>;
    let mut seen: Seen = HashMap::new();
    for_each_container(spec, |container| {
        for port in container.items("ports") {
            let (ip, host) = (port.text("hostIP"), port.int("hostPort").unwrap_or_default());
            let (own, protocol) = (port.int("containerPort").unwrap_or_default(), port.text("protocol"));
            if !ip.is_empty() && host == 0 {
                let name = port.text("name");
                let shown =
                    format!("{{Name:{name} HostPort:{host} ContainerPort:{own} Protocol:{protocol} HostIP:{ip}}}");
                warnings.push(format!("{port}: hostIP set without hostPort: {shown}"));
            }
            let others = seen.entry((own, protocol.to_owned())).or_default();
            for (path, other_ip, other_host) in others.iter() {
                let what = if ip == other_ip && host == *other_host {
                    "duplicate"
                } else if host == 0
                    || *other_host == 0
                    || (host == *other_host && (ip.is_empty() || other_ip.is_empty()))
                {
                    "overlapping"
                } else {
                    continue;
                };
                warnings.push(format!("{port}: {what} port definition with {path}"));
            }
            others.push((port.to_string(), ip.to_owned(), host));
        }
    });
}

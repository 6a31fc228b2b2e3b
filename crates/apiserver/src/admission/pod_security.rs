//! PodSecurity (KEP-2579): the Pod Security Standards of a namespace, by its labels.

use super::{Attributes, Operation};
use std::collections::{BTreeMap, HashSet};
use trireme_podsecurity::{Level, Pod, Policy, Standard, details, reasons, violations};
use trireme_schema::{Map, Status, Value};

/// How the plugin is set up (`PodSecurityConfiguration`).
#[derive(Debug, Default)]
pub(super) struct Settings {
    defaults: Policy,
    namespaces: Vec<String>,
    users: Vec<String>,
    runtime_classes: Vec<String>,
}

impl Settings {
    pub(super) fn read(config: Option<&Value>) -> Result<Self, String> {
        let Some(config) = config else { return Ok(Self::default()) };
        // The defaults have the labels' names and values.
        let defaults = config.at(&["defaults"]).and_then(Value::as_object);
        let labels: Map = defaults
            .into_iter()
            .flat_map(|m| m.iter())
            .map(|(k, v)| (format!("pod-security.kubernetes.io/{k}"), v.clone()))
            .collect();
        let (mut policy, errors) = Policy::of_labels(Some(&labels), Policy::default());
        if let Some(error) = errors.first() {
            return Err(format!("PodSecurity: defaults: {}", error.body()));
        }
        if labels.get("pod-security.kubernetes.io/warn").is_none() {
            policy.warn.level = Level::Privileged;
        }
        let texts = |name: &str| {
            config.list_at(&["exemptions", name]).iter().filter_map(Value::as_str).map(str::to_owned).collect()
        };
        Ok(Self {
            defaults: policy,
            namespaces: texts("namespaces"),
            users: texts("usernames"),
            runtime_classes: texts("runtimeClasses"),
        })
    }

    fn exempts_class(&self, pod: &Value) -> bool {
        let class = pod.str_at(&["spec", "runtimeClassName"]);
        !class.is_empty() && self.runtime_classes.iter().any(|c| c == class)
    }
}

/// Where the pod or its template lies in a resource that has one.
fn template_path(group: &str, plural: &str) -> Option<&'static [&'static str]> {
    Some(match (group, plural) {
        ("", "pods") => &[],
        ("", "podtemplates") => &["template"],
        ("", "replicationcontrollers")
        | ("apps", "replicasets" | "deployments" | "statefulsets" | "daemonsets")
        | ("batch", "jobs") => &["spec", "template"],
        ("batch", "cronjobs") => &["spec", "jobTemplate", "spec", "template"],
        _ => return None,
    })
}

/// Judges pods, templates of pods, and namespaces whose level changes.
pub(super) fn check(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    if !attributes.writes() {
        return Ok(());
    }
    let served = &attributes.target.served;
    let subresource = attributes.target.subresource.as_str();
    if (served.group(), served.plural()) == ("", "namespaces") {
        return if subresource.is_empty() { namespace(attributes, object, old) } else { Ok(()) };
    }
    let Some(path) = template_path(served.group(), served.plural()) else { return Ok(()) };
    let is_pod = path.is_empty();
    // Of a pod's subresources these change nothing that is judged.
    let passes = match subresource {
        "" => false,
        "status" | "binding" | "eviction" | "exec" | "attach" | "log" | "portforward" | "proxy" => true,
        _ => !is_pod,
    };
    if passes {
        return Ok(());
    }
    let settings = &attributes.server.admission.pod_security;
    let notes = &attributes.target.notes;
    let note = |key: &str, value: String| notes.annotate(&format!("pod-security.kubernetes.io/{key}"), value);
    let exempt = |list: &[String], name: &str| list.iter().any(|n| n == name);
    if exempt(&settings.namespaces, &attributes.target.namespace) {
        note("exempt", "namespace".into());
        return Ok(());
    }
    if exempt(&settings.users, &attributes.target.user.name) {
        note("exempt", "user".into());
        return Ok(());
    }
    let namespace = attributes.server.read("", "namespaces", "", &attributes.target.namespace).unwrap_or_default();
    let (policy, errors) = Policy::of_namespace(&namespace, settings.defaults);
    if errors.is_empty() && policy.is_privileged() {
        if is_pod {
            note("enforce-policy", policy.enforce.to_string());
        }
        return Ok(());
    }
    if is_pod && old.is_some_and(|old| !is_significant(object, old)) {
        return Ok(());
    }
    let Some(pod) = object.at(path) else { return Ok(()) };
    if settings.exempts_class(pod) {
        note("exempt", "runtimeClass".into());
        return Ok(());
    }
    if !errors.is_empty() {
        let all: Vec<String> = errors.iter().map(trireme_schema::field::Error::body).collect();
        note("error", format!("Failed to parse policy: {}", all.join(", ")));
    }
    let judged = |standard: Standard| {
        let found = violations(standard, Pod::of(pod));
        (!found.is_empty()).then(|| format!("PodSecurity \"{standard}\": {}", details(&found)))
    };
    let enforced = if is_pod { judged(policy.enforce) } else { None };
    if is_pod {
        note("enforce-policy", policy.enforce.to_string());
    }
    if let Some(found) = judged(policy.audit) {
        note("audit-violations", format!("would violate {found}"));
    }
    if let Some(found) = enforced {
        return Err(attributes.forbidden(object, &format!("violates {found}")));
    }
    if let Some(found) = judged(policy.warn) {
        attributes.target.warnings.add([format!("would violate {found}")]);
    }
    Ok(())
}

/// Whether a change to a pod touches what is judged: of what can change, containers that come and images.
fn is_significant(new: &Value, old: &Value) -> bool {
    let images = |pod: &Value, list: &str| -> Vec<(String, String)> {
        let containers = pod.list_at(&["spec", list]).iter();
        containers.map(|c| (c.str_at(&["name"]).to_owned(), c.str_at(&["image"]).to_owned())).collect()
    };
    let old_ephemeral = images(old, "ephemeralContainers");
    ["containers", "initContainers"].iter().any(|list| images(new, list) != images(old, list))
        || images(new, "ephemeralContainers").iter().any(|c| !old_ephemeral.contains(c))
}

fn namespace(attributes: &Attributes<'_>, object: &Value, old: Option<&Value>) -> Result<(), Status> {
    let settings = &attributes.server.admission.pod_security;
    let (policy, errors) = Policy::of_namespace(object, settings.defaults);
    let (old_policy, old_errors) = old.map(|old| Policy::of_namespace(old, settings.defaults)).unwrap_or_default();
    if !errors.is_empty() && (attributes.operation == Operation::Create || errors != old_errors) {
        return Err(Status::invalid("", "Namespace", attributes.name(object), &errors));
    }
    let name = attributes.name(object);
    let exempt = settings.namespaces.iter().any(|n| n == name);
    let stricter = policy.enforce != old_policy.enforce
        && policy.enforce.level != Level::Privileged
        && (policy.enforce.version != old_policy.enforce.version || policy.enforce.level > old_policy.enforce.level);
    if exempt && (old.is_none() || stricter) {
        if let Some(ignored) = ignored(object, policy, settings.defaults) {
            let text =
                format!("namespace {name:?} is exempt from Pod Security, and the policy ({ignored}) will be ignored");
            attributes.target.warnings.add([text]);
        }
    } else if old.is_some() && stricter {
        attributes.target.warnings.add(existing_pods(attributes, name, policy.enforce));
    }
    Ok(())
}

/// What labels say that an exempt namespace does not heed.
fn ignored(object: &Value, policy: Policy, defaults: Policy) -> Option<String> {
    if policy.is_privileged() || policy == defaults {
        return None;
    }
    let labelled = |mode: &str| {
        let has = |key: String| object.at(&["metadata", "labels", &key]).is_some();
        has(format!("pod-security.kubernetes.io/{mode}")) || has(format!("pod-security.kubernetes.io/{mode}-version"))
    };
    let modes = [("enforce", policy.enforce), ("audit", policy.audit), ("warn", policy.warn)];
    let said = modes.iter().filter(|(mode, standard)| standard.level != Level::Privileged && labelled(mode));
    Some(said.map(|(mode, standard)| format!("{mode}={standard}")).collect::<Vec<_>>().join(", "))
}

/// Pods of a namespace that are looked at when its level changes.
const MOST_PODS: usize = 3000;

/// What is told of the pods that are there already: each sort of violation once, with the first pod's name.
fn existing_pods(attributes: &Attributes<'_>, namespace: &str, standard: Standard) -> Vec<String> {
    let settings = &attributes.server.admission.pod_security;
    let pods = attributes.server.read_all("", "pods", namespace);
    let mut controllers = HashSet::new();
    // One pod of each controller first: the others are like it.
    let (mut first, mut others) = (Vec::new(), Vec::new());
    for pod in pods.iter().filter(|pod| !settings.exempts_class(pod)) {
        let mut owners = pod.list_at(&["metadata", "ownerReferences"]).iter();
        match owners.find(|o| o.bool_at(&["controller"])).map(|o| o.str_at(&["uid"])) {
            Some(uid) if !controllers.insert(uid) => others.push(pod),
            _ => first.push(pod),
        }
    }
    first.extend(others);
    let total = first.len();
    let mut found: BTreeMap<String, (String, usize)> = BTreeMap::new();
    for pod in first.into_iter().take(MOST_PODS) {
        let violated = violations(standard, Pod::of(pod));
        if violated.is_empty() {
            continue;
        }
        let name = pod.str_at(&["metadata", "name"]);
        let entry = found.entry(reasons(&violated)).or_insert_with(|| (name.to_owned(), 0));
        entry.1 += 1;
        if name < entry.0.as_str() {
            name.clone_into(&mut entry.0);
        }
    }
    let mut warnings = Vec::new();
    if total > MOST_PODS {
        warnings.push(format!(
            "new PodSecurity enforce level only checked against the first {MOST_PODS} of {total} existing pods"
        ));
    }
    if !found.is_empty() {
        warnings.push(format!(
            "existing pods in namespace {namespace:?} violate the new PodSecurity enforce level \"{standard}\""
        ));
    }
    let mut each: Vec<String> = found
        .into_iter()
        .map(|(reasons, (pod, count))| match count {
            1 => format!("{pod}: {reasons}"),
            2 => format!("{pod} (and 1 other pod): {reasons}"),
            _ => format!("{pod} (and {} other pods): {reasons}", count - 1),
        })
        .collect();
    each.sort();
    warnings.extend(each);
    warnings
}

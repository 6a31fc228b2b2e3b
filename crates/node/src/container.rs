//! A container as CRI's.

use crate::config::NodeConfig;
use crate::cri::label;
use crate::environment::expand;
use crate::sandbox::namespaces;
use crate::spec::quantity;
use crate::volumes::{self, Volumes};
use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use trireme_cri as cri;
use trireme_schema::{Map, Value};

/// What hides of `/proc` and `/sys`, and what is read-only there, unless `procMount` says otherwise.
const MASKED: [&str; 11] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// CPU weight of an amount: 1024 for one, at least 2.
pub(crate) fn shares(milli: i64) -> i64 {
    if milli == 0 { 2 } else { (milli * 1024 / 1000).clamp(2, 262_144) }
}

/// Badness by class and share of memory (pkg/kubelet/qos).
fn oom_score(pod: &Value, container: &Value, memory: i64) -> i64 {
    match pod.str_at(&["status", "qosClass"]) {
        "Guaranteed" => -997,
        "BestEffort" => 1000,
        _ => {
            let request = quantity(container.at(&["resources", "requests", "memory"])).map_or(0, |q| q.value());
            (1000 - 1000 * request / memory.max(1)).clamp(3, 999)
        }
    }
}

/// A container's limits.
pub(crate) fn resources(pod: &Value, container: &Value, memory: i64) -> cri::LinuxContainerResources {
    let amount = |of: &str, name: &str| quantity(container.at(&["resources", of, name]));
    let request = amount("requests", "cpu").or_else(|| amount("limits", "cpu")).map_or(0, |q| q.milli_value());
    let quota = amount("limits", "cpu").map_or(0, |q| (q.milli_value() * 100).max(1000));
    cri::LinuxContainerResources {
        cpu_period: if quota > 0 { 100_000 } else { 0 },
        cpu_quota: quota,
        cpu_shares: shares(request),
        memory_limit_in_bytes: amount("limits", "memory").map_or(0, |q| q.value()),
        oom_score_adj: oom_score(pod, container, memory),
        hugepage_limits: hugepages(container),
        ..cri::LinuxContainerResources::default()
    }
}

/// Large pages that a container may have, by their size.
fn hugepages(container: &Value) -> Vec<cri::HugepageLimit> {
    let limits = container.at(&["resources", "limits"]).and_then(Value::as_object);
    let pages = limits.into_iter().flat_map(Map::iter).filter_map(|(name, value)| {
        let size = name.strip_prefix("hugepages-")?;
        let limit = quantity(Some(value))?.value();
        // The kernel writes sizes with a B.
        Some(cri::HugepageLimit { page_size: format!("{}B", size.replace('i', "")), limit: u64::try_from(limit).ok()? })
    });
    pages.collect()
}

/// What is needed besides the pod to make a container.
pub(crate) struct Needs<'a> {
    pub(crate) config: &'a NodeConfig,
    pub(crate) env: Vec<(String, String)>,
    pub(crate) attempt: u32,
    pub(crate) image: String,
    pub(crate) hosts: PathBuf,
    /// The machine's memory in bytes.
    pub(crate) memory: i64,
    /// The container whose processes an ephemeral one sees.
    pub(crate) target: Option<String>,
    pub(crate) volumes: &'a Volumes,
    /// Images of volumes, by volume.
    pub(crate) image_volumes: HashMap<String, String>,
}

/// Says whether a user that is root may run.
pub(crate) fn check_user(
    pod: &Value,
    container: &Value,
    image_uid: Option<i64>,
    image_user: &str,
) -> Result<(), String> {
    let own =
        |field: &str| container.at(&["securityContext", field]).or_else(|| pod.at(&["spec", "securityContext", field]));
    if own("runAsNonRoot").and_then(Value::as_bool) != Some(true) {
        return Ok(());
    }
    let name = container.str_at(&["name"]);
    match own("runAsUser").and_then(Value::as_int) {
        Some(0) => Err(format!(
            "container's runAsUser breaks non-root policy (pod: \"{}\", container: {name})",
            pod.str_at(&["metadata", "name"])
        )),
        Some(_) => Ok(()),
        None if image_uid == Some(0) || (image_uid.is_none() && image_user.is_empty()) => Err(format!(
            "container has runAsNonRoot and image will run as root (pod: \"{}\", container: {name})",
            pod.str_at(&["metadata", "name"])
        )),
        None if image_uid.is_none() => Err(format!(
            "container has runAsNonRoot and image has non-numeric user ({image_user}), cannot verify user is non-root (pod: \"{}\", container: {name})",
            pod.str_at(&["metadata", "name"])
        )),
        None => Ok(()),
    }
}

/// A container of a pod.
///
/// # Errors
/// What is missing.
pub(crate) fn container(pod: &Value, container: &Value, needs: Needs<'_>) -> Result<cri::ContainerConfig, String> {
    let name = container.str_at(&["name"]).to_owned();
    let known: BTreeMap<String, String> = needs.env.iter().cloned().collect();
    let texts = |field: &str| -> Vec<String> {
        container.list_at(&[field]).iter().filter_map(Value::as_str).map(|t| expand(t, &known)).collect()
    };
    let mut mounts = mounts(pod, container, &needs, &known)?;
    if !mounts.iter().any(|m: &cri::Mount| m.container_path == "/etc/hosts") {
        mounts.push(cri::Mount {
            container_path: "/etc/hosts".into(),
            host_path: needs.hosts.display().to_string(),
            ..cri::Mount::default()
        });
    }
    let message = termination_file(needs.config, pod, &name, needs.attempt);
    if let Some(above) = message.parent() {
        std::fs::create_dir_all(above).map_err(|e| e.to_string())?;
    }
    std::fs::write(&message, "").map_err(|e| e.to_string())?;
    // Programs of any user may say why they end.
    let _ = std::fs::set_permissions(&message, std::os::unix::fs::PermissionsExt::from_mode(0o666));
    mounts.push(cri::Mount {
        container_path: match container.str_at(&["terminationMessagePath"]) {
            "" => "/dev/termination-log".into(),
            path => path.to_owned(),
        },
        host_path: message.display().to_string(),
        ..cri::Mount::default()
    });
    let meta = |field| pod.str_at(&["metadata", field]).to_owned();
    let labels = HashMap::from([
        (label::POD.to_owned(), meta("name")),
        (label::NAMESPACE.to_owned(), meta("namespace")),
        (label::UID.to_owned(), meta("uid")),
        (label::CONTAINER.to_owned(), name.clone()),
    ]);
    Ok(cri::ContainerConfig {
        metadata: Some(cri::ContainerMetadata { name: name.clone(), attempt: needs.attempt }),
        image: Some(cri::ImageSpec {
            image: needs.image,
            user_specified_image: container.str_at(&["image"]).to_owned(),
            ..cri::ImageSpec::default()
        }),
        command: texts("command"),
        args: texts("args"),
        working_dir: container.str_at(&["workingDir"]).to_owned(),
        envs: needs.env.into_iter().map(|(key, value)| cri::KeyValue { key, value }).collect(),
        mounts,
        labels,
        annotations: HashMap::new(),
        log_path: format!("{name}/{}.log", needs.attempt),
        stdin: container.bool_at(&["stdin"]),
        stdin_once: container.bool_at(&["stdinOnce"]),
        tty: container.bool_at(&["tty"]),
        linux: Some(cri::LinuxContainerConfig {
            resources: Some(resources(pod, container, needs.memory)),
            security_context: Some(security(pod, container, needs.target, &needs.config.root.join(PROFILES))),
        }),
        ..cri::ContainerConfig::default()
    })
}

/// Where a container leaves its last words.
pub(crate) fn termination_file(config: &NodeConfig, pod: &Value, name: &str, attempt: u32) -> PathBuf {
    let dir = volumes::pod_dir(config, pod.str_at(&["metadata", "uid"]));
    dir.join("containers").join(name).join(attempt.to_string())
}

/// What a container finds in its directories.
fn mounts(
    pod: &Value,
    container: &Value,
    needs: &Needs<'_>,
    known: &BTreeMap<String, String>,
) -> Result<Vec<cri::Mount>, String> {
    let name = container.str_at(&["name"]);
    let mut mounts = Vec::new();
    for (i, mount) in container.list_at(&["volumeMounts"]).iter().enumerate() {
        let volume_name = mount.str_at(&["name"]);
        let volume = pod.list_at(&["spec", "volumes"]).iter().find(|v| v.str_at(&["name"]) == volume_name);
        let volume =
            volume.ok_or_else(|| format!("cannot find volume {volume_name:?} to mount into container {name:?}"))?;
        let sub = match mount.str_at(&["subPathExpr"]) {
            "" => mount.str_at(&["subPath"]).to_owned(),
            expression => expand_all(expression, known)?,
        };
        let container_path = mount.str_at(&["mountPath"]).to_owned();
        if let Some(image) = needs.image_volumes.get(volume_name) {
            let image = cri::ImageSpec { image: image.clone(), ..cri::ImageSpec::default() };
            mounts.push(cri::Mount {
                container_path,
                readonly: true,
                image: Some(image),
                image_sub_path: sub,
                ..cri::Mount::default()
            });
            continue;
        }
        let mut path = needs.volumes.path(needs.config, pod, volume).ok_or("no volume plugin matched")?;
        if !sub.is_empty() {
            let dir = volumes::pod_dir(needs.config, pod.str_at(&["metadata", "uid"]));
            let place = dir.join("volume-subpaths").join(volume_name).join(name).join(i.to_string());
            path = trireme_volumes::sub_path::bind(&path, &sub, place).map_err(|why| {
                format!("failed to prepare subPath for volumeMount {volume_name:?} of container {name:?}: {why}")
            })?;
        }
        let propagation = match mount.str_at(&["mountPropagation"]) {
            "HostToContainer" => cri::MountPropagation::PropagationHostToContainer,
            "Bidirectional" => cri::MountPropagation::PropagationBidirectional,
            _ => cri::MountPropagation::PropagationPrivate,
        };
        let recursive = matches!(mount.str_at(&["recursiveReadOnly"]), "Enabled" | "IfPossible");
        // Files that the agent keeps up to date are nobody else's to write (upstream: read-only since 1.9.6).
        let kept = ["configMap", "secret", "projected", "downwardAPI"].iter().any(|kind| volume.get(kind).is_some());
        mounts.push(cri::Mount {
            container_path,
            host_path: path.display().to_string(),
            readonly: mount.bool_at(&["readOnly"]) || kept,
            recursive_read_only: recursive,
            propagation: propagation as i32,
            ..cri::Mount::default()
        });
    }
    Ok(mounts)
}

/// Expands an expression of which every variable must be known.
fn expand_all(text: &str, known: &BTreeMap<String, String>) -> Result<String, String> {
    let mut rest = text;
    while let Some(at) = rest.find('$') {
        rest = &rest[at + 1..];
        if let Some(tail) = rest.strip_prefix('$') {
            rest = tail;
        } else if let Some((name, tail)) = rest.strip_prefix('(').and_then(|r| r.split_once(')')) {
            if !known.contains_key(name) {
                return Err(format!("missing value for {name:?}"));
            }
            rest = tail;
        }
    }
    Ok(expand(text, known))
}

/// Where an operator puts seccomp profiles, below the node's directory (the kubelet's `seccomp`).
const PROFILES: &str = "seccomp";

fn security(
    pod: &Value,
    container: &Value,
    target: Option<String>,
    profiles: &Path,
) -> cri::LinuxContainerSecurityContext {
    let own = |field: &str| container.at(&["securityContext", field]);
    let either = |field: &str| own(field).or_else(|| pod.at(&["spec", "securityContext", field]));
    let number = |field: &str| either(field).and_then(Value::as_int).map(|value| cri::Int64Value { value });
    let names = |field: &str| -> Vec<String> {
        let list = own("capabilities").map(|c| c.list_at(&[field])).unwrap_or_default();
        list.iter().filter_map(Value::as_str).map(str::to_owned).collect()
    };
    let privileged = own("privileged").and_then(Value::as_bool).unwrap_or_default();
    let mut groups: Vec<i64> =
        pod.list_at(&["spec", "securityContext", "supplementalGroups"]).iter().filter_map(Value::as_int).collect();
    groups.extend(pod.int_at(&["spec", "securityContext", "fsGroup"]));
    let profile = either("seccompProfile");
    let kind = match profile.map(|p| p.str_at(&["type"])) {
        Some("RuntimeDefault") => cri::security_profile::ProfileType::RuntimeDefault,
        Some("Localhost") => cri::security_profile::ProfileType::Localhost,
        _ => cri::security_profile::ProfileType::Unconfined,
    };
    let open = privileged || own("procMount").and_then(Value::as_str) == Some("Unmasked");
    let paths = |list: &[&str]| if open { Vec::new() } else { list.iter().map(|p| (*p).to_owned()).collect() };
    let strict = pod.str_at(&["spec", "securityContext", "supplementalGroupsPolicy"]) == "Strict";
    cri::LinuxContainerSecurityContext {
        capabilities: Some(cri::Capability {
            add_capabilities: names("add"),
            drop_capabilities: names("drop"),
            add_ambient_capabilities: Vec::new(),
        }),
        privileged,
        namespace_options: Some(match target {
            Some(target_id) => {
                cri::NamespaceOption { pid: cri::NamespaceMode::Target as i32, target_id, ..namespaces(pod) }
            }
            None => namespaces(pod),
        }),
        run_as_user: number("runAsUser"),
        run_as_group: number("runAsGroup"),
        readonly_rootfs: own("readOnlyRootFilesystem").and_then(Value::as_bool).unwrap_or_default(),
        supplemental_groups: groups,
        supplemental_groups_policy: i32::from(strict),
        no_new_privs: own("allowPrivilegeEscalation").and_then(Value::as_bool) == Some(false),
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        seccomp: Some(cri::SecurityProfile {
            profile_type: kind as i32,
            localhost_ref: match kind {
                cri::security_profile::ProfileType::Localhost => {
                    let name = profile.map(|p| p.str_at(&["localhostProfile"])).unwrap_or_default();
                    profiles.join(name).display().to_string()
                }
                _ => String::new(),
            },
        }),
        ..cri::LinuxContainerSecurityContext::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    fn value(text: &str) -> Value {
        json::parse(text.as_bytes()).unwrap()
    }

    #[test]
    fn root_is_refused_where_it_must_not_run() {
        let pod = value(r#"{"metadata":{"name":"p"},"spec":{"securityContext":{"runAsNonRoot":true}}}"#);
        for (container, uid, user, want) in [
            ("{}", Some(0), "", "container has runAsNonRoot and image will run as root"),
            ("{}", None, "", "container has runAsNonRoot and image will run as root"),
            (
                "{}",
                None,
                "web",
                "container has runAsNonRoot and image has non-numeric user (web), cannot verify user is non-root",
            ),
            ("{}", Some(7), "", ""),
            (r#"{"securityContext":{"runAsUser":0}}"#, Some(7), "", "container's runAsUser breaks non-root policy"),
            (r#"{"securityContext":{"runAsUser":5}}"#, None, "web", ""),
            (r#"{"securityContext":{"runAsNonRoot":false}}"#, Some(0), "", ""),
        ] {
            let why = check_user(&pod, &value(container), uid, user).err().unwrap_or_default();
            let fits = if want.is_empty() { why.is_empty() } else { why.starts_with(want) };
            assert!(fits, "{container} {uid:?} {user}: {why}");
        }
    }

    #[test]
    fn resources_become_shares_quotas_and_badness() {
        let pod = |class: &str| value(&format!(r#"{{"status":{{"qosClass":"{class}"}}}}"#));
        let container = value(
            r#"{"resources":{"requests":{"cpu":"250m","memory":"1Gi"},"limits":{"cpu":"500m","hugepages-2Mi":"4Mi"}}}"#,
        );
        let memory = 4 << 30;
        let made = resources(&pod("Burstable"), &container, memory);
        assert_eq!((made.cpu_shares, made.cpu_quota, made.cpu_period), (256, 50_000, 100_000));
        assert_eq!(made.oom_score_adj, 750);
        assert_eq!(made.hugepage_limits[0], cri::HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 });
        assert_eq!(resources(&pod("Guaranteed"), &container, memory).oom_score_adj, -997);
        assert_eq!(resources(&pod("BestEffort"), &Value::object(), memory).oom_score_adj, 1000);
        assert_eq!(resources(&pod("BestEffort"), &Value::object(), memory).cpu_shares, 2);
    }

    #[test]
    fn a_sub_path_needs_all_its_variables() {
        let known = BTreeMap::from([("A".to_owned(), "x".to_owned())]);
        assert_eq!(expand_all("$(A)/y", &known).unwrap(), "x/y");
        assert_eq!(expand_all("$(B)", &known).unwrap_err(), "missing value for \"B\"");
        assert_eq!(expand_all("$$(B)", &known).unwrap(), "$(B)");
    }
}

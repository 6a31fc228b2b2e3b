//! Volumes: what a pod's containers find in their directories.

use crate::calls;
use crate::config::NodeConfig;
use crate::environment;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};
use trireme_client::Client;
use trireme_schema::{Map, Value};

/// A volume's files: path within it, content, mode.
type Files = BTreeMap<PathBuf, (Vec<u8>, u32)>;

/// The directory of a pod.
pub(crate) fn pod_dir(config: &NodeConfig, uid: &str) -> PathBuf {
    config.root.join("pods").join(uid)
}

/// Where a volume lies on the host; `None` for a kind that is not known here.
pub(crate) fn path(config: &NodeConfig, pod: &Value, volume: &Value) -> Option<PathBuf> {
    if let Some(host) = volume.get("hostPath") {
        return Some(PathBuf::from(host.str_at(&["path"])));
    }
    let kind = ["emptyDir", "configMap", "secret", "projected", "downwardAPI"]
        .into_iter()
        .find(|k| volume.get(k).is_some())?;
    let dir = pod_dir(config, pod.str_at(&["metadata", "uid"]));
    Some(dir.join("volumes").join(format!("kubernetes.io~{kind}")).join(volume.str_at(&["name"])))
}

/// Makes a pod's volumes, or brings them up to date.
///
/// # Errors
/// What is missing, in upstream's words.
pub(crate) async fn set_up(config: &NodeConfig, client: &Client, pod: &Value) -> Result<(), String> {
    let group = pod.int_at(&["spec", "securityContext", "fsGroup"]).and_then(|g| u32::try_from(g).ok());
    for volume in pod.list_at(&["spec", "volumes"]) {
        let name = volume.str_at(&["name"]);
        let failed = |why: String| format!("MountVolume.SetUp failed for volume \"{name}\" : {why}");
        let Some(path) = path(config, pod, volume) else {
            return Err(failed("no volume plugin matched".into()));
        };
        if let Some(host) = volume.get("hostPath") {
            host_path(&path, host.str_at(&["type"])).map_err(failed)?;
            continue;
        }
        if let Some(empty) = volume.get("emptyDir") {
            empty_dir(&path, empty, group).map_err(|e| failed(e.to_string()))?;
            continue;
        }
        let files = files(client, pod, volume).await.map_err(failed)?;
        write(&path, &files, group).map_err(|e| failed(e.to_string()))?;
    }
    Ok(())
}

fn host_path(path: &Path, kind: &str) -> Result<(), String> {
    let metadata = fs::metadata(path);
    let is = |wanted: bool, what: &str| {
        if wanted { Ok(()) } else { Err(format!("hostPath type check failed: {} is not {what}", path.display())) }
    };
    match kind {
        "DirectoryOrCreate" if metadata.is_err() => fs::create_dir_all(path).map_err(|e| e.to_string()),
        "FileOrCreate" if metadata.is_err() => fs::File::create(path).map(drop).map_err(|e| e.to_string()),
        "Directory" | "DirectoryOrCreate" => is(metadata.is_ok_and(|m| m.is_dir()), "a directory"),
        "File" | "FileOrCreate" => is(metadata.is_ok_and(|m| m.is_file()), "a file"),
        "Socket" | "CharDevice" | "BlockDevice" => is(metadata.is_ok(), "there"),
        // Without a type nothing is checked; the mount itself makes a directory, as upstream's runtimes do.
        _ if metadata.is_err() => fs::create_dir_all(path).map_err(|e| e.to_string()),
        _ => Ok(()),
    }
}

fn empty_dir(path: &Path, spec: &Value, group: Option<u32>) -> std::io::Result<()> {
    if path.exists() {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    if spec.str_at(&["medium"]) == "Memory" {
        let limit =
            spec.at(&["sizeLimit"]).and_then(Value::as_str).and_then(|t| t.parse::<trireme_schema::Quantity>().ok());
        let data = limit.map_or_else(String::new, |q| format!("size={}", q.value()));
        let data = std::ffi::CString::new(data)?;
        rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), Some(data.as_c_str()))?;
    }
    fs::set_permissions(path, fs::Permissions::from_mode(if group.is_some() { 0o2777 } else { 0o777 }))?;
    if group.is_some() {
        chown(path, None, group)?;
    }
    Ok(())
}

/// The keys of a ConfigMap or Secret that a volume shows.
fn pick(source: &Value, data: &BTreeMap<String, Vec<u8>>, mode: u32, out: &mut Files) -> Result<(), String> {
    let items = source.list_at(&["items"]);
    if items.is_empty() {
        out.extend(data.iter().map(|(k, v)| (PathBuf::from(k), (v.clone(), mode))));
        return Ok(());
    }
    for item in items {
        let key = item.str_at(&["key"]);
        let mode = item.int_at(&["mode"]).map_or(mode, |m| m as u32);
        match data.get(key) {
            Some(bytes) => drop(out.insert(PathBuf::from(item.str_at(&["path"])), (bytes.clone(), mode))),
            None if source.bool_at(&["optional"]) => {}
            None => return Err(format!("references non-existent config key: {key}")),
        }
    }
    Ok(())
}

async fn keys(
    client: &Client,
    namespace: &str,
    plural: &str,
    name: &str,
    optional: bool,
) -> Result<BTreeMap<String, Vec<u8>>, String> {
    let found = match calls::get(client, &format!("/api/v1/namespaces/{namespace}/{plural}/{name}")).await {
        Ok(found) => found,
        Err(error) if error.is_not_found() && optional => return Ok(BTreeMap::new()),
        Err(error) if error.is_not_found() => {
            let kind = if plural == "secrets" { "secret" } else { "configmap" };
            return Err(format!("{kind} \"{name}\" not found"));
        }
        Err(error) => return Err(error.to_string()),
    };
    let mut out = BTreeMap::new();
    for (field, encoded) in [("data", plural == "secrets"), ("binaryData", true)] {
        for (key, value) in found.at(&[field]).and_then(Value::as_object).into_iter().flat_map(Map::iter) {
            let text = value.as_str().unwrap_or_default();
            let bytes = if encoded { STANDARD.decode(text).unwrap_or_default() } else { text.as_bytes().to_vec() };
            out.insert(key.to_string(), bytes);
        }
    }
    Ok(out)
}

fn downward(pod: &Value, items: &[Value], mode: u32, out: &mut Files) {
    for item in items {
        let mode = item.int_at(&["mode"]).map_or(mode, |m| m as u32);
        let text = match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(reference), _) => environment::field(pod, reference.str_at(&["fieldPath"])).unwrap_or_default(),
            (None, Some(reference)) => {
                let name = reference.str_at(&["containerName"]);
                let container = pod.list_at(&["spec", "containers"]).iter().find(|c| c.str_at(&["name"]) == name);
                container.map(|c| environment::resource(c, reference)).unwrap_or_default()
            }
            _ => continue,
        };
        out.insert(PathBuf::from(item.str_at(&["path"])), (text.into_bytes(), mode));
    }
}

async fn files(client: &Client, pod: &Value, volume: &Value) -> Result<Files, String> {
    let namespace = pod.str_at(&["metadata", "namespace"]);
    let mode = |source: &Value| source.int_at(&["defaultMode"]).map_or(0o644, |m| m as u32);
    let mut out = Files::new();
    if let Some(source) = volume.get("configMap") {
        let data =
            keys(client, namespace, "configmaps", source.str_at(&["name"]), source.bool_at(&["optional"])).await?;
        pick(source, &data, mode(source), &mut out)?;
    } else if let Some(source) = volume.get("secret") {
        let data =
            keys(client, namespace, "secrets", source.str_at(&["secretName"]), source.bool_at(&["optional"])).await?;
        pick(source, &data, mode(source), &mut out)?;
    } else if let Some(source) = volume.get("downwardAPI") {
        downward(pod, source.list_at(&["items"]), mode(source), &mut out);
    } else if let Some(projected) = volume.get("projected") {
        let mode = mode(projected);
        for source in projected.list_at(&["sources"]) {
            if let Some(source) = source.get("configMap") {
                let optional = source.bool_at(&["optional"]);
                let data = keys(client, namespace, "configmaps", source.str_at(&["name"]), optional).await?;
                pick(source, &data, mode, &mut out)?;
            } else if let Some(source) = source.get("secret") {
                let optional = source.bool_at(&["optional"]);
                let data = keys(client, namespace, "secrets", source.str_at(&["name"]), optional).await?;
                pick(source, &data, mode, &mut out)?;
            } else if let Some(source) = source.get("downwardAPI") {
                downward(pod, source.list_at(&["items"]), mode, &mut out);
            } else if let Some(source) = source.get("serviceAccountToken") {
                let token = token(client, pod, source).await?;
                out.insert(PathBuf::from(source.str_at(&["path"])), (token.into_bytes(), 0o644));
            }
        }
    }
    Ok(out)
}

async fn token(client: &Client, pod: &Value, source: &Value) -> Result<String, String> {
    let meta = |name| pod.str_at(&["metadata", name]);
    let account = match pod.str_at(&["spec", "serviceAccountName"]) {
        "" => "default",
        name => name,
    };
    let mut ask = Value::object();
    ask.set_at(&["apiVersion"], "authentication.k8s.io/v1");
    ask.set_at(&["kind"], "TokenRequest");
    if !source.str_at(&["audience"]).is_empty() {
        ask.set_at(&["spec", "audiences"], vec![source.str_at(&["audience"])]);
    }
    ask.set_at(&["spec", "expirationSeconds"], source.int_at(&["expirationSeconds"]).unwrap_or(3600));
    for (key, value) in [("apiVersion", "v1"), ("kind", "Pod"), ("name", meta("name")), ("uid", meta("uid"))] {
        ask.set_at(&["spec", "boundObjectRef", key], value);
    }
    let path = format!("/api/v1/namespaces/{}/serviceaccounts/{account}/token", meta("namespace"));
    let answer = calls::send(client, http::Method::POST, &path, calls::JSON, &ask).await;
    let answer = answer.map_err(|e| format!("failed to fetch token: {e}"))?;
    Ok(answer.str_at(&["status", "token"]).to_owned())
}

/// Replaces a volume's files at once: they lie in a directory of their own, and a link is turned to it (as upstream's
/// atomic writer does, so that readers see all of the old or all of the new).
fn write(dir: &Path, files: &Files, group: Option<u32>) -> std::io::Result<()> {
    fs::create_dir_all(dir)?;
    fs::set_permissions(dir, fs::Permissions::from_mode(0o755))?;
    let current = dir.join("..data");
    let same = files.iter().all(|(path, (bytes, _))| {
        // A token differs each time; it is replaced when it has become old.
        fs::read(current.join(path)).is_ok_and(|have| have == *bytes)
    });
    let count = |dir: &Path| fs::read_dir(dir).map(|d| d.count()).unwrap_or_default();
    if same && current.exists() && count(&current) > 0 {
        return Ok(());
    }
    let stamp = jiff::Timestamp::now().strftime("..%Y_%m_%d_%H_%M_%S.%N").to_string();
    let fresh = dir.join(&stamp);
    fs::create_dir(&fresh)?;
    for (path, (bytes, mode)) in files {
        let safe = path.components().all(|c| matches!(c, std::path::Component::Normal(_)));
        if !safe {
            return Err(std::io::Error::other(format!("{} leads out of the volume", path.display())));
        }
        let target = fresh.join(path);
        if let Some(above) = target.parent() {
            fs::create_dir_all(above)?;
        }
        fs::write(&target, bytes)?;
        let mode = if group.is_some() { mode | 0o040 } else { *mode };
        fs::set_permissions(&target, fs::Permissions::from_mode(mode))?;
        if group.is_some() {
            chown(&target, None, group)?;
        }
    }
    let old = fs::read_link(&current).ok();
    let turning = dir.join("..data_tmp");
    let _ = fs::remove_file(&turning);
    symlink(&stamp, &turning)?;
    fs::rename(&turning, &current)?;
    let mut tops: Vec<PathBuf> =
        files.keys().filter_map(|p| p.components().next().map(|c| PathBuf::from(c.as_os_str()))).collect();
    tops.dedup();
    for top in &tops {
        let link = dir.join(top);
        if fs::symlink_metadata(&link).is_err() {
            symlink(Path::new("..data").join(top), &link)?;
        }
    }
    for entry in fs::read_dir(dir)?.flatten() {
        let name = PathBuf::from(entry.file_name());
        if !name.to_string_lossy().starts_with("..") && !tops.contains(&name) {
            fs::remove_file(entry.path())?;
        }
    }
    if let Some(old) = old {
        let _ = fs::remove_dir_all(dir.join(old));
    }
    Ok(())
}

/// Removes a pod's directory, and what is mounted below it.
pub(crate) fn tear_down(config: &NodeConfig, uid: &str) {
    remove(&pod_dir(config, uid));
}

/// Removes the directories of all pods of a node whose pods are gone; `root` is the node's directory.
pub fn tear_down_all(root: &Path) {
    remove(&root.join("pods"));
}

fn remove(dir: &Path) {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    for line in mounts.lines().rev() {
        let Some(at) = line.split(' ').nth(1).map(PathBuf::from).filter(|at| at.starts_with(dir)) else { continue };
        if let Err(error) = rustix::mount::unmount(&at, rustix::mount::UnmountFlags::DETACH) {
            tracing::warn!(path = %at.display(), %error, "cannot unmount a volume");
        }
    }
    match fs::remove_dir_all(dir) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            tracing::warn!(path = %dir.display(), %error, "cannot remove a pod's directory");
        }
        _ => {}
    }
}

/// The pod's hosts file, for containers that share its network.
pub(crate) fn hosts(config: &NodeConfig, pod: &Value, ips: &[String]) -> std::io::Result<PathBuf> {
    let dir = pod_dir(config, pod.str_at(&["metadata", "uid"]));
    fs::create_dir_all(&dir)?;
    let path = dir.join("etc-hosts");
    let mut text = if pod.bool_at(&["spec", "hostNetwork"]) {
        fs::read_to_string("/etc/hosts").unwrap_or_default()
    } else {
        let mut text = String::from(
            "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\nfe00::0\tip6-localnet\nfe00::0\tip6-mcastprefix\nfe00::1\tip6-allnodes\nfe00::2\tip6-allrouters\n",
        );
        let name = crate::sandbox::hostname(pod);
        let domain = pod.str_at(&["spec", "subdomain"]);
        for ip in ips {
            match domain {
                "" => text.push_str(&format!("{ip}\t{name}\n")),
                domain => {
                    let namespace = pod.str_at(&["metadata", "namespace"]);
                    let full = format!("{name}.{domain}.{namespace}.svc.{}", config.cluster_domain);
                    text.push_str(&format!("{ip}\t{full}\t{name}\n"));
                }
            }
        }
        text
    };
    for alias in pod.list_at(&["spec", "hostAliases"]) {
        let names: Vec<&str> = alias.list_at(&["hostnames"]).iter().filter_map(Value::as_str).collect();
        text.push_str(&format!("{}\t{}\n", alias.str_at(&["ip"]), names.join("\t")));
    }
    fs::write(&path, text)?;
    Ok(path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_replaced_at_once_and_stale_ones_go() {
        let dir = tempfile::tempdir().unwrap();
        let files = |names: &[&str]| -> Files {
            names.iter().map(|n| (PathBuf::from(n), (n.as_bytes().to_vec(), 0o640))).collect()
        };
        write(dir.path(), &files(&["a", "d/b"]), None).unwrap();
        assert_eq!(fs::read(dir.path().join("d/b")).unwrap(), b"d/b");
        let first = fs::read_link(dir.path().join("..data")).unwrap();
        write(dir.path(), &files(&["c"]), None).unwrap();
        assert!(!dir.path().join("a").exists() && dir.path().join("c").exists());
        assert_ne!(fs::read_link(dir.path().join("..data")).unwrap(), first);
        assert!(write(dir.path(), &files(&["../x"]), None).is_err());
    }
}

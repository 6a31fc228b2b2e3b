//! Volumes that are claimed: where the volume of a claim lies on this machine.

use crate::calls;
use std::path::PathBuf;
use trireme_client::Client;
use trireme_schema::Value;

/// The claim that a volume names, or that was made for it.
pub(super) fn name(pod: &Value, volume: &Value) -> Option<String> {
    if let Some(claim) = volume.get("persistentVolumeClaim") {
        return Some(claim.str_at(&["claimName"]).to_owned());
    }
    volume.get("ephemeral")?;
    Some(format!("{}-{}", pod.str_at(&["metadata", "name"]), volume.str_at(&["name"])))
}

/// Finds the directory of a claim's volume: those of the kinds `hostPath` and `local`.
pub(super) async fn locate(client: &Client, pod: &Value, claim: &str) -> Result<PathBuf, String> {
    let namespace = pod.str_at(&["metadata", "namespace"]);
    let path = format!("/api/v1/namespaces/{namespace}/persistentvolumeclaims/{claim}");
    let found = calls::get(client, &path).await.map_err(|e| e.to_string())?;
    let volume = found.str_at(&["spec", "volumeName"]);
    if volume.is_empty() || found.str_at(&["status", "phase"]) != "Bound" {
        return Err(format!("persistentvolumeclaim {claim:?} is not bound"));
    }
    let volume = calls::get(client, &format!("/api/v1/persistentvolumes/{volume}")).await.map_err(|e| e.to_string())?;
    if let Some(host) = volume.at(&["spec", "hostPath"]) {
        let path = PathBuf::from(host.str_at(&["path"]));
        trireme_volumes::host_path::check(&path, host.str_at(&["type"]))?;
        return Ok(path);
    }
    match volume.str_at(&["spec", "local", "path"]) {
        "" => Err("no volume plugin matched".to_owned()),
        path if PathBuf::from(path).exists() => Ok(PathBuf::from(path)),
        path => Err(format!("path {path:?} does not exist")),
    }
}

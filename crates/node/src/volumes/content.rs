//! What the files of a volume say.

use super::ownership::Ownership;
use super::token::Token;
use crate::calls;
use crate::environment;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use std::collections::{BTreeMap, HashMap};
use std::path::PathBuf;
use trireme_client::Client;
use trireme_schema::{Map, Value};
use trireme_volumes::{File, Files};

/// What a source is, for who reads why it is missing.
#[derive(Clone, Copy)]
enum Kind {
    ConfigMap,
    Secret,
}

impl Kind {
    fn plural(self) -> &'static str {
        match self {
            Self::ConfigMap => "configmaps",
            Self::Secret => "secrets",
        }
    }

    fn missing(self, key: &str) -> String {
        match self {
            Self::ConfigMap => format!("configmap references non-existent config key: {key}"),
            Self::Secret => format!("references non-existent secret key: {key}"),
        }
    }
}

/// The files of a volume.
///
/// # Errors
/// What is missing, in upstream's words.
pub(super) async fn files(
    client: &Client,
    pod: &Value,
    volume: &Value,
    ownership: &Ownership,
    tokens: &mut HashMap<(String, PathBuf), Token>,
    node: &Value,
) -> Result<Files, String> {
    let mut out = Files::new();
    let mode = |source: &Value| source.int_at(&["defaultMode"]).map_or(0o644, |m| m as u32);
    if let Some(source) = volume.get("configMap") {
        named(client, pod, Kind::ConfigMap, source, "name", mode(source), &mut out).await?;
    } else if let Some(source) = volume.get("secret") {
        named(client, pod, Kind::Secret, source, "secretName", mode(source), &mut out).await?;
    } else if let Some(source) = volume.get("downwardAPI") {
        downward(pod, source.list_at(&["items"]), mode(source), node, &mut out)?;
    } else if let Some(projected) = volume.get("projected") {
        let mode = mode(projected);
        for source in projected.list_at(&["sources"]) {
            if let Some(source) = source.get("configMap") {
                named(client, pod, Kind::ConfigMap, source, "name", mode, &mut out).await?;
            } else if let Some(source) = source.get("secret") {
                named(client, pod, Kind::Secret, source, "name", mode, &mut out).await?;
            } else if let Some(source) = source.get("downwardAPI") {
                downward(pod, source.list_at(&["items"]), mode, node, &mut out)?;
            } else if let Some(source) = source.get("serviceAccountToken") {
                let path = PathBuf::from(source.str_at(&["path"]));
                let key = (volume.str_at(&["name"]).to_owned(), path.clone());
                let known = tokens.get(&key).filter(|t| !t.fresh_for().is_zero()).cloned();
                let token = match known {
                    Some(token) => token,
                    None => Token::issue(client, pod, source).await?,
                };
                let bytes = token.text.clone().into_bytes();
                tokens.insert(key, token);
                // Only those read it who run as the pod's user, or in its group.
                let private = ownership.user.is_some() || ownership.group.is_some();
                let mode = if private { 0o600 } else { mode };
                out.insert(path, File { bytes, mode, owner: ownership.user });
            } else if let Some(source) = source.get("clusterTrustBundle") {
                let bytes = bundle(client, source).await?.into_bytes();
                out.insert(PathBuf::from(source.str_at(&["path"])), File { bytes, mode, owner: None });
            } else {
                return Err("this kind of projected source is not supported".to_owned());
            }
        }
    }
    Ok(out)
}

/// The files of a ConfigMap or Secret.
async fn named(
    client: &Client,
    pod: &Value,
    kind: Kind,
    source: &Value,
    field: &str,
    mode: u32,
    out: &mut Files,
) -> Result<(), String> {
    let namespace = pod.str_at(&["metadata", "namespace"]);
    let (name, optional) = (source.str_at(&[field]), source.bool_at(&["optional"]));
    let path = format!("/api/v1/namespaces/{namespace}/{}/{name}", kind.plural());
    let data = match calls::get(client, &path).await {
        Ok(found) => keys(&found, kind),
        Err(error) if error.is_not_found() && optional => BTreeMap::new(),
        Err(error) if error.is_not_found() => {
            return Err(format!("{} {name:?} not found", kind.plural().trim_end_matches('s')));
        }
        Err(error) => return Err(error.to_string()),
    };
    pick(source, &data, kind, mode, out)
}

/// The keys of a ConfigMap or Secret.
fn keys(found: &Value, kind: Kind) -> BTreeMap<String, Vec<u8>> {
    let mut out = BTreeMap::new();
    for (field, encoded) in [("data", matches!(kind, Kind::Secret)), ("binaryData", true)] {
        for (key, value) in found.at(&[field]).and_then(Value::as_object).into_iter().flat_map(Map::iter) {
            let text = value.as_str().unwrap_or_default();
            let bytes = if encoded { STANDARD.decode(text).unwrap_or_default() } else { text.as_bytes().to_vec() };
            out.insert(key.to_string(), bytes);
        }
    }
    out
}

/// The keys that a volume shows.
fn pick(
    source: &Value,
    data: &BTreeMap<String, Vec<u8>>,
    kind: Kind,
    mode: u32,
    out: &mut Files,
) -> Result<(), String> {
    let items = source.list_at(&["items"]);
    if items.is_empty() {
        out.extend(data.iter().map(|(k, v)| (PathBuf::from(k), File { bytes: v.clone(), mode, owner: None })));
        return Ok(());
    }
    for item in items {
        let key = item.str_at(&["key"]);
        let mode = item.int_at(&["mode"]).map_or(mode, |m| m as u32);
        match data.get(key) {
            Some(bytes) => {
                out.insert(PathBuf::from(item.str_at(&["path"])), File { bytes: bytes.clone(), mode, owner: None });
            }
            None if source.bool_at(&["optional"]) => {}
            None => return Err(kind.missing(key)),
        }
    }
    Ok(())
}

/// What a pod is told of itself.
fn downward(pod: &Value, items: &[Value], mode: u32, node: &Value, out: &mut Files) -> Result<(), String> {
    for item in items {
        let mode = item.int_at(&["mode"]).map_or(mode, |m| m as u32);
        let text = match (item.get("fieldRef"), item.get("resourceFieldRef")) {
            (Some(reference), _) => environment::field(pod, reference.str_at(&["fieldPath"])).unwrap_or_default(),
            (None, Some(reference)) => {
                let name = reference.str_at(&["containerName"]);
                let container =
                    crate::spec::container(pod, name).ok_or_else(|| format!("container {name} not found"))?;
                environment::resource(container, reference, node)
            }
            _ => continue,
        };
        out.insert(PathBuf::from(item.str_at(&["path"])), File { bytes: text.into_bytes(), mode, owner: None });
    }
    Ok(())
}

/// The certificates of a bundle by name, or of all bundles of a signer.
async fn bundle(client: &Client, source: &Value) -> Result<String, String> {
    let all = "/apis/certificates.k8s.io/v1beta1/clustertrustbundles";
    let (name, optional) = (source.str_at(&["name"]), source.bool_at(&["optional"]));
    if !name.is_empty() {
        return match calls::get(client, &format!("{all}/{name}")).await {
            Ok(found) => Ok(found.str_at(&["spec", "trustBundle"]).to_owned()),
            Err(error) if error.is_not_found() && optional => Ok(String::new()),
            Err(error) => Err(error.to_string()),
        };
    }
    let signer = source.str_at(&["signerName"]);
    let selector = trireme_schema::LabelSelector::from_labels(
        source
            .at(&["labelSelector", "matchLabels"])
            .and_then(Value::as_object)
            .into_iter()
            .flat_map(Map::iter)
            .filter_map(|(k, v)| Some((k.as_str(), v.as_str()?))),
    );
    let found = calls::get(client, all).await.map_err(|e| e.to_string())?;
    let fits =
        |b: &&Value| b.str_at(&["spec", "signerName"]) == signer && selector.matches(b.at(&["metadata", "labels"]));
    let texts: Vec<&str> =
        found.list_at(&["items"]).iter().filter(fits).map(|b| b.str_at(&["spec", "trustBundle"])).collect();
    match texts.is_empty() && !optional {
        true => {
            Err(format!("combination of signerName and labelSelector matched zero ClusterTrustBundles for {signer:?}"))
        }
        false => Ok(texts.join("\n")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use trireme_schema::json;

    #[test]
    fn items_choose_keys_and_missing_ones_are_told() {
        let data = BTreeMap::from([("a".to_owned(), b"1".to_vec()), ("b".to_owned(), b"2".to_vec())]);
        let files = |source: &str| {
            let mut out = Files::new();
            let source = json::parse(source.as_bytes()).unwrap();
            pick(&source, &data, Kind::ConfigMap, 0o644, &mut out)
                .map(|()| out.into_iter().map(|(p, f)| (p.display().to_string(), f.mode)).collect::<Vec<_>>())
        };
        assert_eq!(files("{}").unwrap(), [("a".to_owned(), 0o644), ("b".to_owned(), 0o644)]);
        let item = r#"{"items":[{"key":"a","path":"x/y","mode":256}]}"#;
        assert_eq!(files(item).unwrap(), [("x/y".to_owned(), 0o400)]);
        let missing = r#"{"items":[{"key":"c","path":"x"}]}"#;
        assert_eq!(files(missing).unwrap_err(), "configmap references non-existent config key: c");
        assert_eq!(files(r#"{"optional":true,"items":[{"key":"c","path":"x"}]}"#).unwrap(), []);
    }
}

//! Credentials from a pod's `imagePullSecrets`.

use crate::calls;
use crate::environment::secret_text;
use trireme_client::Client;
use trireme_cri::AuthConfig;
use trireme_schema::{Value, json};

/// The credentials of a pod that fit an image, the closest first.
pub(crate) async fn find(client: &Client, pod: &Value, image: &str) -> Vec<Option<AuthConfig>> {
    let namespace = pod.str_at(&["metadata", "namespace"]);
    let mut found: Vec<(usize, AuthConfig)> = Vec::new();
    for reference in pod.list_at(&["spec", "imagePullSecrets"]) {
        let path = format!("/api/v1/namespaces/{namespace}/secrets/{}", reference.str_at(&["name"]));
        // One that is not there may come later; the pull goes on without it.
        let Ok(secret) = calls::get(client, &path).await else { continue };
        let text = |key: &str| secret.at(&["data", key]).map(secret_text).unwrap_or_default();
        let parse = |text: String| json::parse(text.as_bytes()).unwrap_or_default();
        let config = parse(text(".dockerconfigjson"));
        let old = parse(text(".dockercfg"));
        for auths in [config.at(&["auths"]), Some(&old)] {
            for (server, entry) in auths.and_then(Value::as_object).into_iter().flat_map(|m| m.iter()) {
                if let Some(closeness) = fits(server, image) {
                    found.push((closeness, auth(server, entry)));
                }
            }
        }
    }
    found.sort_by_key(|(closeness, _)| std::cmp::Reverse(*closeness));
    found.into_iter().map(|(_, auth)| Some(auth)).collect()
}

fn auth(server: &str, entry: &Value) -> AuthConfig {
    let text = |field: &str| entry.str_at(&[field]).to_owned();
    AuthConfig {
        username: text("username"),
        password: text("password"),
        auth: text("auth"),
        server_address: server.to_owned(),
        identity_token: text("identitytoken"),
        registry_token: text("registrytoken"),
    }
}

/// How closely a server's key fits an image: the length of what they share; none when it is about another.
fn fits(server: &str, image: &str) -> Option<usize> {
    let server = server.trim_start_matches("https://").trim_start_matches("http://").trim_end_matches('/');
    let (host, path) = server.split_once('/').unwrap_or((server, ""));
    // `/v1/` and `/v2/` name the protocol, not a part of the registry.
    let path = if matches!(path, "v1" | "v2") { "" } else { path };
    let (first, rest) = image.split_once('/').unwrap_or(("", image));
    let is_host = first.contains(['.', ':']) || first == "localhost";
    let (registry, name) = if is_host { (first, rest) } else { ("docker.io", image) };
    let same = match host.split_once('*') {
        Some(("", tail)) => registry.strip_suffix(tail).is_some_and(|head| !head.is_empty() && !head.contains('.')),
        _ => host == registry || (registry == "docker.io" && host == "index.docker.io"),
    };
    let under = path.is_empty() || name.strip_prefix(path).is_some_and(|tail| tail.starts_with(['/', ':', '@']));
    (same && under).then_some(server.len())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_go_to_their_own_registry_only() {
        for (server, image, want) in [
            ("reg.example.com", "reg.example.com/a/b:1", true),
            ("https://reg.example.com/v2/", "reg.example.com/a/b:1", true),
            ("reg.example.com/a", "reg.example.com/a/b:1", true),
            ("reg.example.com/a", "reg.example.com/ab:1", false),
            ("reg.example.com", "reg.example.com.evil.org/a", false),
            ("*.example.com", "reg.example.com/a", true),
            ("*.example.com", "a.b.example.com/a", false),
            ("https://index.docker.io/v1/", "nginx", true),
            ("https://index.docker.io/v1/", "me/nginx:1", true),
            ("localhost:5000", "localhost:5000/x", true),
            ("localhost:5000", "localhost:5001/x", false),
        ] {
            assert_eq!(fits(server, image).is_some(), want, "{server} {image}");
        }
    }
}

//! What a request asks for, read from its method and URL.

use percent_encoding::percent_decode_str;
use std::collections::BTreeMap;

/// A request's target and verb (apiserver `RequestInfo`).
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RequestInfo {
    /// Whether it is about a resource; otherwise only `path` and `verb` matter.
    pub is_resource: bool,
    /// The path as given.
    pub path: String,
    /// `get list watch create update patch delete deletecollection`, or the method for other paths.
    pub verb: String,
    /// The API group.
    pub group: String,
    /// The version.
    pub version: String,
    /// The namespace; for a Namespace, its own name.
    pub namespace: String,
    /// The resource.
    pub resource: String,
    /// The subresource.
    pub subresource: String,
    /// The object's name.
    pub name: String,
    /// What follows a subresource (`proxy`).
    pub rest: String,
    /// The field selector of a list, a watch or the deletion of many.
    pub field_selector: String,
    /// The label selector of those.
    pub label_selector: String,
}

/// Query parameters, in the order of their names; the last of several wins.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Query(BTreeMap<String, Vec<String>>);

impl Query {
    /// Reads `a=b&c=d`.
    pub fn parse(text: &str) -> Self {
        let mut map: BTreeMap<String, Vec<String>> = BTreeMap::new();
        for pair in text.split('&').filter(|p| !p.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            // Go leaves out what it cannot read.
            if let (Some(key), Some(value)) = (unescaped(key), unescaped(value)) {
                map.entry(key).or_default().push(value);
            }
        }
        Self(map)
    }

    /// The first value of a parameter; empty when absent.
    pub fn get(&self, name: &str) -> &str {
        self.0.get(name).and_then(|v| v.first()).map_or("", String::as_str)
    }

    /// Whether a parameter is there.
    pub fn has(&self, name: &str) -> bool {
        self.0.contains_key(name)
    }

    /// All values of a parameter.
    pub fn all(&self, name: &str) -> &[String] {
        self.0.get(name).map(Vec::as_slice).unwrap_or_default()
    }

    /// A truth value as Go's conversion reads it: `false` and `0` are false, any other text is true.
    pub fn flag(&self, name: &str) -> bool {
        self.has(name) && !matches!(self.get(name).to_ascii_lowercase().as_str(), "false" | "0")
    }
}

/// A part of a query; `None` when a percent sign does not begin an escape, or for a semicolon.
fn unescaped(text: &str) -> Option<String> {
    let escapes = text.split('%').skip(1);
    let broken = |escape: &str| !escape.bytes().take(2).filter(u8::is_ascii_hexdigit).count().eq(&2);
    if text.contains(';') || escapes.into_iter().any(broken) {
        return None;
    }
    Some(percent_decode_str(&text.replace('+', " ")).decode_utf8_lossy().into_owned())
}

impl RequestInfo {
    /// Reads a request's target.
    pub fn read(method: &http::Method, path: &str, query: &Query) -> Self {
        let mut info = Self { path: path.to_owned(), verb: method.as_str().to_ascii_lowercase(), ..Self::default() };
        // An empty segment within is one: `namespaces//pods` is about pods of all namespaces.
        let segments: Vec<String> =
            path.trim_matches('/').split('/').map(|s| percent_decode_str(s).decode_utf8_lossy().into_owned()).collect();
        let parts: Vec<&str> = segments.iter().map(String::as_str).collect();
        let mut rest = match parts[..] {
            ["api", version, ref rest @ ..] if !rest.is_empty() => {
                info.version = version.to_owned();
                rest
            }
            ["apis", group, version, ref rest @ ..] if !rest.is_empty() => {
                (info.group, info.version) = (group.to_owned(), version.to_owned());
                rest
            }
            _ => return info,
        };
        info.is_resource = true;
        let mut verb = match method.as_str() {
            "GET" | "HEAD" => "get",
            "POST" => "create",
            "PUT" => "update",
            "PATCH" => "patch",
            "DELETE" => "delete",
            _ => "",
        };
        if let [legacy @ ("watch" | "proxy"), tail @ ..] = rest
            && !tail.is_empty()
        {
            verb = legacy;
            rest = tail;
        }
        match rest {
            ["namespaces", namespace, tail @ ..] => {
                info.namespace = (*namespace).to_owned();
                // /namespaces/NAME and its subresources are about the namespace itself.
                if !tail.is_empty() && !matches!(tail[0], "status" | "finalize") {
                    rest = tail;
                }
            }
            _ => info.namespace = String::new(),
        }
        let mut parts = rest.iter();
        info.resource = parts.next().map(|s| (*s).to_owned()).unwrap_or_default();
        info.name = parts.next().map(|s| (*s).to_owned()).unwrap_or_default();
        info.subresource = parts.next().map(|s| (*s).to_owned()).unwrap_or_default();
        info.rest = parts.copied().collect::<Vec<_>>().join("/");
        if info.resource == "namespaces" && rest.len() == 1 {
            info.namespace = String::new();
        }
        if verb == "get" && info.name.is_empty() {
            verb = if query.flag("watch") { "watch" } else { "list" };
        }
        if verb == "watch" || verb == "list" {
            // A list of one by its name is authorized as that one.
            if let Ok(selector) = trireme_schema::FieldSelector::parse(query.get("fieldSelector"))
                && info.name.is_empty()
                && let Some(name) = selector.exact("metadata.name")
            {
                info.name = name.to_owned();
            }
        }
        if verb == "delete" && info.name.is_empty() {
            verb = "deletecollection";
        }
        if matches!(verb, "list" | "watch" | "deletecollection") {
            info.field_selector = query.get("fieldSelector").to_owned();
            info.label_selector = query.get("labelSelector").to_owned();
        }
        info.verb = verb.to_owned();
        info
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn info(method: &str, url: &str) -> RequestInfo {
        let (path, query) = url.split_once('?').unwrap_or((url, ""));
        RequestInfo::read(&method.parse().unwrap(), path, &Query::parse(query))
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        for (method, url, verb, group, namespace, resource, name, sub) in [
            ("GET", "/api/v1/pods", "list", "", "", "pods", "", ""),
            ("GET", "/api/v1/namespaces/a/pods/b/log", "get", "", "a", "pods", "b", "log"),
            ("GET", "/api/v1/namespaces", "list", "", "", "namespaces", "", ""),
            ("PUT", "/api/v1/namespaces/a/finalize", "update", "", "a", "namespaces", "a", "finalize"),
            (
                "DELETE",
                "/apis/apps/v1/namespaces/a/deployments",
                "deletecollection",
                "apps",
                "a",
                "deployments",
                "",
                "",
            ),
            ("GET", "/api/v1/namespaces//pods", "list", "", "", "pods", "", ""),
            ("GET", "/api/v1/nodes?watch=true", "watch", "", "", "nodes", "", ""),
            ("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dx", "list", "", "", "pods", "x", ""),
        ] {
            let got = info(method, url);
            let want = (verb, group, namespace, resource, name, sub);
            let got = (&*got.verb, &*got.group, &*got.namespace, &*got.resource, &*got.name, &*got.subresource);
            assert_eq!(got, want, "{method} {url}");
        }
        assert!(!info("GET", "/healthz").is_resource);
        assert!(!info("GET", "/apis/apps/v1").is_resource);
        assert_eq!(info("GET", "/api/v1/namespaces/a/services/s/proxy/x/y").rest, "x/y");
    }

    #[test]
    fn queries_are_read_as_go_reads_them() {
        let query = Query::parse("a=1&b=%zz&c=x+y%20z&a=2&d&e=%4&f=1;g=2");
        assert_eq!((query.get("a"), query.all("a").len(), query.get("c")), ("1", 2, "x y z"));
        assert!(query.has("d") && !query.has("b") && !query.has("e") && !query.has("f"));
    }
}

//! Image names: `[registry/]repository[:tag][@digest]`, with the normalisation that every user expects since Docker
//! (distribution/reference grammar): `nginx` is `docker.io/library/nginx:latest`.

use std::fmt;
use std::str::FromStr;

use super::digest::Digest;
use super::error::{ImageError, Result};

/// The registry of names that name none.
pub const DEFAULT_REGISTRY: &str = "docker.io";
/// The longest repository name, registry included, that the grammar allows.
const MAX_NAME: usize = 255;

/// A complete image name.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    registry: String,
    repository: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

// === impl Reference ===

impl Reference {
    /// Reads a name and completes it: registry `docker.io`, namespace `library`, tag `latest` when there is neither tag
    /// nor digest.
    pub fn parse(text: &str) -> Result<Self> {
        parse(text).map_err(|reason| ImageError::InvalidReference { reference: text.to_owned(), reason })
    }

    /// The registry, `host[:port]`, `docker.io` for Docker Hub.
    pub fn registry(&self) -> &str {
        &self.registry
    }

    /// The repository within the registry.
    pub fn repository(&self) -> &str {
        &self.repository
    }

    /// The tag, if the name has one.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest, if the name has one.
    pub fn digest(&self) -> Option<Digest> {
        self.digest
    }

    /// `registry/repository`, without tag and digest.
    pub fn name(&self) -> String {
        format!("{}/{}", self.registry, self.repository)
    }

    /// The form under `repoTags`: none when the name is pinned to a digest, which no tag can change.
    pub fn repo_tag(&self) -> Option<String> {
        match (&self.tag, self.digest) {
            (Some(tag), None) => Some(format!("{}/{}:{tag}", self.registry, self.repository)),
            _ => None,
        }
    }

    /// The form under `repoDigests` for a manifest.
    pub fn repo_digest(&self, manifest: Digest) -> String {
        format!("{}/{}@{manifest}", self.registry, self.repository)
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.registry, self.repository)?;
        if let Some(tag) = &self.tag {
            write!(f, ":{tag}")?;
        }
        if let Some(digest) = &self.digest {
            write!(f, "@{digest}")?;
        }
        Ok(())
    }
}

impl FromStr for Reference {
    type Err = ImageError;

    fn from_str(text: &str) -> Result<Self> {
        Reference::parse(text)
    }
}

fn parse(text: &str) -> std::result::Result<Reference, String> {
    const FORMAT: &str = "invalid reference format";
    if text.is_empty() {
        return Err(FORMAT.into());
    }
    let (rest, digest) = match text.split_once('@') {
        Some((rest, digest)) => (rest, Some(digest.parse::<Digest>().map_err(|error| error.to_string())?)),
        None => (text, None),
    };
    // A colon after the last slash separates the tag; one before it belongs to the registry's port.
    let last_part = rest.rfind('/').map_or(0, |slash| slash + 1);
    let (name, tag) = match rest.get(last_part..).and_then(|part| part.rfind(':')).map(|colon| last_part + colon) {
        Some(colon) => (&rest[..colon], Some(&rest[colon + 1..])),
        None => (rest, None),
    };
    if tag.is_some_and(|tag| !is_tag(tag)) {
        return Err(FORMAT.into());
    }
    let (registry, path) = match name.split_once('/') {
        Some((first, rest)) if is_registry_like(first) => (first, rest),
        _ => (DEFAULT_REGISTRY, name),
    };
    // index.docker.io is the old name of the same registry.
    let registry = if registry == "index.docker.io" { DEFAULT_REGISTRY } else { registry };
    if !is_registry(registry) {
        return Err(FORMAT.into());
    }
    if path.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return Err(format!("{FORMAT}: repository name ({path}) must be lowercase"));
    }
    if path.is_empty() || !path.split('/').all(is_path_component) {
        return Err(FORMAT.into());
    }
    if registry == DEFAULT_REGISTRY && !path.contains('/') && digest.is_none() && tag.is_none() && is_bare_id(path) {
        return Err(format!("invalid repository name ({path}), cannot specify 64-byte hexadecimal strings"));
    }
    let repository = match registry == DEFAULT_REGISTRY && !path.contains('/') {
        true => format!("library/{path}"),
        false => path.to_owned(),
    };
    if registry.len() + 1 + repository.len() > MAX_NAME {
        return Err(format!("repository name must not be more than {MAX_NAME} characters"));
    }
    let tag = match (tag, digest) {
        (Some(tag), _) => Some(tag.to_owned()),
        (None, None) => Some("latest".to_owned()),
        (None, Some(_)) => None,
    };
    Ok(Reference { registry: registry.to_owned(), repository, tag, digest })
}

/// The first part names a registry when it cannot be the first part of a repository: it has a dot or a port, is
/// `localhost`, or has capitals.
fn is_registry_like(part: &str) -> bool {
    part.contains('.') || part.contains(':') || part == "localhost" || part.bytes().any(|b| b.is_ascii_uppercase())
}

fn is_registry(text: &str) -> bool {
    let (host, port) = match text.strip_prefix('[') {
        // An IPv6 literal.
        Some(rest) => match rest.split_once(']') {
            Some((address, tail)) => {
                if address.parse::<std::net::Ipv6Addr>().is_err() {
                    return false;
                }
                match tail {
                    "" => return true,
                    tail => ("v6", tail.strip_prefix(':').unwrap_or("bad")),
                }
            }
            None => return false,
        },
        None => match text.split_once(':') {
            Some((host, port)) => (host, port),
            None => (text, "0"),
        },
    };
    let label = |label: &str| {
        !label.is_empty()
            && label.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-')
            && !label.starts_with('-')
            && !label.ends_with('-')
    };
    host.split('.').all(label) && port.parse::<u16>().is_ok() && port.bytes().all(|b| b.is_ascii_digit())
}

fn is_path_component(part: &str) -> bool {
    // Alphanumeric runs, joined by one dot, one or two underscores, or any number of dashes.
    let bytes = part.as_bytes();
    let alnum = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    if !bytes.first().is_some_and(alnum) || !bytes.last().is_some_and(alnum) {
        return false;
    }
    bytes
        .split(|b| alnum(b))
        .filter(|separator| !separator.is_empty())
        .all(|separator| matches!(separator, b"." | b"_" | b"__") || separator.iter().all(|b| *b == b'-'))
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= 128 && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

fn is_bare_id(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_completed_as_docker_does() {
        let digest = Digest::of(b"x");
        let pinned = format!("nginx@{digest}");
        let both = format!("reg.io:5000/a/b:v1@{digest}");
        let table = [
            ("nginx", "docker.io/library/nginx:latest".to_owned()),
            ("nginx:1.27", "docker.io/library/nginx:1.27".into()),
            ("bitnami/redis", "docker.io/bitnami/redis:latest".into()),
            ("index.docker.io/nginx", "docker.io/library/nginx:latest".into()),
            ("docker.io/nginx", "docker.io/library/nginx:latest".into()),
            ("registry.k8s.io/pause:3.10", "registry.k8s.io/pause:3.10".into()),
            ("localhost/a", "localhost/a:latest".into()),
            ("localhost:5000/a", "localhost:5000/a:latest".into()),
            ("127.0.0.1:5000/a/b:c", "127.0.0.1:5000/a/b:c".into()),
            ("[::1]:5000/a", "[::1]:5000/a:latest".into()),
            ("Reg/a", "Reg/a:latest".into()),
            ("a__b/c-d.e_f---g", "docker.io/a__b/c-d.e_f---g:latest".into()),
            (pinned.as_str(), format!("docker.io/library/nginx@{digest}")),
            (both.as_str(), both.clone()),
        ];
        for (text, full) in table {
            assert_eq!(Reference::parse(text).map(|r| r.to_string()).unwrap(), full, "{text}");
        }
    }

    #[test]
    fn bad_names_are_refused() {
        let long = "a/".repeat(140) + "a";
        let id = "a".repeat(64);
        for text in [
            "",
            ":",
            "@",
            "a:",
            "a@",
            "A",
            "a//b",
            "/a",
            "a/",
            "a:b:c",
            "a b",
            "..",
            "a/../b",
            "a___b",
            "-a",
            "a-",
            "a@sha256:12",
            "a@md5:00",
            "host.io:99999999/a",
            "host.io:/a",
            "[::1/a",
            "[zz]/a",
            "é",
            "a:é",
            "nginx:-x",
            &long,
            &id,
        ] {
            assert!(Reference::parse(text).is_err(), "{text:?}");
        }
        assert!(Reference::parse("Nginx").unwrap_err().to_string().contains("must be lowercase"));
    }

    proptest::proptest! {
        #[test]
        fn any_text_is_read_or_refused_and_what_is_read_is_stable(text in "[a-zA-Z0-9:/@._\\[\\]é-]{0,80}") {
            if let Ok(reference) = Reference::parse(&text) {
                let full = reference.to_string();
                proptest::prop_assert_eq!(Reference::parse(&full).unwrap(), reference);
            }
        }
    }
}

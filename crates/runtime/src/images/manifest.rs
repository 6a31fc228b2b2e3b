//! The documents of an image (OCI image-spec; Docker image manifest v2 schema 2): index, manifest, config.

use std::collections::BTreeMap;

use serde::{Deserialize, Deserializer, Serialize};

use super::digest::Digest;
use super::error::{ImageError, Result};

/// An OCI index.
pub const OCI_INDEX: &str = "application/vnd.oci.image.index.v1+json";
/// An OCI manifest.
pub const OCI_MANIFEST: &str = "application/vnd.oci.image.manifest.v1+json";
/// An OCI image config.
pub const OCI_CONFIG: &str = "application/vnd.oci.image.config.v1+json";
/// A layer as a plain tar.
pub const OCI_LAYER: &str = "application/vnd.oci.image.layer.v1.tar";
/// Docker's index.
pub const DOCKER_INDEX: &str = "application/vnd.docker.distribution.manifest.list.v2+json";
/// Docker's manifest.
pub const DOCKER_MANIFEST: &str = "application/vnd.docker.distribution.manifest.v2+json";
/// Docker's manifest before content addresses; refused by name.
const DOCKER_MANIFEST_1: &str = "application/vnd.docker.distribution.manifest.v1";
/// What registries limit manifests to; more is not read.
pub const MAX_MANIFEST: u64 = 4 << 20;
/// What is read of a config.
pub const MAX_CONFIG: u64 = 8 << 20;
/// The most layers of one image: overlayfs refuses more than 500.
pub const MAX_LAYERS: usize = 500;

/// A pointer to content.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Descriptor {
    /// What the content is.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// Its digest.
    pub digest: Digest,
    /// Its length in bytes.
    pub size: u64,
    /// For which machine, within an index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub platform: Option<Platform>,
    /// Names and notes.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub annotations: BTreeMap<String, String>,
}

/// The machine for which an image is made (OCI image-index, `platform`).
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Platform {
    /// GOARCH.
    #[serde(default, deserialize_with = "or_default")]
    pub architecture: String,
    /// GOOS.
    #[serde(default, deserialize_with = "or_default")]
    pub os: String,
    /// The variant of the processor: `v7`, `v8`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub variant: String,
}

/// Manifests for several platforms, or of several images.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Index {
    /// Always 2.
    #[serde(default = "two")]
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// What it lists.
    pub manifests: Vec<Descriptor>,
}

/// One image for one platform.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Manifest {
    /// Always 2.
    #[serde(default = "two")]
    pub schema_version: u32,
    /// Its own media type.
    #[serde(default, deserialize_with = "or_default")]
    pub media_type: String,
    /// The config.
    pub config: Descriptor,
    /// The layers, the lowest first.
    pub layers: Vec<Descriptor>,
}

/// What a manifest address can lead to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Document {
    /// Several.
    Index(Index),
    /// One.
    Manifest(Manifest),
}

/// The config document of an image.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ConfigFile {
    /// When it was made, RFC 3339.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub created: Option<String>,
    /// The platform.
    #[serde(flatten)]
    pub platform: Platform,
    /// How to run it.
    #[serde(default, deserialize_with = "or_default")]
    pub config: RunConfig,
    /// Its layers, uncompressed.
    pub rootfs: RootFs,
}

/// The layers by the digests of their uncompressed tars.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct RootFs {
    /// Always `layers`.
    #[serde(rename = "type", default, deserialize_with = "or_default")]
    pub kind: String,
    /// The lowest first.
    #[serde(default, deserialize_with = "or_default")]
    pub diff_ids: Vec<Digest>,
}

/// How an image wants to be run. Names as in the document.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct RunConfig {
    /// `user[:group]`, names or numbers.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub user: String,
    /// `80/tcp` and the like.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub exposed_ports: BTreeMap<String, Empty>,
    /// `NAME=value`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub env: Vec<String>,
    /// The command.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub entrypoint: Vec<String>,
    /// Its default arguments.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "Vec::is_empty")]
    pub cmd: Vec<String>,
    /// Directories meant to be volumes.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub volumes: BTreeMap<String, Empty>,
    /// Where the command starts.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub working_dir: String,
    /// Notes.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "BTreeMap::is_empty")]
    pub labels: BTreeMap<String, String>,
    /// The signal to stop it: `SIGTERM`, `15`.
    #[serde(default, deserialize_with = "or_default", skip_serializing_if = "String::is_empty")]
    pub stop_signal: String,
}

/// The value of a set written as an object: `{}`.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Empty {}

/// Go writes absent lists and maps as `null`.
fn or_default<'de, D: Deserializer<'de>, T: Deserialize<'de> + Default>(deserializer: D) -> Result<T, D::Error> {
    Ok(Option::<T>::deserialize(deserializer)?.unwrap_or_default())
}

fn two() -> u32 {
    2
}

// === impl Document ===

impl Document {
    /// Reads a manifest or an index. `media_type` is what the registry said, which counts less than the document's own.
    pub fn parse(what: &str, media_type: Option<&str>, bytes: &[u8]) -> Result<Self> {
        #[derive(Deserialize)]
        #[serde(rename_all = "camelCase")]
        struct Shape {
            #[serde(default)]
            schema_version: Option<u32>,
            #[serde(default)]
            media_type: Option<String>,
            manifests: Option<serde::de::IgnoredAny>,
            layers: Option<serde::de::IgnoredAny>,
            config: Option<serde::de::IgnoredAny>,
        }
        let shape: Shape = serde_json::from_slice(bytes).map_err(|error| ImageError::manifest(what, error))?;
        let media_type = shape.media_type.as_deref().or(media_type).unwrap_or_default().to_owned();
        if shape.schema_version == Some(1) || media_type.starts_with(DOCKER_MANIFEST_1) {
            let what = format!("{what}: image manifest schema version 1 ({DOCKER_MANIFEST_1}+prettyjws)");
            return Err(ImageError::Unsupported { what });
        }
        // CVE-2021-41190: a document must not be readable both ways.
        if shape.manifests.is_some() && (shape.layers.is_some() || shape.config.is_some()) {
            return Err(ImageError::manifest(what, "it is both an index and a manifest"));
        }
        if shape.manifests.is_some() {
            let mut index: Index = serde_json::from_slice(bytes).map_err(|error| ImageError::manifest(what, error))?;
            if index.media_type.is_empty() {
                index.media_type = OCI_INDEX.to_owned();
            }
            return Ok(Document::Index(index));
        }
        let mut manifest: Manifest =
            serde_json::from_slice(bytes).map_err(|error| ImageError::manifest(what, error))?;
        if manifest.media_type.is_empty() {
            manifest.media_type = if media_type.is_empty() { OCI_MANIFEST.to_owned() } else { media_type };
        }
        if manifest.layers.len() > MAX_LAYERS {
            return Err(ImageError::manifest(
                what,
                format!("{} layers, more than {MAX_LAYERS}", manifest.layers.len()),
            ));
        }
        Ok(Document::Manifest(manifest))
    }
}

// === impl Descriptor ===

impl Descriptor {
    /// A descriptor without platform and notes.
    pub fn new(media_type: impl Into<String>, digest: Digest, size: u64) -> Self {
        Descriptor { media_type: media_type.into(), digest, size, platform: None, annotations: BTreeMap::new() }
    }
}

// === impl ConfigFile ===

impl ConfigFile {
    /// Reads a config and checks that it speaks of as many layers as the manifest.
    pub fn parse(what: &str, bytes: &[u8], layers: usize) -> Result<Self> {
        let config: ConfigFile = serde_json::from_slice(bytes).map_err(|error| ImageError::manifest(what, error))?;
        let count = config.rootfs.diff_ids.len();
        if count != layers {
            return Err(ImageError::manifest(what, format!("{count} diff ids for {layers} layers")));
        }
        Ok(config)
    }

    /// The names under which the layers are unpacked.
    pub fn chain_ids(&self) -> Vec<Digest> {
        chain_ids(&self.rootfs.diff_ids)
    }
}

/// The chain id names a layer together with everything below it (OCI config.md, "Layer ChainID").
pub fn chain_ids(diff_ids: &[Digest]) -> Vec<Digest> {
    let mut chain: Vec<Digest> = Vec::with_capacity(diff_ids.len());
    for diff in diff_ids {
        let id = match chain.last() {
            None => *diff,
            Some(below) => Digest::of(format!("{below} {diff}").as_bytes()),
        };
        chain.push(id);
    }
    chain
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nulls_of_go_are_read_as_absent() {
        let digest = Digest::of(b"l");
        let text = format!(
            r#"{{"architecture":"amd64","os":"linux","config":{{"Env":null,"Cmd":null,"Volumes":null,"User":"1:2",
            "ExposedPorts":{{"80/tcp":{{}}}}}},"rootfs":{{"type":"layers","diff_ids":["{digest}"]}},"history":null}}"#
        );
        let config = ConfigFile::parse("c", text.as_bytes(), 1).unwrap();
        assert_eq!(config.config.user, "1:2");
        assert!(config.config.exposed_ports.contains_key("80/tcp"));
        assert!(
            ConfigFile::parse("c", text.as_bytes(), 2).unwrap_err().to_string().contains("1 diff ids for 2 layers")
        );
    }

    #[test]
    fn a_document_must_be_one_thing() {
        let digest = Digest::of(b"l");
        let item = format!(r#"{{"mediaType":"m","digest":"{digest}","size":3}}"#);
        let index = format!(r#"{{"schemaVersion":2,"manifests":[{item}]}}"#);
        let manifest = format!(r#"{{"schemaVersion":2,"config":{item},"layers":[{item}]}}"#);
        let both = format!(r#"{{"schemaVersion":2,"config":{item},"layers":[],"manifests":[]}}"#);
        assert!(matches!(Document::parse("i", None, index.as_bytes()), Ok(Document::Index(_))));
        assert!(matches!(
            Document::parse("i", Some(DOCKER_MANIFEST), manifest.as_bytes()),
            Ok(Document::Manifest(m)) if m.media_type == DOCKER_MANIFEST
        ));
        assert!(Document::parse("i", None, both.as_bytes()).is_err());
        let old = br#"{"schemaVersion":1,"fsLayers":[]}"#;
        assert!(matches!(Document::parse("i", None, old), Err(ImageError::Unsupported { .. })));
    }

    #[test]
    fn chains_are_named_as_the_specification_says() {
        let (a, b) = (Digest::of(b"a"), Digest::of(b"b"));
        let chain = chain_ids(&[a, b]);
        assert_eq!(chain, [a, Digest::of(format!("{a} {b}").as_bytes())]);
        assert!(chain_ids(&[]).is_empty());
    }

    proptest::proptest! {
        #[test]
        fn no_bytes_make_the_parsers_panic(bytes in proptest::collection::vec(proptest::num::u8::ANY, 0..400)) {
            let _ = Document::parse("fuzz", None, &bytes);
            let _ = ConfigFile::parse("fuzz", &bytes, 1);
        }

        #[test]
        fn no_broken_manifest_makes_the_parsers_panic(cut in 0usize..400, flip in 0usize..400, to in proptest::num::u8::ANY) {
            let digest = Digest::of(b"l");
            let item = format!(r#"{{"mediaType":"m","digest":"{digest}","size":3}}"#);
            let mut bytes = format!(r#"{{"schemaVersion":2,"config":{item},"layers":[{item}]}}"#).into_bytes();
            if let Some(byte) = bytes.get_mut(flip) {
                *byte = to;
            }
            bytes.truncate(cut.max(1));
            let _ = Document::parse("fuzz", Some(OCI_MANIFEST), &bytes);
        }
    }
}

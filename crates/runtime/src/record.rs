//! What is kept of sandboxes and containers, in memory and on disk.

use crate::shim::Exit;
use crate::users::User;
use serde::{Deserialize, Serialize};
use std::fs;
use std::io;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use trireme_cri::{ContainerConfig, PodSandboxConfig};

/// A sandbox.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    #[serde(with = "message")]
    pub(crate) config: Arc<PodSandboxConfig>,
    /// Nanoseconds since 1970.
    pub(crate) created: i64,
    pub(crate) ready: bool,
    pub(crate) netns: Option<PathBuf>,
    pub(crate) ips: Vec<IpAddr>,
    pub(crate) handler: String,
}

/// A container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    #[serde(with = "message")]
    pub(crate) config: Arc<ContainerConfig>,
    /// The image's id.
    pub(crate) image_id: String,
    /// What names it: its digest, where it has one.
    pub(crate) image_ref: String,
    pub(crate) log: PathBuf,
    pub(crate) cgroup: String,
    pub(crate) created: i64,
    pub(crate) started: Option<i64>,
    pub(crate) pid: i32,
    pub(crate) exit: Option<Exit>,
    /// Why it could not start.
    pub(crate) failure: String,
    /// Who its program was when it started.
    #[serde(default)]
    pub(crate) user: Option<User>,
}

mod message {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;
    use prost::Message;
    use serde::de::Error as _;
    use serde::{Deserialize, Deserializer, Serializer};
    use std::sync::Arc;

    pub(super) fn serialize<M: Message, S: Serializer>(message: &Arc<M>, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(message.encode_to_vec()))
    }

    pub(super) fn deserialize<'de, M: Message + Default, D: Deserializer<'de>>(d: D) -> Result<Arc<M>, D::Error> {
        let text = String::deserialize(d)?;
        let bytes = STANDARD.decode(text).map_err(D::Error::custom)?;
        M::decode(&bytes[..]).map(Arc::new).map_err(D::Error::custom)
    }
}

/// Writes a record, whole or not at all. It survives this process; a crash of the machine ends the containers, too, so
/// nobody waits for the disk.
pub(crate) fn write(path: &Path, record: &impl Serialize) -> io::Result<()> {
    let text = serde_json::to_vec(record).map_err(io::Error::other)?;
    let temporary = path.with_extension("tmp");
    fs::write(&temporary, text)?;
    fs::rename(&temporary, path)
}

/// Reads a record; one that cannot be read is named in the log and left alone.
pub(crate) fn read<T: for<'de> Deserialize<'de>>(path: &Path) -> Option<T> {
    let text = fs::read(path).ok()?;
    match serde_json::from_slice(&text) {
        Ok(record) => Some(record),
        Err(error) => {
            tracing::warn!(file = %path.display(), %error, "a record cannot be read and is passed over");
            None
        }
    }
}

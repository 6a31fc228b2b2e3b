//! An image of this machine's static busybox, as `docker save` would write it.

use crate::Failure;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::path::Path;

/// The image's name.
pub const NAME: &str = "bench.local/busybox:1";

/// Writes it to a file.
pub fn write(path: &Path) -> Result<(), Failure> {
    let busybox = std::fs::read("/bin/busybox").map_err(|e| format!("/bin/busybox (Debian's busybox-static): {e}"))?;
    let mut layer = tar::Builder::new(Vec::new());
    append(&mut layer, "bin/busybox", &busybox, 0o755)?;
    for name in ["sh", "sleep", "httpd"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Symlink);
        header.set_size(0);
        header.set_mode(0o777);
        layer.append_link(&mut header, format!("bin/{name}"), "busybox")?;
    }
    let layer = layer.into_inner()?;
    let config = json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "config": {"Cmd": ["sleep", "1000000"], "Env": ["PATH=/bin"]},
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{}", hex::encode(Sha256::digest(&layer)))]},
    });
    let manifest = json!([{"Config": "config.json", "RepoTags": [NAME], "Layers": ["layer.tar"]}]);
    let mut image = tar::Builder::new(std::fs::File::create(path)?);
    append(&mut image, "layer.tar", &layer, 0o644)?;
    append(&mut image, "config.json", config.to_string().as_bytes(), 0o644)?;
    append(&mut image, "manifest.json", manifest.to_string().as_bytes(), 0o644)?;
    image.into_inner()?.sync_all()?;
    Ok(())
}

fn append<W: std::io::Write>(to: &mut tar::Builder<W>, name: &str, content: &[u8], mode: u32) -> std::io::Result<()> {
    let mut header = tar::Header::new_gnu();
    header.set_size(content.len() as u64);
    header.set_mode(mode);
    to.append_data(&mut header, name, content)
}

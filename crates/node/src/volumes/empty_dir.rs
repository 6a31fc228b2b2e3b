//! Directories that live as long as their pod.

use super::ownership::Ownership;
use crate::spec::quantity;
use std::ffi::CString;
use std::fs;
use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;
use trireme_schema::Value;

/// Makes one, unless it is there.
pub(super) fn make(path: &Path, spec: &Value, ownership: &Ownership) -> io::Result<()> {
    let memory = spec.str_at(&["medium"]) == "Memory";
    if path.exists() && (!memory || is_mounted(path)) {
        return Ok(());
    }
    fs::create_dir_all(path)?;
    if memory {
        let limit = quantity(spec.get("sizeLimit")).filter(|q| !q.is_zero());
        let data = CString::new(limit.map_or_else(String::new, |q| format!("size={}", q.value())))?;
        rustix::mount::mount("tmpfs", path, "tmpfs", rustix::mount::MountFlags::empty(), Some(data.as_c_str()))?;
    }
    if ownership.group.is_some() {
        chown(path, None, ownership.group)?;
    }
    let mode = if ownership.group.is_some() { 0o2777 } else { 0o777 };
    fs::set_permissions(path, fs::Permissions::from_mode(mode))
}

fn is_mounted(path: &Path) -> bool {
    use std::os::unix::fs::MetadataExt;
    let device = |path: &Path| fs::metadata(path).map(|m| m.dev()).ok();
    path.parent().is_some_and(|above| device(above) != device(path))
}

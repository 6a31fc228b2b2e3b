//! Paths of the host.

use std::fs;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::path::Path;

/// Checks that a path is what it is said to be, or makes it so.
///
/// # Errors
/// What it is not, in upstream's words.
pub fn check(path: &Path, kind: &str) -> Result<(), String> {
    let metadata = fs::metadata(path);
    let text = |e: std::io::Error| e.to_string();
    let is = |holds: fn(&fs::FileType) -> bool, what: &str| match &metadata {
        Ok(m) if holds(&m.file_type()) => Ok(()),
        _ => Err(format!("hostPath type check failed: {} is not {what}", path.display())),
    };
    match kind {
        "DirectoryOrCreate" if metadata.is_err() => {
            fs::create_dir_all(path).map_err(text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o755)).map_err(text)
        }
        "FileOrCreate" if metadata.is_err() => {
            fs::File::create(path).map_err(text)?;
            fs::set_permissions(path, fs::Permissions::from_mode(0o644)).map_err(text)
        }
        "Directory" | "DirectoryOrCreate" => is(fs::FileType::is_dir, "a directory"),
        "File" | "FileOrCreate" => is(fs::FileType::is_file, "a file"),
        "Socket" => is(fs::FileType::is_socket, "a socket file"),
        "CharDevice" => is(fs::FileType::is_char_device, "a character device"),
        "BlockDevice" => is(fs::FileType::is_block_device, "a block device"),
        // Without a type nothing is checked, and a directory is made, as container runtimes do.
        _ if metadata.is_err() => fs::create_dir_all(path).map_err(text),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_what_they_are_said_to_be() {
        let dir = tempfile::tempdir().unwrap();
        let (there, file) = (dir.path().join("d"), dir.path().join("f"));
        assert!(check(&there, "Directory").is_err());
        assert!(check(&there, "DirectoryOrCreate").is_ok() && check(&there, "Directory").is_ok());
        assert!(check(&file, "File").is_err() && check(&file, "FileOrCreate").is_ok());
        let want = format!("hostPath type check failed: {} is not a socket file", file.display());
        assert_eq!(check(&file, "Socket"), Err(want));
        assert!(check(Path::new("/dev/null"), "CharDevice").is_ok());
    }
}

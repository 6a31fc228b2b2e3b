//! Sockets in the data directory.

use crate::Failure;
use std::path::Path;
use tokio::net::UnixListener;

/// Listens on a socket, in the place of one that an earlier process left. The caller holds the data directory.
///
/// # Errors
/// One line with the path.
pub fn listen(socket: &Path) -> Result<UnixListener, Failure> {
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(format!("cannot remove {}: {error}", socket.display()).into());
        }
        _ => {}
    }
    UnixListener::bind(socket).map_err(|e| format!("cannot listen on {}: {e}", socket.display()).into())
}

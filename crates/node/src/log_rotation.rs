//! Rotation of containers' logs: ten mebibytes, five files (upstream's defaults).

use crate::cri::Cri;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;
use tokio_util::sync::CancellationToken;
use trireme_cri as cri;

/// Sizes are looked at this often; there is no event for a file that has grown.
const LOOK: Duration = Duration::from_secs(10);
const LARGEST: u64 = 10 << 20;
/// Files of a container, the open one among them.
const FILES: usize = 5;

/// Rotates logs until `stop`.
pub(crate) async fn keep(cri: Cri, stop: CancellationToken) {
    loop {
        tokio::select! {
            () = stop.cancelled() => return,
            () = tokio::time::sleep(LOOK) => {}
        }
        let state = cri::ContainerStateValue { state: cri::ContainerState::ContainerRunning as i32 };
        let filter = cri::ContainerFilter { state: Some(state), ..cri::ContainerFilter::default() };
        let request = cri::ListContainersRequest { filter: Some(filter) };
        // A runtime that does not answer is asked again.
        let Ok(running) = cri.runtime.clone().list_containers(request).await else { continue };
        for container in running.into_inner().containers {
            if let Err(error) = rotate(&cri, &container.id).await {
                tracing::warn!(container = %container.id, %error, "cannot rotate a log");
            }
        }
    }
}

async fn rotate(cri: &Cri, id: &str) -> io::Result<()> {
    let request = cri::ContainerStatusRequest { container_id: id.to_owned(), verbose: false };
    let Ok(answer) = cri.runtime.clone().container_status(request).await else { return Ok(()) };
    let log = PathBuf::from(answer.into_inner().status.unwrap_or_default().log_path);
    if !fs::metadata(&log).is_ok_and(|m| m.is_file() && m.len() >= LARGEST) {
        return Ok(());
    }
    let aside = set_aside(&log, &jiff::Timestamp::now().strftime("%Y%m%d-%H%M%S%.3f").to_string())?;
    let request = cri::ReopenContainerLogRequest { container_id: id.to_owned() };
    if let Err(status) = cri.runtime.clone().reopen_container_log(request).await {
        // It writes to the old file still: that must keep its name.
        fs::rename(&aside, &log)?;
        return Err(io::Error::other(status.message().to_owned()));
    }
    Ok(())
}

/// Moves a log away, and removes the oldest of those moved before, so that as many are left as may be.
fn set_aside(log: &Path, stamp: &str) -> io::Result<PathBuf> {
    let name = log.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let dir = log.parent().unwrap_or(Path::new("/"));
    let mut old: Vec<PathBuf> = fs::read_dir(dir)?
        .flatten()
        .map(|e| e.path())
        .filter(|p| p.file_name().is_some_and(|n| n.to_string_lossy().starts_with(&format!("{name}."))))
        .collect();
    // Their names end with the time.
    old.sort();
    let many = (old.len() + 2).saturating_sub(FILES);
    old.iter().take(many).try_for_each(fs::remove_file)?;
    let aside = dir.join(format!("{name}.{stamp}"));
    fs::rename(log, &aside)?;
    Ok(aside)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn five_files_are_left_and_the_oldest_go() {
        let dir = tempfile::tempdir().unwrap();
        let log = dir.path().join("0.log");
        for i in 0..8 {
            fs::write(&log, i.to_string()).unwrap();
            set_aside(&log, &i.to_string()).unwrap();
        }
        let mut left: Vec<String> =
            fs::read_dir(dir.path()).unwrap().map(|e| fs::read_to_string(e.unwrap().path()).unwrap()).collect();
        left.sort();
        assert_eq!(left, ["4", "5", "6", "7"]);
    }
}

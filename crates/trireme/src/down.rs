//! `trireme down` and `trireme uninstall`.

use crate::cli::{Common, Uninstall};
use crate::instance::Instance;
use crate::{Failure, node};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use std::path::Path;
use std::time::Duration;

/// How long a process may take to stop.
const PATIENCE: Duration = Duration::from_secs(30);

/// Stops Trireme and the workloads.
///
/// # Errors
/// One line that says what to do.
pub fn down(common: &Common) -> Result<(), Failure> {
    stop(&Instance::existing(&common.data_dir)?)
}

fn stop(instance: &Instance) -> Result<(), Failure> {
    if !is_ours(instance.dir())? {
        return Err(foreign(instance.dir()));
    }
    stop_process(instance)?;
    let _lock = instance.lock()?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(node::stop_workloads(instance))
}

/// Stops the process that runs on the data directory, and waits until it is gone.
fn stop_process(instance: &Instance) -> Result<(), Failure> {
    let Some(number) = instance.running()? else { return Ok(()) };
    let pid = i32::try_from(number).ok().and_then(Pid::from_raw).ok_or("the lock file names no process")?;
    let process = match pidfd_open(pid, PidfdFlags::empty()) {
        Ok(process) => process,
        // Gone in between.
        Err(rustix::io::Errno::SRCH) => return Ok(()),
        Err(error) => return Err(format!("cannot reach process {number}: {error}").into()),
    };
    pidfd_send_signal(&process, Signal::TERM).map_err(|e| format!("cannot stop process {number}: {e}"))?;
    let mut fds = [rustix::event::PollFd::new(&process, rustix::event::PollFlags::IN)];
    let deadline = rustix::event::Timespec { tv_sec: PATIENCE.as_secs() as i64, tv_nsec: 0 };
    if rustix::event::poll(&mut fds, Some(&deadline))? == 0 {
        let waited = PATIENCE.as_secs();
        return Err(format!(
            "Trireme (process {number}) did not stop within {waited} s: end it with kill -9 {number}, then try again"
        )
        .into());
    }
    Ok(())
}

/// Removes what Trireme made.
///
/// # Errors
/// One line that says what to do.
pub fn uninstall(common: &Common, args: &Uninstall) -> Result<(), Failure> {
    if !common.data_dir.exists() {
        // Done already.
        return Ok(());
    }
    let instance = Instance::existing(&common.data_dir)?;
    let dir = instance.dir();
    if !is_ours(dir)? {
        return Err(foreign(dir));
    }
    if !args.yes {
        return Err(format!("this removes {} and all that is in it; say --yes", dir.display()).into());
    }
    stop(&instance)?;
    std::fs::remove_dir_all(dir).map_err(|e| format!("cannot remove {}: {e}", dir.display()).into())
}

fn foreign(dir: &Path) -> Failure {
    format!("{} is no data directory of Trireme", dir.display()).into()
}

/// What Trireme makes in a data directory, one of them at the least before anything else, and nothing beside them.
const OURS: [&str; 14] = [
    "lock",
    "pki",
    "store",
    "agent",
    "images",
    "images-import",
    "runtime",
    "node",
    "run",
    "kubeconfig",
    "kubeconfig.tmp",
    "node-token",
    "cri.sock",
    "images.sock",
];

/// Whether a directory is a data directory of Trireme, whatever was typed: it has its lock, and nothing that is not of
/// Trireme.
fn is_ours(dir: &Path) -> Result<bool, Failure> {
    let read = |e: std::io::Error| format!("cannot read {}: {e}", dir.display());
    let mut names = Vec::new();
    for entry in std::fs::read_dir(dir).map_err(read)? {
        names.push(entry.map_err(read)?.file_name());
    }
    let known = |name: &std::ffi::OsString| OURS.iter().any(|ours| name == ours);
    Ok(names.iter().any(|name| name == "lock") && names.iter().all(known))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_directory_with_a_lock_and_nothing_foreign_is_ours() {
        let cases: [(&[&str], bool); 5] = [
            (&["lock"], true),
            (&["lock", "pki", "store", "images"], true),
            (&["lock", "agent"], true),
            (&["lock", "thesis.tex"], false),
            (&["pki", "store"], false),
        ];
        for (names, ours) in cases {
            let dir = tempfile::tempdir().unwrap();
            names.iter().for_each(|name| std::fs::write(dir.path().join(name), "").unwrap());
            assert_eq!(is_ours(dir.path()).unwrap(), ours, "{names:?}");
        }
    }
}

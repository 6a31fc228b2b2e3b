//! Taking up what ran before, and hearing of what ends.

use super::{Error, Runtime, failed, now};
use crate::link::Link;
use crate::record::{self, Container, Sandbox};
use crate::shim::{Exit, Reply, Request};
use std::fs;
use std::io;
use std::path::Path;
use std::sync::Arc;

impl Runtime {
    /// Reads what is on disk, and listens to the shims that live.
    pub(super) async fn adopt(self: &Arc<Self>, dir: &Path) -> Result<(), Error> {
        for entry in fs::read_dir(dir).map_err(failed(dir.display().to_string()))?.flatten() {
            let dir = entry.path();
            let Some(sandbox) = record::read::<Sandbox>(&dir.join("record.json")) else {
                abandon(&dir).await;
                continue;
            };
            let mut containers = Vec::new();
            for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
                let name = entry.file_name().to_string_lossy().into_owned();
                if name.ends_with(".container") {
                    containers.extend(record::read::<Container>(&entry.path()));
                }
            }
            for container in &mut containers {
                if container.exit.is_none() && container.started.is_some() {
                    container.exit = record::read(&dir.join(format!("{}.exit", container.id)));
                }
            }
            let id = sandbox.id.clone();
            let ready = sandbox.ready;
            {
                let mut state = self.state.lock();
                state.sandboxes.insert(id.clone(), sandbox);
                state.containers.extend(containers.into_iter().map(|c| (c.id.clone(), c)));
            }
            if ready && self.listen(&id).await.is_err() {
                // The shim is gone, with all that it held (the machine was restarted).
                self.lost(&id);
            }
        }
        Ok(())
    }

    pub(super) fn lost(&self, sandbox: &str) {
        let mut state = self.state.lock();
        if let Some(sandbox) = state.sandboxes.get_mut(sandbox) {
            sandbox.ready = false;
            self.keep_sandbox(sandbox);
        }
        let left: Vec<(String, String)> = state
            .containers
            .values()
            .filter(|c| c.sandbox == sandbox && c.started.is_some() && c.exit.is_none())
            .map(|c| (c.id.clone(), c.cgroup.clone()))
            .collect();
        drop(state);
        for (id, group) in left {
            // Without the shim nobody would keep its log or hear of its end.
            self.kill_group(&group);
            // What its exit code was, nobody saw.
            self.note_exit(&id, Exit { code: 255, at: now(), oom: false });
        }
    }

    /// Listens to a shim's exits.
    pub(super) async fn listen(self: &Arc<Self>, sandbox: &str) -> io::Result<()> {
        let mut link = Link::open(&self.dir(sandbox)).await?;
        let Reply::Running { containers } = link.call(&Request::Events).await? else {
            return Err(io::Error::other("the shim says something else"));
        };
        // What ended while nobody listened has left its exit file.
        let missed: Vec<(String, Exit)> = {
            let state = self.state.lock();
            let open =
                state.containers.values().filter(|c| c.sandbox == sandbox && c.started.is_some() && c.exit.is_none());
            open.filter(|c| !containers.contains_key(&c.id))
                .map(|c| {
                    let exit = record::read(&self.dir(sandbox).join(format!("{}.exit", c.id)));
                    (c.id.clone(), exit.unwrap_or(Exit { code: 255, at: now(), oom: false }))
                })
                .collect()
        };
        for (id, exit) in missed {
            self.note_exit(&id, exit);
        }
        let (runtime, sandbox) = (Arc::downgrade(self), sandbox.to_owned());
        tokio::spawn(async move {
            while let Ok(Some(reply)) = link.next().await {
                let Some(runtime) = runtime.upgrade() else { return };
                if let Reply::Exited { id, exit } = reply {
                    runtime.note_exit(&id, exit);
                }
            }
            if let Some(runtime) = runtime.upgrade() {
                let known = runtime.state.lock().sandboxes.get(&sandbox).is_some_and(|s| s.ready);
                if known {
                    tracing::warn!(%sandbox, "a shim has gone");
                    runtime.lost(&sandbox);
                }
            }
        });
        Ok(())
    }
}

/// Ends a shim whose sandbox was not finished when Trireme was killed: nobody knows of it. A damaged record stays; one
/// without content is what a crash of the machine leaves of a record that had not reached the disk.
async fn abandon(dir: &Path) {
    if fs::metadata(dir.join("record.json")).is_ok_and(|m| m.len() > 0) {
        return;
    }
    if let Ok(mut link) = Link::open(dir).await {
        // It ends as it answers; either is fine.
        let _ = link.call(&Request::Shutdown).await;
    }
    if let Err(error) = fs::remove_dir_all(dir) {
        tracing::warn!(dir = %dir.display(), %error, "cannot remove a sandbox that was not finished");
    }
}

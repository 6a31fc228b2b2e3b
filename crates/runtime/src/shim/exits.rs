//! Processes end: their exits are kept, and told.

use super::serve::{Shim, now};
use super::spec::{Exit, Reply};
use super::sys;
use std::fs;
use std::path::Path;

impl Shim {
    /// Takes note of all children that have ended.
    pub(super) fn reap(&mut self) {
        while let Some((pid, status)) = sys::reap() {
            let code = sys::exit_code(status);
            let found =
                self.containers.iter().find(|(_, c)| c.pid == pid && c.exit.is_none()).map(|(id, _)| id.clone());
            if let Some(id) = &found {
                self.drain(id);
                let Some(container) = self.containers.get_mut(id) else { continue };
                let kills = self.cgroups.oom_kills(&container.spec.cgroup);
                let exit = Exit { code, at: now(), oom: kills > container.kills_before };
                container.exit = Some(exit.clone());
                container.input = None;
                container.listeners.clear();
                let shared = container.spec.pid_of.is_some();
                keep(&self.sandbox.dir, id, &exit);
                // Without its first process a process namespace ends; with a shared one the rest is ended here.
                if self.pid_namespace.is_some() || self.sandbox.host_pid || shared {
                    for pid in self.cgroups.members(&container.spec.cgroup) {
                        let _ = sys::kill(pid, libc::SIGKILL);
                    }
                }
                let reply = Reply::Exited { id: id.clone(), exit };
                for i in 0..self.clients.len() {
                    if self.clients[i].events {
                        self.reply(i, &reply, &[]);
                    }
                }
            }
            let exit = Exit { code, at: now(), oom: false };
            for i in 0..self.clients.len() {
                if self.clients[i].exec == Some(pid) {
                    self.clients[i].exec = None;
                    let id = found.clone().unwrap_or_default();
                    self.reply(i, &Reply::Exited { id, exit: exit.clone() }, &[]);
                }
            }
        }
    }
}

/// Writes an exit where Trireme finds it, even if it does not run now. Nobody waits for the disk: see `record::write`.
fn keep(dir: &Path, id: &str, exit: &Exit) {
    let Ok(text) = serde_json::to_vec(exit) else { return };
    let temporary = dir.join(format!("{id}.exit.tmp"));
    if fs::write(&temporary, text).is_ok() {
        let _ = fs::rename(&temporary, dir.join(format!("{id}.exit")));
    }
}

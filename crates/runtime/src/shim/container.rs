//! Containers: started, killed, entered, attached to.

use super::log::Log;
use super::process;
use super::serve::{Shim, now};
use super::spawn::{Ends, Output, spawn, spawn_inside};
use super::spec::{ContainerSpec, Exit, ProcessSpec, Reply};
use super::sys;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// A container as the shim knows it.
pub(super) struct Container {
    pub(super) spec: ContainerSpec,
    pub(super) pid: i32,
    pub(super) exit: Option<Exit>,
    pub(super) log: Log,
    /// What the program writes: standard output and error, or a terminal as the first.
    pub(super) output: Output,
    /// What it reads.
    pub(super) input: Option<OwnedFd>,
    /// The terminal, to read, write and resize.
    pub(super) terminal: bool,
    /// Copies of the output for those who attached.
    pub(super) listeners: Vec<Output>,
    /// OOM kills of the group before this container.
    pub(super) kills_before: u64,
}

impl Shim {
    pub(super) fn start(&mut self, spec: ContainerSpec) -> Result<(i32, i64), String> {
        if self.containers.get(&spec.id).is_some_and(|c| c.exit.is_none()) {
            return Err(format!("container {} runs already", spec.id));
        }
        let text = |e: io::Error| e.to_string();
        self.cgroups.create(&spec.cgroup).map_err(text)?;
        self.cgroups.limit(&spec.cgroup, &spec.limits).map_err(text)?;
        let kills_before = self.cgroups.oom_kills(&spec.cgroup);
        let log = Log::new(&spec.log).map_err(|e| format!("log {}: {e}", spec.log.display()))?;
        let ends = Ends::new(&spec.process).map_err(text)?;
        let target = match &spec.pid_of {
            Some(id) => Some(self.pids_of(id)?),
            None => None,
        };
        let joined = target.as_ref().or(self.pid_namespace.as_ref());
        let mut flags = libc::CLONE_NEWNS;
        if !self.sandbox.host_pid && joined.is_none() {
            flags |= libc::CLONE_NEWPID;
        }
        if let Some(namespace) = joined {
            sys::setns(namespace.as_fd(), libc::CLONE_NEWPID).map_err(text)?;
        }
        let started = self
            .cgroups
            .entrance(&spec.cgroup)
            .map_err(text)
            .and_then(|group| spawn(flags, ends.child, &group, |streams| process::enter_container(&spec, streams)));
        if joined.is_some() {
            let own = fs::File::open("/proc/self/ns/pid").map_err(text)?;
            sys::setns(own.as_fd(), libc::CLONE_NEWPID).map_err(text)?;
        }
        let pid = started?;
        let terminal = spec.process.tty;
        let container = Container {
            pid,
            exit: None,
            log,
            output: ends.output,
            input: ends.input,
            terminal,
            listeners: Vec::new(),
            kills_before,
            spec,
        };
        self.containers.insert(container.spec.id.clone(), container);
        Ok((pid, now()))
    }

    /// The process namespace of a container that runs.
    fn pids_of(&self, id: &str) -> Result<OwnedFd, String> {
        let container = self.containers.get(id).filter(|c| c.exit.is_none());
        let container = container.ok_or_else(|| format!("container {id} is not running"))?;
        let namespace = fs::File::open(format!("/proc/{}/ns/pid", container.pid));
        namespace.map(Into::into).map_err(|e| e.to_string())
    }

    pub(super) fn kill(&mut self, id: &str, signal: i32, all: bool) -> Result<Reply, String> {
        let container = self.containers.get(id).ok_or_else(|| format!("no container {id}"))?;
        if all {
            for pid in self.cgroups.members(&container.spec.cgroup) {
                let _ = sys::kill(pid, signal);
            }
        }
        if container.exit.is_none() {
            // It may end before the signal comes.
            let _ = sys::kill(container.pid, signal);
        }
        Ok(Reply::Done)
    }

    pub(super) fn exec(&mut self, i: usize, id: &str, mut process: ProcessSpec) {
        let outcome = (|| -> Result<(i32, Output, Option<OwnedFd>), String> {
            let container = self.containers.get(id).filter(|c| c.exit.is_none()).ok_or("container is not running")?;
            let text = |e: io::Error| e.to_string();
            let own = &container.spec.process;
            if process.env.is_empty() {
                process.env.clone_from(&own.env);
            }
            process.cwd.clone_from(&own.cwd);
            (process.uid, process.gid) = (own.uid, own.gid);
            process.groups.clone_from(&own.groups);
            process.capabilities.clone_from(&own.capabilities);
            (process.no_new_privileges, process.seccomp) = (own.no_new_privileges, own.seccomp);
            process.filter.clone_from(&own.filter);
            if process.tty && !process.env.iter().any(|e| e.starts_with("TERM=")) {
                process.env.push("TERM=xterm".into());
            }
            let ends = Ends::new(&process).map_err(text)?;
            let namespace = |name: &str| fs::File::open(format!("/proc/{}/ns/{name}", container.pid)).map_err(text);
            let namespaces =
                [(namespace("cgroup")?.into(), libc::CLONE_NEWCGROUP), (namespace("mnt")?.into(), libc::CLONE_NEWNS)];
            let pid_ns = namespace("pid")?;
            let privileged = container.spec.privileged;
            let group = self.cgroups.entrance(&container.spec.cgroup).map_err(text)?;
            let Ends { child, output, input } = ends;
            let pid = spawn_inside(child, &namespaces, &pid_ns.into(), &group, |streams| {
                process::enter_exec(&process, privileged, streams)
            })?;
            Ok((pid, output, input))
        })();
        match outcome {
            Err(why) => self.reply(i, &Reply::Failed { why }, &[]),
            Ok((pid, output, input)) => {
                self.clients[i].exec = Some(pid);
                let mut names = Vec::new();
                let mut fds: Vec<BorrowedFd<'_>> = Vec::new();
                let terminal = input.is_none() && output[1].is_none();
                if let Some(fd) = &input {
                    names.push("stdin".to_owned());
                    fds.push(fd.as_fd());
                }
                for (s, fd) in output.iter().enumerate() {
                    if let Some(fd) = fd {
                        names.push(if terminal { "tty".into() } else { ["stdout", "stderr"][s].to_owned() });
                        fds.push(fd.as_fd());
                    }
                }
                self.reply(i, &Reply::Started { pid, at: now(), streams: names }, &fds);
            }
        }
    }

    pub(super) fn attach(&mut self, i: usize, id: &str) {
        let Some(container) = self.containers.get_mut(id).filter(|c| c.exit.is_none()) else {
            return self.reply(i, &Reply::Failed { why: format!("container {id} is not running") }, &[]);
        };
        let mut names = Vec::new();
        let mut fds: Vec<OwnedFd> = Vec::new();
        let mut listener = [None, None];
        let mut add = |name: &str, fd: OwnedFd| {
            names.push(name.to_owned());
            fds.push(fd);
        };
        if container.terminal {
            if let Some(copy) = container.output[0].as_ref().and_then(|fd| fd.try_clone().ok()) {
                add("tty", copy);
            }
        } else if let Some(copy) = container.input.as_ref().and_then(|fd| fd.try_clone().ok()) {
            add("stdin", copy);
        }
        for s in 0..if container.terminal { 1 } else { 2 } {
            if let Ok((read, write)) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::NONBLOCK) {
                add(["stdout", "stderr"][s], read);
                listener[s] = Some(write);
            }
        }
        container.listeners.push(listener);
        let pid = container.pid;
        self.clients[i].exec = Some(pid);
        let borrowed: Vec<BorrowedFd<'_>> = fds.iter().map(AsFd::as_fd).collect();
        self.reply(i, &Reply::Started { pid, at: now(), streams: names }, &borrowed);
    }
}

//! The shim's loop.

use super::log::Log;
use super::process::{self, Streams};
use super::spec::{ContainerSpec, Exit, ProcessSpec, Reply, Request, SandboxSpec};
use super::{SOCKET, SPEC, sys};
use crate::cgroup::Cgroups;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags};
use rustix::pipe::{PipeFlags, pipe_with};
use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Read, Write};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// What a process writes: standard output and error, or a terminal as the first.
type Output = [Option<OwnedFd>; 2];

/// A container as the shim knows it.
struct Container {
    spec: ContainerSpec,
    pid: i32,
    exit: Option<Exit>,
    log: Log,
    /// What the program writes: standard output and error, or a terminal as the first.
    output: [Option<OwnedFd>; 2],
    /// What it reads.
    input: Option<OwnedFd>,
    /// The terminal, to read, write and resize.
    terminal: bool,
    /// Copies of the output for those who attached.
    listeners: Vec<[Option<OwnedFd>; 2]>,
    /// OOM kills of the group before this container.
    kills_before: u64,
}

struct Client {
    stream: UnixStream,
    /// Text of a request that is not whole yet.
    text: Vec<u8>,
    /// Wants to hear of every exit.
    events: bool,
    /// Wants to hear of this process's exit.
    exec: Option<i32>,
    gone: bool,
}

struct Shim {
    sandbox: SandboxSpec,
    cgroups: Cgroups,
    containers: BTreeMap<String, Container>,
    clients: Vec<Client>,
    pause: Option<i32>,
    pid_namespace: Option<OwnedFd>,
    ended: bool,
}

fn now() -> i64 {
    jiff::Timestamp::now().as_nanosecond() as i64
}

/// Runs a shim for the sandbox described in a directory. The caller's process ends at once; a child of it, in a session
/// of its own, goes on. `ready` is written to standard output when the socket is there.
///
/// # Errors
/// When the sandbox cannot be set up.
pub fn run(dir: &Path) -> io::Result<()> {
    let text = fs::read(dir.join(SPEC))?;
    let sandbox: SandboxSpec = serde_json::from_slice(&text).map_err(io::Error::other)?;
    if sys::fork(0)? != 0 {
        sys::exit_now(0);
    }
    rustix::process::setsid()?;
    let mut shim = match Shim::new(sandbox) {
        Ok(shim) => shim,
        Err(error) => {
            say(&format!("failed {error}\n"));
            return Err(error);
        }
    };
    let socket = dir.join(SOCKET);
    let _ = fs::remove_file(&socket);
    let listener = match listen(dir) {
        Ok(listener) => listener,
        Err(error) => {
            say(&format!("failed {}: {error}\n", socket.display()));
            return Err(error);
        }
    };
    say("ready\n");
    silence()?;
    let result = shim.serve(&listener);
    let _ = fs::remove_file(&socket);
    result
}

/// Lets go of the standard streams.
fn silence() -> io::Result<()> {
    let null = process::null()?;
    rustix::stdio::dup2_stdin(&null)?;
    rustix::stdio::dup2_stdout(&null)?;
    rustix::stdio::dup2_stderr(&null)?;
    Ok(())
}

fn listen(dir: &Path) -> io::Result<UnixListener> {
    // The path of a socket has at most 107 bytes; through /proc any directory is short.
    let dir = fs::File::open(dir)?;
    let listener = UnixListener::bind(format!("/proc/self/fd/{}/{SOCKET}", dir.as_raw_fd()))?;
    listener.set_nonblocking(true)?;
    Ok(listener)
}

fn say(text: &str) {
    // Nobody may listen any more; then nobody needs to know.
    let _ = io::stdout().write_all(text.as_bytes());
    let _ = io::stdout().flush();
}

impl Shim {
    fn new(sandbox: SandboxSpec) -> io::Result<Self> {
        sys::become_subreaper()?;
        if let Some(path) = &sandbox.netns {
            let namespace = fs::File::open(path)
                .map_err(|e| io::Error::new(e.kind(), format!("network namespace {}: {e}", path.display())))?;
            sys::setns(namespace.as_fd(), libc::CLONE_NEWNET)?;
        }
        let mut flags = 0;
        if !sandbox.host_ipc {
            flags |= libc::CLONE_NEWIPC;
        }
        if !sandbox.hostname.is_empty() {
            flags |= libc::CLONE_NEWUTS;
        }
        sys::unshare(flags)?;
        if !sandbox.hostname.is_empty() {
            rustix::system::sethostname(sandbox.hostname.as_bytes())?;
        }
        for (name, value) in &sandbox.sysctls {
            let path = PathBuf::from("/proc/sys").join(name.replace('.', "/"));
            fs::write(&path, value).map_err(|e| io::Error::new(e.kind(), format!("sysctl {name}: {e}")))?;
        }
        let mut shim = Self {
            sandbox,
            cgroups: Cgroups::detect(),
            containers: BTreeMap::new(),
            clients: Vec::new(),
            pause: None,
            pid_namespace: None,
            ended: false,
        };
        if shim.sandbox.share_pid && !shim.sandbox.host_pid {
            shim.start_pause()?;
        }
        Ok(shim)
    }

    /// The first process of a shared process namespace: it reaps, and does nothing else.
    fn start_pause(&mut self) -> io::Result<()> {
        let pid = sys::fork(libc::CLONE_NEWPID)?;
        if pid == 0 {
            // Who started the shim waits for the end of its output.
            if silence().is_err() {
                sys::exit_now(127);
            }
            sys::default_signals();
            loop {
                if sys::wait_for(-1).is_err() {
                    // No children: wait for a signal. Everybody else in the namespace ends with this process.
                    let _ = poll(&mut [], None);
                }
            }
        }
        self.pause = Some(pid);
        self.pid_namespace = Some(fs::File::open(format!("/proc/{pid}/ns/pid"))?.into());
        Ok(())
    }

    fn serve(&mut self, listener: &UnixListener) -> io::Result<()> {
        let signals = sys::child_signals()?;
        // A child may have ended before the signal was watched.
        self.reap();
        while !self.ended {
            let mut places: Vec<Place> = vec![Place::Listener, Place::Signals];
            places.extend((0..self.clients.len()).map(Place::Client));
            for (id, container) in &self.containers {
                places.extend((0..2).filter(|s| container.output[*s].is_some()).map(|s| Place::Output(id.clone(), s)));
            }
            let ready: Vec<Place> = {
                let mut fds: Vec<PollFd<'_>> = Vec::with_capacity(places.len());
                for place in &places {
                    let fd: BorrowedFd<'_> = match place {
                        Place::Listener => listener.as_fd(),
                        Place::Signals => signals.as_fd(),
                        Place::Client(i) => self.clients[*i].stream.as_fd(),
                        Place::Output(id, s) => match &self.containers[id].output[*s] {
                            Some(fd) => fd.as_fd(),
                            None => continue,
                        },
                    };
                    fds.push(PollFd::from_borrowed_fd(fd, PollFlags::IN));
                }
                match poll(&mut fds, None) {
                    Ok(_) | Err(Errno::INTR) => {}
                    Err(error) => return Err(error.into()),
                }
                let hit = fds.iter().map(|fd| !fd.revents().is_empty()).collect::<Vec<_>>();
                places.into_iter().zip(hit).filter(|(_, hit)| *hit).map(|(place, _)| place).collect()
            };
            for place in ready {
                match place {
                    Place::Listener => {
                        while let Ok((stream, _)) = listener.accept() {
                            let _ = stream.set_nonblocking(true);
                            self.clients.push(Client {
                                stream,
                                text: Vec::new(),
                                events: false,
                                exec: None,
                                gone: false,
                            });
                        }
                    }
                    Place::Signals => {
                        let mut sink = [0_u8; 1024];
                        let _ = rustix::io::read(&signals, &mut sink);
                        self.reap();
                    }
                    Place::Client(i) => self.hear(i),
                    Place::Output(id, stream) => self.copy(&id, stream),
                }
            }
            self.clients.retain(|c| !c.gone);
        }
        Ok(())
    }

    fn hear(&mut self, i: usize) {
        let mut buffer = [0_u8; 8192];
        let client = &mut self.clients[i];
        loop {
            match client.stream.read(&mut buffer) {
                Ok(0) => {
                    client.gone = true;
                    return;
                }
                Ok(n) => client.text.extend_from_slice(&buffer[..n]),
                Err(e) if e.kind() == io::ErrorKind::WouldBlock => break,
                Err(_) => {
                    client.gone = true;
                    return;
                }
            }
        }
        while let Some(end) = self.clients[i].text.iter().position(|&b| b == b'\n') {
            let line: Vec<u8> = self.clients[i].text.drain(..=end).collect();
            match serde_json::from_slice::<Request>(&line) {
                Ok(request) => self.answer(i, request),
                Err(error) => self.reply(i, &Reply::Failed { why: error.to_string() }, &[]),
            }
        }
    }

    fn reply(&mut self, i: usize, reply: &Reply, fds: &[BorrowedFd<'_>]) {
        let client = &mut self.clients[i];
        if !send(&client.stream, reply, fds) {
            client.gone = true;
        }
    }

    fn answer(&mut self, i: usize, request: Request) {
        let result = match request {
            Request::Start(spec) => self.start(*spec).map(|(pid, at)| Reply::Started { pid, at, streams: Vec::new() }),
            Request::Kill { id, signal, all } => self.kill(&id, signal, all),
            Request::Exec { id, process } => return self.exec(i, &id, *process),
            Request::Attach { id } => return self.attach(i, &id),
            Request::KillExec => {
                if let Some(pid) = self.clients[i].exec {
                    // It leads a session of its own: what it started goes with it.
                    let _ = sys::kill(-pid, libc::SIGKILL);
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
                Ok(Reply::Done)
            }
            Request::Reopen { id } => match self.containers.get_mut(&id) {
                Some(container) => container.log.reopen().map(|()| Reply::Done).map_err(|e| e.to_string()),
                None => Err(format!("no container {id}")),
            },
            Request::Forget { id } => {
                self.containers.retain(|i, c| *i != id || c.exit.is_none());
                Ok(Reply::Done)
            }
            Request::Events => {
                self.clients[i].events = true;
                let running = self.containers.iter().filter(|(_, c)| c.exit.is_none());
                Ok(Reply::Running { containers: running.map(|(id, c)| (id.clone(), c.pid)).collect() })
            }
            Request::Shutdown => {
                for container in self.containers.values().filter(|c| c.exit.is_none()) {
                    for pid in self.cgroups.members(&container.spec.cgroup) {
                        let _ = sys::kill(pid, libc::SIGKILL);
                    }
                    let _ = sys::kill(container.pid, libc::SIGKILL);
                }
                if let Some(pid) = self.pause {
                    let _ = sys::kill(pid, libc::SIGKILL);
                }
                // Nothing is left to be reaped by others; what was killed ends at once.
                while sys::wait_for(-1).is_ok() {}
                self.ended = true;
                Ok(Reply::Done)
            }
        };
        let reply = result.unwrap_or_else(|why| Reply::Failed { why });
        self.reply(i, &reply, &[]);
    }

    fn start(&mut self, spec: ContainerSpec) -> Result<(i32, i64), String> {
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
        let cgroup = spec.cgroup.clone();
        let cgroups = self.cgroups.clone();
        let child = spec.clone();
        let started = spawn(
            flags,
            ends.child,
            move |streams| process::enter_container(&child, streams),
            |pid| cgroups.add(&cgroup, pid),
        );
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

    fn kill(&mut self, id: &str, signal: i32, all: bool) -> Result<Reply, String> {
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

    fn exec(&mut self, i: usize, id: &str, mut process: ProcessSpec) {
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
            if process.tty && !process.env.iter().any(|e| e.starts_with("TERM=")) {
                process.env.push("TERM=xterm".into());
            }
            let ends = Ends::new(&process).map_err(text)?;
            let namespace = |name: &str| fs::File::open(format!("/proc/{}/ns/{name}", container.pid)).map_err(text);
            let namespaces =
                [(namespace("cgroup")?.into(), libc::CLONE_NEWCGROUP), (namespace("mnt")?.into(), libc::CLONE_NEWNS)];
            let pid_ns = namespace("pid")?;
            let privileged = container.spec.privileged;
            let (cgroups, cgroup) = (self.cgroups.clone(), container.spec.cgroup.clone());
            let Ends { child, output, input } = ends;
            let pid = spawn_inside(
                child,
                &namespaces,
                &pid_ns.into(),
                move |streams| process::enter_exec(&process, privileged, streams),
                |pid| cgroups.add(&cgroup, pid),
            )?;
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

    fn attach(&mut self, i: usize, id: &str) {
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

    /// Copies what a container wrote to its log and to those who listen.
    fn copy(&mut self, id: &str, stream: usize) {
        let Some(container) = self.containers.get_mut(id) else { return };
        let Some(fd) = &container.output[stream] else { return };
        let mut buffer = [0_u8; 32 << 10];
        match rustix::io::read(fd, &mut buffer) {
            Ok(0) | Err(Errno::IO) => {
                // A terminal whose other side is closed gives EIO.
                container.log.finish(stream);
                container.output[stream] = None;
                container.listeners.iter_mut().for_each(|l| l[stream] = None);
            }
            Ok(n) => {
                container.log.take(stream, &buffer[..n]);
                for listener in &mut container.listeners {
                    let slow = listener[stream].as_ref().is_some_and(|fd| rustix::io::write(fd, &buffer[..n]).is_err());
                    // Who reads too slowly is cut off: the container must not wait for him.
                    if slow {
                        listener[stream] = None;
                    }
                }
                container.listeners.retain(|l| l.iter().any(Option::is_some));
            }
            Err(_) => {}
        }
    }

    /// Takes note of all children that have ended.
    fn reap(&mut self) {
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

    /// Takes what is still in the pipes of a container that has ended.
    fn drain(&mut self, id: &str) {
        for stream in 0..2 {
            for _ in 0..1024 {
                let Some(fd) = self.containers.get(id).and_then(|c| c.output[stream].as_ref()) else { break };
                let mut fds = [PollFd::new(fd, PollFlags::IN)];
                let none = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
                if !matches!(poll(&mut fds, Some(&none)), Ok(n) if n > 0) {
                    break;
                }
                self.copy(id, stream);
            }
            if let Some(container) = self.containers.get_mut(id) {
                container.log.finish(stream);
            }
        }
    }
}

#[derive(Clone, Debug)]
enum Place {
    Listener,
    Signals,
    Client(usize),
    Output(String, usize),
}

/// Writes an exit where Trireme finds it, even if it does not run now.
fn keep(dir: &Path, id: &str, exit: &Exit) {
    let Ok(text) = serde_json::to_vec(exit) else { return };
    let temporary = dir.join(format!("{id}.exit.tmp"));
    let written = fs::File::create(&temporary).and_then(|mut f| f.write_all(&text).and_then(|()| f.sync_all()));
    if written.is_ok() {
        let _ = fs::rename(&temporary, dir.join(format!("{id}.exit")));
    }
}

/// Both ends of a process's streams.
struct Ends {
    child: Streams,
    output: [Option<OwnedFd>; 2],
    input: Option<OwnedFd>,
}

impl Ends {
    fn new(process: &ProcessSpec) -> io::Result<Self> {
        if process.tty {
            let (main, program) = sys::terminal()?;
            return Ok(Self { child: Streams::Terminal(program), output: [Some(main), None], input: None });
        }
        let pipe = || pipe_with(PipeFlags::CLOEXEC);
        let (stdin, input) = if process.stdin {
            let (read, write) = pipe()?;
            (read, Some(write))
        } else {
            (process::null()?, None)
        };
        let ((out, out_child), (err, err_child)) = (pipe()?, pipe()?);
        Ok(Self { child: Streams::Files([stdin, out_child, err_child]), output: [Some(out), Some(err)], input })
    }
}

/// Forks; the child waits until `place` has put it into its group, then runs `enter`, which returns only if it fails.
fn spawn(
    flags: i32,
    streams: Streams,
    enter: impl FnOnce(Streams) -> Result<(), String>,
    place: impl FnOnce(i32) -> io::Result<()>,
) -> Result<i32, String> {
    let text = |e: Errno| e.to_string();
    let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
    let (error_read, error_write) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
    let pid = sys::fork(flags).map_err(|e| e.to_string())?;
    if pid == 0 {
        drop((go_write, error_read));
        let mut byte = [0_u8; 1];
        let why = match rustix::io::read(&go_read, &mut byte) {
            Ok(1) => enter(streams).err().unwrap_or_default(),
            _ => "the shim went away".to_owned(),
        };
        let _ = rustix::io::write(&error_write, why.as_bytes());
        sys::exit_now(127);
    }
    drop((go_read, error_write, streams));
    let placed = place(pid);
    if placed.is_ok() {
        let _ = rustix::io::write(&go_write, b"x");
    }
    drop(go_write);
    let mut why = String::new();
    let _ = fs::File::from(error_read).read_to_string(&mut why);
    if let Err(error) = placed {
        why = error.to_string();
    }
    if why.is_empty() {
        return Ok(pid);
    }
    let _ = sys::wait_for(pid);
    Err(why)
}

/// As [`spawn`], into the namespaces of a container: a process enters a process namespace only by
/// being born in it, so a first child enters and forks a second, which becomes the shim's when the first ends.
fn spawn_inside(
    streams: Streams,
    others: &[(OwnedFd, libc::c_int)],
    pids: &OwnedFd,
    enter: impl FnOnce(Streams) -> Result<(), String>,
    place: impl FnOnce(i32) -> io::Result<()>,
) -> Result<i32, String> {
    let text = |e: Errno| e.to_string();
    let (pid_read, pid_write) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
    let (error_read, error_write) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
    let (go_read, go_write) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
    let first = sys::fork(0).map_err(|e| e.to_string())?;
    if first == 0 {
        drop((pid_read, error_read, go_write));
        let fail = |why: String| -> ! {
            let _ = rustix::io::write(&error_write, why.as_bytes());
            sys::exit_now(126);
        };
        if let Err(error) = sys::setns(pids.as_fd(), libc::CLONE_NEWPID) {
            fail(format!("enter the process namespace: {error}"));
        }
        match sys::fork(0) {
            Err(error) => fail(error.to_string()),
            Ok(0) => {
                let mut byte = [0_u8; 1];
                if !matches!(rustix::io::read(&go_read, &mut byte), Ok(1)) {
                    fail("the shim went away".to_owned());
                }
                for (namespace, kind) in others {
                    if let Err(error) = sys::setns(namespace.as_fd(), *kind) {
                        fail(format!("enter the container's namespaces: {error}"));
                    }
                }
                match enter(streams) {
                    Err(why) => fail(why),
                    Ok(()) => sys::exit_now(126),
                }
            }
            Ok(second) => {
                let _ = rustix::io::write(&pid_write, &second.to_le_bytes());
                sys::exit_now(0);
            }
        }
    }
    drop((pid_write, error_write, go_read, streams));
    let mut bytes = [0_u8; 4];
    let got = fs::File::from(pid_read).read_exact(&mut bytes);
    let _ = sys::wait_for(first);
    let mut why = String::new();
    let pid = i32::from_le_bytes(bytes);
    let mut placed = Ok(());
    if got.is_ok() {
        placed = place(pid);
        if placed.is_ok() {
            let _ = rustix::io::write(&go_write, b"x");
        }
    }
    drop(go_write);
    let _ = fs::File::from(error_read).read_to_string(&mut why);
    if let Err(error) = placed {
        why = error.to_string();
    }
    if !why.is_empty() || got.is_err() {
        return Err(if why.is_empty() { "cannot enter the container".into() } else { why });
    }
    Ok(pid)
}

/// Sends a reply with descriptors; false when the client is gone.
fn send(stream: &UnixStream, reply: &Reply, fds: &[BorrowedFd<'_>]) -> bool {
    let Ok(mut line) = serde_json::to_vec(reply) else { return false };
    line.push(b'\n');
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(4))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    if !fds.is_empty() && !control.push(SendAncillaryMessage::ScmRights(fds)) {
        return false;
    }
    let parts = [io::IoSlice::new(&line)];
    // A line is far smaller than a socket's buffer: it goes whole or not at all.
    matches!(rustix::net::sendmsg(stream, &parts, &mut control, SendFlags::NOSIGNAL), Ok(n) if n == line.len())
}

//! From a forked child to the program of a container. Runs in the child, between fork and exec, in one thread.

use super::filter;
use super::spec::{ContainerSpec, MountSpec, ProcessSpec};
use super::sys;
use rustix::fs::{Mode, OFlags, open};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

const BIND: libc::c_ulong = libc::MS_BIND;
const REC: libc::c_ulong = libc::MS_REC;
const RDONLY: libc::c_ulong = libc::MS_RDONLY;
const NOSUID: libc::c_ulong = libc::MS_NOSUID;
const NODEV: libc::c_ulong = libc::MS_NODEV;
const NOEXEC: libc::c_ulong = libc::MS_NOEXEC;

/// What failed, for the message that the user reads.
fn at<T>(what: impl std::fmt::Display, result: io::Result<T>) -> Result<T, String> {
    result.map_err(|e| format!("{what}: {e}"))
}

/// The standard streams of a new process.
#[derive(Debug)]
pub(super) enum Streams {
    /// A terminal.
    Terminal(OwnedFd),
    /// Three files.
    Files([OwnedFd; 3]),
}

impl Streams {
    fn install(self) -> Result<(), String> {
        let failed = |e: rustix::io::Errno| format!("cannot set up the standard streams: {e}");
        match self {
            Streams::Terminal(fd) => {
                at("terminal", sys::take_terminal(fd.as_fd()))?;
                rustix::stdio::dup2_stdin(&fd).map_err(failed)?;
                rustix::stdio::dup2_stdout(&fd).map_err(failed)?;
                rustix::stdio::dup2_stderr(&fd).map_err(failed)
            }
            Streams::Files([stdin, stdout, stderr]) => {
                rustix::stdio::dup2_stdin(&stdin).map_err(failed)?;
                rustix::stdio::dup2_stdout(&stdout).map_err(failed)?;
                rustix::stdio::dup2_stderr(&stderr).map_err(failed)
            }
        }
    }
}

/// Sets up a container and becomes its program.
pub(super) fn enter_container(spec: &ContainerSpec, streams: Streams) -> Result<(), String> {
    rustix::process::setsid().map_err(|e| format!("setsid: {e}"))?;
    streams.install()?;
    root(spec)?;
    become_program(&spec.process, spec.privileged)
}

/// Becomes a program in namespaces that were entered already.
pub(super) fn enter_exec(process: &ProcessSpec, privileged: bool, streams: Streams) -> Result<(), String> {
    // A session may exist already: exec children are forked twice.
    let _ = rustix::process::setsid();
    streams.install()?;
    become_program(process, privileged)
}

fn root(spec: &ContainerSpec) -> Result<(), String> {
    let root = &spec.rootfs;
    // What is mounted on the host later may show; what is mounted here must not show there.
    at("make mounts private", sys::mount(None, Path::new("/"), "", REC | libc::MS_SLAVE, ""))?;
    if !spec.privileged {
        at("make a control group namespace", sys::unshare(libc::CLONE_NEWCGROUP))?;
    }
    at("bind the root", sys::mount(Some(root), root, "", BIND | REC, ""))?;
    if !spec.privileged {
        // A device file that the container makes, or that its image brings, opens nothing.
        at("bind the root", sys::mount(None, root, "", BIND | libc::MS_REMOUNT | NODEV, ""))?;
    }
    base_mounts(spec)?;
    for mount in &spec.mounts {
        bind(root, mount, spec.privileged)?;
    }
    for (host, inside) in &spec.devices {
        let target = inside_root(root, inside)?;
        at(inside.display(), file_target(&target))?;
        at(inside.display(), sys::mount(Some(host), &target, "", BIND, ""))?;
    }
    at("enter the root", std::env::set_current_dir(root))?;
    at("change the root", sys::pivot_root_here())?;
    at("leave the old root", sys::detach(Path::new(".")))?;
    at("enter the new root", std::env::set_current_dir("/"))?;
    if !spec.privileged {
        for path in &spec.readonly {
            if path.exists() {
                at(path.display(), sys::mount(Some(path), path, "", BIND | REC, ""))?;
                at(path.display(), sys::mount(None, path, "", BIND | libc::MS_REMOUNT | RDONLY | REC, ""))?;
            }
        }
        for path in &spec.masked {
            let Ok(metadata) = fs::symlink_metadata(path) else { continue };
            if metadata.is_dir() {
                at(path.display(), sys::mount(None, path, "tmpfs", RDONLY, ""))?;
            } else {
                at(path.display(), sys::mount(Some(Path::new("/dev/null")), path, "", BIND, ""))?;
            }
        }
    }
    if spec.readonly_rootfs {
        let flags = BIND | libc::MS_REMOUNT | RDONLY | if spec.privileged { 0 } else { NODEV };
        at("make the root read-only", sys::mount(None, Path::new("/"), "", flags, ""))?;
    }
    Ok(())
}

fn base_mounts(spec: &ContainerSpec) -> Result<(), String> {
    let root = &spec.rootfs;
    let filesystem = |path: &str, kind: &str, flags: libc::c_ulong, data: &str| {
        let target = inside_root(root, Path::new(path))?;
        at(path, fs::create_dir_all(&target))?;
        at(path, sys::mount(Some(Path::new(kind)), &target, kind, flags, data))
    };
    filesystem("/proc", "proc", NOSUID | NODEV | NOEXEC, "")?;
    // Devices are bound one by one; a file made beside them opens nothing.
    let devices_open = if spec.privileged { 0 } else { NODEV };
    filesystem("/dev", "tmpfs", NOSUID | devices_open, "mode=755,size=65536k")?;
    filesystem("/dev/pts", "devpts", NOSUID | NOEXEC, "newinstance,ptmxmode=0666,mode=0620,gid=5")?;
    filesystem("/dev/shm", "tmpfs", NOSUID | NODEV | NOEXEC, "mode=1777,size=65536k")?;
    filesystem("/dev/mqueue", "mqueue", NOSUID | NODEV | NOEXEC, "")?;
    let writable = if spec.privileged { 0 } else { RDONLY };
    // A network namespace of the host's user namespace is needed for a sysfs of one's own; it has been entered.
    filesystem("/sys", "sysfs", NOSUID | NODEV | NOEXEC | writable, "")?;
    groups(spec)?;
    devices(root)?;
    if spec.privileged { all_devices(Path::new("/dev"), &inside_root(root, Path::new("/dev"))?) } else { Ok(()) }
}

/// The container's own control groups, where the host has its.
fn groups(spec: &ContainerSpec) -> Result<(), String> {
    const DIR: &str = "/sys/fs/cgroup";
    let target = inside_root(&spec.rootfs, Path::new(DIR))?;
    if !Path::new(DIR).exists() || !target.is_dir() {
        return Ok(());
    }
    if spec.privileged {
        return at(DIR, sys::mount(Some(Path::new(DIR)), &target, "", BIND | REC, ""));
    }
    let flags = NOSUID | NODEV | NOEXEC;
    let mounts = at("/proc/self/mounts", fs::read_to_string("/proc/self/mounts"))?;
    let below = |line: &str| {
        let words: Vec<&str> = line.split(' ').collect();
        let (path, kind, options) = (words.get(1)?, words.get(2)?, words.get(3)?);
        let name = path.strip_prefix(DIR)?.trim_start_matches('/').to_owned();
        matches!(*kind, "cgroup" | "cgroup2").then(|| (name, (*kind).to_owned(), (*options).to_owned()))
    };
    let all: Vec<(String, String, String)> = mounts.lines().filter_map(below).collect();
    if all.iter().any(|(name, kind, _)| name.is_empty() && kind == "cgroup2") {
        return at(DIR, sys::mount(Some(Path::new("cgroup")), &target, "cgroup2", flags | RDONLY, ""));
    }
    at(DIR, sys::mount(Some(Path::new("tmpfs")), &target, "tmpfs", flags, "mode=755"))?;
    for (name, kind, options) in all.iter().filter(|(name, ..)| !name.is_empty() && !name.contains('/')) {
        let dir = target.join(name);
        at(dir.display(), fs::create_dir_all(&dir))?;
        // Of the options, the controllers and the name choose the tree.
        let own =
            options.split(',').filter(|o| !matches!(*o, "rw" | "ro" | "nosuid" | "nodev" | "noexec" | "relatime"));
        let data = if kind == "cgroup" { own.collect::<Vec<_>>().join(",") } else { String::new() };
        at(dir.display(), sys::mount(Some(Path::new("cgroup")), &dir, kind, flags | RDONLY, &data))?;
    }
    at(DIR, sys::mount(None, &target, "", libc::MS_REMOUNT | RDONLY | flags, "mode=755"))
}

/// All devices of the host that are not there yet, for those who may do what root may.
fn all_devices(host: &Path, target: &Path) -> Result<(), String> {
    use std::os::unix::fs::{FileTypeExt, MetadataExt};
    for entry in at(host.display(), fs::read_dir(host))?.flatten() {
        let (from, to) = (entry.path(), target.join(entry.file_name()));
        // Devices come and go; one that has gone is not missed.
        let Ok(metadata) = fs::symlink_metadata(&from) else { continue };
        let kind = metadata.file_type();
        if kind.is_dir() && !matches!(entry.file_name().to_str(), Some("pts" | "shm" | "mqueue" | "fd")) {
            at(to.display(), fs::create_dir_all(&to))?;
            all_devices(&from, &to)?;
        } else if (kind.is_char_device() || kind.is_block_device()) && !to.exists() {
            at(to.display(), sys::make_device(&to, metadata.mode(), metadata.rdev()))?;
        }
    }
    Ok(())
}

fn devices(root: &Path) -> Result<(), String> {
    let dev = inside_root(root, Path::new("/dev"))?;
    for name in ["null", "zero", "full", "random", "urandom", "tty"] {
        let (host, target) = (Path::new("/dev").join(name), dev.join(name));
        at(target.display(), fs::File::create(&target).map(drop))?;
        at(target.display(), sys::mount(Some(&host), &target, "", BIND, ""))?;
    }
    for (link, to) in [
        ("ptmx", "pts/ptmx"),
        ("fd", "/proc/self/fd"),
        ("stdin", "/proc/self/fd/0"),
        ("stdout", "/proc/self/fd/1"),
        ("stderr", "/proc/self/fd/2"),
    ] {
        at(link, std::os::unix::fs::symlink(to, dev.join(link)))?;
    }
    Ok(())
}

/// A path of the container on the host; links in the image cannot lead out of the root.
fn inside_root(root: &Path, path: &Path) -> Result<PathBuf, String> {
    let mut out = root.to_owned();
    let mut left: Vec<PathBuf> = vec![path.to_owned()];
    let mut links = 0;
    while let Some(next) = left.pop() {
        let mut parts = next.components();
        let Some(part) = parts.next() else { continue };
        left.push(parts.as_path().to_owned());
        match part {
            std::path::Component::RootDir => out = root.to_owned(),
            std::path::Component::ParentDir if out != root => {
                out.pop();
            }
            std::path::Component::Normal(name) => {
                let here = out.join(name);
                match fs::read_link(&here) {
                    Ok(to) => {
                        links += 1;
                        if links > 40 {
                            return Err(format!("{}: too many links", path.display()));
                        }
                        left.push(to);
                    }
                    Err(_) => out = here,
                }
            }
            _ => {}
        }
    }
    Ok(out)
}

fn file_target(target: &Path) -> io::Result<()> {
    if let Some(above) = target.parent() {
        fs::create_dir_all(above)?;
    }
    if !target.exists() {
        fs::File::create(target)?;
    }
    Ok(())
}

fn bind(root: &Path, mount: &MountSpec, privileged: bool) -> Result<(), String> {
    let name = format!("mount {} on {}", mount.source.display(), mount.destination.display());
    let source = at(&name, fs::metadata(&mount.source))?;
    let target = inside_root(root, &mount.destination)?;
    if source.is_dir() {
        at(&name, fs::create_dir_all(&target))?;
    } else {
        at(&name, file_target(&target))?;
    }
    at(&name, sys::mount(Some(&mount.source), &target, "", BIND | REC, ""))?;
    let propagation = match mount.propagation.as_str() {
        "rslave" => libc::MS_SLAVE,
        "rshared" => libc::MS_SHARED,
        _ => libc::MS_PRIVATE,
    };
    at(&name, sys::mount(None, &target, "", propagation | REC, ""))?;
    if mount.recursive_readonly {
        at(&name, sys::mount_readonly_recursive(&target))?;
    }
    // The host's own devices may be shown on purpose; elsewhere a device file opens nothing.
    let guarded = !privileged && source.is_dir() && !mount.source.starts_with("/dev");
    if mount.readonly || guarded {
        // A remount must repeat the flags that the file system was locked with.
        let kept = rustix::fs::statvfs(&target).map(|s| s.f_flag.bits()).unwrap_or_default();
        let mut flags = BIND | libc::MS_REMOUNT | if mount.readonly { RDONLY } else { 0 };
        if guarded {
            flags |= NODEV;
        }
        for (bit, flag) in [
            (1, RDONLY),
            (2, NOSUID),
            (4, NODEV),
            (8, NOEXEC),
            (1024, libc::MS_NOATIME),
            (2048, libc::MS_NODIRATIME),
            (4096, libc::MS_RELATIME),
        ] {
            if kept & bit != 0 {
                flags |= flag;
            }
        }
        at(&name, sys::mount(None, &target, "", flags, ""))?;
    }
    Ok(())
}

fn become_program(process: &ProcessSpec, privileged: bool) -> Result<(), String> {
    let cwd = if process.cwd.as_os_str().is_empty() { Path::new("/") } else { &process.cwd };
    if !cwd.exists() {
        at(cwd.display(), fs::create_dir_all(cwd))?;
    }
    if process.oom_score_adj != 0 {
        // Lowering it needs a capability that the host may not have: then it stays as it is.
        let _ = fs::write("/proc/self/oom_score_adj", process.oom_score_adj.to_string());
    }
    if !privileged {
        at("capabilities", sys::bound_capabilities(&process.capabilities))?;
    }
    at("user", sys::become_user(process.uid, process.gid, &process.groups))?;
    if !privileged || process.uid != 0 {
        at("capabilities", sys::set_capabilities(&process.capabilities, process.uid == 0))?;
    }
    at(format!("chdir to cwd ({:?})", cwd.display().to_string()), std::env::set_current_dir(cwd))?;
    if process.no_new_privileges {
        at("no_new_privs", sys::no_new_privileges())?;
    }
    let program = find_program(process)?;
    if process.seccomp && !privileged {
        if !process.no_new_privileges && process.uid != 0 {
            // Without CAP_SYS_ADMIN the kernel takes a filter only from those who cannot gain privileges.
            at("no_new_privs", sys::no_new_privileges())?;
        }
        match filter::load(&process.capabilities, &process.filter) {
            Err(e) if e.raw_os_error() == Some(libc::EACCES) => {
                at("no_new_privs", sys::no_new_privileges())?;
                at("seccomp", filter::load(&process.capabilities, &process.filter))?;
            }
            other => at("seccomp", other)?,
        }
    }
    sys::default_signals();
    let error = sys::exec(&program, &process.args, &process.env);
    Err(format!("exec {:?}: {error}", program.display().to_string()))
}

/// The program's path, looked up in the container's own PATH.
fn find_program(process: &ProcessSpec) -> Result<PathBuf, String> {
    let Some(name) = process.args.first().filter(|n| !n.is_empty()) else { return Err("no command specified".into()) };
    if name.contains('/') {
        return match fs::metadata(name) {
            Ok(_) => Ok(PathBuf::from(name)),
            Err(e) => Err(format!("exec: {name:?}: stat {name}: {}", lower(&e))),
        };
    }
    const DEFAULT: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
    let path = process.env.iter().find_map(|e| e.strip_prefix("PATH=")).unwrap_or(DEFAULT);
    for dir in path.split(':') {
        let candidate = Path::new(if dir.is_empty() { "." } else { dir }).join(name);
        if rustix::fs::access(&candidate, rustix::fs::Access::EXEC_OK).is_ok() && candidate.is_file() {
            return Ok(candidate);
        }
    }
    Err(format!("exec: {name:?}: executable file not found in $PATH"))
}

fn lower(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::NotFound => "no such file or directory",
        io::ErrorKind::PermissionDenied => "permission denied",
        _ => "cannot be used",
    }
}

/// `/dev/null`, for a stream that nobody wants.
pub(super) fn null() -> io::Result<OwnedFd> {
    Ok(open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())?)
}

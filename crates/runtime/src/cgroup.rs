//! Control groups, version 1 and 2: limits, members, numbers.

use crate::shim::{Limits, sys};
use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::{Path, PathBuf};

/// How control groups are mounted here.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Layout {
    /// One tree.
    Unified(PathBuf),
    /// A tree a controller.
    Split(Vec<(String, PathBuf)>),
}

/// The machine's control groups.
#[derive(Clone, Debug)]
pub struct Cgroups(Layout);

const USED: [&str; 7] = ["memory", "cpu", "cpuacct", "pids", "cpuset", "freezer", "hugetlb"];

fn write(path: &Path, text: impl AsRef<[u8]>) -> io::Result<()> {
    fs::write(path, text).map_err(|e| io::Error::new(e.kind(), format!("{}: {e}", path.display())))
}

fn read_number(path: &Path) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    match text.trim() {
        "max" => None,
        text => text.parse().ok(),
    }
}

/// A line `key number` of a file.
fn read_key(path: &Path, key: &str) -> Option<u64> {
    let text = fs::read_to_string(path).ok()?;
    text.lines().find_map(|l| l.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
}

/// What a group uses.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// Nanoseconds of processor time.
    pub cpu_nanos: u64,
    /// Bytes.
    pub memory: u64,
    /// Bytes that cannot be given back.
    pub working_set: u64,
    /// Bytes of anonymous memory.
    pub rss: u64,
    /// Page faults and those that needed the disk.
    pub faults: (u64, u64),
    /// Processes.
    pub pids: u64,
}

impl Cgroups {
    /// Reads how they are mounted.
    pub fn detect() -> Self {
        let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
        let mut split = Vec::new();
        let mut unified = None;
        for line in mounts.lines() {
            let words: Vec<&str> = line.split(' ').collect();
            match words[..] {
                [_, at, "cgroup2", ..] => unified = Some(PathBuf::from(at)),
                [_, at, "cgroup", options, ..] => {
                    for name in options.split(',').filter(|o| USED.contains(o)) {
                        split.push((name.to_owned(), PathBuf::from(at)));
                    }
                }
                _ => {}
            }
        }
        match unified {
            Some(root) if split.is_empty() => Self(Layout::Unified(root)),
            _ => Self(Layout::Split(split)),
        }
    }

    /// Whether there is one tree.
    pub fn is_unified(&self) -> bool {
        matches!(self.0, Layout::Unified(_))
    }

    fn dirs(&self, group: &str) -> Vec<(String, PathBuf)> {
        let group = group.trim_start_matches('/');
        let mut dirs: Vec<(String, PathBuf)> = match &self.0 {
            Layout::Unified(root) => vec![(String::new(), root.join(group))],
            Layout::Split(roots) => roots.iter().map(|(name, root)| (name.clone(), root.join(group))).collect(),
        };
        // cpu and cpuacct are one mount on most machines.
        let mut seen = Vec::new();
        dirs.retain(|(name, dir)| {
            let new = !seen.contains(dir) || name == "cpu";
            seen.push(dir.clone());
            new
        });
        dirs
    }

    fn dir(&self, controller: &str, group: &str) -> Option<PathBuf> {
        let group = group.trim_start_matches('/');
        match &self.0 {
            Layout::Unified(root) => Some(root.join(group)),
            Layout::Split(roots) => roots.iter().find(|(name, _)| name == controller).map(|(_, root)| root.join(group)),
        }
    }

    /// Makes a group and those above it.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn create(&self, group: &str) -> io::Result<()> {
        match &self.0 {
            Layout::Unified(root) => {
                let mut dir = root.clone();
                for part in group.split('/').filter(|p| !p.is_empty()) {
                    // A controller that is missing here is not asked for.
                    let there = fs::read_to_string(dir.join("cgroup.controllers")).unwrap_or_default();
                    for name in ["cpu", "memory", "pids", "cpuset", "io", "hugetlb"]
                        .into_iter()
                        .filter(|n| there.split_whitespace().any(|t| t == *n))
                    {
                        let _ = fs::write(dir.join("cgroup.subtree_control"), format!("+{name}"));
                    }
                    dir.push(part);
                    make(&dir)?;
                }
                Ok(())
            }
            Layout::Split(roots) => {
                for (name, root) in roots {
                    let mut dir = root.clone();
                    for part in group.split('/').filter(|p| !p.is_empty()) {
                        let above = dir.clone();
                        dir.push(part);
                        make(&dir)?;
                        if name == "cpuset" {
                            // A new set is empty, and nothing may run in it.
                            for file in ["cpuset.cpus", "cpuset.mems"] {
                                if fs::read_to_string(dir.join(file)).is_ok_and(|t| t.trim().is_empty()) {
                                    let inherited = fs::read_to_string(above.join(file)).unwrap_or_default();
                                    let _ = fs::write(dir.join(file), inherited.trim());
                                }
                            }
                        }
                    }
                }
                Ok(())
            }
        }
    }

    /// The way into a group, for processes that are yet to be made.
    ///
    /// # Errors
    /// When there is no such group.
    pub fn entrance(&self, group: &str) -> io::Result<Entrance> {
        let dirs = self.dirs(group);
        let file = if self.is_unified() { "cgroup.procs" } else { "tasks" };
        let birthplace = match &dirs[..] {
            [(_, dir)] if self.is_unified() => Some(fs::File::open(dir)?.into()),
            _ => None,
        };
        Ok(Entrance { birthplace, files: dirs.into_iter().map(|(_, dir)| dir.join(file)).collect() })
    }

    /// Sets limits; what is absent stays as it is.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn limit(&self, group: &str, limits: &Limits) -> io::Result<()> {
        let set = |controller: &str, file: &str, text: String| match self.dir(controller, group) {
            Some(dir) => write(&dir.join(file), text),
            None => Ok(()),
        };
        let unified = self.is_unified();
        if let Some(bytes) = limits.memory.filter(|n| *n != 0) {
            let text = if bytes < 0 { if unified { "max".into() } else { "-1".into() } } else { bytes.to_string() };
            set("memory", if unified { "memory.max" } else { "memory.limit_in_bytes" }, text)?;
        }
        if let Some(shares) = limits.cpu_shares.filter(|n| *n != 0) {
            if unified {
                // The range 2..262144 onto 1..10000 (KEP-2254).
                let weight = 1 + (shares.clamp(2, 262_144) - 2) * 9999 / 262_142;
                set("cpu", "cpu.weight", weight.to_string())?;
            } else {
                set("cpu", "cpu.shares", shares.to_string())?;
            }
        }
        if limits.cpu_quota.is_some() || limits.cpu_period.is_some() {
            let period = limits.cpu_period.filter(|n| *n != 0).unwrap_or(100_000);
            let quota = limits.cpu_quota.filter(|n| *n > 0);
            if unified {
                let quota = quota.map_or("max".to_owned(), |n| n.to_string());
                set("cpu", "cpu.max", format!("{quota} {period}"))?;
            } else {
                set("cpu", "cpu.cfs_period_us", period.to_string())?;
                set("cpu", "cpu.cfs_quota_us", quota.map_or("-1".to_owned(), |n| n.to_string()))?;
            }
        }
        if !limits.cpuset.is_empty() {
            set("cpuset", "cpuset.cpus", limits.cpuset.clone())?;
        }
        for (size, bytes) in &limits.hugepages {
            let file = if unified { "max" } else { "limit_in_bytes" };
            set("hugetlb", &format!("hugetlb.{size}.{file}"), bytes.to_string())?;
        }
        if let Some(pids) = limits.pids.filter(|n| *n > 0) {
            set("pids", "pids.max", pids.to_string())?;
        }
        Ok(())
    }

    /// The processes of a group and of those below it.
    pub fn members(&self, group: &str) -> Vec<i32> {
        let Some((_, dir)) = self.dirs(group).into_iter().next() else { return Vec::new() };
        let mut pids = Vec::new();
        collect(&dir, &mut pids);
        pids
    }

    /// How often the kernel killed a process of the group for want of memory.
    pub fn oom_kills(&self, group: &str) -> u64 {
        let Some(dir) = self.dir("memory", group) else { return 0 };
        let file = if self.is_unified() { "memory.events" } else { "memory.oom_control" };
        read_key(&dir.join(file), "oom_kill").unwrap_or_default()
    }

    /// What a group uses now.
    pub fn usage(&self, group: &str) -> Usage {
        let mut usage = Usage::default();
        let unified = self.is_unified();
        if let Some(dir) = self.dir("memory", group) {
            let stat = dir.join("memory.stat");
            let inactive = if unified { "inactive_file" } else { "total_inactive_file" };
            let file = if unified { "memory.current" } else { "memory.usage_in_bytes" };
            usage.memory = read_number(&dir.join(file)).unwrap_or_default();
            usage.working_set = usage.memory.saturating_sub(read_key(&stat, inactive).unwrap_or_default());
            usage.rss = read_key(&stat, if unified { "anon" } else { "total_rss" }).unwrap_or_default();
            usage.faults = (
                read_key(&stat, if unified { "pgfault" } else { "total_pgfault" }).unwrap_or_default(),
                read_key(&stat, if unified { "pgmajfault" } else { "total_pgmajfault" }).unwrap_or_default(),
            );
        }
        if unified {
            if let Some(dir) = self.dir("cpu", group) {
                usage.cpu_nanos = read_key(&dir.join("cpu.stat"), "usage_usec").unwrap_or_default() * 1000;
            }
        } else if let Some(dir) = self.dir("cpuacct", group) {
            usage.cpu_nanos = read_number(&dir.join("cpuacct.usage")).unwrap_or_default();
        }
        if let Some(dir) = self.dir("pids", group) {
            usage.pids = read_number(&dir.join("pids.current")).unwrap_or_default();
        }
        usage
    }

    /// Removes a group and those below it; a group with processes stays.
    pub fn remove(&self, group: &str) {
        for (_, dir) in self.dirs(group) {
            remove(&dir);
        }
    }
}

/// The way into a group. Moving another process makes the kernel wait until no processor can still be looking at where it
/// was, for some ten milliseconds; a process that moves itself, thread by thread, or is born in the group does not wait.
#[derive(Debug)]
pub struct Entrance {
    birthplace: Option<OwnedFd>,
    files: Vec<PathBuf>,
}

/// What [`Entrance::fork`] comes back as.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Birth {
    /// In the parent: the child's id.
    Parent(i32),
    /// In the child, in the group.
    Inside,
    /// In the child, which is to [`Entrance::join`] the group.
    Outside,
}

impl Entrance {
    /// Forks, into the group where the kernel can do that. The process must have one thread.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn fork(&self, flags: i32) -> io::Result<Birth> {
        if let Some(dir) = &self.birthplace {
            match sys::fork_into(flags, dir.as_fd()) {
                Ok(0) => return Ok(Birth::Inside),
                Ok(pid) => return Ok(Birth::Parent(pid)),
                // An older kernel, or a seccomp filter that does not know the call.
                Err(e) if matches!(e.raw_os_error(), Some(libc::ENOSYS | libc::EINVAL | libc::E2BIG)) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(match sys::fork(flags)? {
            0 => Birth::Outside,
            pid => Birth::Parent(pid),
        })
    }

    /// Puts the calling process, which has one thread, into the group.
    ///
    /// # Errors
    /// When the kernel refuses.
    pub fn join(&self) -> io::Result<()> {
        self.files.iter().try_for_each(|file| write(file, "0"))
    }
}

fn make(dir: &Path) -> io::Result<()> {
    match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
            Err(io::Error::new(e.kind(), format!("{}: {e}", dir.display())))
        }
        _ => Ok(()),
    }
}

fn subdirs(dir: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.filter(|e| e.file_type().is_ok_and(|t| t.is_dir())).map(|e| e.path()).collect()
}

fn collect(dir: &Path, pids: &mut Vec<i32>) {
    let text = fs::read_to_string(dir.join("cgroup.procs")).unwrap_or_default();
    pids.extend(text.lines().filter_map(|l| l.trim().parse::<i32>().ok()));
    for below in subdirs(dir) {
        collect(&below, pids);
    }
}

fn remove(dir: &Path) {
    for below in subdirs(dir) {
        remove(&below);
    }
    // It is in the way of nobody when it stays; the next removal of a parent tries again.
    let _ = fs::remove_dir(dir);
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The trees of this machine: what is mounted, and a tree of version 2 beside trees of version 1.
    fn trees() -> Vec<Cgroups> {
        let beside = PathBuf::from("/sys/fs/cgroup/unified");
        let split = Cgroups::detect();
        let unified = beside.join("cgroup.procs").exists().then_some(Cgroups(Layout::Unified(beside)));
        [Some(split), unified].into_iter().flatten().collect()
    }

    #[test]
    fn a_child_is_in_the_group_from_its_start() {
        for groups in trees() {
            let name = format!("trireme-test-{}", std::process::id());
            if groups.create(&name).is_err() {
                eprintln!("skipped: control groups cannot be made here");
                return;
            }
            let entrance = groups.entrance(&name).unwrap();
            // The child does nothing but join and wait, for this process has threads.
            let birth = entrance.fork(0).unwrap();
            let Birth::Parent(child) = birth else {
                if birth == Birth::Outside && entrance.join().is_err() {
                    sys::exit_now(1);
                }
                let _ = rustix::event::poll(&mut [], None);
                sys::exit_now(0);
            };
            let started = std::time::Instant::now();
            while groups.members(&name) != [child] && started.elapsed() < std::time::Duration::from_secs(10) {
                std::thread::yield_now();
            }
            let members = groups.members(&name);
            sys::kill(child, libc::SIGKILL).unwrap();
            sys::wait_for(child).unwrap();
            groups.remove(&name);
            assert_eq!(members, [child], "{groups:?}");
        }
    }
}

//! What a shim is told, and what it answers: JSON, one line each, over its socket.

use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::path::PathBuf;

/// A pod's sandbox.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct SandboxSpec {
    /// Its id.
    pub id: String,
    /// The shim's own directory: socket, exit files.
    pub dir: PathBuf,
    /// The host name; empty leaves the host's.
    pub hostname: String,
    /// The network namespace; none is the host's.
    pub netns: Option<PathBuf>,
    /// Uses the host's process ids.
    pub host_pid: bool,
    /// Uses the host's IPC.
    pub host_ipc: bool,
    /// All containers see each other's processes.
    pub share_pid: bool,
    /// Kernel settings of the sandbox's namespaces.
    pub sysctls: BTreeMap<String, String>,
}

/// A mount into a container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct MountSpec {
    /// On the host.
    pub source: PathBuf,
    /// In the container.
    pub destination: PathBuf,
    /// Nothing can be written.
    pub readonly: bool,
    /// Nor to mounts below it.
    pub recursive_readonly: bool,
    /// `rprivate`, `rslave`, `rshared`.
    pub propagation: String,
}

/// Limits of a container; absent means none.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Limits {
    /// Bytes.
    pub memory: Option<i64>,
    /// Relative weight, 2 to 262144.
    pub cpu_shares: Option<u64>,
    /// Microseconds in each period.
    pub cpu_quota: Option<i64>,
    /// Microseconds.
    pub cpu_period: Option<u64>,
    /// Processors.
    pub cpuset: String,
    /// Processes.
    pub pids: Option<i64>,
    /// Bytes of large pages, by their size as the kernel writes it (`2MB`).
    #[serde(default)]
    pub hugepages: BTreeMap<String, u64>,
}

/// What a process in a container is run as.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ProcessSpec {
    /// Program and arguments.
    pub args: Vec<String>,
    /// `KEY=value`.
    pub env: Vec<String>,
    /// Working directory.
    pub cwd: PathBuf,
    /// User.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// More groups.
    pub groups: Vec<u32>,
    /// On a terminal.
    pub tty: bool,
    /// With a standard input.
    pub stdin: bool,
    /// Capabilities by number.
    pub capabilities: Vec<u8>,
    /// Cannot gain privileges.
    pub no_new_privileges: bool,
    /// Without system calls that no ordinary program needs.
    pub seccomp: bool,
    /// With these steps in place of those.
    #[serde(default)]
    pub filter: Vec<FilterStep>,
    /// Added to the kernel's badness when memory is short.
    pub oom_score_adj: i32,
}

/// A step of a filter of system calls, as the kernel has it (`struct sock_filter`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilterStep {
    /// What is done.
    pub code: u16,
    /// Steps to pass over when it holds.
    pub yes: u8,
    /// Steps to pass over when it does not.
    pub no: u8,
    /// With this.
    pub k: u32,
}

/// A container.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct ContainerSpec {
    /// Its id.
    pub id: String,
    /// Its root file system, mounted.
    pub rootfs: PathBuf,
    /// Its first process.
    pub process: ProcessSpec,
    /// Mounts, in order.
    pub mounts: Vec<MountSpec>,
    /// Devices of the host, by path, with the path inside.
    pub devices: Vec<(PathBuf, PathBuf)>,
    /// Paths that show nothing.
    pub masked: Vec<PathBuf>,
    /// Paths that cannot be written.
    pub readonly: Vec<PathBuf>,
    /// The root file system cannot be written.
    pub readonly_rootfs: bool,
    /// May do what root may.
    pub privileged: bool,
    /// Its control group, below the controllers' roots.
    pub cgroup: String,
    /// Limits.
    pub limits: Limits,
    /// Where its output goes; empty for nowhere.
    pub log: PathBuf,
    /// Standard input is closed when the first attached client goes.
    pub stdin_once: bool,
    /// The container whose processes it sees, in place of its own only.
    #[serde(default)]
    pub pid_of: Option<String>,
}

/// A request.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Request {
    /// Starts a container.
    Start(Box<ContainerSpec>),
    /// Sends a signal to a container's first process, or to all of its group.
    Kill {
        /// The container.
        id: String,
        /// The signal.
        signal: i32,
        /// To all.
        all: bool,
    },
    /// Runs a process in a container; descriptors come with the answer, [`Reply::Exited`] follows.
    Exec {
        /// The container.
        id: String,
        /// The process.
        process: Box<ProcessSpec>,
    },
    /// Kills the process that this connection started.
    KillExec,
    /// Joins a container's streams; descriptors come with the answer.
    Attach {
        /// The container.
        id: String,
    },
    /// Opens the log file anew.
    Reopen {
        /// The container.
        id: String,
    },
    /// Forgets a container that has ended.
    Forget {
        /// The container.
        id: String,
    },
    /// Says what runs, then every exit as [`Reply::Exited`].
    Events,
    /// Kills everything and ends.
    Shutdown,
}

/// How a process ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Exit {
    /// Its code; 128 and the signal for one that was killed.
    pub code: i32,
    /// Nanoseconds since 1970.
    pub at: i64,
    /// For want of memory.
    pub oom: bool,
}

/// An answer.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(tag = "is", rename_all = "lowercase")]
pub enum Reply {
    /// Done.
    Done,
    /// Started, with its process id; descriptors may come along: see `streams`.
    Started {
        /// Process id on the host.
        pid: i32,
        /// Nanoseconds since 1970.
        at: i64,
        /// What the descriptors are: `stdin`, `stdout`, `stderr`, `tty`.
        streams: Vec<String>,
    },
    /// A container (or, to who asked for it, an exec) ended.
    Exited {
        /// The container.
        id: String,
        /// How.
        exit: Exit,
    },
    /// What runs, by id with process id.
    Running {
        /// The containers.
        containers: BTreeMap<String, i32>,
    },
    /// It did not work.
    Failed {
        /// In words.
        why: String,
    },
}

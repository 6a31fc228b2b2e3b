//! Processes are born: in new namespaces, or within those of a container.

use super::process::{self, Streams};
use super::spec::ProcessSpec;
use super::sys;
use crate::cgroup::{Birth, Entrance};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, pipe_with};
use std::fs;
use std::io::{self, Read};
use std::os::fd::{AsFd, OwnedFd};

/// What a process writes: standard output and error, or a terminal as the first.
pub(super) type Output = [Option<OwnedFd>; 2];

/// Both ends of a process's streams.
pub(super) struct Ends {
    pub(super) child: Streams,
    pub(super) output: Output,
    pub(super) input: Option<OwnedFd>,
}

impl Ends {
    pub(super) fn new(process: &ProcessSpec) -> io::Result<Self> {
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

/// Forks into a control group; the child runs `enter`, which returns only if it fails.
pub(super) fn spawn(
    flags: i32,
    streams: Streams,
    group: &Entrance,
    enter: impl FnOnce(Streams) -> Result<(), String>,
) -> Result<i32, String> {
    let (error_read, error_write) = pipe_with(PipeFlags::CLOEXEC).map_err(|e| e.to_string())?;
    let birth = group.fork(flags).map_err(|e| e.to_string())?;
    let Birth::Parent(pid) = birth else {
        drop(error_read);
        let why = arrive(birth, group).and_then(|()| enter(streams)).err().unwrap_or_default();
        let _ = rustix::io::write(&error_write, why.as_bytes());
        sys::exit_now(127);
    };
    drop((error_write, streams));
    let mut why = String::new();
    let _ = fs::File::from(error_read).read_to_string(&mut why);
    if why.is_empty() {
        return Ok(pid);
    }
    let _ = sys::wait_for(pid);
    Err(why)
}

/// As [`spawn`], into the namespaces of a container: a process enters a process namespace only by
/// being born in it, so a first child enters and forks a second, which becomes the shim's when the first ends.
pub(super) fn spawn_inside(
    streams: Streams,
    others: &[(OwnedFd, libc::c_int)],
    pids: &OwnedFd,
    group: &Entrance,
    enter: impl FnOnce(Streams) -> Result<(), String>,
) -> Result<i32, String> {
    let text = |e: Errno| e.to_string();
    let (pid_read, pid_write) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
    let (error_read, error_write) = pipe_with(PipeFlags::CLOEXEC).map_err(text)?;
    let first = sys::fork(0).map_err(|e| e.to_string())?;
    if first == 0 {
        drop((pid_read, error_read));
        let fail = |why: String| -> ! {
            let _ = rustix::io::write(&error_write, why.as_bytes());
            sys::exit_now(126);
        };
        if let Err(error) = sys::setns(pids.as_fd(), libc::CLONE_NEWPID) {
            fail(format!("enter the process namespace: {error}"));
        }
        match group.fork(0) {
            Err(error) => fail(error.to_string()),
            Ok(Birth::Parent(second)) => {
                let _ = rustix::io::write(&pid_write, &second.to_le_bytes());
                sys::exit_now(0);
            }
            Ok(child) => {
                if let Err(why) = arrive(child, group) {
                    fail(why);
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
        }
    }
    drop((pid_write, error_write, streams));
    let mut bytes = [0_u8; 4];
    let got = fs::File::from(pid_read).read_exact(&mut bytes);
    let _ = sys::wait_for(first);
    let mut why = String::new();
    let _ = fs::File::from(error_read).read_to_string(&mut why);
    if !why.is_empty() || got.is_err() {
        return Err(if why.is_empty() { "cannot enter the container".into() } else { why });
    }
    Ok(i32::from_le_bytes(bytes))
}

/// Joins the group, unless the process was born there.
fn arrive(birth: Birth, group: &Entrance) -> Result<(), String> {
    match birth {
        Birth::Outside => group.join().map_err(|e| e.to_string()),
        Birth::Inside | Birth::Parent(_) => Ok(()),
    }
}

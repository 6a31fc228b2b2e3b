//! System calls that the shim makes and no safe wrapper offers.
#![allow(unsafe_code)] // each block says why it is sound; the shim has one thread

use std::ffi::CString;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use std::path::Path;

fn check(result: libc::c_long) -> io::Result<libc::c_long> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(result) }
}

/// A path as the kernel takes it.
pub fn c_path(path: &Path) -> io::Result<CString> {
    use std::os::unix::ffi::OsStrExt;
    CString::new(path.as_os_str().as_bytes()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))
}

/// Forks with namespace flags: 0 in the child. The process must have one thread.
pub fn fork(flags: libc::c_int) -> io::Result<libc::pid_t> {
    // SAFETY: without a new stack clone behaves as fork; with one thread no lock can be held by another.
    let pid = unsafe { libc::syscall(libc::SYS_clone, libc::c_long::from(flags | libc::SIGCHLD), 0, 0, 0, 0) };
    Ok(check(pid)? as libc::pid_t)
}

/// As [`fork`], with the child born in a control group of version 2 (`dir` is its directory).
pub fn fork_into(flags: libc::c_int, dir: BorrowedFd<'_>) -> io::Result<libc::pid_t> {
    const INTO_CGROUP: u64 = 0x2_0000_0000;
    // SAFETY: all zero is a valid value of this structure of numbers.
    let mut args: libc::clone_args = unsafe { std::mem::zeroed() };
    args.flags = u64::from(flags.cast_unsigned()) | INTO_CGROUP;
    args.exit_signal = libc::SIGCHLD as u64;
    args.cgroup = dir.as_raw_fd() as u64;
    // SAFETY: without a new stack clone3 behaves as fork; the structure has the size that is given with it, and the
    // descriptor is open for the length of the call.
    let pid = unsafe { libc::syscall(libc::SYS_clone3, &raw const args, size_of::<libc::clone_args>()) };
    Ok(check(pid)? as libc::pid_t)
}

/// Leaves the process at once.
pub fn exit_now(code: i32) -> ! {
    // SAFETY: ends the process; nothing runs after it.
    unsafe { libc::_exit(code) }
}

/// Moves into namespaces of its own.
pub fn unshare(flags: libc::c_int) -> io::Result<()> {
    // SAFETY: takes flags only; the process has one thread.
    check(unsafe { libc::unshare(flags) }.into()).map(drop)
}

/// Moves into a namespace.
pub fn setns(fd: BorrowedFd<'_>, kind: libc::c_int) -> io::Result<()> {
    // SAFETY: the descriptor is open for the length of the call.
    check(unsafe { libc::setns(fd.as_raw_fd(), kind) }.into()).map(drop)
}

/// Mounts.
pub fn mount(source: Option<&Path>, target: &Path, kind: &str, flags: libc::c_ulong, data: &str) -> io::Result<()> {
    let source = c_path(source.unwrap_or(Path::new("none")))?;
    let (target, kind, data) = (c_path(target)?, CString::new(kind)?, CString::new(data)?);
    let data = if data.is_empty() { std::ptr::null() } else { data.as_ptr() };
    // SAFETY: all texts end in zero and live until the call returns.
    check(unsafe { libc::mount(source.as_ptr(), target.as_ptr(), kind.as_ptr(), flags, data.cast()) }.into()).map(drop)
}

/// Makes a mount and all below it read-only (or changes other attributes).
pub fn mount_readonly_recursive(target: &Path) -> io::Result<()> {
    #[repr(C)]
    struct Attributes {
        set: u64,
        clear: u64,
        propagation: u64,
        user: u64,
    }
    const READ_ONLY: u64 = 1;
    const RECURSIVE: libc::c_long = 0x8000;
    let attributes = Attributes { set: READ_ONLY, clear: 0, propagation: 0, user: 0 };
    let target = c_path(target)?;
    // SAFETY: the structure has the size that is given with it (mount_setattr(2)).
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            libc::c_long::from(libc::AT_FDCWD),
            target.as_ptr(),
            RECURSIVE,
            &raw const attributes,
            size_of::<Attributes>(),
        )
    };
    check(result).map(drop)
}

/// Makes a device file.
pub fn make_device(path: &Path, mode: u32, device: u64) -> io::Result<()> {
    let path = c_path(path)?;
    // SAFETY: the text ends in zero and lives until the call returns.
    check(unsafe { libc::mknod(path.as_ptr(), mode, device) }.into()).map(drop)
}

/// Changes the root to `.`, with the old root on top of it.
pub fn pivot_root_here() -> io::Result<()> {
    let here = c".";
    // SAFETY: constant texts.
    check(unsafe { libc::syscall(libc::SYS_pivot_root, here.as_ptr(), here.as_ptr()) }).map(drop)
}

/// Unmounts, lazily.
pub fn detach(target: &Path) -> io::Result<()> {
    let target = c_path(target)?;
    // SAFETY: the text ends in zero and lives until the call returns.
    check(unsafe { libc::umount2(target.as_ptr(), libc::MNT_DETACH) }.into()).map(drop)
}

/// Waits for any child without blocking: its id and status.
pub fn reap() -> Option<(libc::pid_t, i32)> {
    let mut status = 0;
    // SAFETY: the pointer is to a live integer.
    let pid = unsafe { libc::waitpid(-1, &raw mut status, libc::WNOHANG) };
    (pid > 0).then_some((pid, status))
}

/// Waits for one child.
pub fn wait_for(pid: libc::pid_t) -> io::Result<i32> {
    let mut status = 0;
    loop {
        // SAFETY: the pointer is to a live integer.
        if unsafe { libc::waitpid(pid, &raw mut status, 0) } >= 0 {
            return Ok(status);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// The exit code of a status, as shells give it.
pub fn exit_code(status: i32) -> i32 {
    if libc::WIFSIGNALED(status) { 128 + libc::WTERMSIG(status) } else { libc::WEXITSTATUS(status) }
}

/// Sends a signal.
pub fn kill(pid: libc::pid_t, signal: i32) -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::kill(pid, signal) }.into()).map(drop)
}

/// Orphans below this process become its children.
pub fn become_subreaper() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) }.into()).map(drop)
}

/// A descriptor that can be read when a child ended.
pub fn child_signals() -> io::Result<OwnedFd> {
    // SAFETY: the set is initialised by sigemptyset before it is used.
    unsafe {
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigaddset(&raw mut set, libc::SIGCHLD);
        check(libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut()).into())?;
        let fd = check(libc::signalfd(-1, &raw const set, libc::SFD_NONBLOCK | libc::SFD_CLOEXEC).into())?;
        Ok(OwnedFd::from_raw_fd(fd as i32))
    }
}

/// Signals as a program expects them: none blocked, all with their default action.
pub fn default_signals() {
    // SAFETY: plain numbers; the set is initialised by sigemptyset.
    unsafe {
        for signal in 1..32 {
            libc::signal(signal, libc::SIG_DFL);
        }
        let mut set = std::mem::zeroed::<libc::sigset_t>();
        libc::sigemptyset(&raw mut set);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const set, std::ptr::null_mut());
    }
}

/// Makes a terminal the controlling one of this session.
pub fn take_terminal(fd: BorrowedFd<'_>) -> io::Result<()> {
    // SAFETY: the descriptor is open; the argument is a number.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSCTTY, 0) }.into()).map(drop)
}

/// Sets a terminal's size.
pub fn resize(fd: BorrowedFd<'_>, rows: u16, columns: u16) -> io::Result<()> {
    let size = libc::winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: the structure lives until the call returns.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), libc::TIOCSWINSZ, &raw const size) }.into()).map(drop)
}

/// A terminal: the side that controls it, and the side for the program.
pub fn terminal() -> io::Result<(OwnedFd, OwnedFd)> {
    let (mut main, mut program) = (-1, -1);
    let null = std::ptr::null_mut();
    // SAFETY: pointers to live integers; null for what is not wanted.
    check(unsafe { libc::openpty(&raw mut main, &raw mut program, null, null.cast(), null.cast()) }.into())?;
    // SAFETY: openpty gave two open descriptors that nobody else owns.
    let pair = unsafe { (OwnedFd::from_raw_fd(main), OwnedFd::from_raw_fd(program)) };
    rustix::io::fcntl_setfd(&pair.0, rustix::io::FdFlags::CLOEXEC)?;
    rustix::io::fcntl_setfd(&pair.1, rustix::io::FdFlags::CLOEXEC)?;
    Ok(pair)
}

/// Becomes a user; capabilities are kept for [`set_capabilities`].
pub fn become_user(uid: u32, gid: u32, groups: &[u32]) -> io::Result<()> {
    // SAFETY: the list lives until the call returns; the rest are numbers.
    unsafe {
        check(libc::setgroups(groups.len(), groups.as_ptr()).into())?;
        check(libc::setresgid(gid, gid, gid).into())?;
        check(libc::prctl(libc::PR_SET_KEEPCAPS, 1, 0, 0, 0).into())?;
        check(libc::setresuid(uid, uid, uid).into())?;
    }
    Ok(())
}

const LAST_CAPABILITY: u8 = 40;

/// Drops all capabilities from the bounding set that are not listed.
pub fn bound_capabilities(keep: &[u8]) -> io::Result<()> {
    for capability in (0..=LAST_CAPABILITY).filter(|c| !keep.contains(c)) {
        // SAFETY: takes numbers only.
        let result = unsafe { libc::prctl(libc::PR_CAPBSET_DROP, libc::c_ulong::from(capability), 0, 0, 0) };
        // Kernels without the capability say EINVAL.
        if result < 0 && io::Error::last_os_error().raw_os_error() != Some(libc::EINVAL) {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// Sets the permitted, effective (unless the user is not root) and inheritable sets.
pub fn set_capabilities(keep: &[u8], effective: bool) -> io::Result<()> {
    #[repr(C)]
    struct Head {
        version: u32,
        pid: i32,
    }
    #[repr(C)]
    #[derive(Default, Clone, Copy)]
    struct Data {
        effective: u32,
        permitted: u32,
        inheritable: u32,
    }
    const VERSION_3: u32 = 0x2008_0522;
    let mut data = [Data::default(); 2];
    for &capability in keep {
        let (word, bit) = (usize::from(capability / 32), 1_u32 << (capability % 32));
        let Some(half) = data.get_mut(word) else { continue };
        half.permitted |= bit;
        if effective {
            half.effective |= bit;
        }
    }
    let head = Head { version: VERSION_3, pid: 0 };
    // SAFETY: version 3 takes exactly two data structures (capset(2)).
    check(unsafe { libc::syscall(libc::SYS_capset, &raw const head, data.as_ptr()) }).map(drop)
}

/// Lets no exec gain privileges.
pub fn no_new_privileges() -> io::Result<()> {
    // SAFETY: takes numbers only.
    check(unsafe { libc::prctl(libc::PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) }.into()).map(drop)
}

/// Loads a seccomp filter.
pub fn load_filter(program: &mut [libc::sock_filter]) -> io::Result<()> {
    let length = u16::try_from(program.len()).map_err(|_| io::Error::from(io::ErrorKind::InvalidInput))?;
    let filter = libc::sock_fprog { len: length, filter: program.as_mut_ptr() };
    const SET_MODE_FILTER: libc::c_long = 1;
    // SAFETY: the program has the length that is given with it and lives until the call returns.
    check(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, 0, &raw const filter) }).map(drop)
}

/// Becomes a program; returns only when it cannot.
pub fn exec(program: &Path, args: &[String], env: &[String]) -> io::Error {
    let texts = |list: &[String]| -> Result<Vec<CString>, std::ffi::NulError> {
        list.iter().map(|s| CString::new(s.as_str())).collect()
    };
    let (Ok(program), Ok(args), Ok(env)) = (c_path(program), texts(args), texts(env)) else {
        return io::Error::from(io::ErrorKind::InvalidInput);
    };
    let pointers = |list: &[CString]| -> Vec<*const libc::c_char> {
        list.iter().map(|s| s.as_ptr()).chain([std::ptr::null()]).collect()
    };
    let (argv, envp) = (pointers(&args), pointers(&env));
    // SAFETY: both lists end in null, and their texts live until the call, which returns only when it failed.
    unsafe { libc::execve(program.as_ptr(), argv.as_ptr(), envp.as_ptr()) };
    io::Error::last_os_error()
}

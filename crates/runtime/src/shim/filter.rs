//! The seccomp profile RuntimeDefault: system calls that administer the machine answer EPERM.
//!
//! Container runtimes agree on what an ordinary container may not call (containerd and Docker publish theirs as lists of
//! what is allowed). Here the same is said by what is refused; a call that needs a capability which the container was
//! given is not refused.

use super::spec::FilterStep;
use super::sys;
use std::io;

const SYS_ADMIN: u8 = 21;
const SYS_MODULE: u8 = 16;
const SYS_BOOT: u8 = 22;
const SYS_TIME: u8 = 25;
const SYS_RAWIO: u8 = 17;
const SYS_PACCT: u8 = 20;
const DAC_READ_SEARCH: u8 = 2;

/// Calls with the capability that lets them pass; 255 for none.
const REFUSED: &[(libc::c_long, u8)] = &[
    (libc::SYS_mount, SYS_ADMIN),
    (libc::SYS_umount2, SYS_ADMIN),
    (libc::SYS_pivot_root, SYS_ADMIN),
    (libc::SYS_move_mount, SYS_ADMIN),
    (libc::SYS_open_tree, SYS_ADMIN),
    (libc::SYS_fsopen, SYS_ADMIN),
    (libc::SYS_fsconfig, SYS_ADMIN),
    (libc::SYS_fsmount, SYS_ADMIN),
    (libc::SYS_fspick, SYS_ADMIN),
    (libc::SYS_mount_setattr, SYS_ADMIN),
    (libc::SYS_setns, SYS_ADMIN),
    (libc::SYS_unshare, SYS_ADMIN),
    (libc::SYS_bpf, SYS_ADMIN),
    (libc::SYS_perf_event_open, SYS_ADMIN),
    (libc::SYS_quotactl, SYS_ADMIN),
    (libc::SYS_sethostname, SYS_ADMIN),
    (libc::SYS_setdomainname, SYS_ADMIN),
    (libc::SYS_swapon, SYS_ADMIN),
    (libc::SYS_swapoff, SYS_ADMIN),
    (libc::SYS_fanotify_init, SYS_ADMIN),
    (libc::SYS_open_by_handle_at, DAC_READ_SEARCH),
    (libc::SYS_init_module, SYS_MODULE),
    (libc::SYS_finit_module, SYS_MODULE),
    (libc::SYS_delete_module, SYS_MODULE),
    (libc::SYS_reboot, SYS_BOOT),
    (libc::SYS_kexec_load, SYS_BOOT),
    (libc::SYS_settimeofday, SYS_TIME),
    (libc::SYS_clock_settime, SYS_TIME),
    (libc::SYS_clock_adjtime, SYS_TIME),
    (libc::SYS_acct, SYS_PACCT),
    (libc::SYS_add_key, 255),
    (libc::SYS_request_key, 255),
    (libc::SYS_keyctl, 255),
    (libc::SYS_userfaultfd, 255),
    (libc::SYS_move_pages, 255),
    (libc::SYS_io_uring_setup, 255),
    (libc::SYS_io_uring_enter, 255),
    (libc::SYS_io_uring_register, 255),
    (libc::SYS_vhangup, 255),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_iopl, SYS_RAWIO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_ioperm, SYS_RAWIO),
    #[cfg(target_arch = "x86_64")]
    (libc::SYS_kexec_file_load, SYS_BOOT),
];

/// Flags of clone that make namespaces.
const NEW_NAMESPACES: u32 = 0x7e02_0000;

#[cfg(target_arch = "x86_64")]
const ARCH: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCH: u32 = 0xc000_00b7;

const LOAD: u16 = 0x20;
const JUMP_EQUAL: u16 = 0x15;
const JUMP_BITS: u16 = 0x45;
const RETURN: u16 = 0x06;
const ALLOW: u32 = 0x7fff_0000;
const REFUSE: u32 = 0x0005_0000 | libc::EPERM as u32;
const NO_SUCH_CALL: u32 = 0x0005_0000 | libc::ENOSYS as u32;

fn step(code: u16, k: u32, yes: u8, no: u8) -> libc::sock_filter {
    libc::sock_filter { code, jt: yes, jf: no, k }
}

/// The program for a process with these capabilities.
fn program(capabilities: &[u8]) -> Vec<libc::sock_filter> {
    // struct seccomp_data: number at 0, architecture at 4, arguments from 16.
    let mut out =
        vec![step(LOAD, 4, 0, 0), step(JUMP_EQUAL, ARCH, 1, 0), step(RETURN, REFUSE, 0, 0), step(LOAD, 0, 0, 0)];
    for (number, capability) in REFUSED {
        if !capabilities.contains(capability) {
            out.push(step(JUMP_EQUAL, *number as u32, 0, 1));
            out.push(step(RETURN, REFUSE, 0, 0));
        }
    }
    if !capabilities.contains(&SYS_ADMIN) {
        // clone3 hides its flags in memory: libraries fall back to clone, whose flags can be seen.
        out.push(step(JUMP_EQUAL, libc::SYS_clone3 as u32, 0, 1));
        out.push(step(RETURN, NO_SUCH_CALL, 0, 0));
        out.push(step(JUMP_EQUAL, libc::SYS_clone as u32, 0, 3));
        out.push(step(LOAD, 16, 0, 0));
        out.push(step(JUMP_BITS, NEW_NAMESPACES, 0, 1));
        out.push(step(RETURN, REFUSE, 0, 0));
    }
    out.push(step(RETURN, ALLOW, 0, 0));
    out
}

/// Loads the profile into this process, or the one that was given.
pub(super) fn load(capabilities: &[u8], own: &[FilterStep]) -> io::Result<()> {
    match own {
        [] => sys::load_filter(&mut program(capabilities)),
        own => sys::load_filter(&mut own.iter().map(|s| step(s.code, s.k, s.yes, s.no)).collect::<Vec<_>>()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn capabilities_let_calls_pass() {
        let refused = |capabilities: &[u8]| {
            program(capabilities).iter().any(|s| s.code == JUMP_EQUAL && s.k == libc::SYS_mount as u32)
        };
        assert!(refused(&[]));
        assert!(!refused(&[SYS_ADMIN]));
    }
}

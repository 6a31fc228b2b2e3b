//! Socket options of netlink that rustix does not offer.
#![allow(unsafe_code)]

use std::io;
use std::os::fd::{AsRawFd, BorrowedFd};

const NETLINK_CAP_ACK: libc::c_int = 10;
const NETLINK_EXT_ACK: libc::c_int = 11;
const NETLINK_GET_STRICT_CHK: libc::c_int = 12;

fn enable(fd: BorrowedFd<'_>, option: libc::c_int) -> io::Result<()> {
    let on: libc::c_int = 1;
    // SAFETY: the descriptor is open for the length of the borrow, and the pointer and length describe `on`.
    let result = unsafe {
        libc::setsockopt(
            fd.as_raw_fd(),
            libc::SOL_NETLINK,
            option,
            std::ptr::from_ref(&on).cast(),
            size_of::<libc::c_int>() as libc::socklen_t,
        )
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// Asks for errors in words, and for errors that do not echo the request.
pub(super) fn want_error_texts(fd: BorrowedFd<'_>) -> io::Result<()> {
    enable(fd, NETLINK_CAP_ACK)?;
    enable(fd, NETLINK_EXT_ACK)
}

/// Asks the kernel to honour the filters of a dump request.
pub(super) fn want_strict_dumps(fd: BorrowedFd<'_>) -> io::Result<()> {
    enable(fd, NETLINK_GET_STRICT_CHK)
}

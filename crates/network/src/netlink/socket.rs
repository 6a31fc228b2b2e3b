//! A netlink socket: one request at a time, each with a deadline.

use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use rustix::net::{AddressFamily, RecvFlags, SendFlags, SocketFlags, SocketType, netlink, sockopt};

use super::message::{ACK, Attributes, DUMP, HEADER, Message, REQUEST};

/// The kernel answers within microseconds; a socket that stays silent this long is broken.
const ANSWER_DEADLINE: Duration = Duration::from_secs(10);
/// Kernel messages to a dump are at most this long (NLMSG_GOODSIZE grows to 32 KiB for large readers).
const RECEIVE_BUFFER: usize = 64 * 1024;

const NLMSG_ERROR: u16 = 2;
const NLMSG_DONE: u16 = 3;
const NLM_F_ACK_TLVS: u16 = 0x200;
const NLMSGERR_ATTR_MSG: u16 = 1;

/// The netlink families in use.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Protocol {
    /// Links, addresses, routes, neighbours.
    Route,
    /// nftables and connection tracking.
    Netfilter,
}

/// An error of a netlink request.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum NetlinkError {
    /// The socket itself failed.
    #[error("netlink socket: {0}")]
    Socket(#[from] io::Error),
    /// The kernel refused the request.
    #[error("{}{}", io::Error::from_raw_os_error(*.errno), .text.as_deref().map(|t| format!(" ({t})")).unwrap_or_default())]
    Refused {
        /// The error number.
        errno: i32,
        /// The kernel's words, where it has some.
        text: Option<String>,
        /// Which message of a batch was refused, counted from zero.
        message: Option<usize>,
    },
    /// The kernel sent what cannot be read.
    #[error("netlink answer is cut short")]
    Truncated,
}

impl NetlinkError {
    fn errno(&self) -> Option<i32> {
        match self {
            Self::Refused { errno, .. } => Some(*errno),
            Self::Socket(error) => error.raw_os_error(),
            Self::Truncated => None,
        }
    }

    /// The object is there already.
    pub fn exists(&self) -> bool {
        self.errno() == Some(libc::EEXIST)
    }

    /// The object is not there.
    pub fn is_missing(&self) -> bool {
        matches!(self.errno(), Some(libc::ENOENT | libc::ENODEV | libc::ESRCH | libc::EADDRNOTAVAIL))
    }

    /// The kernel does not know the feature.
    pub fn is_unsupported(&self) -> bool {
        matches!(self.errno(), Some(libc::EOPNOTSUPP | libc::EPROTONOSUPPORT | libc::EAFNOSUPPORT))
    }
}

/// What a request that fails because the object is gone means to an idempotent caller.
pub(crate) trait Idempotent {
    /// "Not there" is success.
    fn or_missing(self) -> Result<(), NetlinkError>;
}

impl Idempotent for Result<(), NetlinkError> {
    fn or_missing(self) -> Self {
        match self {
            Err(error) if error.is_missing() => Ok(()),
            other => other,
        }
    }
}

/// A netlink socket in the network namespace of the thread that opened it.
pub(crate) struct Socket {
    fd: OwnedFd,
    sequence: u32,
    buffer: Vec<u8>,
}

impl Socket {
    /// Opens a socket of this family.
    pub(crate) fn open(protocol: Protocol) -> Result<Self, NetlinkError> {
        let protocol = match protocol {
            Protocol::Route => None,
            Protocol::Netfilter => Some(netlink::NETFILTER),
        };
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, protocol)
            .map_err(io::Error::from)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, 0)).map_err(io::Error::from)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(ANSWER_DEADLINE)).map_err(io::Error::from)?;
        super::sockopt::want_error_texts(fd.as_fd())?;
        if protocol.is_none() {
            super::sockopt::want_strict_dumps(fd.as_fd())?;
        }
        Ok(Self { fd, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Opens a socket that hears of every change of a link (RTNLGRP_LINK).
    pub(super) fn open_link_events(patience: Duration) -> Result<Self, NetlinkError> {
        const RTMGRP_LINK: u32 = 1;
        let fd = rustix::net::socket_with(AddressFamily::NETLINK, SocketType::RAW, SocketFlags::CLOEXEC, None)
            .map_err(io::Error::from)?;
        rustix::net::bind(&fd, &netlink::SocketAddrNetlink::new(0, RTMGRP_LINK)).map_err(io::Error::from)?;
        sockopt::set_socket_timeout(&fd, sockopt::Timeout::Recv, Some(patience)).map_err(io::Error::from)?;
        Ok(Self { fd, sequence: 0, buffer: vec![0; RECEIVE_BUFFER] })
    }

    /// Waits for the next event; `false` when none came in time.
    pub(super) fn wait_for_event(&mut self) -> Result<bool, NetlinkError> {
        match self.receive() {
            Ok(_) => Ok(true),
            // Too many events to hold: whatever they were, something has changed.
            Err(NetlinkError::Socket(error)) if error.raw_os_error() == Some(libc::ENOBUFS) => Ok(true),
            Err(NetlinkError::Socket(error)) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
            Err(error) => Err(error),
        }
    }

    fn next_sequence(&mut self) -> u32 {
        self.sequence = self.sequence.wrapping_add(1);
        self.sequence
    }

    /// Makes room for a batch: the kernel takes a batch in one piece or not at all.
    fn reserve(&self, bytes: usize) {
        let wanted = bytes.saturating_mul(2).max(256 * 1024);
        if sockopt::socket_send_buffer_size(&self.fd).is_ok_and(|have| have < wanted) {
            // Without CAP_NET_ADMIN the request itself is refused, with a clearer error than this one's.
            let _ = sockopt::set_socket_send_buffer_size_force(&self.fd, wanted);
            let _ = sockopt::set_socket_recv_buffer_size_force(&self.fd, wanted.min(64 << 20));
        }
    }

    fn send(&self, bytes: &[u8]) -> Result<(), NetlinkError> {
        self.reserve(bytes.len());
        rustix::net::sendto(&self.fd, bytes, SendFlags::empty(), &netlink::SocketAddrNetlink::new(0, 0))
            .map_err(io::Error::from)?;
        Ok(())
    }

    fn receive(&mut self) -> Result<usize, NetlinkError> {
        loop {
            match rustix::net::recv(&self.fd, self.buffer.as_mut_slice(), RecvFlags::empty()) {
                Ok((read, _)) => return Ok(read),
                Err(rustix::io::Errno::INTR) => {}
                Err(error) => return Err(NetlinkError::Socket(error.into())),
            }
        }
    }

    /// Sends one request and waits for its acknowledgement.
    pub(crate) fn request(&mut self, mut message: Message) -> Result<(), NetlinkError> {
        message.add_flags(REQUEST | ACK);
        self.exchange(message, |_, _| ())
    }

    /// Sends one request that is answered by an object.
    pub(crate) fn get(&mut self, mut message: Message) -> Result<Vec<u8>, NetlinkError> {
        message.add_flags(REQUEST | ACK);
        let mut found = Vec::new();
        self.exchange(message, |_, body| found = body.to_vec())?;
        Ok(found)
    }

    /// Asks for all objects; `each` gets the body of every one.
    pub(crate) fn dump(&mut self, mut message: Message, each: impl FnMut(u16, &[u8])) -> Result<(), NetlinkError> {
        message.add_flags(REQUEST | DUMP);
        self.exchange(message, each)
    }

    fn exchange(&mut self, message: Message, mut each: impl FnMut(u16, &[u8])) -> Result<(), NetlinkError> {
        let sequence = self.next_sequence();
        self.send(&message.finish(sequence))?;
        loop {
            let read = self.receive()?;
            for (kind, flags, answer, body) in Messages(self.buffer.get(..read).unwrap_or_default()) {
                if answer != sequence {
                    continue;
                }
                match kind {
                    NLMSG_DONE => return verdict(body, flags),
                    NLMSG_ERROR => return verdict(body, flags),
                    _ => each(kind, body),
                }
            }
        }
    }

    /// Sends messages that the kernel commits together or not at all. `begin` and `end` frame them.
    pub(crate) fn batch(&mut self, begin: Message, messages: Vec<Message>, end: Message) -> Result<(), NetlinkError> {
        let begin_sequence = self.next_sequence();
        let mut bytes = begin.finish(begin_sequence);
        let first = begin_sequence.wrapping_add(1);
        let count = messages.len();
        for (index, mut message) in messages.into_iter().enumerate() {
            let last = index + 1 == count;
            message.add_flags(if last { REQUEST | ACK } else { REQUEST });
            let sequence = self.next_sequence();
            bytes.extend_from_slice(&message.finish(sequence));
        }
        let last = self.sequence;
        let end_sequence = self.next_sequence();
        bytes.extend_from_slice(&end.finish(end_sequence));
        self.send(&bytes)?;
        let mut failure = None;
        loop {
            let read = self.receive()?;
            for (kind, flags, answer, body) in Messages(self.buffer.get(..read).unwrap_or_default()) {
                let place = answer.wrapping_sub(first) as usize;
                let ours = answer == begin_sequence || place < count;
                if kind != NLMSG_ERROR || !ours {
                    continue;
                }
                if let Err(mut error) = verdict(body, flags) {
                    if let NetlinkError::Refused { message, .. } = &mut error {
                        *message = (place < count).then_some(place);
                    }
                    failure.get_or_insert(error);
                }
                // An error on the frame says that the batch as a whole failed; nothing follows it.
                if answer == last || answer == begin_sequence {
                    return failure.map_or(Ok(()), Err);
                }
            }
        }
    }
}

fn verdict(body: &[u8], flags: u16) -> Result<(), NetlinkError> {
    let Some(code) = body.first_chunk().map(|b| i32::from_ne_bytes(*b)) else {
        return Err(NetlinkError::Truncated);
    };
    if code == 0 {
        return Ok(());
    }
    let text = (flags & NLM_F_ACK_TLVS != 0)
        .then(|| Attributes(body.get(4 + HEADER..).unwrap_or_default()).text(NLMSGERR_ATTR_MSG))
        .flatten();
    Err(NetlinkError::Refused { errno: code.saturating_neg(), text, message: None })
}

/// The messages in one received datagram: type, flags, sequence number, body.
struct Messages<'a>(&'a [u8]);

impl<'a> Iterator for Messages<'a> {
    type Item = (u16, u16, u32, &'a [u8]);

    fn next(&mut self) -> Option<Self::Item> {
        let header = self.0.first_chunk::<HEADER>()?;
        let [l0, l1, l2, l3, k0, k1, f0, f1, s0, s1, s2, s3, ..] = *header;
        let length = u32::from_ne_bytes([l0, l1, l2, l3]) as usize;
        let body = self.0.get(HEADER..length)?;
        self.0 = self.0.get(length.next_multiple_of(4)..).unwrap_or_default();
        Some((u16::from_ne_bytes([k0, k1]), u16::from_ne_bytes([f0, f1]), u32::from_ne_bytes([s0, s1, s2, s3]), body))
    }
}

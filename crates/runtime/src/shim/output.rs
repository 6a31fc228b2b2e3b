//! What containers write: to their logs, and to those who listen.

use super::serve::Shim;
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use std::os::fd::OwnedFd;

impl Shim {
    /// Copies what a container wrote to its log and to those who listen.
    pub(super) fn copy(&mut self, id: &str, stream: usize) {
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
                    let taken =
                        |fd: &OwnedFd| matches!(rustix::io::write(fd, &buffer[..n]), Ok(written) if written == n);
                    let slow = listener[stream].as_ref().is_some_and(|fd| !taken(fd));
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

    /// Takes what is still in the pipes of a container that has ended.
    pub(super) fn drain(&mut self, id: &str) {
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

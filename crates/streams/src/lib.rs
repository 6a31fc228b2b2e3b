//! Remote commands and forwarded ports: what `kubectl exec`, `attach`, `cp` and `port-forward` speak.
//!
//! A [`Streamer`] (the container runtime) gives a [`Session`]: a process with its streams; or it connects to a port of a
//! pod. [`accept`] and [`accept_forwarding`] answer the upgrade of a request, and what they return serves the connection
//! that comes of it:
//!
//! - `channel`: the protocols `channel.k8s.io` to `v5.channel.k8s.io` over WebSocket, whose messages name their channel;
//! - `spdy`: SPDY/3.1, with `command` for sessions and `port_forward` for ports;
//! - `port_channels`: ports in channels of a WebSocket, as clients in Python forward them;
//! - `tunnel`: SPDY within a WebSocket, as newer clients forward ports.
//!
//! Who does not end a stream himself passes it on by [`relay`].

mod channel;
mod command;
mod ending;
mod message;
mod port_channels;
mod port_forward;
mod protocol;
pub mod relay;
mod session;
mod spdy;
mod tunnel;
mod upgrade;
mod websocket;

pub use command::Wanted;
pub use port_forward::Dial;
pub use session::{Outcome, Session, Streamer};
#[doc(hidden)]
pub use spdy::serve_bytes as serve_spdy_bytes;
pub use upgrade::{Accepted, Forwarding, Refusal, accept, accept_forwarding};

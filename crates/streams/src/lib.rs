//! Remote command streams: what `kubectl exec` and `kubectl attach` speak.
//!
//! A [`Streamer`] (the container runtime) gives a [`Session`]: a process with its streams. [`accept`] answers the
//! upgrade of a request, and [`Accepted::serve`] carries the session over the WebSocket that comes of it, in the
//! protocols `v4.channel.k8s.io` and `v5.channel.k8s.io`: the first byte of a message names its channel.

mod session;
mod websocket;

pub use session::{Outcome, Session, Streamer};
pub use websocket::{Accepted, Refusal, accept};

//! Light nodes that behave like real ones: for planning how large a control plane must be, and for tests of scale.
//!
//! - [`Options`] say how many nodes there are, what they have, how long things take and what goes wrong. [`Span`] and
//!   [`Rate`] are times and chances as people write them; the same seed draws the same ones.
//! - [`Access`] is the way to the API, on which each node is its own user: [`OverHttps`] impersonates them, so that
//!   authorizer and admission hold for them as for real ones.
//! - [`Simulation`] runs the nodes. Each registers, renews its lease, writes its status, watches its pods, starts and
//!   ends them, and writes of them what a real node agent would write.
//! - [`Snapshot`] says how it goes, [`Report`] how it went.
//!
//! What becomes of a pod, its annotations can say (`simulate.trireme.dev/…`; times as `1m30s`):
//!
//! | annotation | is |
//! |---|---|
//! | `start-time` | the time until its containers run |
//! | `run-time` | the time after which its containers end |
//! | `exit-code` | the exit code then, from 0 to 255 |
//! | `fail-after` | the time after which its containers fail, each time that they run (exit code 1, or the one above) |
//!
//! A simulated node has no machine: nobody answers for logs or streams, and its pods' addresses lead nowhere. It watches
//! pods only, where a real one also watches services, its Node and what its pods are made of.

mod access;
mod addresses;
mod calls;
mod control_plane;
mod histogram;
mod life;
mod node;
mod object;
mod observer;
mod options;
mod pod;
mod rate;
mod report;
mod script;
mod shape;
mod simulation;
mod span;
mod status;
mod tally;
mod work;
mod world;
mod zone;

pub use access::{Access, OverHttps};
pub use calls::Call;
pub use control_plane::{Range, Usage};
pub use histogram::{Histogram, Row};
pub use observer::Latencies;
pub use options::{Options, Size, Times, Trouble};
pub use rate::{BadRate, Rate};
pub use report::{NodeCounts, PodCounts, Report};
pub use simulation::{Simulation, Snapshot};
pub use span::{BadSpan, Span, duration};
pub use zone::{BadZone, Zone};

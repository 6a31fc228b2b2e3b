//! Logs of Trireme itself.
//!
//! Every crate logs through `tracing` with fields; [`start`] decides once per process where that goes and how it looks.

mod logs;

pub use logs::{Error, Format, LogConfig, check, start};

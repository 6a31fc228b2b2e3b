//! `trireme images`: what is asked of the running Trireme by its sockets, or done on the store when none runs.

mod command;
mod line;
mod over_cri;
mod remote;
mod serve;
mod show;
mod store;

pub use command::{import_dir, run};
pub use serve::{SOCKET, serve};
pub use store::{options, registries};

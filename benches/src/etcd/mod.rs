//! etcd as an engine: the peer of the store's measurements, and the proof that the engine seam fits it.

mod engine;
mod proto;
mod server;

pub use engine::Etcd;
pub use server::Server;

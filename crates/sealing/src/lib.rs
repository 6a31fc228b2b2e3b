//! Encryption at rest: an `EncryptionConfiguration`'s providers between the state in memory and the disk.
//!
//! [`Sealing`] is the store's [`Seal`](trireme_store::Seal). What is written is sealed by the first provider of the first
//! entry that names the resource; what is read is opened by the provider that its prefix names. The forms are upstream's:
//! `k8s:enc:aesgcm:v1:KEY:`, `k8s:enc:aescbc:v1:KEY:`, `k8s:enc:secretbox:v1:KEY:`, `k8s:enc:kms:v2:NAME:`.
//!
//! A key is retired in three steps, as upstream: it is listed second, every object is written again, it is taken out. What
//! an old frame of the log holds does not matter once a later one has the object.

mod ciphers;
mod config;
mod kms;

pub use config::{ConfigError, Sealing};

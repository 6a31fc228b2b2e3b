//! Keys, certificates and join tokens of a cluster.
//!
//! - An [`Authority`] signs: it issues an [`Identity`] (a certificate and its key) for a [`Subject`], or signs a request
//!   that somebody else made ([`request`]).
//! - [`ClusterPki`] is the set of authorities and identities that a control plane needs, in files below one directory,
//!   made when they are missing and renewed before they expire.
//! - [`JoinToken`] lets an agent trust a server that it has never seen: the token carries the digest of the server's
//!   authority.

mod authority;
mod cluster;
mod error;
mod identity;
mod token;

pub use authority::{Authority, Purpose, Subject, Usage, request};
pub use cluster::{ClusterPki, ServingNames};
pub use error::Error;
pub use identity::{Identity, certificates, to_pem};
pub use token::{JoinToken, Role, digest};

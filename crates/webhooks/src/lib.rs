//! How the API server asks webhooks: where they are, what they are sent, what their answers mean.
//!
//! - [`Endpoint`] is where a webhook listens (`clientConfig`); [`Caller`] posts to it, with a deadline and pooled
//!   connections. Services are found by [`Services`].
//! - [`admission`] reads webhook configurations, tells which webhooks a write concerns, and speaks `AdmissionReview`.
//! - [`conversion`] speaks `ConversionReview`.

pub mod admission;
mod caller;
pub mod conversion;
mod endpoint;

pub use caller::{CallError, Caller, Services};
pub use endpoint::{BadEndpoint, Endpoint};

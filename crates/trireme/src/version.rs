//! Versions: ours, and that of the Kubernetes API that we serve.

/// Trireme's own version and the Kubernetes version that it speaks.
pub const TEXT: &str = concat!(env!("CARGO_PKG_VERSION"), " (Kubernetes v1.36.2)");

/// Trireme's own version.
pub const TRIREME: &str = env!("CARGO_PKG_VERSION");
/// The Kubernetes version whose API is served.
pub const KUBERNETES: &str = "v1.36.2";

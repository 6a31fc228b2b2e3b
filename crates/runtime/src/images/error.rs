//! What can go wrong with an image, in the words that operators of containerd already know.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::digest::Digest;

/// A result of the image service.
pub type Result<T, E = ImageError> = std::result::Result<T, E>;

/// Why an operation on images failed. Cloneable: one failed download is reported to everybody who waited for it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ImageError {
    /// The name is not an image reference.
    #[error("failed to parse reference {reference:?}: {reason}")]
    InvalidReference {
        /// The name as given.
        reference: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No image of that name or id is stored here.
    #[error("image {image:?}: not found")]
    NoSuchImage {
        /// The name or id as given.
        image: String,
    },
    /// The short id names more than one image.
    #[error("image id {image:?} is ambiguous: it is the start of {count} ids")]
    AmbiguousId {
        /// The id as given.
        image: String,
        /// How many images it could mean.
        count: usize,
    },
    /// A pull failed; the source says why.
    #[error("failed to pull and unpack image {reference:?}: {source}")]
    Pull {
        /// The reference in full.
        reference: String,
        /// The failure.
        source: Box<ImageError>,
    },
    /// The registry does not answer.
    #[error("failed to do request: {method} {url:?}: {reason}")]
    Unreachable {
        /// The method of the request.
        method: String,
        /// Its address.
        url: String,
        /// What the network said.
        reason: String,
    },
    /// The registry refuses these credentials, or wants some.
    #[error(
        "pull access denied for {repository}, repository does not exist or may require authorization: authorization failed: {reason}"
    )]
    Unauthorized {
        /// The repository, with its registry.
        repository: String,
        /// What the registry said.
        reason: String,
    },
    /// The registry does not have it.
    #[error("{what}: not found")]
    NotFound {
        /// The reference or blob.
        what: String,
    },
    /// The registry limits the rate of requests.
    #[error("{method} {url:?}: 429 Too Many Requests - Server message: {message}")]
    TooManyRequests {
        /// The method of the request.
        method: String,
        /// Its address.
        url: String,
        /// What the registry said.
        message: String,
        /// How long it asks to wait.
        retry_after: Option<Duration>,
    },
    /// The registry answered with a status that does not fit.
    #[error("unexpected status from {method} request to {url}: {status} {message}")]
    Status {
        /// The method of the request.
        method: String,
        /// Its address.
        url: String,
        /// The status code.
        status: u16,
        /// What the registry said.
        message: String,
    },
    /// The content is not what its digest says.
    #[error("{kind} {expected} is corrupt: unexpected digest: expected {expected}, actual {actual}")]
    DigestMismatch {
        /// What the content is: a layer, a manifest, a config.
        kind: &'static str,
        /// The digest by which it was asked for.
        expected: Digest,
        /// The digest of what came.
        actual: Digest,
    },
    /// The content is not as long as its descriptor says.
    #[error("{kind} {digest} is corrupt: unexpected size: expected {expected} bytes, actual {actual} bytes")]
    SizeMismatch {
        /// What the content is.
        kind: &'static str,
        /// Its digest.
        digest: Digest,
        /// The size of the descriptor.
        expected: u64,
        /// The size of what came.
        actual: u64,
    },
    /// A manifest, index or config that cannot be read.
    #[error("{what} is invalid: {reason}")]
    InvalidManifest {
        /// Which document.
        what: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The image exists, but not for this machine.
    #[error("no match for platform in manifest: {what} has no entry for {wanted} (it has: {offered})")]
    NoPlatform {
        /// The reference.
        what: String,
        /// The platform of this machine.
        wanted: String,
        /// Those offered.
        offered: String,
    },
    /// Something that this service does not do.
    #[error("{what} is not supported")]
    Unsupported {
        /// What was asked for.
        what: String,
    },
    /// A layer that cannot be unpacked.
    #[error("failed to extract layer {layer}: {entry}: {reason}")]
    Layer {
        /// The layer's digest.
        layer: Digest,
        /// The entry in it.
        entry: String,
        /// What is wrong with it.
        reason: String,
    },
    /// An archive that is not an image archive, or a broken one.
    #[error("failed to import archive: {reason}")]
    Archive {
        /// What is wrong with it.
        reason: String,
    },
    /// Nothing moved for too long.
    #[error("{what}: no progress for {seconds} s, deadline exceeded")]
    Stalled {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// The whole operation took too long.
    #[error("{what}: context deadline exceeded after {seconds} s")]
    Deadline {
        /// What was waited for.
        what: String,
        /// How long.
        seconds: u64,
    },
    /// A file of the store or a mount.
    #[error("{action} {path}: {reason}")]
    Io {
        /// What was done.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What the kernel said.
        reason: String,
        /// The kind, to tell a full disk from the rest.
        kind: io::ErrorKind,
    },
    /// A second process on the same directory.
    #[error("image store {root} is in use by another process")]
    Locked {
        /// The directory.
        root: PathBuf,
    },
    /// A setting that does not fit.
    #[error("registry configuration of {host:?}: {reason}")]
    Config {
        /// The registry it is about.
        host: String,
        /// What is wrong.
        reason: String,
    },
    /// The image or its content is needed by something.
    #[error("{what} is in use: {reason}")]
    InUse {
        /// Which.
        what: String,
        /// By whom.
        reason: String,
    },
    /// A background task ended early: the process is shutting down.
    #[error("image operation was cancelled")]
    Cancelled,
}

/// The classes of failure, for those who answer differently to each.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ErrorClass {
    /// The request itself is wrong.
    Invalid,
    /// There is no such thing.
    NotFound,
    /// Credentials are wanted.
    Unauthorized,
    /// Later, it may work.
    Unavailable,
    /// Too slow.
    Deadline,
    /// The content is broken.
    Corrupt,
    /// The disk is full.
    DiskFull,
    /// Not done by this service.
    Unsupported,
    /// Held by something.
    InUse,
    /// Anything else of this machine.
    Internal,
}

// === impl ImageError ===

impl ImageError {
    /// Wraps an error of the operating system with what was done to which file.
    pub fn io(action: &'static str, path: impl AsRef<Path>, error: impl Into<io::Error>) -> Self {
        let error = error.into();
        ImageError::Io { action, path: path.as_ref().to_path_buf(), reason: error.to_string(), kind: error.kind() }
    }

    /// A document that cannot be read.
    pub fn manifest(what: impl ToString, reason: impl ToString) -> Self {
        ImageError::InvalidManifest { what: what.to_string(), reason: reason.to_string() }
    }

    /// The class of this failure.
    pub fn class(&self) -> ErrorClass {
        match self {
            ImageError::Pull { source, .. } => source.class(),
            ImageError::InvalidReference { .. } | ImageError::AmbiguousId { .. } => ErrorClass::Invalid,
            ImageError::NoSuchImage { .. } | ImageError::NotFound { .. } | ImageError::NoPlatform { .. } => {
                ErrorClass::NotFound
            }
            ImageError::Unauthorized { .. } => ErrorClass::Unauthorized,
            ImageError::Unreachable { .. } | ImageError::TooManyRequests { .. } | ImageError::Cancelled => {
                ErrorClass::Unavailable
            }
            ImageError::Status { .. } => ErrorClass::Internal,
            ImageError::Stalled { .. } | ImageError::Deadline { .. } => ErrorClass::Deadline,
            ImageError::DigestMismatch { .. }
            | ImageError::SizeMismatch { .. }
            | ImageError::InvalidManifest { .. }
            | ImageError::Layer { .. }
            | ImageError::Archive { .. } => ErrorClass::Corrupt,
            ImageError::Unsupported { .. } => ErrorClass::Unsupported,
            ImageError::Io { kind: io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded, .. } => {
                ErrorClass::DiskFull
            }
            ImageError::InUse { .. } | ImageError::Locked { .. } => ErrorClass::InUse,
            ImageError::Io { .. } | ImageError::Config { .. } => ErrorClass::Internal,
        }
    }

    /// Whether the same request may succeed a little later.
    pub(super) fn is_transient(&self) -> bool {
        match self {
            ImageError::Unreachable { .. } | ImageError::TooManyRequests { .. } | ImageError::Stalled { .. } => true,
            ImageError::Status { status, .. } => *status >= 500 || *status == 408,
            _ => false,
        }
    }
}

impl From<ImageError> for tonic::Status {
    fn from(error: ImageError) -> Self {
        let code = match error.class() {
            ErrorClass::Invalid => tonic::Code::InvalidArgument,
            ErrorClass::NotFound => tonic::Code::NotFound,
            ErrorClass::Unauthorized => tonic::Code::PermissionDenied,
            ErrorClass::Unavailable => tonic::Code::Unavailable,
            ErrorClass::Deadline => tonic::Code::DeadlineExceeded,
            ErrorClass::Corrupt => tonic::Code::DataLoss,
            ErrorClass::DiskFull => tonic::Code::ResourceExhausted,
            ErrorClass::Unsupported => tonic::Code::Unimplemented,
            ErrorClass::InUse => tonic::Code::FailedPrecondition,
            ErrorClass::Internal => tonic::Code::Unknown,
        };
        tonic::Status::new(code, error.to_string())
    }
}

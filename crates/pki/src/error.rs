use std::path::PathBuf;

/// Why a key or certificate could not be made or read.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file could not be read or written.
    #[error("{}: {source}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The text is not the PEM that it should be.
    #[error("{what} is not valid PEM: {reason}")]
    Pem {
        /// What was read.
        what: String,
        /// Why it is refused.
        reason: String,
    },
    /// A certificate could not be made.
    #[error("cannot make the certificate of {subject}: {source}")]
    Certificate {
        /// Whom it was for.
        subject: String,
        /// Why.
        source: rcgen::Error,
    },
    /// A certificate signing request is refused.
    #[error("the certificate signing request is refused: {0}")]
    Request(String),
    /// A join token is not of the form `K10<digest>::<role>:<secret>`.
    #[error("the token is not of the form K10<digest>::<role>:<secret>")]
    Token,
}

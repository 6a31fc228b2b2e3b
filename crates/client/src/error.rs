use http::StatusCode;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Status;

/// Why a call to the API did not give what was asked for.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The server answered with a `Status` object.
    #[error("{}", .0.message.as_deref().unwrap_or("the server answered with an error without a message"))]
    Api(Box<Status>),
    /// The server could not be reached, or the connection broke.
    #[error("cannot reach the API server: {0}")]
    Unreachable(String),
    /// The answer did not come in time.
    #[error("no answer from the API server within {0:?}")]
    Deadline(std::time::Duration),
    /// An object could not be decoded.
    #[error("cannot decode {what}: {source}")]
    Decode {
        /// What was being decoded.
        what: String,
        /// Where and why it failed.
        source: serde_json::Error,
    },
    /// A request could not be encoded or built.
    #[error("cannot build the request: {0}")]
    Request(String),
}

impl Error {
    /// The error that an answer's status and body stand for.
    pub fn from_answer(status: StatusCode, body: &[u8]) -> Self {
        let parsed = serde_json::from_slice::<Status>(body).ok().filter(|parsed| parsed.code.is_some());
        Error::Api(Box::new(parsed.unwrap_or_else(|| Status {
            code: Some(i32::from(status.as_u16())),
            message: Some(String::from_utf8_lossy(body.get(..512).unwrap_or(body)).into_owned()),
            reason: status.canonical_reason().map(|reason| reason.replace(' ', "")),
            status: Some("Failure".to_owned()),
            ..Status::default()
        })))
    }

    /// The HTTP status code, when the server answered.
    pub fn code(&self) -> Option<u16> {
        match self {
            Error::Api(status) => status.code.and_then(|code| u16::try_from(code).ok()),
            _ => None,
        }
    }

    /// The machine-readable reason of the server's `Status`, such as `NotFound`.
    pub fn reason(&self) -> &str {
        match self {
            Error::Api(status) => status.reason.as_deref().unwrap_or(""),
            _ => "",
        }
    }

    /// The object does not exist.
    pub fn is_not_found(&self) -> bool {
        self.code() == Some(404)
    }

    /// The object exists already.
    pub fn is_already_exists(&self) -> bool {
        self.reason() == "AlreadyExists"
    }

    /// Somebody else changed the object first, or a precondition did not hold.
    pub fn is_conflict(&self) -> bool {
        self.reason() == "Conflict"
    }

    /// The resource version asked for is too old to be served.
    pub fn is_expired(&self) -> bool {
        self.code() == Some(410)
    }

    /// The object's content was refused by validation.
    pub fn is_invalid(&self) -> bool {
        self.reason() == "Invalid"
    }

    /// The caller may not do this.
    pub fn is_forbidden(&self) -> bool {
        self.code() == Some(403)
    }

    /// The namespace is being deleted, so nothing can be created in it.
    pub fn is_namespace_terminating(&self) -> bool {
        let Error::Api(status) = self else { return false };
        let causes = status.details.as_ref().and_then(|details| details.causes.as_ref());
        self.is_forbidden()
            && causes.is_some_and(|causes| causes.iter().any(|c| c.reason.as_deref() == Some("NamespaceTerminating")))
    }
}

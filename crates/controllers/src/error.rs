/// Why a reconciler could not make its step. The key comes back with a back-off.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A call to the API failed.
    #[error(transparent)]
    Api(#[from] trireme_client::Error),
    /// An object says something that cannot be acted on.
    #[error("{object}: {field}: {reason}")]
    Invalid {
        /// Kind and key of the object.
        object: String,
        /// Path of the field.
        field: &'static str,
        /// What is wrong with it.
        reason: String,
    },
    /// A value could not be encoded as JSON.
    #[error("cannot encode {what}: {source}")]
    Encode {
        /// What was being encoded.
        what: &'static str,
        /// Why it failed.
        source: serde_json::Error,
    },
    /// A certificate could not be signed.
    #[error(transparent)]
    Pki(#[from] trireme_pki::Error),
    /// Something that must be waited for, such as a cache that is behind.
    #[error("not yet: {0}")]
    NotYet(String),
}

impl Error {
    /// The object was changed or removed by somebody else meanwhile; an event about that is on its way.
    pub(crate) fn is_race(&self) -> bool {
        matches!(self, Error::Api(error) if error.is_conflict() || error.is_not_found())
    }
}

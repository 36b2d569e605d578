//! What can go wrong at the front door.

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of Siltstone.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's, or the store's.
    #[error(transparent)]
    Kv(#[from] siltstone_kv::Error),
    /// A URL that does not name a place for a database.
    #[error("{url}: {what}")]
    Url {
        /// The URL.
        url: String,
        /// What is wrong with it, and what would be right.
        what: String,
    },
    /// A task that did the waiting was cancelled by its runtime.
    #[error("the runtime was shut down while a call was waiting")]
    RuntimeGone,
}

impl Error {
    /// True when a transaction came second: beginning again may succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Self::Kv(siltstone_kv::Error::Conflict { .. }))
    }
}

impl From<siltstone_storage::Error> for Error {
    fn from(error: siltstone_storage::Error) -> Self {
        Self::Kv(error.into())
    }
}

//! What can go wrong in a ledger: what, where, and what to do.

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a ledger.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The store's.
    #[error(transparent)]
    Storage(#[from] siltstone_storage::Error),
}

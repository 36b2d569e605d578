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
    /// A document tree's.
    #[error(transparent)]
    Tree(siltstone_tree::Error),
    /// A list's or a text's.
    #[error(transparent)]
    List(siltstone_list::Error),
    /// A ledger's.
    #[error(transparent)]
    Ledger(#[from] siltstone_ledger::Error),
    /// A ledger that is not there.
    #[error("there is no ledger called {name}; there are: {known}")]
    UnknownLedger {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A list that is not there.
    #[error("there is no list or text called {name}; there are: {known}")]
    UnknownList {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// A list that is a text, or a text that is a list.
    #[error("{name} is not a {}: open it as what it is", if *.wanted == crate::lists::ListKind::List { "list" } else { "text" })]
    ListKind {
        /// Its name.
        name: String,
        /// What it was taken for.
        wanted: crate::lists::ListKind,
    },
    /// A name a list cannot have.
    #[error(
        "a list cannot be called {name:?}: names have 1 to {limit} bytes and no control characters"
    )]
    ListName {
        /// The name.
        name: String,
        /// The most bytes.
        limit: usize,
    },
    /// A stored list that cannot be read.
    #[error(
        "list {name} is damaged: {what}; restore it from a backup, or sync it from another copy"
    )]
    ListDamaged {
        /// Its name.
        name: String,
        /// What is wrong.
        what: String,
    },
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
        match self {
            Self::Kv(error) => matches!(error, siltstone_kv::Error::Conflict { .. }),
            Self::Tree(error) => error.is_conflict(),
            _ => false,
        }
    }
}

impl From<siltstone_tree::Error> for Error {
    /// What a tree passes on of the engine's is the engine's.
    fn from(error: siltstone_tree::Error) -> Self {
        match error {
            siltstone_tree::Error::Kv(error) => Self::Kv(error),
            other => Self::Tree(other),
        }
    }
}

impl From<siltstone_storage::Error> for Error {
    fn from(error: siltstone_storage::Error) -> Self {
        Self::Kv(error.into())
    }
}

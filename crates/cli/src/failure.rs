//! What ends a command early: one line for the user, one exit code for the shell.

use siltstone::StorageError;
use std::io;

/// The result of a command.
pub(crate) type Result<T, E = Failure> = std::result::Result<T, E>;

/// Why a command did not do what was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Failure {
    /// The database's own error, which says what, where and what to do.
    #[error(transparent)]
    Database(#[from] siltstone::Error),
    /// The same, with the place in the input that led to it.
    #[error("{place}: {cause}")]
    At {
        /// The place, `line 7` or a file.
        place: String,
        /// What went wrong there.
        cause: Box<Failure>,
    },
    /// The command line or the input asks for what cannot be.
    #[error("{0}")]
    Usage(String),
    /// Anything else that went wrong.
    #[error("{0}")]
    Other(String),
    /// A key that is not there.
    #[error("{0}")]
    Absent(String),
    /// Damage in the database.
    #[error("{0}")]
    Damage(String),
    /// Nobody reads our output any more. Not an error: the reader has what it wanted.
    #[error("output closed")]
    BrokenPipe,
}

impl Failure {
    /// What the shell sees, as the help promises.
    pub(crate) fn exit_code(&self) -> u8 {
        match self {
            Self::BrokenPipe => 0,
            Self::Other(_) => 1,
            Self::Usage(_) => 2,
            Self::Absent(_) => 3,
            Self::Damage(_) => 4,
            Self::At { cause, .. } => cause.exit_code(),
            Self::Database(error) => code_of(error),
        }
    }

    /// Another process has it open for writing.
    pub(crate) fn is_locked(&self) -> bool {
        use siltstone_kv::Error as Kv;
        matches!(
            self,
            Self::Database(siltstone::Error::Kv(Kv::Storage(
                StorageError::Locked { .. }
            )))
        )
    }

    /// A transaction came second.
    pub(crate) fn is_conflict(&self) -> bool {
        match self {
            Self::Database(error) => error.is_conflict(),
            Self::At { cause, .. } => cause.is_conflict(),
            _ => false,
        }
    }

    /// The same failure, with its place in the input.
    pub(crate) fn at(self, place: impl Into<String>) -> Self {
        match self {
            Self::BrokenPipe => Self::BrokenPipe,
            cause => Self::At {
                place: place.into(),
                cause: Box::new(cause),
            },
        }
    }

    /// An input or output error on `place`.
    pub(crate) fn io(place: &str, error: &io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::BrokenPipe,
            _ => Self::Other(format!("{place}: {error}")),
        }
    }
}

fn code_of(error: &siltstone::Error) -> u8 {
    use siltstone::ledger::Error as Ledger;
    use siltstone::list::Error as List;
    use siltstone::trees::Error as Tree;
    use siltstone_kv::Error as Kv;
    match error {
        siltstone::Error::Url { .. } => 2,
        siltstone::Error::Kv(Kv::InvalidRange { .. } | Kv::Setting { .. }) => 2,
        siltstone::Error::Kv(
            Kv::WalDamaged { .. }
            | Kv::WalMissing { .. }
            | Kv::Storage(StorageError::Corrupt { .. }),
        ) => 4,
        siltstone::Error::Kv(Kv::Conflict { .. }) => 5,
        siltstone::Error::Kv(Kv::ConditionFailed { .. }) => 6,
        siltstone::Error::Kv(Kv::ChangesGone { .. }) => 7,
        siltstone::Error::Tree(error) => match error {
            Tree::Path { .. }
            | Tree::Filter { .. }
            | Tree::JsonPatch { .. }
            | Tree::BadSchema { .. }
            | Tree::Name { .. } => 2,
            Tree::NotFound { .. } => 3,
            Tree::Corrupt { .. } => 4,
            Tree::ScopeConflicts { .. } => 5,
            Tree::Unexpected { .. } | Tree::Schema { .. } => 6,
            Tree::WatchGone { .. } => 7,
            _ => 1,
        },
        siltstone::Error::Ledger(error) => match error {
            Ledger::Invalid { .. } | Ledger::UnsupportedCid { .. } | Ledger::KeyRing { .. } => 2,
            Ledger::NotFound { .. } | Ledger::Pruned { .. } => 3,
            Ledger::MissingBlock { .. } | Ledger::Corrupt { .. } => 4,
            Ledger::CompactionLost => 5,
            _ => 1,
        },
        siltstone::Error::UnknownLedger { .. } => 3,
        siltstone::Error::ListName { .. } | siltstone::Error::ListKind { .. } => 2,
        siltstone::Error::UnknownList { .. } => 3,
        siltstone::Error::ListDamaged { .. } => 4,
        siltstone::Error::List(error) => match error {
            List::OutOfRange { .. } | List::BadRange { .. } => 3,
            List::Damaged { .. } => 4,
            _ => 1,
        },
        _ => 1,
    }
}

impl From<siltstone::trees::Error> for Failure {
    fn from(error: siltstone::trees::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<siltstone_kv::Error> for Failure {
    fn from(error: siltstone_kv::Error) -> Self {
        Self::Database(error.into())
    }
}

impl From<StorageError> for Failure {
    fn from(error: StorageError) -> Self {
        Self::Database(error.into())
    }
}

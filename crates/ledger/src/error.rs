//! What can go wrong in a ledger: what, where, and what to do.
//!
//! Five failures are never mixed up: *not found* (the answer is that there is none), *missing block*
//! (something named is not there), *undecryptable* (it is there and no key fits), *corrupt* (it is there
//! and is wrong) and *stale* (it was true once).

use crate::block::Cid;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a ledger.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// There is no such document: it was never written, or it is deleted.
    #[error("no document {id:?} in this ledger")]
    NotFound {
        /// The id asked for.
        id: String,
    },
    /// A block that something names is not here.
    #[error(
        "block {cid} is missing: something names it and no archive here holds it. Pull from a remote that has it, or import another copy"
    )]
    MissingBlock {
        /// The block's address.
        cid: Cid,
    },
    /// The bytes are there and no key at hand opens them.
    #[error("{place} cannot be decrypted with key {key}: {what}")]
    Undecryptable {
        /// What was to be opened.
        place: String,
        /// The id of the key it asks for, in hexadecimal.
        key: String,
        /// Why, and what to do.
        what: &'static str,
    },
    /// The bytes are there and are wrong.
    #[error("{place} is damaged: {what}. Restore it from a copy or a remote; nothing was changed")]
    Corrupt {
        /// Where: a block, an archive, an offset.
        place: String,
        /// What is wrong.
        what: String,
    },
    /// It is in an archive that is in a remote only, and no remote gave it.
    #[error("archive {car} is in a remote only: {why}")]
    Away {
        /// The archive.
        car: Cid,
        /// Why it cannot be had, and what to do.
        why: String,
    },
    /// What the caller holds has been overtaken.
    #[error("{what}; read again and retry")]
    Stale {
        /// What was overtaken, and by what.
        what: String,
    },
    /// Written by a later version of Siltstone.
    #[error(
        "{place}: format version {found} is newer than {supported}, the newest this build reads. Upgrade siltstone"
    )]
    NewerFormat {
        /// Where.
        place: String,
        /// Version found.
        found: u64,
        /// Newest version this build reads.
        supported: u64,
    },
    /// An address that this ledger does not take: only CIDs with a SHA2-256 hash are.
    #[error("the address {cid} is not taken: {what}")]
    UnsupportedCid {
        /// The address, as far as it could be read.
        cid: String,
        /// Why, and what would be.
        what: &'static str,
    },
    /// A document, an id or a key that cannot be stored.
    #[error("{what}")]
    Invalid {
        /// What cannot be stored, and what could be.
        what: String,
    },
    /// Larger than the documented limit.
    #[error("{what}: {size} is over the limit of {limit}")]
    TooLarge {
        /// What is too large, with its unit.
        what: &'static str,
        /// How large it is.
        size: u64,
        /// The limit.
        limit: u64,
    },
    /// The key ring's file cannot be used.
    #[error("key ring {path}: {what}")]
    KeyRing {
        /// The file.
        path: String,
        /// What is wrong and what to do.
        what: String,
    },
    /// Reading or writing a stream failed.
    #[error("{operation} failed: {message}")]
    Io {
        /// What was tried.
        operation: &'static str,
        /// The kind of failure.
        kind: std::io::ErrorKind,
        /// What the system said.
        message: String,
    },
    /// It is open for reading, beside its writer.
    #[error(
        "{store}: the ledger is open for reading only; write through the process that has it open for writing, or close that one"
    )]
    ReadOnly {
        /// Where it is.
        store: String,
    },
    /// An earlier write failed, and what the disk holds is unknown; reads go on.
    #[error(
        "the ledger takes no more writes: {why}. Close it and open it again; nothing acknowledged was lost"
    )]
    Stopped {
        /// What failed.
        why: String,
    },
    /// A compaction whose output was not what it had to be. The log of archives is unchanged.
    #[error("the compaction strategy {strategy:?} was refused: {what}; nothing was changed")]
    StrategyRefused {
        /// Its name.
        strategy: String,
        /// Why.
        what: String,
    },
    /// Another compaction replaced the archives that this one read. Nothing was changed.
    #[error(
        "another compaction replaced the archives that this one read, or a snapshot holds what it would write; nothing was changed"
    )]
    CompactionLost,
    /// What was asked for lies below a prune.
    #[error(
        "{what} was pruned: this ledger keeps what is at or after {floor}. Read there, or ask a replica that kept more"
    )]
    Pruned {
        /// What was asked for.
        what: String,
        /// The clock at the boundary.
        floor: String,
    },
    /// A merge with a replica that has not seen what was pruned here.
    #[error(
        "the other replica is behind what was pruned here ({floor}): it must join again. Clone this ledger there and put its own edits anew"
    )]
    BehindPrune {
        /// The clock at the boundary.
        floor: String,
    },
    /// A replica that shall be retired has published what is not part of the history here.
    #[error(
        "replica {replica} has published what is not here: {what}. Sync with the remote first; or retire it all the same, and that is lost"
    )]
    Unmerged {
        /// Its id.
        replica: String,
        /// What would be lost.
        what: String,
    },
    /// A subscriber fell behind by more than its queue holds. It gets no more; read on with `changes`.
    #[error(
        "the subscriber fell behind by more than {limit} changes; read on with `changes` from the clock of the last one and subscribe again"
    )]
    Lagged {
        /// Changes that its queue holds.
        limit: usize,
    },
    /// The store's.
    #[error(transparent)]
    Storage(#[from] siltstone_storage::Error),
}

impl Error {
    /// Damage found at `place`.
    pub fn corrupt(place: impl Into<String>, what: impl Into<String>) -> Self {
        Self::Corrupt {
            place: place.into(),
            what: what.into(),
        }
    }

    /// Something that cannot be stored.
    pub fn invalid(what: impl Into<String>) -> Self {
        Self::Invalid { what: what.into() }
    }

    /// A failed read or write of a stream.
    pub(crate) fn io(operation: &'static str, error: &std::io::Error) -> Self {
        Self::Io {
            operation,
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// True for a block that is named and not here.
    pub fn is_missing_block(&self) -> bool {
        matches!(self, Self::MissingBlock { .. })
    }

    /// True when the bytes are there and are wrong.
    pub fn is_corrupt(&self) -> bool {
        matches!(
            self,
            Self::Corrupt { .. } | Self::Storage(siltstone_storage::Error::Corrupt { .. })
        )
    }
}

//! What can go wrong below the engines: one enum that says what, where and what to do.

use std::io;

/// The result of a storage call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of the store. Every variant names the blob or the place.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The blob is not there.
    #[error("{name}: no such blob in {store}")]
    NotFound {
        /// Name of the blob.
        name: String,
        /// The store it was looked for in.
        store: String,
    },
    /// The read would have had to wait for a disk or a network, and the caller asked not to.
    #[error("{name}: the bytes are not in memory, and this call must not wait")]
    WouldBlock {
        /// Name of the blob.
        name: String,
    },
    /// The operating system or the object store refused or failed.
    #[error("{name}: {operation} failed: {message}{}", hint(*kind))]
    Io {
        /// Name of the blob or path.
        name: String,
        /// What was tried.
        operation: &'static str,
        /// The kind of failure.
        kind: io::ErrorKind,
        /// What the system said.
        message: String,
    },
    /// The bytes are there and are wrong.
    #[error(
        "{name}: damaged at byte {offset}: {what}. Restore this file from a backup; nothing was changed"
    )]
    Corrupt {
        /// Name of the blob.
        name: String,
        /// Offset of the damage in bytes.
        offset: u64,
        /// What is wrong with it.
        what: String,
    },
    /// The blob was written by a later version of Siltstone.
    #[error(
        "{name}: format version {found} is newer than {supported}, the newest this build reads. Upgrade siltstone"
    )]
    NewerFormat {
        /// Name of the blob.
        name: String,
        /// Version found.
        found: u32,
        /// Newest version this build reads.
        supported: u32,
    },
    /// Another process holds the folder.
    #[error(
        "{path}: the database is open for writing in another process ({holder}). Close it, or open a reader"
    )]
    Locked {
        /// The folder.
        path: String,
        /// Who holds it: process id, host, since when.
        holder: String,
    },
    /// A later writer took over.
    #[error(
        "fenced: a writer with epoch {theirs} replaced this one (epoch {ours}). Close this handle and reopen"
    )]
    Fenced {
        /// Epoch of this writer.
        ours: u64,
        /// Epoch of the writer that took over.
        theirs: u64,
    },
    /// No credentials were given for the store. They are never guessed or asked of a metadata
    /// service.
    #[error("{store}: no credentials; {what}")]
    Credentials {
        /// The store.
        store: String,
        /// What to set.
        what: &'static str,
    },
    /// The store accepts conditional puts and ignores the condition: unsafe for any database.
    #[error(
        "{store}: the store ignores put-if-absent (two creations of one name both succeeded). Use a store that honours If-None-Match"
    )]
    ConditionIgnored {
        /// The store.
        store: String,
    },
    /// The store cannot do this (an appender on a bucket, for instance).
    #[error("{store}: {operation} is not supported by this kind of store")]
    Unsupported {
        /// The store.
        store: String,
        /// What was asked for.
        operation: &'static str,
    },
    /// A name or a URL that this crate does not take.
    #[error("{name}: {what}")]
    Invalid {
        /// The name or URL.
        name: String,
        /// What is wrong with it and what would be right.
        what: String,
    },
    /// The simulated machine is off: every call after a planned crash fails so.
    #[error("the simulated machine has crashed")]
    Crashed,
}

impl Error {
    /// Wraps an I/O error with the name of what was touched.
    pub fn io(name: impl Into<String>, operation: &'static str, error: &io::Error) -> Self {
        Self::Io {
            name: name.into(),
            operation,
            kind: error.kind(),
            message: error.to_string(),
        }
    }

    /// Damage found in `name` at `offset`.
    pub fn corrupt(name: impl Into<String>, offset: u64, what: impl Into<String>) -> Self {
        Self::Corrupt {
            name: name.into(),
            offset,
            what: what.into(),
        }
    }

    /// True when the call asked not to wait and would have had to.
    pub fn is_would_block(&self) -> bool {
        matches!(self, Self::WouldBlock { .. })
    }

    /// True when the blob is not there.
    pub fn is_not_found(&self) -> bool {
        matches!(self, Self::NotFound { .. })
    }
}

fn hint(kind: io::ErrorKind) -> &'static str {
    match kind {
        io::ErrorKind::PermissionDenied => ". Check the owner and mode, or the bucket's policy",
        io::ErrorKind::StorageFull => ". Free some space; nothing acknowledged was lost",
        io::ErrorKind::TimedOut | io::ErrorKind::ConnectionRefused => {
            ". Check that the endpoint is reachable"
        }
        _ => "",
    }
}

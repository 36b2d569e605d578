//! What can go wrong in a document tree: what, where, and what to do.

use crate::path::Path;
use crate::scope::Conflict;
use siltstone_kv::Commit;
use std::time::Duration;

/// The result of a call.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// An error of a document tree.
#[derive(Debug, Clone, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The engine's, or the store's.
    #[error(transparent)]
    Kv(#[from] siltstone_kv::Error),
    /// A text that is no path.
    #[error(
        "path {text:?}: {what} at byte {at}. Write for example a.b, a[0], a{{42}}, a(key) or 'a b'.c; or a JSON Pointer, /a/b"
    )]
    Path {
        /// The text.
        text: String,
        /// Where, in bytes.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// A path or a value with too many levels.
    #[error("{path} is {depth} levels deep; a document has at most {max}", path = shown(path), max = crate::MAX_DEPTH)]
    TooDeep {
        /// The path.
        path: Path,
        /// Its levels.
        depth: usize,
    },
    /// A path whose names are too long altogether.
    #[error("a path of {len} bytes: paths have at most {max} bytes", max = crate::key::MAX_KEY)]
    PathTooLong {
        /// Its length as it is stored, in bytes.
        len: usize,
    },
    /// There is nothing at the path.
    #[error("{path}: there is nothing; {nearest}", path = shown(path))]
    NotFound {
        /// The path.
        path: Path,
        /// What there is on the way.
        nearest: String,
    },
    /// The path goes through something of another kind.
    #[error("{path} is {found}, not {wanted}. Set or patch {path} itself to replace it", path = shown(path))]
    WrongKind {
        /// Where.
        path: Path,
        /// What is there.
        found: &'static str,
        /// What the operation needs there.
        wanted: &'static str,
    },
    /// An index past the end of a dense array.
    #[error("{path}: index {index} is out of range, the array has {len} elements", path = shown(path))]
    OutOfRange {
        /// The array.
        path: Path,
        /// The index.
        index: u64,
        /// How many elements it has.
        len: u64,
    },
    /// A number cannot be counted up so far.
    #[error("{path}: {value} + {delta} does not fit 64 bits", path = shown(path))]
    Overflow {
        /// Where.
        path: Path,
        /// What it is.
        value: String,
        /// What was to be added.
        delta: String,
    },
    /// A precondition, or a `test` of a JSON Patch, does not hold.
    #[error("{path}: expected {expected}, but {found}; nothing was written", path = shown(path))]
    Unexpected {
        /// Where.
        path: Path,
        /// What was expected.
        expected: String,
        /// What was found.
        found: String,
    },
    /// An operation that cannot be done there.
    #[error("{path}: {what}; nothing was written", path = shown(path))]
    Refused {
        /// Where.
        path: Path,
        /// Why not.
        what: String,
    },
    /// A text that is no JSON Patch.
    #[error("JSON Patch: {what}")]
    JsonPatch {
        /// What is wrong.
        what: String,
    },
    /// A filter that says nothing sensible.
    #[error("filter: {what}")]
    Filter {
        /// What is wrong.
        what: String,
    },
    /// A commit would break a schema.
    #[error("{at} breaks the schema at {schema:?}: {what}; nothing was written")]
    Schema {
        /// The path that the schema is attached to.
        schema: String,
        /// A JSON Pointer to the value that breaks it, from the document's root.
        at: String,
        /// How.
        what: String,
    },
    /// A document that is no JSON Schema.
    #[error("schema at {path:?}: {what}")]
    BadSchema {
        /// The path it was to be attached to.
        path: String,
        /// What is wrong.
        what: String,
    },
    /// No tree has this name.
    #[error("no tree {name:?}; there are: {known}")]
    UnknownTree {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The name cannot be given to a tree or a scope.
    #[error("name {name:?}: {what}")]
    Name {
        /// The name.
        name: String,
        /// What is wrong with it.
        what: &'static str,
    },
    /// No scope has this name.
    #[error("no scope {name:?}; there are: {known}")]
    UnknownScope {
        /// The name asked for.
        name: String,
        /// The names there are.
        known: String,
    },
    /// The base has changed where the scope was written.
    #[error("scope {name:?} cannot be merged: the base has changed at {paths}; nothing was written. Set these paths in the scope again to keep its values, or delete the scope", paths = conflicts.iter().map(|c| shown(&c.path)).collect::<Vec<_>>().join(", "))]
    ScopeConflicts {
        /// The scope.
        name: String,
        /// Where, and what is there on either side.
        conflicts: Vec<Conflict>,
    },
    /// No multi-participant transaction has this number.
    #[error("no transaction {id}: it never was, or it is over")]
    UnknownTx {
        /// The number.
        id: u64,
    },
    /// All participants have joined already.
    #[error("transaction {id} has all its {participants} participants")]
    TxFull {
        /// The number.
        id: u64,
        /// How many it was made for.
        participants: usize,
    },
    /// A multi-participant transaction ran out of time, or was aborted.
    #[error(
        "transaction {id} {how} with {joined} of {participants} participants; nothing was written"
    )]
    TxOver {
        /// The number.
        id: u64,
        /// How it ended.
        how: TxEnd,
        /// How many had joined.
        joined: usize,
        /// How many it was made for.
        participants: usize,
    },
    /// A participant that cannot join.
    #[error("transaction {id}: {what}")]
    TxRefused {
        /// The number.
        id: u64,
        /// Why not.
        what: String,
    },
    /// A watch cannot go on from where it was.
    #[error(
        "the changes after commit {after} are not all retained any more. Read the document at commit {restart} or later and watch from there, or keep more history"
    )]
    WatchGone {
        /// The commit that the watch was to go on after.
        after: Commit,
        /// The earliest commit that a watch can start from.
        restart: Commit,
    },
    /// Stored bytes that are no part of a document.
    #[error("tree {tree:?} holds damaged bytes: {what}. Run verify; restore a backup")]
    Corrupt {
        /// The tree.
        tree: String,
        /// What is wrong.
        what: String,
    },
}

/// How a multi-participant transaction ended without a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TxEnd {
    /// Its time ran out.
    TimedOut(Duration),
    /// Somebody aborted it.
    Aborted,
}

impl std::fmt::Display for TxEnd {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            TxEnd::TimedOut(after) => write!(f, "timed out after {after:?}"),
            TxEnd::Aborted => f.write_str("was aborted"),
        }
    }
}

impl Error {
    /// True when a transaction came second: beginning again may succeed.
    pub fn is_conflict(&self) -> bool {
        matches!(self, Error::Kv(siltstone_kv::Error::Conflict { .. }))
    }

    pub(crate) fn corrupt(what: impl Into<String>) -> Self {
        Error::Corrupt {
            tree: String::new(),
            what: what.into(),
        }
    }

    /// Says which tree the damage is in.
    pub(crate) fn of_tree(self, name: &str) -> Self {
        match self {
            Error::Corrupt { tree, what } if tree.is_empty() => Error::Corrupt {
                tree: name.to_string(),
                what,
            },
            other => other,
        }
    }
}

impl From<siltstone_storage::Error> for Error {
    fn from(error: siltstone_storage::Error) -> Self {
        Self::Kv(error.into())
    }
}

/// A path in a message: the root has no text of its own.
pub(crate) fn shown(path: &Path) -> String {
    match path.is_root() {
        true => "the root".into(),
        false => path.to_string(),
    }
}

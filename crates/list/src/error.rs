//! What can go wrong, where, and what to do.

use std::ops::Range;

use crate::id::Session;

/// Why an operation on a list was refused. Whatever was refused changed nothing.
#[derive(Clone, Debug, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum Error {
    /// A position beyond the end.
    #[error("position {position} is beyond the end: the list has {len} elements")]
    OutOfRange {
        /// The position asked for.
        position: usize,
        /// How many elements there are.
        len: usize,
    },
    /// A range that ends beyond the end or before it begins.
    #[error("range {}..{} is not within the list, which has {len} elements", .range.start, .range.end)]
    BadRange {
        /// The range asked for.
        range: Range<usize>,
        /// How many elements there are.
        len: usize,
    },
    /// A position that is inside a character of the unit used.
    #[error("offset {offset} is inside a character; move it to where one begins")]
    InsideCharacter {
        /// The offset asked for, in the unit of the method.
        offset: usize,
    },
    /// The list has had as many elements as one can ever have.
    #[error(
        "a list can have had {limit} elements in its life, deleted ones included; start a new one"
    )]
    Full {
        /// The limit.
        limit: u32,
    },
    /// An element that this copy has never seen.
    #[error("no element {id} is known here; sync first")]
    UnknownElement {
        /// The element asked for.
        id: String,
    },
    /// A version that names transactions this copy does not have.
    #[error("version names {count} transactions of {session}, {known} are known here; sync first")]
    UnknownVersion {
        /// The session whose transactions are missing.
        session: Session,
        /// How many the version names.
        count: u32,
        /// How many this copy has.
        known: u32,
    },
    /// A version older than the oldest this copy keeps.
    #[error("history before {oldest} was dropped; ask a copy that has all of it")]
    HistoryDropped {
        /// The oldest version that is kept.
        oldest: String,
    },
    /// The permission check refused the transaction, all of it.
    #[error("{author} may not do this: {reason}")]
    Refused {
        /// Who wanted to.
        author: String,
        /// What the check said.
        reason: String,
    },
    /// Bytes that are not what they should be.
    #[error("damaged or foreign data in {what} at byte {offset}: {problem}; fetch it again")]
    Damaged {
        /// The part that is wrong.
        what: &'static str,
        /// Where in the bytes, or in the part where it is compressed.
        offset: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// Bytes of a version of the format, or of the order's rule, that this build does not know.
    #[error("format version {found} is newer than this build reads ({known}); update it")]
    NewerFormat {
        /// The version in the bytes.
        found: u8,
        /// The newest version known here.
        known: u8,
    },
    /// Two different transactions under one name: a session was used by two copies.
    #[error(
        "session {session} has two transactions {tx}: two copies wrote under one name; give each copy a nonce"
    )]
    TwoWriters {
        /// The session used twice.
        session: Session,
        /// The first transaction that differs.
        tx: u32,
    },
    /// Too many operations wait for others that have not come.
    #[error(
        "{waiting} operations wait for others that have not come, the limit is {limit}; send those first"
    )]
    TooManyPending {
        /// How many wait.
        waiting: usize,
        /// The most that may.
        limit: usize,
    },
}

/// The result of this crate's operations.
pub type Result<T> = std::result::Result<T, Error>;

//! The journal: every change of the state, in order, durable before it is acknowledged.
//!
//! In a folder it is one file at a time to which records are appended, with the CARs of a commit in
//! the record: one sync makes a group of commits durable. In a bucket each record is an object of its
//! own, created put-if-absent under the next number, and the CARs are objects beside it. The state of
//! the manifest says from which [`Position`] on records are to be applied to it.

pub(crate) mod frame;
mod replay;
mod writer;

pub(crate) use replay::{replay, verify};
pub(crate) use writer::{Journal, Placed};

use serde::{Deserialize, Serialize};

const PREFIX: &str = "journal/";
const SUFFIX: &str = ".journal";

/// A place in the journal.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
pub struct Position {
    /// Number of the file, or of the object in a bucket.
    pub number: u64,
    /// Offset in it, in bytes.
    pub offset: u64,
}

/// The name of journal file `number`.
pub(crate) fn journal_name(number: u64) -> String {
    format!("{PREFIX}{number:020}{SUFFIX}")
}

/// The number of a journal file by its name.
pub(crate) fn journal_number(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

/// The numbers of all journal files that there are, in order.
pub(crate) fn journal_numbers(
    blobs: &dyn siltstone_storage::Blobs,
) -> siltstone_storage::Result<Vec<u64>> {
    let listed = blobs.list(PREFIX)?;
    Ok(listed
        .iter()
        .filter_map(|blob| journal_number(&blob.name))
        .collect())
}

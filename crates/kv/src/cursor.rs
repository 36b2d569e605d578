//! A place in an ordered source of versions: a memtable, a table, a run of tables, or their merge.
//!
//! Order is by key, then newest commit first. After an error that says the bytes are not in memory
//! ([`crate::Error::is_would_block`]) the same call may be made again; any other error is final.

use crate::error::Result;
use crate::types::{Commit, Tag};

pub(crate) trait Cursor {
    /// Moves to the first entry that is not before (`key`, `commit`).
    fn seek(&mut self, key: &[u8], commit: Commit) -> Result<()>;

    /// Moves to the first entry.
    fn seek_first(&mut self) -> Result<()>;

    /// Moves to the last entry before (`key`, `commit`).
    fn seek_before(&mut self, key: &[u8], commit: Commit) -> Result<()>;

    /// Moves to the last entry.
    fn seek_last(&mut self) -> Result<()>;

    /// Moves on. The cursor must be valid.
    fn next(&mut self) -> Result<()>;

    /// Moves back. The cursor must be valid.
    fn prev(&mut self) -> Result<()>;

    /// True when there is an entry here.
    fn valid(&self) -> bool;

    fn key(&self) -> &[u8];
    fn commit(&self) -> Commit;
    fn tag(&self) -> Tag;
    fn value(&self) -> &[u8];
}

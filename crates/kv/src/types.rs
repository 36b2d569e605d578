//! The engine's words as types: commits, names of segments and keyspaces, kinds of entries.

use serde::{Deserialize, Serialize};
use std::fmt;

/// One atomic write. Dense, starts at 1; also the version of everything it wrote. `Commit(0)` is
/// the empty database.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Commit(pub u64);

impl Commit {
    /// The empty database.
    pub const ZERO: Commit = Commit(0);
    /// Later than every commit: "the newest".
    pub const MAX: Commit = Commit(u64::MAX);
}

impl fmt::Display for Commit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Number of a keyspace; never used again after a drop.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct KeyspaceId(pub u32);

/// Name of a table: the epoch of the writer that made it and a counter, so that no two writers and
/// no two flushes can ever choose the same one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SegmentId(pub u64);

const COUNTER_BITS: u32 = 36;
/// Set in the counter of blob files.
const BLOB_FILE: u64 = 1 << (COUNTER_BITS - 1);

impl SegmentId {
    pub(crate) fn new(epoch: u64, counter: u64) -> Self {
        debug_assert!(counter < BLOB_FILE);
        Self(epoch << COUNTER_BITS | counter)
    }

    pub(crate) fn new_blob_file(epoch: u64, counter: u64) -> Self {
        Self(Self::new(epoch, counter).0 | BLOB_FILE)
    }

    /// As the others, from numbers that were read somewhere; `None` when they are too large.
    pub(crate) fn checked(epoch: u64, counter: u64, blob_file: bool) -> Option<Self> {
        let fits = counter < BLOB_FILE && epoch < 1 << (u64::BITS - COUNTER_BITS);
        fits.then(|| match blob_file {
            true => Self::new_blob_file(epoch, counter),
            false => Self::new(epoch, counter),
        })
    }

    /// True for a file of values, false for a table.
    pub fn is_blob_file(self) -> bool {
        self.0 & BLOB_FILE != 0
    }

    /// Epoch of the writer that made it.
    pub fn epoch(self) -> u64 {
        self.0 >> COUNTER_BITS
    }

    /// Its number among those of its writer.
    pub(crate) fn counter(self) -> u64 {
        self.0 & (BLOB_FILE - 1)
    }

    /// The blob that holds it.
    pub fn blob(self) -> String {
        match self.is_blob_file() {
            true => format!("blob/{:016x}.blob", self.0),
            false => format!("sst/{:016x}.sst", self.0),
        }
    }

    pub(crate) fn of_blob(name: &str) -> Option<Self> {
        let table = |name: &str| Some(name.strip_prefix("sst/")?.strip_suffix(".sst")?.len());
        let blob_file = |name: &str| Some(name.strip_prefix("blob/")?.strip_suffix(".blob")?.len());
        let hex = match (table(name), blob_file(name)) {
            (Some(16), _) => &name[4..20],
            (_, Some(16)) => &name[5..21],
            _ => return None,
        };
        let id = Self(u64::from_str_radix(hex, 16).ok()?);
        (id.blob() == name).then_some(id)
    }
}

impl fmt::Display for SegmentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.blob())
    }
}

/// What an entry does, and what else there is to know about it.
///
/// One byte, the same in memtable, log and table: two bits for the kind, a bit for a value that
/// expires, and the high bit when older versions of its key were thinned away below it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tag(u8);

/// What an entry does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Kind {
    /// Deletes its key.
    Delete,
    /// Sets its key to its value.
    Put,
    /// Changes what its key is set to; the value is a list of operands.
    Merge,
    /// Deletes a range: the key is its start and the value its end.
    RangeDelete,
    /// Tables with keys from its key to its value were added; only in a log.
    Ingested,
}

impl Tag {
    pub(crate) const DELETE: Tag = Tag(0);
    pub(crate) const PUT: Tag = Tag(1);
    pub(crate) const MERGE: Tag = Tag(2);
    pub(crate) const RANGE_DELETE: Tag = Tag(3);
    /// A put whose value starts with the time at which it expires.
    pub(crate) const PUT_EXPIRING: Tag = Tag(1 | Self::EXPIRES);
    /// Keys from the entry's key to its value came in tables; only in a log.
    pub(crate) const INGESTED: Tag = Tag(3 | Self::EXPIRES);
    const KIND: u8 = 3;
    const EXPIRES: u8 = 0x04;
    const POINTS: u8 = 0x08;
    const TRUNCATED: u8 = 0x80;

    pub(crate) fn from_byte(byte: u8) -> Option<Tag> {
        let tag = Tag(byte);
        let known = byte & !(Self::KIND | Self::EXPIRES | Self::POINTS | Self::TRUNCATED) == 0
            && (!tag.points() || tag.is_put());
        let fits = !tag.expires() || tag.is_put() || tag == Self::INGESTED;
        (known && fits).then_some(tag)
    }

    pub(crate) fn byte(self) -> u8 {
        self.0
    }

    pub(crate) fn kind(self) -> Kind {
        match self.0 & Self::KIND {
            0 => Kind::Delete,
            1 => Kind::Put,
            2 => Kind::Merge,
            _ if self.is_ingested() => Kind::Ingested,
            _ => Kind::RangeDelete,
        }
    }

    pub(crate) fn is_put(self) -> bool {
        self.0 & Self::KIND == 1
    }

    /// A put with nothing to look into.
    #[inline]
    pub(crate) fn is_plain_put(self) -> bool {
        self.0 & !Self::TRUNCATED == 1
    }

    pub(crate) fn is_delete(self) -> bool {
        self.0 & Self::KIND == 0
    }

    pub(crate) fn is_merge(self) -> bool {
        self.0 & Self::KIND == 2
    }

    pub(crate) fn is_range_delete(self) -> bool {
        self.0 & (Self::KIND | Self::EXPIRES) == 3
    }

    pub(crate) fn is_ingested(self) -> bool {
        self.0 & (Self::KIND | Self::EXPIRES) == Self::INGESTED.0
    }

    /// True when the value starts with the time at which it expires.
    pub(crate) fn expires(self) -> bool {
        self.0 & (Self::EXPIRES | 1 << 1) == Self::EXPIRES
    }

    /// True when the value is in a blob file and a pointer stands for it.
    pub(crate) fn points(self) -> bool {
        self.0 & Self::POINTS != 0
    }

    /// The same, with a pointer for the value or without.
    pub(crate) fn pointing(self, points: bool) -> Tag {
        match points {
            true => Tag(self.0 | Self::POINTS),
            false => Tag(self.0 & !Self::POINTS),
        }
    }

    pub(crate) fn is_truncated(self) -> bool {
        self.0 & Self::TRUNCATED != 0
    }

    pub(crate) fn truncated(self) -> Tag {
        Tag(self.0 | Self::TRUNCATED)
    }

    /// Another kind, with the same mark.
    pub(crate) fn turned_into(self, kind: Tag) -> Tag {
        Tag(kind.0 | self.0 & Self::TRUNCATED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn segment_names_of_different_writers_never_meet_and_read_back() {
        let a = SegmentId::new(1, 5);
        let b = SegmentId::new(2, 5);
        assert_ne!(a.blob(), b.blob());
        assert_eq!(SegmentId::of_blob(&b.blob()), Some(b));
        assert_eq!(b.epoch(), 2);
        let file = SegmentId::new_blob_file(2, 5);
        assert_eq!(SegmentId::of_blob(&file.blob()), Some(file));
        assert!(file != b && file.epoch() == 2 && file.is_blob_file() && !b.is_blob_file());
        for foreign in [
            "sst/xyz.sst",
            "sst/12.sst",
            "wal/0000000000000001.sst",
            "sst/000000000000000g.sst",
            "sst/0000000800000001.sst",
            "blob/0000000000000001.blob",
            "sst/é00000000000000.sst",
        ] {
            assert_eq!(SegmentId::of_blob(foreign), None);
        }
    }
}

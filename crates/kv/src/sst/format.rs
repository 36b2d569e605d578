//! What a table says about itself: its properties, kept in the manifest and in the file, and the
//! footer by which the file is read without a manifest.

use crate::range_delete::RangeDelete;
use crate::types::{Commit, KeyspaceId, SegmentId};
use bytes::Bytes;
use serde::{Deserialize, Serialize};
use siltstone_storage::{Error as StorageError, Timestamp};

pub(crate) const MAGIC: &[u8; 8] = b"SILTSST\n";
pub(crate) const FORMAT: u32 = 2;
/// From this version on the filter stands in sections.
const SECTIONS: u32 = 2;
/// What blob files have for a level.
const BLOB_FILE: u8 = u8::MAX;
/// Bytes of the footer.
pub(crate) const FOOTER: usize = 8 * 4 + 4 + 4 + 8;

/// The properties of a table.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TableMeta {
    /// The keyspace it belongs to.
    pub keyspace: KeyspaceId,
    /// The level it stands in; 0 are flushes, which may overlap; 255 is a blob file.
    pub level: u8,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Where the index starts, or the values of a blob file end, in bytes.
    pub index_at: u64,
    /// Smallest key.
    pub min_key: Vec<u8>,
    /// Largest key.
    pub max_key: Vec<u8>,
    /// Oldest commit of an entry.
    pub min_commit: Commit,
    /// Newest commit of an entry.
    pub max_commit: Commit,
    /// Versions, tombstones among them.
    pub entries: u64,
    /// Tombstones.
    pub tombstones: u64,
    /// Different keys.
    pub keys: u64,
    /// Bytes of keys and values before compression.
    pub raw_bytes: u64,
    /// Data blocks.
    pub blocks: u64,
    /// When the oldest of its writes was made, or earlier.
    pub min_time: Timestamp,
    /// When the newest of its writes was made, or later.
    pub max_time: Timestamp,
    /// When the file was written.
    pub created: Timestamp,
    /// Versions with a value that expires.
    pub expiring: u64,
    /// When the first of them does.
    pub first_expiry: Option<Timestamp>,
    /// When the last of them does.
    pub last_expiry: Option<Timestamp>,
    /// No deletion of a range up to this commit hides anything in it.
    pub cleared: Commit,
    /// It was ingested: one commit wrote everything in it. The file does not know which, and says 0.
    pub ingested: bool,
    /// The blob files that its values are in, with how many bytes of each.
    pub blobs: Vec<(SegmentId, u64)>,
}

impl TableMeta {
    /// The start of a description of the blob file that goes with the table `like`.
    pub(crate) fn blob_file(like: &TableMeta) -> Self {
        Self {
            level: BLOB_FILE,
            index_at: 0,
            min_key: Vec::new(),
            max_key: Vec::new(),
            tombstones: 0,
            keys: 0,
            blocks: 0,
            expiring: 0,
            first_expiry: None,
            last_expiry: None,
            cleared: Commit::ZERO,
            ingested: false,
            blobs: Vec::new(),
            ..like.clone()
        }
    }

    /// True when it describes a blob file.
    pub fn is_blob_file(&self) -> bool {
        self.level == BLOB_FILE
    }

    /// True when `key` lies between smallest and largest.
    pub(crate) fn covers(&self, key: &[u8]) -> bool {
        self.min_key.as_slice() <= key && key <= self.max_key.as_slice()
    }

    /// True when it may hold a version that `deleted` hides.
    pub(crate) fn may_hold_hidden_by(&self, deleted: &RangeDelete) -> bool {
        self.min_commit < deleted.commit
            && self.cleared < deleted.commit
            && deleted.meets(&self.min_key, &self.max_key)
    }

    /// How many of its values have expired at `now`, as if they did so evenly.
    pub(crate) fn expired(&self, now: Timestamp) -> u64 {
        let (Some(first), Some(last)) = (self.first_expiry, self.last_expiry) else {
            return 0;
        };
        if now >= last {
            return self.expiring;
        }
        let (passed, whole) = (now.since(first), last.since(first));
        let share = passed.as_secs_f64() / whole.as_secs_f64().max(1e-6);
        (self.expiring as f64 * share) as u64
    }

    /// True when the key ranges meet.
    pub(crate) fn overlaps(&self, min_key: &[u8], max_key: &[u8]) -> bool {
        self.min_key.as_slice() <= max_key && min_key <= self.max_key.as_slice()
    }
}

/// Where the parts of a file start.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Footer {
    pub(crate) index_at: u64,
    pub(crate) filter_at: u64,
    pub(crate) top_at: u64,
    pub(crate) properties_at: u64,
    /// The version of the table's format.
    pub(crate) format: u32,
}

impl Footer {
    /// True when the filter stands in sections, not in one piece.
    pub(crate) fn filter_has_sections(&self) -> bool {
        self.format >= SECTIONS
    }

    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        for at in [
            self.index_at,
            self.filter_at,
            self.top_at,
            self.properties_at,
        ] {
            out.extend_from_slice(&at.to_le_bytes());
        }
        out.extend_from_slice(&self.format.to_le_bytes());
        let sum = crc_fast::crc32_iscsi(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
        out.extend_from_slice(MAGIC);
    }

    /// Reads the footer of the file `name` of `size` bytes.
    pub(crate) fn decode(name: &str, size: u64, bytes: &[u8]) -> Result<Self, StorageError> {
        let bad =
            |what: &str| StorageError::corrupt(name, size.saturating_sub(FOOTER as u64), what);
        if bytes.len() != FOOTER {
            return Err(bad("the file is too short to be a table"));
        }
        if &bytes[FOOTER - 8..] != MAGIC {
            return Err(bad("it does not end as a Siltstone table does"));
        }
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight"));
        let format = u32_at(32);
        if format > FORMAT {
            return Err(StorageError::NewerFormat {
                name: name.to_string(),
                found: format,
                supported: FORMAT,
            });
        }
        if crc_fast::crc32_iscsi(&bytes[..36]) != u32_at(36) {
            return Err(bad("the footer's checksum does not match"));
        }
        let footer = Self {
            index_at: u64_at(0),
            filter_at: u64_at(8),
            top_at: u64_at(16),
            properties_at: u64_at(24),
            format,
        };
        let parts = [
            footer.index_at,
            footer.filter_at,
            footer.top_at,
            footer.properties_at,
        ];
        let end = size - FOOTER as u64;
        if !parts.is_sorted() || footer.properties_at > end {
            return Err(bad("the footer's offsets are out of order"));
        }
        Ok(footer)
    }
}

/// Properties as the file holds them.
pub(crate) fn encode_properties(meta: &TableMeta) -> Vec<u8> {
    postcard::to_stdvec(meta).expect("properties always serialize")
}

pub(crate) fn decode_properties(raw: &Bytes) -> Result<TableMeta, &'static str> {
    postcard::from_bytes(raw).map_err(|_| "the properties cannot be read")
}

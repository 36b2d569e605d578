//! Looks into single files, for the curious and for repair: no database needs to be open.

use crate::blob::Pointer;
use crate::blob::file::check_footer;
use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::operator;
use crate::sst::block::BlockCursor;
use crate::sst::format::TableMeta;
use crate::sst::table::Table;
use crate::state::DbState;
use crate::ttl;
pub use crate::types::Kind;
use crate::types::{Commit, KeyspaceId, SegmentId, Tag};
use crate::wal::{FILE_HEADER, FileHeader, frame, number_of};
use bytes::Bytes;
use serde::Serialize;
use siltstone_storage::{Blobs, Numbered, Timestamp, Wait, decode_manifest};
use std::sync::Arc;

/// Reads the manifest `name`.
///
/// # Errors
/// Damage, a newer format, the store's.
pub fn manifest(blobs: &dyn Blobs, name: &str) -> Result<Numbered<DbState>> {
    Ok(decode_manifest(name, &blobs.get(name)?)?)
}

/// One entry of a table or one write in a log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RawEntry {
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The commit that wrote it.
    pub commit: Commit,
    /// What it does.
    pub kind: Kind,
    /// The key; of a range deletion the start.
    pub key: Bytes,
    /// The value; `None` for a deletion, and when it is in a blob file. Of a range deletion the end,
    /// empty when it has none; of an ingest the last key; of a merge see [`RawEntry::operands`].
    pub value: Option<Bytes>,
    /// When the value expires.
    pub expires: Option<Timestamp>,
    /// The blob file that has the value.
    pub in_blob: Option<BlobPlace>,
}

impl RawEntry {
    /// The operands of a merge, oldest first; `None` for other kinds and damaged bytes.
    pub fn operands(&self) -> Option<Vec<&[u8]>> {
        let list = self.value.as_deref().filter(|_| self.kind == Kind::Merge);
        operator::operands(list?)
    }

    fn new(keyspace: KeyspaceId, commit: Commit, tag: Tag, key: &[u8], stored: &[u8]) -> Self {
        let value = &stored[ttl::prefix(tag, stored)..];
        let place = || Pointer::decode(value).filter(|_| tag.points());
        let in_blob = place().map(|pointer| BlobPlace {
            file: pointer.file,
            at: pointer.at,
            bytes: pointer.len as u64,
        });
        let shown = !tag.is_delete() && in_blob.is_none();
        Self {
            keyspace,
            commit,
            kind: tag.kind(),
            key: Bytes::copy_from_slice(key),
            value: shown.then(|| Bytes::copy_from_slice(value)),
            expires: ttl::expires(tag, stored).filter(|_| tag.is_put()),
            in_blob,
        }
    }
}

/// Where in a blob file a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct BlobPlace {
    /// The file.
    pub file: SegmentId,
    /// Where it starts, in bytes.
    pub at: u64,
    /// How many bytes it has there, compressed.
    pub bytes: u64,
}

/// What a blob file says about itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct BlobFileInfo {
    /// Values in it, live or not.
    pub values: u64,
    /// Its size in bytes.
    pub bytes: u64,
}

/// Checks the footer of the blob file `name`. Its values have no keys: tables point to them.
///
/// # Errors
/// Damage, a newer format, the store's.
pub fn blob_file(blobs: &dyn Blobs, name: &str) -> Result<BlobFileInfo> {
    let id = SegmentId::of_blob(name).filter(|id| id.is_blob_file());
    let id = id.ok_or_else(|| siltstone_storage::Error::Invalid {
        name: name.to_string(),
        what: "a blob file is called blob/<16 hexadecimal digits>.blob".into(),
    })?;
    Ok(BlobFileInfo {
        values: check_footer(blobs, id)?,
        bytes: blobs.open(name)?.size(),
    })
}

/// Reads the table `name`: its properties, then every entry in order.
///
/// # Errors
/// Damage, a newer format, the store's, and what `visit` answers.
pub fn table(
    blobs: Arc<dyn Blobs>,
    name: &str,
    mut visit: impl FnMut(RawEntry) -> Result<()>,
) -> Result<TableMeta> {
    let id = SegmentId::of_blob(name).ok_or_else(|| siltstone_storage::Error::Invalid {
        name: name.to_string(),
        what: "a table is called sst/<16 hexadecimal digits>.sst".into(),
    })?;
    let cache = Arc::new(BlockCache::new(8 << 20));
    let table = Table::open_file(id, name, blobs, cache)?;
    for handle in table.data_handles()? {
        let block = Arc::new(table.read_block(handle, Wait::Allowed)?);
        let damaged = || table.damaged(handle.at);
        let mut cursor = BlockCursor::new(block);
        cursor.seek_first().ok_or_else(damaged)?;
        while cursor.valid() {
            visit(RawEntry::new(
                table.meta.keyspace,
                cursor.commit(),
                cursor.tag(),
                cursor.key(),
                cursor.value(),
            ))?;
            cursor.next().ok_or_else(damaged)?;
        }
    }
    Ok(table.meta.clone())
}

/// A record of a log file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WalRecord {
    /// Where it starts, in bytes.
    pub offset: u64,
    /// Its first commit.
    pub first: Commit,
    /// Its last commit.
    pub last: Commit,
    /// When it was written.
    pub time: Timestamp,
    /// Its writes, in order.
    pub writes: Vec<RawEntry>,
}

/// Reads the log file `name` record by record, up to the first that is not intact. Answers how many
/// bytes were intact.
///
/// # Errors
/// A foreign file, a newer format, the store's.
pub fn wal(blobs: &dyn Blobs, name: &str, mut visit: impl FnMut(WalRecord)) -> Result<u64> {
    let number = number_of(name).ok_or_else(|| siltstone_storage::Error::Invalid {
        name: name.to_string(),
        what: "a log file is called wal/<20 digits>.wal".into(),
    })?;
    let bytes = blobs.get(name)?;
    if FileHeader::decode(name, &bytes)?.is_none() {
        return Ok(0);
    }
    let mut at = FILE_HEADER;
    while let Some((record, payload, end)) = frame::decode(&bytes, number, at) {
        let mut writes = Vec::new();
        let whole = frame::for_each_op(&payload, record.first, record.last, |commit, op| {
            let entry = RawEntry::new(op.keyspace, commit, op.tag, op.key, op.value);
            writes.push(entry);
        });
        if !whole {
            return Err(Error::corrupt(
                name,
                at as u64,
                "a record that decodes to nonsense",
            ));
        }
        visit(WalRecord {
            offset: at as u64,
            first: record.first,
            last: record.last,
            time: record.time,
            writes,
        });
        at = end;
    }
    Ok(at as u64)
}

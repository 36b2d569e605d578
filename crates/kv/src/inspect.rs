//! Looks into single files, for the curious and for repair: no database needs to be open.

use crate::cache::BlockCache;
use crate::error::{Error, Result};
use crate::sst::block::BlockCursor;
use crate::sst::format::TableMeta;
use crate::sst::table::Table;
use crate::state::DbState;
pub use crate::types::Kind;
use crate::types::{Commit, KeyspaceId, SegmentId};
use crate::wal::{FILE_HEADER, FileHeader, frame, number_of};
use bytes::Bytes;
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
    /// The value; `None` for a deletion. Of a range deletion the end, empty when it has none; of a
    /// merge the operands, each with its length before it.
    pub value: Option<Bytes>,
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
            visit(RawEntry {
                keyspace: table.meta.keyspace,
                commit: cursor.commit(),
                key: Bytes::copy_from_slice(cursor.key()),
                kind: cursor.tag().kind(),
                value: shown(cursor.tag(), cursor.value()),
            })?;
            cursor.next().ok_or_else(damaged)?;
        }
    }
    Ok(table.meta.clone())
}

/// What stands for an entry's value: a put's without its time, operands and range ends as stored.
fn shown(tag: crate::types::Tag, stored: &[u8]) -> Option<Bytes> {
    let value = &stored[crate::ttl::prefix(tag, stored)..];
    (!tag.is_delete()).then(|| Bytes::copy_from_slice(value))
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
            writes.push(RawEntry {
                keyspace: op.keyspace,
                commit,
                key: Bytes::copy_from_slice(op.key),
                kind: op.tag.kind(),
                value: shown(op.tag, op.value),
            });
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

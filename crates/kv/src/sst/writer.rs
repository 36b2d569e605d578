//! Writes a table, entry by entry in order, block by block to the store.

use crate::blob::Pointer;
use crate::error::Result;
use crate::options::{Compression, KeyspaceOptions};
use crate::sst::block::BlockBuilder;
use crate::sst::filter;
use crate::sst::format::{FORMAT, Footer, TableMeta, encode_properties};
use crate::sst::frame::Sealer;
use crate::ttl;
use crate::types::{Commit, KeyspaceId, SegmentId, Tag};
use crate::varint;
use siltstone_storage::{BlobWriter, Blobs, Timestamp};

/// Size at which a part of the index is closed, in bytes.
const INDEX_PART: usize = 32 * 1024;
/// Bytes gathered before they go to the store.
const WRITE_BUFFER: usize = 256 * 1024;

/// A table being written.
#[derive(Debug)]
pub(crate) struct TableWriter {
    blob: Box<dyn BlobWriter>,
    sealer: Sealer,
    plain: Sealer,
    block: BlockBuilder,
    index: BlockBuilder,
    top: BlockBuilder,
    /// Finished index parts, written after the data.
    index_parts: Vec<(Vec<u8>, Commit, Vec<u8>)>,
    block_bytes: usize,
    filter_bits: u8,
    hashes: Vec<u64>,
    buffer: Vec<u8>,
    raw: Vec<u8>,
    written: u64,
    /// The finished block that waits for the next key, so that its index key can be short.
    open_block: Option<Handle>,
    last_key: Vec<u8>,
    last_commit: Commit,
    meta: TableMeta,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Handle {
    pub(crate) at: u64,
    pub(crate) len: usize,
}

impl Handle {
    fn encode(self) -> Vec<u8> {
        let mut out = Vec::with_capacity(12);
        varint::put(&mut out, self.at);
        varint::put(&mut out, self.len as u64);
        out
    }

    pub(crate) fn decode(bytes: &[u8]) -> Option<Self> {
        let mut at = 0;
        Some(Self {
            at: varint::get(bytes, &mut at)?,
            len: varint::get_len(bytes, &mut at)?,
        })
    }

    /// Where it ends; `None` when that is behind `limit`.
    pub(crate) fn end_within(self, limit: u64) -> Option<u64> {
        let end = self.at.checked_add(self.len as u64);
        end.filter(|end| *end <= limit)
    }
}

/// What a table is about, known before its first entry.
#[derive(Debug, Clone)]
pub(crate) struct TableSpec {
    pub(crate) segment: SegmentId,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) level: u8,
    /// No entry's commit is below it.
    pub(crate) base: Commit,
    pub(crate) times: (Timestamp, Timestamp),
    pub(crate) created: Timestamp,
    /// Deletions of ranges up to this commit were looked at.
    pub(crate) cleared: Commit,
    /// The manifest says which commit wrote everything in it.
    pub(crate) ingested: bool,
}

impl TableWriter {
    pub(crate) fn create(
        blobs: &dyn Blobs,
        spec: &TableSpec,
        options: &KeyspaceOptions,
    ) -> Result<Self> {
        Ok(Self {
            blob: blobs.create(&spec.segment.blob())?,
            sealer: Sealer::new(options.compression),
            plain: Sealer::new(Compression::None),
            block: BlockBuilder::new(spec.base),
            index: BlockBuilder::new(Commit::ZERO),
            top: BlockBuilder::new(Commit::ZERO),
            index_parts: Vec::new(),
            block_bytes: options.block_bytes as usize,
            filter_bits: options.filter_bits,
            hashes: Vec::new(),
            buffer: Vec::with_capacity(WRITE_BUFFER + options.block_bytes as usize * 2),
            raw: Vec::new(),
            written: 0,
            open_block: None,
            last_key: Vec::new(),
            last_commit: Commit::ZERO,
            meta: TableMeta {
                keyspace: spec.keyspace,
                level: spec.level,
                bytes: 0,
                index_at: 0,
                min_key: Vec::new(),
                max_key: Vec::new(),
                min_commit: Commit::MAX,
                max_commit: Commit::ZERO,
                entries: 0,
                tombstones: 0,
                keys: 0,
                raw_bytes: 0,
                blocks: 0,
                min_time: spec.times.0,
                max_time: spec.times.1,
                created: spec.created,
                expiring: 0,
                first_expiry: None,
                last_expiry: None,
                cleared: spec.cleared,
                ingested: spec.ingested,
                blobs: Vec::new(),
            },
        })
    }

    /// Adds an entry, which must sort after the one before.
    pub(crate) fn add(&mut self, key: &[u8], commit: Commit, tag: Tag, value: &[u8]) -> Result<()> {
        let new_key = self.meta.entries == 0 || self.last_key != key;
        debug_assert!(
            self.meta.entries == 0
                || (
                    self.last_key.as_slice(),
                    std::cmp::Reverse(self.last_commit)
                ) < (key, std::cmp::Reverse(commit)),
            "entries come in order"
        );
        if let Some(handle) = self.open_block.take() {
            self.add_index(handle, Some((key, new_key)))?;
        }
        if new_key {
            if self.meta.entries == 0 {
                self.meta.min_key = key.to_vec();
            }
            self.meta.keys += 1;
            if self.filter_bits > 0 {
                self.hashes.push(filter::hash(key));
            }
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        self.last_commit = commit;
        self.meta.entries += 1;
        self.meta.tombstones += u64::from(tag.is_delete());
        if tag.points()
            && let Some(pointer) = Pointer::decode(&value[ttl::prefix(tag, value)..])
        {
            let len = pointer.len as u64;
            match self
                .meta
                .blobs
                .iter_mut()
                .find(|(id, _)| *id == pointer.file)
            {
                Some((_, bytes)) => *bytes += len,
                None => self.meta.blobs.push((pointer.file, len)),
            }
        }
        if let Some(time) = ttl::expires(tag, value) {
            self.meta.expiring += 1;
            self.meta.first_expiry = Some(self.meta.first_expiry.map_or(time, |t| t.min(time)));
            self.meta.last_expiry = self.meta.last_expiry.max(Some(time));
        }
        self.meta.raw_bytes += (key.len() + value.len()) as u64;
        self.meta.min_commit = self.meta.min_commit.min(commit);
        self.meta.max_commit = self.meta.max_commit.max(commit);
        self.block.add(key, commit, tag, value);
        if self.block.bytes() >= self.block_bytes {
            self.finish_block()?;
        }
        Ok(())
    }

    /// The last entry added is hidden by a deletion of a range at `commit`, and the table must not
    /// say that nothing is.
    pub(crate) fn note_hidden(&mut self, commit: Commit) {
        let before = Commit(commit.0.saturating_sub(1));
        self.meta.cleared = self.meta.cleared.min(before);
    }

    /// Bytes written and buffered so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Closes the table and makes it durable. It has at least one entry.
    pub(crate) fn finish(mut self) -> Result<TableMeta> {
        if !self.block.is_empty() {
            self.finish_block()?;
        }
        if let Some(handle) = self.open_block.take() {
            self.add_index(handle, None)?;
        }
        self.close_index_part();
        let index_at = self.bytes();
        for (last_key, last_commit, raw) in std::mem::take(&mut self.index_parts) {
            let handle = self.write_frame(&raw, true)?;
            self.top
                .add(&last_key, last_commit, Tag::PUT, &handle.encode());
        }
        let filter_at = self.bytes();
        if self.filter_bits > 0 {
            let filter = filter::build(&self.hashes, self.filter_bits);
            for section in filter.sections() {
                self.write_frame(&section, false)?;
            }
            self.write_frame(&filter.head(), false)?;
        }
        let top_at = self.bytes();
        let mut raw = Vec::new();
        self.top.finish(&mut raw);
        self.write_frame(&raw, true)?;
        let properties_at = self.bytes();
        self.meta.max_key = std::mem::take(&mut self.last_key);
        self.meta.index_at = index_at;
        let properties = encode_properties(&self.meta);
        self.write_frame(&properties, false)?;
        Footer {
            index_at,
            filter_at,
            top_at,
            properties_at,
            format: FORMAT,
        }
        .encode(&mut self.buffer);
        self.meta.bytes = self.bytes();
        self.write_out()?;
        self.blob.finish()?;
        Ok(self.meta)
    }

    fn finish_block(&mut self) -> Result<()> {
        let mut raw = std::mem::take(&mut self.raw);
        raw.clear();
        self.block.finish(&mut raw);
        let handle = self.write_frame(&raw, true)?;
        self.raw = raw;
        self.meta.blocks += 1;
        self.open_block = Some(handle);
        Ok(())
    }

    fn write_frame(&mut self, raw: &[u8], compress: bool) -> Result<Handle> {
        let at = self.bytes();
        let before = self.buffer.len();
        let sealer = if compress {
            &mut self.sealer
        } else {
            &mut self.plain
        };
        sealer.seal(raw, &mut self.buffer);
        let len = self.buffer.len() - before;
        if self.buffer.len() >= WRITE_BUFFER {
            self.write_out()?;
        }
        Ok(Handle { at, len })
    }

    fn write_out(&mut self) -> Result<()> {
        self.blob.write(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Indexes a finished block under a key that is not below its last entry and below what follows.
    fn add_index(&mut self, handle: Handle, next: Option<(&[u8], bool)>) -> Result<()> {
        let short = match next {
            Some((key, true)) => separator(&self.last_key, key),
            _ => None,
        };
        match short {
            Some(key) => self
                .index
                .add(&key, Commit::ZERO, Tag::PUT, &handle.encode()),
            None => {
                self.index
                    .add(&self.last_key, self.last_commit, Tag::PUT, &handle.encode());
            }
        }
        if self.index.bytes() >= INDEX_PART {
            self.close_index_part();
        }
        Ok(())
    }

    fn close_index_part(&mut self) {
        if self.index.is_empty() {
            return;
        }
        // The part covers everything up to its last key, whatever commit.
        let last_key = self.index.last_key().to_vec();
        let commit = if last_key == self.last_key {
            self.last_commit
        } else {
            Commit::ZERO
        };
        let mut raw = Vec::new();
        self.index.finish(&mut raw);
        self.index_parts.push((last_key, commit, raw));
    }
}

/// A key `s` with `last < s < next`, shorter than `last`, where there is one.
fn separator(last: &[u8], next: &[u8]) -> Option<Vec<u8>> {
    let common = last.iter().zip(next).take_while(|(a, b)| a == b).count();
    let (own, following) = (*last.get(common)?, *next.get(common)?);
    if common + 1 < last.len() && own + 1 < following {
        let mut short = last[..=common].to_vec();
        short[common] = own + 1;
        return Some(short);
    }
    // The following key goes on after the byte where they part: that much of it sorts between.
    if common + 1 < last.len() && common + 1 < next.len() {
        return Some(next[..=common].to_vec());
    }
    None
}

#[cfg(test)]
mod tests {
    use super::separator;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_separator_lies_between(a in prop::collection::vec(0u8..4, 0..6), b in prop::collection::vec(0u8..4, 0..6)) {
            prop_assume!(a < b);
            if let Some(s) = separator(&a, &b) {
                prop_assert!(a < s && s < b, "{:?} < {:?} < {:?}", a, s, b);
                prop_assert!(s.len() <= a.len());
            }
        }
    }
}

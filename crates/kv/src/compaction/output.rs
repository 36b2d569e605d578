//! The tables that a flush or a compaction writes: started when the first entry comes, split at a
//! size but never inside a key, deleted when anything fails.

use crate::blob::file::BlobFileWriter;
use crate::blob::{LARGE_VALUE, Pointer};
use crate::compaction::versions::{Kept, Sink};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::options::KeyspaceOptions;
use crate::shared::Shared;
use crate::sst::format::TableMeta;
use crate::sst::writer::{TableSpec, TableWriter};
use crate::ttl;
use crate::types::{Commit, KeyspaceId, SegmentId, Tag};
use siltstone_storage::{Timestamp, Wait};
use std::collections::BTreeSet;

/// A flush keeps values apart without being asked to where so many bytes of them are large: every flush
/// that does so leaves a file, and small ones are not merged.
const WORTH_A_FILE: usize = 4 << 20;
/// A blob file is closed at this size, in bytes.
const BLOB_FILE_BYTES: u64 = 64 << 20;

/// Who writes tables: the writer of the database, or a process that works for it.
pub(crate) trait Maker {
    fn shared(&self) -> &Shared;

    /// A name that was never used, for a table or a blob file.
    fn new_name(&self, blob_file: bool) -> Result<SegmentId>;

    /// Deletes what was written and is not wanted.
    fn discard(&self, segments: Vec<SegmentId>);

    /// Called now and then; an error ends the work.
    fn go_on(&self) -> Result<()> {
        Ok(())
    }
}

impl Maker for Core {
    fn shared(&self) -> &Shared {
        &self.shared
    }

    fn new_name(&self, blob_file: bool) -> Result<SegmentId> {
        Ok(match blob_file {
            true => self.new_blob_file(),
            false => self.new_segment(),
        })
    }

    fn discard(&self, segments: Vec<SegmentId>) {
        Core::discard(self, segments);
    }
}

/// What the tables are to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) level: u8,
    /// No entry's commit is below it.
    pub(crate) base: Commit,
    pub(crate) times: (Timestamp, Timestamp),
    pub(crate) created: Timestamp,
    pub(crate) table_bytes: u64,
    /// Deletions of ranges up to this commit are looked at.
    pub(crate) cleared: Commit,
}

/// Tables being written.
pub(crate) struct Outputs<'a> {
    maker: &'a dyn Maker,
    keyspace: KeyspaceId,
    options: &'a KeyspaceOptions,
    output: Output,
    open: Option<(SegmentId, TableWriter)>,
    last_key: Vec<u8>,
    done: Vec<(SegmentId, TableMeta)>,
    started: Vec<SegmentId>,
    blob_file: Option<BlobFileWriter>,
    full_blob_files: Vec<BlobFileWriter>,
    /// Blob files whose values are to be copied elsewhere.
    sparse: BTreeSet<SegmentId>,
    /// Values of this size and more that stand beside their keys are moved apart, in bytes.
    apart_from: usize,
    stored: Vec<u8>,
}

impl<'a> Outputs<'a> {
    pub(crate) fn new(
        maker: &'a dyn Maker,
        keyspace: KeyspaceId,
        options: &'a KeyspaceOptions,
        output: Output,
    ) -> Self {
        Self {
            maker,
            keyspace,
            options,
            output,
            open: None,
            last_key: Vec::new(),
            done: Vec::new(),
            started: Vec::new(),
            blob_file: None,
            full_blob_files: Vec::new(),
            sparse: BTreeSet::new(),
            apart_from: options
                .blob_threshold
                .map_or(usize::MAX, |least| least as usize),
            stored: Vec::new(),
        }
    }

    /// What is written was in no table before, and has so many bytes in large values.
    pub(crate) fn of_flush(mut self, large_bytes: usize) -> Self {
        if self.apart_unasked() && large_bytes >= WORTH_A_FILE {
            self.apart_from = LARGE_VALUE;
        }
        self
    }

    /// Whether large values are kept apart although nobody said so. Not where there are merges: they
    /// are not worked out on a value in a blob file.
    fn apart_unasked(&self) -> bool {
        let KeyspaceOptions {
            blob_threshold,
            merge_operator,
            ..
        } = self.options;
        let is_folder = self.maker.shared().env.blobs.can_append();
        blob_threshold.is_none() && merge_operator.is_none() && is_folder
    }

    /// Copies values out of these blob files.
    pub(crate) fn clearing_out(mut self, sparse: BTreeSet<SegmentId>) -> Self {
        self.sparse = sparse;
        self
    }

    /// Closes the last table. From now on the caller answers for the blobs.
    pub(crate) fn finish(mut self) -> Result<Vec<(SegmentId, TableMeta)>> {
        self.close()?;
        let files = std::mem::take(&mut self.full_blob_files);
        for file in files.into_iter().chain(self.blob_file.take()) {
            let (_, like) = self.done.first().expect("a value stands in some table");
            let id = file.id();
            let meta = file.finish(like)?;
            self.done.push((id, meta));
        }
        self.started.clear();
        Ok(std::mem::take(&mut self.done))
    }

    /// Puts a value where it belongs: into a blob file or beside its key. Answers the tag of what is
    /// then in `stored`, or `None` when the entry stays as it is.
    fn place(&mut self, kept: &Kept<'_>) -> Result<Option<Tag>> {
        if !kept.tag.is_put() {
            return Ok(None);
        }
        let (prefix, value) = kept.value.split_at(ttl::prefix(kept.tag, kept.value));
        let fetched;
        let value = match kept.tag.points() {
            false => value,
            true => {
                let pointer = Pointer::decode(value).ok_or_else(|| {
                    Error::corrupt("sst", 0, "a pointer that decodes to nonsense")
                })?;
                if !self.sparse.contains(&pointer.file) {
                    return Ok(None);
                }
                let shared = self.maker.shared();
                let blobs = &*shared.env.blobs;
                fetched = shared.blob_files.read(blobs, pointer, Wait::Allowed)?;
                &fetched[..]
            }
        };
        let least = match self.options.blob_threshold {
            // What a flush moved apart stays so.
            None if kept.tag.points() && self.apart_unasked() => LARGE_VALUE,
            _ => self.apart_from,
        };
        let apart = value.len() >= least;
        if !apart && !kept.tag.points() {
            return Ok(None);
        }
        self.stored.clear();
        self.stored.extend_from_slice(prefix);
        match apart {
            false => self.stored.extend_from_slice(value),
            true => {
                let pointer = self.blob_file()?.add(value)?;
                pointer.encode(&mut self.stored);
            }
        }
        Ok(Some(kept.tag.pointing(apart)))
    }

    fn blob_file(&mut self) -> Result<&mut BlobFileWriter> {
        let file = match self.blob_file.take() {
            Some(file) if file.bytes() < BLOB_FILE_BYTES => file,
            full => {
                self.full_blob_files.extend(full);
                let id = self.maker.new_name(true)?;
                self.started.push(id);
                let blobs = &*self.maker.shared().env.blobs;
                BlobFileWriter::create(blobs, id, self.options.compression)?
            }
        };
        Ok(self.blob_file.insert(file))
    }

    fn close(&mut self) -> Result<()> {
        if let Some((id, writer)) = self.open.take() {
            self.done.push((id, writer.finish()?));
        }
        Ok(())
    }

    fn writer(&mut self, key: &[u8]) -> Result<&mut TableWriter> {
        let full = |writer: &TableWriter| writer.bytes() >= self.output.table_bytes;
        if self.last_key != key && self.open.as_ref().is_some_and(|(_, writer)| full(writer)) {
            self.close()?;
        }
        let (_, writer) = match self.open.take() {
            Some(open) => self.open.insert(open),
            None => {
                let spec = TableSpec {
                    segment: self.maker.new_name(false)?,
                    keyspace: self.keyspace,
                    level: self.output.level,
                    base: self.output.base,
                    times: self.output.times,
                    created: self.output.created,
                    cleared: self.output.cleared,
                    ingested: false,
                };
                self.started.push(spec.segment);
                let blobs = &*self.maker.shared().env.blobs;
                let writer = TableWriter::create(blobs, &spec, self.options)?;
                self.open.insert((spec.segment, writer))
            }
        };
        Ok(writer)
    }
}

impl Sink for Outputs<'_> {
    fn keep(&mut self, key: &[u8], kept: Kept<'_>) -> Result<()> {
        let placed = self.place(&kept)?;
        let stored = std::mem::take(&mut self.stored);
        let writer = self.writer(key)?;
        match placed {
            Some(tag) => writer.add(key, kept.commit, tag, &stored)?,
            None => writer.add(key, kept.commit, kept.tag, kept.value)?,
        }
        if let Some(commit) = kept.hidden_at {
            writer.note_hidden(commit);
        }
        self.stored = stored;
        if self.output.table_bytes < u64::MAX && self.last_key != key {
            self.last_key.clear();
            self.last_key.extend_from_slice(key);
        }
        Ok(())
    }
}

impl Drop for Outputs<'_> {
    fn drop(&mut self) {
        self.open = None;
        self.blob_file = None;
        self.full_blob_files.clear();
        let started = std::mem::take(&mut self.started);
        if !started.is_empty() {
            self.maker.discard(started);
        }
    }
}

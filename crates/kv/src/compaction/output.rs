//! The tables that a flush or a compaction writes: started when the first entry comes, split at a
//! size but never inside a key, deleted when anything fails.

use crate::compaction::versions::{Kept, Sink};
use crate::core::Core;
use crate::error::Result;
use crate::options::KeyspaceOptions;
use crate::sst::format::TableMeta;
use crate::sst::writer::{TableSpec, TableWriter};
use crate::types::{Commit, SegmentId};
use crate::view::KeyspaceCore;
use siltstone_storage::Timestamp;

/// What the tables are to be like.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Output {
    pub(crate) level: u8,
    /// No entry's commit is below it.
    pub(crate) base: Commit,
    pub(crate) times: (Timestamp, Timestamp),
    pub(crate) table_bytes: u64,
    /// Deletions of ranges up to this commit are looked at.
    pub(crate) cleared: Commit,
}

/// Tables being written.
pub(crate) struct Outputs<'a> {
    engine: &'a Core,
    keyspace: &'a KeyspaceCore,
    options: &'a KeyspaceOptions,
    output: Output,
    open: Option<(SegmentId, TableWriter)>,
    last_key: Vec<u8>,
    done: Vec<(SegmentId, TableMeta)>,
    started: Vec<SegmentId>,
}

impl<'a> Outputs<'a> {
    pub(crate) fn new(
        engine: &'a Core,
        keyspace: &'a KeyspaceCore,
        options: &'a KeyspaceOptions,
        output: Output,
    ) -> Self {
        Self {
            engine,
            keyspace,
            options,
            output,
            open: None,
            last_key: Vec::new(),
            done: Vec::new(),
            started: Vec::new(),
        }
    }

    /// Closes the last table. From now on the caller answers for the blobs.
    pub(crate) fn finish(mut self) -> Result<Vec<(SegmentId, TableMeta)>> {
        self.close()?;
        self.started.clear();
        Ok(std::mem::take(&mut self.done))
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
                    segment: self.engine.new_segment(),
                    keyspace: self.keyspace.id,
                    level: self.output.level,
                    base: self.output.base,
                    times: self.output.times,
                    created: self.engine.shared.env.clock.now(),
                    cleared: self.output.cleared,
                    ingested: false,
                };
                self.started.push(spec.segment);
                let blobs = &*self.engine.shared.env.blobs;
                let writer = TableWriter::create(blobs, &spec, self.options)?;
                self.open.insert((spec.segment, writer))
            }
        };
        Ok(writer)
    }
}

impl Sink for Outputs<'_> {
    fn keep(&mut self, key: &[u8], kept: Kept<'_>) -> Result<()> {
        let writer = self.writer(key)?;
        writer.add(key, kept.commit, kept.tag, kept.value)?;
        if let Some(commit) = kept.hidden_at {
            writer.note_hidden(commit);
        }
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
        let started = std::mem::take(&mut self.started);
        if !started.is_empty() {
            self.engine.discard(started);
        }
    }
}

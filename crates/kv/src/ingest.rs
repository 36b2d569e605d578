//! Bulk ingest: a sorted stream goes straight into tables, past log and memtable, and becomes one
//! commit.
//!
//! The tables are written before anybody knows which commit they will be; the manifest says it, for
//! all their entries at once. The commit gets its number in the pipeline like any other. Its record
//! in the log names the range of keys; once that is durable the leader lists the tables in the
//! manifest, and then it is visible. A crash before the listing leaves a commit that wrote nothing
//! and was not acknowledged, and tables that the next writer sweeps.

use crate::batch::Footprint;
use crate::core::Core;
use crate::error::{Error, Result, show_key};
use crate::keyspace::Keyspace;
use crate::options::Durability;
use crate::pipeline::Write;
use crate::read::check_key;
use crate::sst::format::TableMeta;
use crate::sst::writer::{TableSpec, TableWriter};
use crate::stats::add;
use crate::types::{Commit, KeyspaceId, SegmentId, Tag};
use crate::view::KeyspaceCore;
use crate::wal::frame::{self, Op};
use parking_lot::Mutex;
use serde::Serialize;
use siltstone_storage::Segment;
use std::sync::Arc;
use std::time::Duration;

/// The deepest level that tables are put into.
const DEEPEST: u8 = 7;

/// What an ingest did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct IngestStats {
    /// The commit it became.
    pub commit: Commit,
    /// Keys.
    pub entries: u64,
    /// Tables written.
    pub tables: Vec<SegmentId>,
    /// Bytes written.
    pub bytes: u64,
    /// The level they went to.
    pub level: u8,
    /// From start to end.
    pub latency: Duration,
}

/// A sorted stream on its way into tables. Dropped unfinished, it never was.
#[derive(Debug)]
pub struct Ingest {
    keyspace: Keyspace,
    open: Option<(SegmentId, TableWriter)>,
    done: Vec<(SegmentId, TableMeta)>,
    started: Vec<SegmentId>,
    first_key: Vec<u8>,
    last_key: Vec<u8>,
    entries: u64,
    user_bytes: u64,
    began: Duration,
}

/// Tables that wait for their commit, and what came of listing them.
#[derive(Debug)]
pub(crate) struct Listing {
    keyspace: KeyspaceId,
    tables: Vec<(SegmentId, TableMeta)>,
    /// The level, or why they are not listed.
    result: Mutex<Option<Result<u8>>>,
}

impl Keyspace {
    /// Starts a bulk ingest: keys come in rising order and become one commit. Nothing of it is seen
    /// before [`Ingest::finish`].
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::Closed`].
    pub fn ingest(&self) -> Result<Ingest> {
        let core = self.database().core();
        let shared = &core.shared;
        shared.check_writable()?;
        core.prove_charge()?;
        Ok(Ingest {
            began: shared.env.clock.elapsed(),
            keyspace: self.clone(),
            open: None,
            done: Vec::new(),
            started: Vec::new(),
            first_key: Vec::new(),
            last_key: Vec::new(),
            entries: 0,
            user_bytes: 0,
        })
    }
}

impl Ingest {
    /// Adds a key, which must sort after the one before.
    ///
    /// # Errors
    /// [`Error::IngestOrder`]; a limit's; the store's. After an error of the store nothing more can
    /// be added.
    pub fn put(&mut self, key: &[u8], value: &[u8]) -> Result<()> {
        let core = self.keyspace.database().core().clone();
        let options = &core.shared.options;
        check_key(key, options)?;
        crate::db::check_value(key, value.len(), options)?;
        if self.entries > 0 && key <= self.last_key.as_slice() {
            return Err(Error::IngestOrder {
                key: show_key(key),
                last: show_key(&self.last_key),
            });
        }
        let full = |open: &(SegmentId, TableWriter)| open.1.bytes() >= options.table_bytes;
        if self.open.as_ref().is_some_and(full) {
            self.close_table()?;
        }
        let mut open = match self.open.take() {
            Some(open) => open,
            None => self.start_table(&core)?,
        };
        open.1.add(key, Commit::ZERO, Tag::PUT, value)?;
        self.open = Some(open);
        if self.entries == 0 {
            self.first_key = key.to_vec();
        }
        self.last_key.clear();
        self.last_key.extend_from_slice(key);
        self.entries += 1;
        self.user_bytes += (key.len() + value.len()) as u64;
        Ok(())
    }

    /// Keys so far.
    pub fn len(&self) -> u64 {
        self.entries
    }

    /// True when no key was added yet.
    pub fn is_empty(&self) -> bool {
        self.entries == 0
    }

    /// Makes it one durable commit. Without keys nothing happens and no number is used.
    ///
    /// # Errors
    /// The store's, [`Error::Stopped`], [`Error::Closed`]; then nothing of it is there.
    pub fn finish(mut self) -> Result<IngestStats> {
        let core = self.keyspace.database().core().clone();
        self.close_table()?;
        let mut stats = IngestStats {
            commit: core.shared.visible(),
            entries: self.entries,
            tables: self.done.iter().map(|(id, _)| *id).collect(),
            bytes: self.done.iter().map(|(_, meta)| meta.bytes).sum(),
            ..IngestStats::default()
        };
        if self.entries > 0 {
            let listing = Arc::new(Listing {
                keyspace: self.keyspace.core().id,
                tables: std::mem::take(&mut self.done),
                result: Mutex::new(None),
            });
            let listed = self.commit(&core, &listing).and_then(|commit| {
                stats.commit = commit;
                let listed = listing.result.lock().take();
                listed.unwrap_or(Err(Error::Closed))
            });
            if listed.is_ok() || core.shared.is_stopped() {
                // Live by now, or perhaps: then the next writer judges.
                self.started.clear();
            }
            stats.level = listed?;
        }
        stats.latency = core.shared.env.clock.elapsed().saturating_sub(self.began);
        Ok(stats)
    }

    fn commit(&mut self, core: &Core, listing: &Arc<Listing>) -> Result<Commit> {
        let op = Op {
            keyspace: listing.keyspace,
            tag: Tag::INGESTED,
            key: &self.first_key,
            value: &self.last_key,
        };
        core.write(&mut Write {
            encode: &mut |out| frame::put_op(out, &op),
            ops: 1,
            footprint: &Footprint::default(),
            user_bytes: self.user_bytes,
            durability: Durability::Durable,
            check: None,
            listing: Some(listing.clone()),
        })
    }

    fn start_table(&mut self, core: &Core) -> Result<(SegmentId, TableWriter)> {
        let now = core.shared.env.clock.now();
        let view = self.keyspace.core().view.load();
        let spec = TableSpec {
            segment: core.new_segment(),
            keyspace: self.keyspace.core().id,
            level: 0,
            base: Commit::ZERO,
            times: (now, now),
            created: now,
            cleared: Commit::ZERO,
            ingested: true,
        };
        self.started.push(spec.segment);
        let writer = TableWriter::create(&*core.shared.env.blobs, &spec, &view.options)?;
        Ok((spec.segment, writer))
    }

    fn close_table(&mut self) -> Result<()> {
        if let Some((id, writer)) = self.open.take() {
            self.done.push((id, writer.finish()?));
        }
        Ok(())
    }
}

impl Drop for Ingest {
    fn drop(&mut self) {
        self.open = None;
        let started = std::mem::take(&mut self.started);
        if !started.is_empty() {
            self.keyspace.database().core().discard(started);
        }
    }
}

impl Core {
    /// Lists the tables of an ingest at its commit. Its record is durable, and nobody sees the commit
    /// yet.
    pub(crate) fn list_ingested(&self, listing: &Listing, commit: Commit) {
        let keyspace = self.keyspaces.read().get(&listing.keyspace).cloned();
        let result = match keyspace {
            Some(keyspace) => self.try_list(listing, commit, &keyspace),
            None => Err(Error::UnknownKeyspace {
                name: "dropped meanwhile".into(),
                known: String::new(),
            }),
        };
        *listing.result.lock() = Some(result);
    }

    fn try_list(&self, listing: &Listing, commit: Commit, core: &KeyspaceCore) -> Result<u8> {
        let mut level = 0;
        self.edit(|state| {
            if state.keyspace(listing.keyspace).is_none() {
                return Err(Error::Cancelled { what: "an ingest" });
            }
            let meets = |level: u8| {
                state.tables().any(|segment| {
                    segment.meta.keyspace == listing.keyspace
                        && segment.meta.level == level
                        && listing
                            .tables
                            .iter()
                            .any(|(_, meta)| segment.meta.overlaps(&meta.min_key, &meta.max_key))
                })
            };
            // As deep as the keyspace goes, so that what is sorted already is not merged down.
            let deepest = state
                .tables()
                .filter(|segment| segment.meta.keyspace == listing.keyspace)
                .map(|segment| segment.meta.level)
                .max()
                .unwrap_or(1)
                .clamp(1, DEEPEST);
            level = (1..=deepest)
                .rev()
                .find(|level| !meets(*level))
                .unwrap_or(0);
            for (id, meta) in &listing.tables {
                let meta = TableMeta {
                    level,
                    min_commit: commit,
                    max_commit: commit,
                    ..meta.clone()
                };
                let segment = Segment { id: *id, meta };
                state
                    .tables
                    .append(segment)
                    .map_err(crate::compaction::lost)?;
            }
            state.head = state.head.max(commit);
            Ok(())
        })?;
        let bytes = listing.tables.iter().map(|(_, meta)| meta.bytes).sum();
        add(&self.shared.counters.flush_bytes, bytes);
        self.install(core, None);
        self.signals.compact();
        Ok(level)
    }
}

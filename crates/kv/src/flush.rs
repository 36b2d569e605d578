//! Flush: sealed memtables become tables of level 0, then the log they stood in may go. Small ones of
//! many keyspaces go together, under one edit of the manifest.

use crate::compaction::output::{Output, Outputs};
use crate::compaction::outside::Others;
use crate::compaction::run::{Drops, entries_of};
use crate::compaction::versions::{Rules, VersionFilter};
use crate::core::Core;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::memtable::{MemCursor, Memtable};
use crate::range_delete::{RangeDelete, RangeTree};
use crate::retention::Retention;
use crate::sst::format::TableMeta;
use crate::state::DbState;
use crate::stats::{FlushStats, add};
use crate::types::{Commit, KeyspaceId, SegmentId};
use crate::view::KeyspaceCore;
use crate::wal::{self, fences};
use siltstone_storage::{BlobMeta, ReaderPins, Segment, Timestamp};
use std::collections::BTreeMap;
use std::ops::Bound::{Excluded, Unbounded};
use std::sync::Arc;

/// Where the log starts and how far it is durable, seen in one moment.
#[derive(Debug, Clone, Copy)]
struct LogEnds {
    /// The first file that is needed.
    floor: u64,
    /// No later commit may be called the head: the log must go on behind it.
    durable: Commit,
}

/// What happened to the keyspace while its memtable was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Overtaken {
    ByDrop,
    ByPolicy,
}

/// The oldest sealed memtable of a keyspace.
#[derive(Debug, Clone)]
struct Sealed {
    core: Arc<KeyspaceCore>,
    memtable: Arc<Memtable>,
}

impl Sealed {
    /// True until it is flushed, or its keyspace is dropped.
    fn waits(&self) -> bool {
        let view = self.core.view.load();
        let mut sealed = view.sealed.iter();
        sealed.any(|memtable| Arc::ptr_eq(memtable, &self.memtable))
    }
}

/// A memtable whose tables are written and that no manifest lists yet.
#[derive(Debug)]
struct Written {
    sealed: Sealed,
    tables: Vec<(SegmentId, TableMeta)>,
    ranges: Vec<RangeDelete>,
    drops: Drops,
    dropped: u64,
    /// What was kept, and when the leases of checkpoints were looked at for it.
    retention: Retention,
    now: Timestamp,
}

impl Written {
    fn names(&self) -> Vec<SegmentId> {
        self.tables.iter().map(|(id, _)| *id).collect()
    }

    fn bytes(&self) -> u64 {
        self.tables.iter().map(|(_, meta)| meta.bytes).sum()
    }

    /// Whether its tables may still be listed.
    fn overtaken(&self, state: &DbState) -> Option<Overtaken> {
        match state.keyspace(self.sealed.core.id) {
            None => Some(Overtaken::ByDrop),
            Some(keyspace) if !self.drops.fits(keyspace) => Some(Overtaken::ByPolicy),
            Some(_) => None,
        }
    }

    /// Lists its tables.
    fn list(&self, state: &mut DbState) -> Result<()> {
        let id = self.sealed.core.id;
        if let Some(keyspace) = state.keyspace_mut(id) {
            keyspace.flushed = keyspace.flushed.max(self.sealed.memtable.max_commit());
            self.drops.note(keyspace);
            keyspace.range_deletes.extend(self.ranges.iter().cloned());
        }
        for (id, meta) in &self.tables {
            let segment = Segment {
                id: *id,
                meta: meta.clone(),
            };
            state
                .tables
                .append(segment)
                .map_err(crate::compaction::lost)?;
        }
        state.forget_range_deletes(id);
        state.forget_lapsed(self.now, |commit| self.retention.keeps(commit));
        Ok(())
    }
}

impl Core {
    /// Seals every memtable that holds something and flushes until none waits.
    pub(crate) fn flush_all(&self) -> Result<FlushStats> {
        let clock = &self.shared.env.clock;
        let started = clock.elapsed();
        self.shared.check_writable()?;
        let cores: Vec<_> = self.keyspaces.read().values().cloned().collect();
        {
            let mut log = self.log.lock();
            if cores
                .iter()
                .any(|core| core.view.load().active.wal().is_some())
            {
                self.rotate_log(&mut log, clock.now())?;
            }
            self.seal_all(&cores, log.number());
        }
        let mut sealed: Vec<Sealed> = Vec::new();
        for core in &cores {
            let memtables = core.view.load().sealed.clone();
            let core = core.clone();
            sealed.extend(memtables.into_iter().map(|memtable| Sealed {
                core: core.clone(),
                memtable,
            }));
        }
        let mut total = FlushStats::default();
        // Not until nothing is sealed: writers may go on for ever.
        while sealed.iter().any(Sealed::waits) {
            let Some(stats) = self.flush_group()? else {
                break;
            };
            total.tables.extend(stats.tables);
            total.entries += stats.entries;
            total.dropped += stats.dropped;
            total.bytes += stats.bytes;
        }
        total.latency = clock.elapsed().saturating_sub(started);
        Ok(total)
    }

    /// Flushes what is sealed, over all keyspaces. True when there was something.
    pub(crate) fn flush_sealed(&self) -> Result<bool> {
        let mut any = false;
        while self.flush_group()?.is_some() {
            any = true;
        }
        Ok(any)
    }

    /// The oldest sealed memtables of some keyspaces, with no more in them together than one may have
    /// unless it is one alone. The keyspaces take turns, from the one behind `last` on.
    fn next_group(&self, last: KeyspaceId) -> Vec<Sealed> {
        let limit = self.shared.options.memtable_limit();
        let mut group: Vec<Sealed> = Vec::new();
        let mut bytes = 0;
        let keyspaces = self.keyspaces.read();
        let behind = keyspaces.range((Excluded(last), Unbounded));
        for (_, core) in behind.chain(keyspaces.range(..=last)) {
            let Some(memtable) = core.view.load().sealed.last().cloned() else {
                continue;
            };
            bytes += memtable.bytes();
            if bytes > limit && !group.is_empty() {
                break;
            }
            let core = core.clone();
            group.push(Sealed { core, memtable });
        }
        group
    }

    /// Flushes the next group of memtables; `None` when none waits.
    fn flush_group(&self) -> Result<Option<FlushStats>> {
        // One at a time.
        let mut last = self.flushing.lock();
        let group = self.next_group(*last);
        let Some(newest) = group.last() else {
            return Ok(None);
        };
        *last = newest.core.id;
        let clock = &self.shared.env.clock;
        let started = clock.elapsed();
        let log = self.ready_to_flush(&group)?;
        let flushed = group.len() as u64;
        let mut stats = self.write_group(&group, log)?;
        for sealed in &group {
            self.install_quietly(&sealed.core, Some(&sealed.memtable));
        }
        self.note_room();
        let floor = self.manifest.current().state.wal_floor;
        self.delete_log_below(floor);
        stats.latency = clock.elapsed().saturating_sub(started);
        add(&self.shared.counters.flushes, flushed);
        add(&self.shared.counters.flush_bytes, stats.bytes);
        add(&self.shared.counters.dropped_versions, stats.dropped);
        metrics::counter!("siltstone_flushes_total").increment(flushed);
        metrics::counter!("siltstone_flush_bytes_total").increment(stats.bytes);
        metrics::histogram!("siltstone_flush_seconds").record(stats.latency.as_secs_f64());
        tracing::debug!(
            memtables = flushed,
            entries = stats.entries,
            bytes = stats.bytes,
            "flushed"
        );
        self.signals.compact();
        Ok(Some(stats))
    }

    /// Waits until everything in the memtables is visible, and in the log as far as it must be.
    fn ready_to_flush(&self, group: &[Sealed]) -> Result<LogEnds> {
        self.prove_charge()?;
        for sealed in group {
            self.await_writes(&sealed.memtable)?;
        }
        // Full log files are made durable here, where no writer waits for it.
        self.log_files
            .sync_full()
            .inspect_err(|error| self.shared.stop(error))?;
        let log = self.log_without(group);
        let newest = group.iter().map(|sealed| sealed.memtable.max_commit());
        if self.bucket || newest.max() > Some(log.durable) {
            // What a table holds must not be ahead of the log: writes of its own and of other
            // keyspaces before it may still be in the log's buffer, or on their way.
            self.sync()?;
        }
        Ok(log)
    }

    /// Waits until every write that has room in the memtable is in it and visible.
    fn await_writes(&self, memtable: &Memtable) -> Result<()> {
        while memtable.reserved() > 0 || memtable.max_commit() > self.shared.visible() {
            self.shared.check_writable()?;
            std::thread::yield_now();
        }
        Ok(())
    }

    /// Writes the memtables of a group and lists their tables, all in one edit.
    fn write_group(&self, group: &[Sealed], log: LogEnds) -> Result<FlushStats> {
        let mut written: Vec<Written> = Vec::new();
        for sealed in group {
            match self.write_memtable(sealed) {
                Ok(tables) => written.push(tables),
                Err(error) => {
                    self.discard(written.iter().flat_map(Written::names));
                    return Err(error);
                }
            }
        }
        while !written.is_empty() {
            let Some((at, how)) = self.list_group(&written, log)? else {
                break;
            };
            let overtaken = written.swap_remove(at);
            self.discard(overtaken.names());
            if how == Overtaken::ByPolicy {
                match self.write_memtable(&overtaken.sealed) {
                    Ok(tables) => written.push(tables),
                    Err(error) => {
                        self.discard(written.iter().flat_map(Written::names));
                        return Err(error);
                    }
                }
            }
        }
        let mut stats = FlushStats::default();
        for made in &written {
            stats.entries += entries_of(&made.tables);
            stats.bytes += made.bytes();
            stats.dropped += made.dropped;
            let names = made.names().into_iter();
            stats.tables.extend(names.filter(|id| !id.is_blob_file()));
        }
        Ok(stats)
    }

    /// Lists all tables of a group, or none and says which memtable was overtaken.
    fn list_group(&self, group: &[Written], log: LogEnds) -> Result<Option<(usize, Overtaken)>> {
        let times = self.times.lock().clone();
        let mut overtaken = None;
        let edited = self.edit(|state| {
            let overtaken_at = |(at, made): (usize, &Written)| Some((at, made.overtaken(state)?));
            overtaken = group.iter().enumerate().find_map(overtaken_at);
            if overtaken.is_some() {
                return Err(Error::Cancelled { what: "a flush" });
            }
            for made in group {
                made.list(state)?;
            }
            state.head = state.head.max(log.durable);
            state.wal_floor = state.wal_floor.max(log.floor);
            state.times = times.clone();
            Ok(())
        });
        match (edited, overtaken) {
            (Ok(_), _) => Ok(None),
            (Err(_), Some(overtaken)) => Ok(Some(overtaken)),
            (Err(error), None) => {
                self.discard_unless_unknown(group.iter().flat_map(Written::names).collect());
                Err(error)
            }
        }
    }

    /// Writes the tables of one memtable.
    fn write_memtable(&self, sealed: &Sealed) -> Result<Written> {
        let Sealed { core, memtable } = sealed;
        memtable.complete();
        let view = core.view.load_full();
        let (retention, now) = self.retention(&view);
        let times = self.times.lock().clone();
        let own_ranges = memtable.ranges().all();
        let all_ranges = view.ranges.iter().chain(&own_ranges).cloned();
        let ranges = RangeTree::new(all_ranges.collect());
        let operator = self.operator_of(&view.options);
        let rules = Rules {
            retention: &retention,
            history: &view.options.history,
            limited: view.limited,
            aged: Commit::ZERO,
            tombstones_aged: self.tombstones_aged(&view.options.history),
            ranges: &ranges,
            operator: operator.as_deref(),
            now: now.max(view.expired),
            hidden: &view.hidden,
        };
        let newer = view
            .memtables()
            .filter(|other| !Arc::ptr_eq(other, memtable));
        let outside = Others {
            tables: view.tables().cloned().collect(),
            memtables: newer.cloned().collect(),
            in_memory_from: Commit::MAX,
        };
        let mut filter = VersionFilter::new(rules, outside);
        let spec = Output {
            level: 0,
            base: memtable.min_commit(),
            times: (
                times.time_before(memtable.min_commit()),
                times.time_of(memtable.max_commit()).unwrap_or_default(),
            ),
            created: self.shared.env.clock.now(),
            table_bytes: u64::MAX,
            cleared: ranges.newest_of_all(),
        };
        let mut outputs =
            Outputs::new(self, core.id, &view.options, spec).of_flush(memtable.large_bytes());
        let mut cursor = MemCursor::new(memtable.clone());
        cursor.seek_first()?;
        while cursor.valid() {
            filter.push(
                cursor.key(),
                cursor.commit(),
                cursor.tag(),
                cursor.value(),
                &mut outputs,
            )?;
            cursor.next()?;
        }
        filter.finish(&mut outputs)?;
        let dropped = filter.dropped();
        let expired = filter.any_expired();
        let newest = (dropped > 0).then_some(memtable.max_commit());
        Ok(Written {
            sealed: sealed.clone(),
            tables: outputs.finish()?,
            drops: Drops::new(&view, &retention, newest).with_expired(expired, now),
            ranges: own_ranges,
            dropped,
            retention,
            now,
        })
    }

    /// What the manifest may say about the log once `flushed` is in a table.
    fn log_without(&self, flushed: &[Sealed]) -> LogEnds {
        let is_flushed = |memtable: &Arc<Memtable>| {
            let mut flushed = flushed.iter();
            flushed.any(|sealed| Arc::ptr_eq(&sealed.memtable, memtable))
        };
        let log = self.log.lock();
        let keyspaces = self.keyspaces.read();
        let mut floor = log.number();
        for core in keyspaces.values() {
            for memtable in core.view.load().memtables() {
                if !is_flushed(memtable)
                    && let Some(wal) = memtable.wal()
                {
                    floor = floor.min(wal);
                }
            }
        }
        LogEnds {
            floor,
            durable: log.durable(),
        }
    }

    /// When everything is in tables: the log starts after its last file, and all files go. The
    /// handle is closed in the same step, so that nobody writes to a file that goes.
    pub(crate) fn retire_log(&self) -> Result<()> {
        let mut log = self.log.lock();
        let cores: Vec<_> = self.keyspaces.read().values().cloned().collect();
        let unflushed = |core: &Arc<KeyspaceCore>| {
            core.view
                .load()
                .memtables()
                .any(|memtable| memtable.wal().is_some())
        };
        if cores.iter().any(unflushed) {
            return Ok(());
        }
        let head = self.shared.visible();
        self.prove_charge()?;
        self.shared.refuse_writes();
        let end = log.end();
        if self.bucket {
            fences::mark_end(&self.shared.env, log.number(), self.manifest.epoch())?;
        }
        self.edit(|state| {
            state.wal_floor = state.wal_floor.max(end);
            state.head = state.head.max(head);
            Ok(())
        })?;
        log.trim();
        drop(log);
        self.delete_log_below(end);
        Ok(())
    }

    /// After damage in the log was given up: what came before it goes into tables, and the log
    /// starts anew behind it, so that nothing written from now on stands behind the damage.
    pub(crate) fn leave_log_behind(&self, last: Commit) -> Result<()> {
        self.flush_sealed()?;
        let floor = self.log.lock().number();
        self.edit(|state| {
            state.wal_floor = state.wal_floor.max(floor);
            state.head = state.head.max(last);
            Ok(())
        })?;
        Ok(())
    }

    /// Deletes log files that nothing needs. A failure is left for the next time.
    pub(crate) fn delete_log_below(&self, floor: u64) {
        let blobs = &self.shared.env.blobs;
        let Ok(listed) = blobs.list("wal/") else {
            return;
        };
        let Ok(kept_from) = self.log_kept_from(floor, &listed) else {
            return;
        };
        let numbered = |blob: &BlobMeta| Some((wal::number_of(&blob.name)?, blob.size));
        let sizes: BTreeMap<u64, u64> = listed.iter().filter_map(numbered).collect();
        let gone = match self.bucket {
            true => fences::deletable(&sizes, kept_from),
            false => sizes
                .range(..kept_from)
                .map(|(number, _)| *number)
                .collect(),
        };
        let is_record = |number: &u64| self.bucket && fences::is_record(sizes[number]);
        let (records, others): (Vec<u64>, Vec<u64>) = gone.into_iter().partition(is_record);
        let records: Vec<String> = records.into_iter().map(wal::blob_name).collect();
        if blobs.delete_all(&records).is_err() {
            return;
        }
        for number in others {
            // In order, and no further than the first failure: see `fences`.
            if blobs.delete(&wal::blob_name(number)).is_err() {
                return;
            }
        }
    }

    /// The first log file to keep, where recovery needs those from `floor` on: change feeds need
    /// more, but not without bounds.
    fn log_kept_from(&self, floor: u64, listed: &[BlobMeta]) -> Result<u64> {
        let below = |blob: &&BlobMeta| wal::number_of(&blob.name).is_some_and(|n| n < floor);
        let mut files: Vec<_> = listed.iter().filter(below).collect();
        if files.is_empty() {
            return Ok(floor);
        }
        let pins = ReaderPins::list(&self.shared.env)?;
        let wanted = pins.iter().map(|pin| pin.log);
        let wanted = wanted.chain(self.feeds.lock().oldest()).min();
        let wanted = wanted.unwrap_or(u64::MAX);
        files.sort_by_key(|blob| std::cmp::Reverse(wal::number_of(&blob.name)));
        let keep = self.manifest.current().state.keep_log;
        let most = self.shared.options.max_feed_log_bytes.max(keep);
        let (mut kept_from, mut bytes) = (floor, 0);
        for blob in files {
            let enough = bytes >= keep;
            bytes += blob.size;
            let number = wal::number_of(&blob.name).unwrap_or(floor);
            if enough && (bytes > most || number < wanted) {
                break;
            }
            kept_from = number;
        }
        Ok(kept_from)
    }
}

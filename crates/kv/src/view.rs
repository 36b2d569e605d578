//! What a read of one keyspace reads from: memtables and runs of tables, as they stood at one
//! moment. Immutable but for the active memtable; swapped whole. While somebody holds a view, no
//! file it names is deleted.

use crate::cache::BlockCache;
use crate::dropped::Dropped;
use crate::hidden::Hidden;
use crate::memtable::{MemCursor, Memtable};
use crate::merge::Source;
use crate::options::KeyspaceOptions;
use crate::range_delete::{RangeDelete, RangeTree};
use crate::readable::YoungFrom;
use crate::signals::Signals;
use crate::sst::format::TableMeta;
use crate::sst::run::{Run, RunCursor};
use crate::sst::table::{ReadState, Table};
use crate::state::{DbState, KeyspaceState};
use crate::types::{Commit, KeyspaceId, SegmentId};
use arc_swap::ArcSwap;
use parking_lot::Mutex;
use siltstone_storage::{Blobs, Numbered, Pins, Segment, Timestamp};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Holds a version of the segment log until dropped.
#[derive(Debug)]
pub(crate) struct SegmentPin {
    pins: Arc<Mutex<Pins>>,
    version: u64,
    signals: Arc<Signals>,
}

impl SegmentPin {
    /// Holds nothing, for views that no segments are read through.
    pub(crate) fn of_nothing() -> Arc<Self> {
        let pins = Arc::<Mutex<Pins>>::default();
        pins.lock().pin(0);
        Arc::new(Self {
            pins,
            version: 0,
            signals: Arc::default(),
        })
    }

    /// Holds the segments of the manifest that `current` answers, in one step.
    pub(crate) fn of_current(
        pins: &Arc<Mutex<Pins>>,
        signals: &Arc<Signals>,
        current: impl FnOnce() -> Arc<Numbered<DbState>>,
    ) -> (Arc<Numbered<DbState>>, Arc<Self>) {
        let mut locked = pins.lock();
        let current = current();
        let version = current.state.tables.version();
        locked.pin(version);
        drop(locked);
        let pin = Self {
            pins: pins.clone(),
            version,
            signals: signals.clone(),
        };
        (current, Arc::new(pin))
    }

    /// The version of the log that it holds.
    pub(crate) fn version(&self) -> u64 {
        self.version
    }
}

impl Drop for SegmentPin {
    fn drop(&mut self) {
        self.pins.lock().unpin(self.version);
        // Tables that waited for this reader may go now.
        self.signals.compact();
    }
}

/// One keyspace at one moment.
#[derive(Debug)]
pub(crate) struct View {
    pub(crate) active: Arc<Memtable>,
    /// Newest first.
    pub(crate) sealed: Vec<Arc<Memtable>>,
    /// Those that may hold the newest commits first.
    pub(crate) runs: Arc<[Run]>,
    pub(crate) options: Arc<KeyspaceOptions>,
    /// Deletions of ranges that came with flushed memtables.
    pub(crate) ranges: Arc<RangeTree>,
    /// Values that expired up to then are gone, whatever the clock says.
    pub(crate) expired: Timestamp,
    /// Commits that never happened here.
    pub(crate) hidden: Arc<Hidden>,
    /// What is gone: those commits are readable only where something holds them.
    pub(crate) dropped: Arc<Dropped>,
    /// Of [`crate::KeyspaceState`]: tells policies apart.
    pub(crate) policy_changes: u64,
    /// Shared by all views under one policy.
    pub(crate) young_from: Arc<YoungFrom>,
    /// Reads must look for marks of versions that were removed inside the window.
    pub(crate) limited: bool,
    /// A reader's: the newest commit in it.
    pub(crate) seen: Commit,
    pub(crate) pin: Arc<SegmentPin>,
}

impl View {
    /// A keyspace as `state` describes it; `seen` is for readers.
    pub(crate) fn new(
        state: &KeyspaceState,
        hidden: &Hidden,
        (active, sealed): (Arc<Memtable>, Vec<Arc<Memtable>>),
        runs: Arc<[Run]>,
        seen: Commit,
        pin: Arc<SegmentPin>,
    ) -> Self {
        Self {
            active,
            sealed,
            runs,
            options: Arc::new(state.options.clone()),
            ranges: Arc::new(RangeTree::new(state.range_deletes.clone())),
            expired: state.expired,
            hidden: Arc::new(hidden.clone()),
            dropped: Arc::new(state.dropped.clone()),
            policy_changes: state.policy_changes,
            young_from: Arc::default(),
            limited: state.is_limited(),
            seen,
            pin,
        }
    }

    /// True when deletions of ranges must be asked for.
    #[inline]
    pub(crate) fn has_ranges(&self) -> bool {
        !self.ranges.is_empty() || self.memtables().any(|memtable| memtable.has_ranges())
    }

    /// The newest commit in a table.
    #[inline]
    pub(crate) fn max_commit(&self) -> Commit {
        self.runs.first().map_or(Commit::ZERO, |run| run.max_commit)
    }

    /// The newest deletion of a range that holds `key`, up to `upto`.
    pub(crate) fn range_deleted(&self, key: &[u8], upto: Commit) -> Option<Commit> {
        let in_memory = self.memtables().filter(|memtable| memtable.has_ranges());
        in_memory
            .filter_map(|memtable| memtable.ranges().newest(key, upto))
            .chain(self.ranges.newest(key, upto))
            .max()
    }

    /// All deletions of ranges.
    pub(crate) fn range_deletes(&self) -> Vec<RangeDelete> {
        let in_memory = self.memtables().filter(|memtable| memtable.has_ranges());
        let in_memory = in_memory.flat_map(|memtable| memtable.ranges().all());
        in_memory.chain(self.ranges.iter().cloned()).collect()
    }

    /// All memtables, newest first.
    pub(crate) fn memtables(&self) -> impl Iterator<Item = &Arc<Memtable>> {
        std::iter::once(&self.active).chain(&self.sealed)
    }

    /// All tables.
    pub(crate) fn tables(&self) -> impl Iterator<Item = &Arc<Table>> {
        self.runs.iter().flat_map(|run| run.tables.iter())
    }

    /// Cursors over everything, newest source first. Sources that cannot hold a key of the range
    /// or a commit up to `commit` are left out; how many tables those were is the second answer.
    pub(crate) fn sources(
        &self,
        range: (Option<&[u8]>, Option<&[u8]>),
        commit: Commit,
        state: &Arc<ReadState>,
    ) -> (Vec<Source>, u64) {
        let (start, end) = range;
        let mut sources: Vec<Source> = self
            .memtables()
            .filter(|table| !table.is_empty())
            .map(|table| Source::Memory(MemCursor::new(table.clone())))
            .collect();
        let mut skipped = 0;
        for run in self.runs.iter() {
            let wanted = |table: &&Arc<Table>| {
                start.is_none_or(|start| table.meta.max_key.as_slice() >= start)
                    && end.is_none_or(|end| table.meta.min_key.as_slice() < end)
                    && (table.meta.min_commit <= commit || self.limited)
            };
            let tables: Vec<_> = run.tables.iter().filter(wanted).cloned().collect();
            skipped += (run.tables.len() - tables.len()) as u64;
            if !tables.is_empty() {
                let part = Run::new(run.level, tables);
                sources.push(Source::Run(RunCursor::new(&part, state.clone())));
            }
        }
        (sources, skipped)
    }

    /// Cursors over everything that may hold a key of the range with a commit after `commit`.
    pub(crate) fn sources_after(
        &self,
        range: (Option<&[u8]>, Option<&[u8]>),
        commit: Commit,
        state: &Arc<ReadState>,
    ) -> Vec<Source> {
        let (start, end) = range;
        let mut sources: Vec<Source> = self
            .memtables()
            .filter(|table| table.max_commit() > commit)
            .map(|table| Source::Memory(MemCursor::new(table.clone())))
            .collect();
        for run in self.runs.iter().filter(|run| run.max_commit > commit) {
            let wanted = |table: &&Arc<Table>| {
                table.meta.max_commit > commit
                    && start.is_none_or(|start| table.meta.max_key.as_slice() >= start)
                    && end.is_none_or(|end| table.meta.min_key.as_slice() < end)
            };
            let tables: Vec<_> = run.tables.iter().filter(wanted).cloned().collect();
            if !tables.is_empty() {
                let part = Run::new(run.level, tables);
                sources.push(Source::Run(RunCursor::new(&part, state.clone())));
            }
        }
        sources
    }

    pub(crate) fn with_memtables(&self, active: Arc<Memtable>, sealed: Vec<Arc<Memtable>>) -> View {
        View {
            active,
            sealed,
            runs: self.runs.clone(),
            options: self.options.clone(),
            ranges: self.ranges.clone(),
            expired: self.expired,
            hidden: self.hidden.clone(),
            dropped: self.dropped.clone(),
            policy_changes: self.policy_changes,
            young_from: self.young_from.clone(),
            limited: self.limited,
            seen: self.seen,
            pin: self.pin.clone(),
        }
    }

    /// True when all its tables are among `live`.
    pub(crate) fn is_among(&self, live: &BTreeSet<SegmentId>) -> bool {
        self.tables().all(|table| live.contains(&table.id))
    }

    /// The same, with its segments held by `pin`, which must hold all of them.
    fn held_by(&self, pin: Arc<SegmentPin>) -> View {
        View {
            pin,
            ..self.with_memtables(self.active.clone(), self.sealed.clone())
        }
    }
}

/// A keyspace of an open database.
#[derive(Debug)]
pub(crate) struct KeyspaceCore {
    pub(crate) id: KeyspaceId,
    pub(crate) name: String,
    pub(crate) view: ArcSwap<View>,
    /// Held while the view is replaced; readers do not take it.
    pub(crate) changing: Mutex<()>,
}

impl KeyspaceCore {
    /// Replaces the view by a changed one.
    pub(crate) fn change(&self, change: impl FnOnce(&View) -> View) {
        let _one_at_a_time = self.changing.lock();
        let next = change(&self.view.load());
        self.view.store(Arc::new(next));
    }

    /// Holds what the view reads by a newer pin, of a version of the log in which `live` are the segments.
    /// A view whose tables are not all among them is about to be replaced, and stays as it is.
    pub(crate) fn move_pin(&self, pin: &Arc<SegmentPin>, live: &BTreeSet<SegmentId>) {
        let may_move = |view: &View| view.pin.version < pin.version && view.is_among(live);
        self.change(|view| match may_move(view) {
            true => view.held_by(pin.clone()),
            false => view.held_by(view.pin.clone()),
        });
    }
}

/// The open tables of a database by name, so that a new view shares them with the old one.
#[derive(Debug)]
pub(crate) struct Tables {
    open: BTreeMap<SegmentId, Arc<Table>>,
    blobs: Arc<dyn Blobs>,
    cache: Arc<BlockCache>,
}

impl Tables {
    pub(crate) fn new(blobs: Arc<dyn Blobs>, cache: Arc<BlockCache>) -> Self {
        Self {
            open: BTreeMap::new(),
            blobs,
            cache,
        }
    }

    /// Lets go of tables that `state` does not list any more.
    pub(crate) fn forget_replaced(&mut self, state: &DbState) {
        let gone: Vec<_> = self
            .open
            .keys()
            .filter(|id| state.tables.get(id).is_none())
            .copied()
            .collect();
        for id in gone {
            self.forget(id);
        }
    }

    pub(crate) fn forget(&mut self, id: SegmentId) {
        self.open.remove(&id);
        self.cache.forget(id);
    }

    /// The runs of a keyspace as `state` lists them.
    pub(crate) fn runs(&mut self, state: &DbState, keyspace: KeyspaceId) -> Arc<[Run]> {
        let all = state.tables();
        self.runs_of(all.filter(|segment| segment.meta.keyspace == keyspace))
    }

    /// The runs of one keyspace, of which these are the tables.
    pub(crate) fn runs_of<'a>(
        &mut self,
        segments: impl IntoIterator<Item = &'a Segment<SegmentId, TableMeta>>,
    ) -> Arc<[Run]> {
        let mut levels: BTreeMap<u8, Vec<Arc<Table>>> = BTreeMap::new();
        let mut runs = Vec::new();
        for segment in segments {
            let known = self
                .open
                .get(&segment.id)
                .filter(|table| table.meta == segment.meta);
            let table = match known {
                Some(table) => table.clone(),
                None => {
                    let table = Arc::new(Table::new(
                        segment.id,
                        segment.meta.clone(),
                        self.blobs.clone(),
                        self.cache.clone(),
                    ));
                    self.open.insert(segment.id, table.clone());
                    table
                }
            };
            match table.meta.level {
                0 => runs.push(Run::new(0, vec![table])),
                level => levels.entry(level).or_default().push(table),
            }
        }
        runs.extend(
            levels
                .into_iter()
                .map(|(level, tables)| Run::new(level, tables)),
        );
        runs.sort_by_key(|run| std::cmp::Reverse((run.max_commit, std::cmp::Reverse(run.level))));
        runs.into()
    }
}

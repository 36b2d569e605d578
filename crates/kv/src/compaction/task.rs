//! The work of one compaction, the same for the writer and for a process that works for it: read the
//! inputs, write what is kept, and the edit that puts it in their place.

use crate::compaction::lost;
use crate::compaction::output::{Maker, Output, Outputs};
use crate::compaction::outside::Others;
use crate::compaction::pick::Plan;
use crate::compaction::run::{Drops, entries_of, free_level};
use crate::compaction::versions::{Rules, VersionFilter};
use crate::compaction::work::Terms;
use crate::cursor::Cursor;
use crate::error::{Error, Result};
use crate::memtable::Memtable;
use crate::merge::{MergeCursor, Source};
use crate::operator::MergeOperator;
use crate::retention::{Retention, Rule};
use crate::sst::format::TableMeta;
use crate::sst::run::{Run, RunCursor};
use crate::sst::table::{ReadState, Table};
use crate::state::DbState;
use crate::stats::CompactStats;
use crate::types::{KeyspaceId, SegmentId};
use crate::view::View;
use siltstone_storage::{Segment, Timestamp, Wait};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Between two calls of [`Maker::go_on`] entries of so many bytes are merged; each counts with some
/// bytes more than its value has.
const BREATH: usize = 1 << 20;
const ENTRY: usize = 256;

/// What to compact, for whom and by which rules.
pub(crate) struct Task<'a> {
    pub(crate) maker: &'a dyn Maker,
    pub(crate) keyspace: KeyspaceId,
    pub(crate) plan: &'a Plan,
    pub(crate) view: &'a View,
    pub(crate) terms: &'a Terms,
    pub(crate) retention: &'a Retention,
    pub(crate) operator: Option<&'a dyn MergeOperator>,
    /// Blob files whose values are to be copied elsewhere.
    pub(crate) sparse: BTreeSet<SegmentId>,
}

/// What a compaction has written, and what it dropped.
#[derive(Debug)]
pub(crate) struct Made {
    written: Vec<(SegmentId, TableMeta)>,
    drops: Drops,
    dropped: u64,
    retention: Retention,
    now: Timestamp,
}

impl Terms {
    /// The retained commits of a keyspace under these terms.
    pub(crate) fn retention(&self, view: &View) -> Retention {
        let rule = Rule::of(&view.options.history);
        Retention::new(self.head, rule, self.young, self.held.iter().copied())
    }
}

/// The tables of a plan.
pub(crate) fn inputs(view: &View, plan: &Plan) -> Result<Vec<Arc<Table>>> {
    let wanted = |table: &&Arc<Table>| plan.inputs.contains(&table.id);
    let inputs: Vec<_> = view.tables().filter(wanted).cloned().collect();
    let gone = |id: &&SegmentId| inputs.iter().all(|table| table.id != **id);
    match plan.inputs.iter().find(gone) {
        Some(gone) => Err(Error::CompactionLost {
            segment: gone.blob(),
        }),
        None => Ok(inputs),
    }
}

impl Task<'_> {
    /// Merges `inputs`; what they are merged beside in memory is `memtables`.
    pub(crate) fn run(&self, inputs: &[Arc<Table>], memtables: Vec<Arc<Memtable>>) -> Result<Made> {
        let Self {
            plan, view, terms, ..
        } = self;
        let other = |table: &&Arc<Table>| !plan.inputs.contains(&table.id);
        let others = Others {
            tables: view.tables().filter(other).cloned().collect(),
            memtables,
            in_memory_from: terms.in_memory_from,
        };
        let rules = Rules {
            retention: self.retention,
            history: &view.options.history,
            limited: view.limited,
            aged: terms.aged,
            tombstones_aged: terms.tombstones_aged,
            ranges: &view.ranges,
            operator: self.operator,
            now: terms.now.max(view.expired),
            hidden: &view.hidden,
        };
        let mut filter = VersionFilter::new(rules, others);
        let mut outputs = Outputs::new(
            self.maker,
            self.keyspace,
            &view.options,
            self.output(inputs),
        )
        .clearing_out(self.sparse.clone());
        let mut merge = merge(inputs);
        let mut merged = 0;
        merge.seek_first()?;
        while merge.valid() {
            filter.push(
                merge.key(),
                merge.commit(),
                merge.tag(),
                merge.value(),
                &mut outputs,
            )?;
            merged += ENTRY + merge.value().len();
            merge.next()?;
            if merged >= BREATH {
                merged = 0;
                self.maker.go_on()?;
            }
        }
        filter.finish(&mut outputs)?;
        let dropped = filter.dropped();
        let newest = inputs.iter().map(|t| t.meta.max_commit).max();
        let drops = Drops::new(view, self.retention, newest.filter(|_| dropped > 0))
            .with_expired(filter.any_expired(), terms.now);
        Ok(Made {
            written: outputs.finish()?,
            drops,
            dropped,
            retention: self.retention.clone(),
            now: terms.now,
        })
    }

    fn output(&self, inputs: &[Arc<Table>]) -> Output {
        let metas = || inputs.iter().map(|table| &table.meta);
        Output {
            level: self.plan.level,
            base: metas().map(|m| m.min_commit).min().unwrap_or_default(),
            times: (
                metas().map(|m| m.min_time).min().unwrap_or_default(),
                metas().map(|m| m.max_time).max().unwrap_or_default(),
            ),
            created: self.terms.now,
            table_bytes: self.terms.table_bytes,
            cleared: self.view.ranges.newest_of_all(),
        }
    }
}

impl Made {
    /// Everything that was written.
    pub(crate) fn names(&self) -> Vec<SegmentId> {
        self.written.iter().map(|(id, _)| *id).collect()
    }

    /// Says what was done.
    pub(crate) fn note(&self, stats: &mut CompactStats) {
        stats.dropped = self.dropped;
        stats.entries = entries_of(&self.written);
        stats.bytes_written = self.written.iter().map(|(_, meta)| meta.bytes).sum();
        let mut outputs = self.names();
        outputs.retain(|id| !id.is_blob_file());
        stats.outputs = outputs;
    }

    /// Puts the outputs in place of the inputs, or fails when any of those is gone, or when the
    /// policy that was dropped by has changed.
    pub(crate) fn publish(
        &self,
        state: &mut DbState,
        keyspace: KeyspaceId,
        plan: &Plan,
    ) -> Result<()> {
        let gone = |segment: &SegmentId| Error::CompactionLost {
            segment: segment.blob(),
        };
        let capture = state.tables.capture(|s| plan.inputs.contains(&s.id));
        if let Some(lost) = plan.inputs.iter().find(|id| !capture.ids().contains(id)) {
            return Err(gone(lost));
        }
        let level = free_level(state, keyspace, plan, &self.written);
        let outputs = self.written.iter().map(|(id, meta)| Segment {
            id: *id,
            meta: TableMeta {
                level: match meta.is_blob_file() {
                    true => meta.level,
                    false => level,
                },
                ..meta.clone()
            },
        });
        let outputs = outputs.collect();
        state.tables.replace(&capture, outputs).map_err(lost)?;
        if let Some(keyspace) = state.keyspace_mut(keyspace) {
            if !self.drops.fits(keyspace) {
                return Err(gone(&plan.inputs[0]));
            }
            self.drops.note(keyspace);
        }
        state.forget_range_deletes(keyspace);
        state.retire_blob_files(keyspace);
        state.forget_hidden();
        state.forget_lapsed(self.now, |commit| self.retention.keeps(commit));
        Ok(())
    }
}

fn merge(inputs: &[Arc<Table>]) -> MergeCursor {
    let state = Arc::new(ReadState::past_cache(Wait::Allowed));
    // Tables of one level do not overlap, so a level is one source.
    let mut sources = Vec::new();
    let mut deeper: BTreeMap<u8, Vec<Arc<Table>>> = BTreeMap::new();
    for table in inputs {
        match table.meta.level {
            0 => {
                let run = Run::new(0, vec![table.clone()]);
                sources.push(Source::Run(RunCursor::new(&run, state.clone())));
            }
            level => deeper.entry(level).or_default().push(table.clone()),
        }
    }
    for (level, tables) in deeper {
        let run = Run::new(level, tables);
        sources.push(Source::Run(RunCursor::new(&run, state.clone())));
    }
    MergeCursor::new(sources)
}

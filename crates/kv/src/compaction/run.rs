//! Compactions of the writer's own: pick tables, hold them, do the task, swap exactly those for the
//! outputs.
//!
//! Complete or absent: the swap is one manifest edit, which fails when any input is gone. Until it
//! succeeds the inputs are live; after it the outputs are. Inputs are deleted later, when no reader
//! holds them.

use crate::blob::live::sparse;
use crate::compaction::lost;
use crate::compaction::pick::{self, Candidate, CompactOptions, Mood, Plan};
use crate::compaction::task::{self, Task};
use crate::compaction::work::Terms;
use crate::core::{Core, Kept};
use crate::dropped::DropRecord;
use crate::error::{Error, Result};
use crate::operator::MergeOperator;
use crate::options::{History, KeyspaceOptions};
use crate::retention::Retention;
use crate::sst::format::TableMeta;
use crate::sst::table::Table;
use crate::state::{DbState, KeyspaceState};
use crate::stats::{CompactStats, add};
use crate::types::{Commit, KeyspaceId, SegmentId};
use crate::view::{KeyspaceCore, View};
use siltstone_storage::Timestamp;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// A compaction that failed; nothing was changed.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{error}")]
pub struct CompactFailed {
    /// Why.
    #[source]
    pub error: Error,
    /// What it had taken; no outputs.
    pub stats: CompactStats,
}

impl From<Error> for Box<CompactFailed> {
    fn from(error: Error) -> Self {
        let stats = CompactStats {
            error: Some(error.to_string()),
            ..CompactStats::default()
        };
        Box::new(CompactFailed { error, stats })
    }
}

/// Tables that a compaction reads; nobody else takes them meanwhile.
pub(crate) struct Claim<'a> {
    engine: &'a Core,
    ids: Vec<SegmentId>,
}

impl Claim<'_> {
    /// The tables stay claimed.
    pub(crate) fn keep(&mut self) {
        self.ids.clear();
    }
}

impl Drop for Claim<'_> {
    fn drop(&mut self) {
        let mut claimed = self.engine.claimed.lock();
        for id in &self.ids {
            claimed.remove(id);
        }
    }
}

impl Core {
    /// Does the most pressing background compaction, or leaves it to a worker; false when there is
    /// none.
    pub(crate) fn compact_next(&self, mood: Mood) -> Result<bool> {
        self.prove_charge()?;
        if self.tend_offers()? {
            return Ok(true);
        }
        let Some(_permit) = self.compactions.try_take() else {
            return Ok(false);
        };
        for core in self.most_pressing_first() {
            let picked = self.claim(|claimed| {
                let current = self.manifest.current();
                let tables = candidates(&current.state, &core);
                let leveled = pick::leveled(&tables, claimed, &self.shared.options, mood);
                leveled.or_else(|| match mood {
                    Mood::Idle => self.pick_hollow(&core, &current.state, &tables, claimed),
                    Mood::Busy => None,
                })
            });
            if let Some((plan, mut claim)) = picked {
                let offered = self.offer(&core, &plan, &mut claim);
                let done = match offered {
                    Ok(false) => self
                        .compact_tables(&core, &plan)
                        .map_err(|failed| failed.error)
                        .map(|_| true),
                    offered => offered,
                };
                return match done {
                    // Somebody compacted by hand: look again.
                    Ok(_) | Err(Error::CompactionLost { .. }) => Ok(true),
                    Err(error) => Err(error),
                };
            }
        }
        Ok(false)
    }

    /// The keyspaces, those with the most tables in level 0 first: writes to any of them wait for the
    /// fullest one.
    fn most_pressing_first(&self) -> Vec<Arc<KeyspaceCore>> {
        let mut cores: Vec<_> = self.keyspaces.read().values().cloned().collect();
        let level0 = |core: &Arc<KeyspaceCore>| {
            let view = core.view.load();
            view.runs.iter().filter(|run| run.level == 0).count()
        };
        cores.sort_by_cached_key(|core| std::cmp::Reverse(level0(core)));
        cores
    }

    /// A table that is not worth its room any more.
    fn pick_hollow(
        &self,
        core: &KeyspaceCore,
        state: &DbState,
        tables: &[Candidate<'_>],
        claimed: &BTreeSet<SegmentId>,
    ) -> Option<Plan> {
        let keyspace = state.keyspace(core.id)?;
        let plain = |t: &Candidate<'_>| t.meta.expiring == 0 && t.meta.blobs.is_empty();
        if keyspace.range_deletes.is_empty() && tables.iter().all(plain) {
            return None;
        }
        let sparse = sparse(state, core.id);
        let (retention, now) = self.retention(&core.view.load());
        pick::hollow(
            tables,
            claimed,
            &keyspace.range_deletes,
            &sparse,
            &retention,
            now,
        )
    }

    /// True when tables may become hollow without a write.
    pub(crate) fn may_hollow(&self) -> bool {
        let state = &self.manifest.current().state;
        let deleted = state.keyspaces.iter().any(|k| !k.range_deletes.is_empty());
        deleted
            || state
                .tables
                .live()
                .iter()
                .any(|t| t.meta.expiring > 0 || t.meta.is_blob_file())
    }

    /// A compaction by hand.
    pub(crate) fn compact_by_hand(
        &self,
        core: &Arc<KeyspaceCore>,
        options: &CompactOptions,
    ) -> Result<CompactStats, Box<CompactFailed>> {
        let _permit = self.compactions.take("a compaction")?;
        self.shared.check_writable()?;
        self.prove_charge()?;
        self.withdraw_offers()?;
        let picked = self.claim(|_| {
            let current = self.manifest.current();
            let tables = candidates(&current.state, core);
            let inputs = pick::by_hand(&tables, options);
            let level = tables
                .iter()
                .filter(|t| inputs.contains(&t.id))
                .map(|t| t.meta.level.max(1))
                .max()?;
            Some(Plan { inputs, level })
        });
        match picked {
            Some((plan, _claim)) => self.compact_tables(core, &plan),
            None => Ok(CompactStats::default()),
        }
    }

    fn claim(
        &self,
        pick: impl FnOnce(&BTreeSet<SegmentId>) -> Option<Plan>,
    ) -> Option<(Plan, Claim<'_>)> {
        let mut claimed = self.claimed.lock();
        let plan = pick(&claimed)?;
        let ids: Vec<_> = plan
            .inputs
            .iter()
            .filter(|id| claimed.insert(**id))
            .copied()
            .collect();
        Some((plan, Claim { engine: self, ids }))
    }

    /// Compacts the tables of a plan. The stats name inputs also when it fails.
    pub(crate) fn compact_tables(
        &self,
        core: &Arc<KeyspaceCore>,
        plan: &Plan,
    ) -> Result<CompactStats, Box<CompactFailed>> {
        let clock = &self.shared.env.clock;
        let started = clock.elapsed();
        let mut stats = CompactStats {
            inputs: plan.inputs.clone(),
            level: plan.level,
            ..CompactStats::default()
        };
        let result = self.try_compact(core, plan, &mut stats);
        stats.latency = clock.elapsed().saturating_sub(started);
        match result {
            Ok(()) => {
                add(&self.shared.counters.compactions, 1);
                add(&self.shared.counters.compaction_bytes, stats.bytes_written);
                add(&self.shared.counters.dropped_versions, stats.dropped);
                metrics::counter!("siltstone_compactions_total").increment(1);
                metrics::counter!("siltstone_compaction_bytes_total")
                    .increment(stats.bytes_written);
                metrics::histogram!("siltstone_compaction_seconds")
                    .record(stats.latency.as_secs_f64());
                tracing::debug!(
                    keyspace = core.name,
                    inputs = stats.inputs.len(),
                    outputs = stats.outputs.len(),
                    dropped = stats.dropped,
                    "compacted"
                );
                Ok(stats)
            }
            Err(error) => {
                stats.outputs.clear();
                stats.error = Some(error.to_string());
                Err(Box::new(CompactFailed { error, stats }))
            }
        }
    }

    fn try_compact(
        &self,
        core: &Arc<KeyspaceCore>,
        plan: &Plan,
        stats: &mut CompactStats,
    ) -> Result<()> {
        let view = core.view.load_full();
        let inputs = task::inputs(&view, plan)?;
        stats.bytes_read = inputs.iter().map(|table| table.meta.bytes).sum();
        let terms = self.terms(core, &view);
        let retention = terms.retention(&view);
        let now = terms.now.max(view.expired);
        if is_plain_move(&inputs, plan, &retention, &view, now) {
            return self.move_down(core, plan, stats);
        }
        let operator = self.operator_of(&view.options);
        let task = Task {
            maker: self,
            keyspace: core.id,
            plan,
            view: &view,
            terms: &terms,
            retention: &retention,
            operator: operator.as_deref(),
            sparse: sparse(&self.manifest.current().state, core.id),
        };
        let memtables = view.memtables().cloned().collect();
        let made = task.run(&inputs, memtables)?;
        made.note(stats);
        let swapped = self.edit(|state| made.publish(state, core.id, plan));
        if let Err(error) = swapped {
            self.discard_unless_unknown(made.names());
            return Err(error);
        }
        self.install(core, None);
        drop((inputs, view));
        self.collect_garbage();
        Ok(())
    }

    /// What a compaction decides by.
    pub(crate) fn terms(&self, core: &KeyspaceCore, view: &View) -> Terms {
        let history = &view.options.history;
        let young = self.young_from(view);
        let Kept { held, head, now } = self.held_and_head();
        // Looked at after the head: all that was written up to there is in one of them, or in a table.
        let newest = core.view.load();
        let in_memory = newest.memtables().map(|memtable| memtable.min_commit());
        Terms {
            head,
            young,
            held,
            aged: self.aged(history.max_age.unwrap_or(Duration::MAX)),
            tombstones_aged: self.tombstones_aged(history),
            in_memory_from: in_memory.min().unwrap_or(Commit::MAX),
            now,
            policy_changes: view.policy_changes,
            table_bytes: self.shared.options.table_bytes,
        }
    }

    /// Deletes outputs that did not become live, unless they might have.
    pub(crate) fn discard_unless_unknown(&self, outputs: Vec<SegmentId>) {
        if !self.shared.is_stopped() {
            self.discard(outputs);
        }
    }

    fn move_down(&self, core: &KeyspaceCore, plan: &Plan, stats: &mut CompactStats) -> Result<()> {
        self.edit(|state| {
            let capture = state.tables.capture(|s| plan.inputs.contains(&s.id));
            if capture.ids().len() != plan.inputs.len() {
                return Err(Error::CompactionLost {
                    segment: plan.inputs[0].blob(),
                });
            }
            let moved: Vec<_> = state
                .tables
                .live()
                .iter()
                .filter(|s| capture.ids().contains(&s.id))
                .map(|s| (s.id, s.meta.clone()))
                .collect();
            let level = free_level(state, core.id, plan, &moved);
            state
                .tables
                .relabel(&capture, |meta| meta.level = level)
                .map_err(lost)
        })?;
        stats.outputs = plan.inputs.clone();
        self.install(core, None);
        Ok(())
    }

    /// The merge operator of a keyspace, where it has one that is known here.
    pub(crate) fn operator_of(&self, options: &KeyspaceOptions) -> Option<Arc<dyn MergeOperator>> {
        let name = options.merge_operator.as_deref()?;
        self.shared.options.operator(name)
    }

    /// The newest commit that is certainly older than `age`.
    fn aged(&self, age: Duration) -> Commit {
        if age == Duration::MAX {
            return Commit::ZERO;
        }
        let now = self.shared.env.clock.now();
        let micros = u64::try_from(age.as_micros()).unwrap_or(u64::MAX);
        self.times
            .lock()
            .commit_at(Timestamp(now.0.saturating_sub(micros)))
    }

    pub(crate) fn tombstones_aged(&self, history: &History) -> Commit {
        let aged = match history.tombstone_age.is_zero() {
            true => Commit::MAX,
            false => self.aged(history.tombstone_age),
        };
        // An open transaction must find that a key was deleted since it began.
        self.oldest_transaction()
            .map_or(aged, |oldest| aged.min(oldest))
    }
}

/// True when the table only needs another level: nothing meets it below and nothing in it can go.
pub(crate) fn is_plain_move(
    inputs: &[Arc<Table>],
    plan: &Plan,
    retention: &Retention,
    view: &View,
    now: Timestamp,
) -> bool {
    let [table] = inputs else {
        return false;
    };
    let meta = &table.meta;
    let one_version_each = meta.entries == meta.keys && meta.tombstones == 0;
    let nothing_to_drop = one_version_each || retention.window_start() <= meta.min_commit;
    let nothing_gone = view.ranges.iter().all(|r| !meta.may_hold_hidden_by(r))
        && meta.first_expiry.is_none_or(|first| first > now)
        && !view.hidden.touches(table.id, meta);
    meta.level != plan.level && nothing_to_drop && nothing_gone && !view.options.history.truncates()
}

/// Versions in the tables among what was written.
pub(crate) fn entries_of(written: &[(SegmentId, TableMeta)]) -> u64 {
    let tables = written.iter().filter(|(_, meta)| !meta.is_blob_file());
    tables.map(|(_, meta)| meta.entries).sum()
}

/// What a flush or a compaction dropped, and under which policy.
#[derive(Debug)]
pub(crate) struct Drops {
    record: Option<DropRecord>,
    policy_changes: u64,
    /// Values that had expired by then went.
    expired: Option<Timestamp>,
}

impl Drops {
    /// With `newest` the newest commit that was read, if anything was dropped.
    pub(crate) fn new(view: &View, retention: &Retention, newest: Option<Commit>) -> Self {
        Self {
            record: newest.map(|newest| DropRecord::new(retention, newest)),
            policy_changes: view.policy_changes,
            expired: None,
        }
    }

    /// Values that had expired by `now` went too, if `any` did.
    pub(crate) fn with_expired(self, any: bool, now: Timestamp) -> Self {
        Self {
            expired: any.then_some(now),
            ..self
        }
    }

    /// False when the policy was changed meanwhile: what it promised since may be dropped already.
    pub(crate) fn fits(&self, keyspace: &KeyspaceState) -> bool {
        keyspace.policy_changes == self.policy_changes
    }

    /// Remembers it in the keyspace.
    pub(crate) fn note(&self, keyspace: &mut KeyspaceState) {
        if let Some(record) = &self.record {
            keyspace.dropped.note(record.clone());
        }
        if let Some(expired) = self.expired {
            keyspace.expired = keyspace.expired.max(expired);
        }
    }
}

/// The level of the plan, or 0 when tables stand there by now that the outputs would overlap.
pub(crate) fn free_level(
    state: &DbState,
    keyspace: KeyspaceId,
    plan: &Plan,
    outputs: &[(SegmentId, TableMeta)],
) -> u8 {
    let taken = state.tables().any(|segment| {
        segment.meta.keyspace == keyspace
            && segment.meta.level == plan.level
            && !plan.inputs.contains(&segment.id)
            && outputs
                .iter()
                .any(|(_, meta)| segment.meta.overlaps(&meta.min_key, &meta.max_key))
    });
    if taken { 0 } else { plan.level }
}

fn candidates<'a>(state: &'a DbState, core: &KeyspaceCore) -> Vec<Candidate<'a>> {
    state
        .tables()
        .filter(|segment| segment.meta.keyspace == core.id)
        .map(|segment| Candidate {
            id: segment.id,
            meta: &segment.meta,
        })
        .collect()
}

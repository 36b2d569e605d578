//! Which tables to compact. Pure: from a list of tables to a plan.

use crate::options::Options;
use crate::range_delete::RangeDelete;
use crate::retention::Retention;
use crate::sst::format::TableMeta;
use crate::types::SegmentId;
use siltstone_storage::Timestamp;
use std::collections::BTreeSet;

/// Each level holds this many times what the one above does.
const RATIO: u64 = 10;
/// Level 0 is worth merging down in idle time when it has at least one part in this many of what
/// it would be merged with.
const WORTH: u64 = 20;
/// The deepest level.
const DEEPEST: u8 = 7;

/// A table that may be picked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Candidate<'a> {
    pub(crate) id: SegmentId,
    pub(crate) meta: &'a TableMeta,
}

/// What to compact, and where to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) inputs: Vec<SegmentId>,
    pub(crate) level: u8,
}

/// In which order a manual compaction takes tables.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CompactOrder {
    /// Written first, first.
    #[default]
    OldestFirst,
    /// Written last, first.
    NewestFirst,
    /// Small files first.
    SmallestFirst,
    /// Large files first.
    LargestFirst,
}

/// A compaction by hand: which tables, in which order, and what must be met for it to run.
#[derive(Debug, Clone, Default)]
pub struct CompactOptions {
    /// The order in which tables are taken.
    pub order: CompactOrder,
    /// Fewer tables than this: nothing happens. Default 1.
    pub min_files: usize,
    /// At most this many tables. Default: all.
    pub max_files: Option<usize>,
    /// Fewer bytes than this in all inputs: nothing happens. Default 0.
    pub min_size: u64,
    /// Most bytes in all inputs; a table that would go over is passed over and later ones are
    /// still taken. Default: no limit.
    pub max_size: Option<u64>,
    /// Only tables whose writes were all made at or after this time.
    pub min_time: Option<Timestamp>,
    /// Only tables whose writes were all made at or before this time.
    pub max_time: Option<Timestamp>,
}

/// The tables that a manual compaction takes; empty when its conditions are not met.
pub(crate) fn by_hand(tables: &[Candidate<'_>], options: &CompactOptions) -> Vec<SegmentId> {
    let in_time = |table: &&Candidate<'_>| {
        options
            .min_time
            .is_none_or(|time| table.meta.min_time >= time)
            && options
                .max_time
                .is_none_or(|time| table.meta.max_time <= time)
    };
    let mut wanted: Vec<_> = tables.iter().filter(in_time).copied().collect();
    // Age is by commit, which no clock can turn round; names break ties.
    let age = |t: &Candidate<'_>| (t.meta.max_commit, t.meta.min_commit, t.id);
    match options.order {
        CompactOrder::OldestFirst => wanted.sort_by_key(age),
        CompactOrder::NewestFirst => wanted.sort_by_key(|t| std::cmp::Reverse(age(t))),
        CompactOrder::SmallestFirst => wanted.sort_by_key(|t| (t.meta.bytes, age(t))),
        CompactOrder::LargestFirst => {
            wanted.sort_by_key(|t| (std::cmp::Reverse(t.meta.bytes), age(t)));
        }
    }
    let mut picked = Vec::new();
    let mut size = 0;
    for table in wanted {
        if options.max_files.is_some_and(|most| picked.len() >= most) {
            break;
        }
        if options
            .max_size
            .is_some_and(|most| size + table.meta.bytes > most)
        {
            continue;
        }
        size += table.meta.bytes;
        picked.push(table.id);
    }
    if picked.len() < options.min_files.max(1) || size < options.min_size {
        return Vec::new();
    }
    picked
}

/// How urgent compaction is and whether it may be done for tidiness.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mood {
    /// Writes go on: only what keeps the tree in shape.
    Busy,
    /// Nobody writes: small upper levels are merged down too.
    Idle,
}

/// The next background compaction of a keyspace, leaving out `claimed` tables.
pub(crate) fn leveled(
    tables: &[Candidate<'_>],
    claimed: &BTreeSet<SegmentId>,
    options: &Options,
    mood: Mood,
) -> Option<Plan> {
    let level = |wanted: u8| tables.iter().filter(move |t| t.meta.level == wanted);
    let level0: Vec<_> = level(0).copied().collect();
    let level0_free = level0.iter().all(|t| !claimed.contains(&t.id));
    if level0.len() >= options.level0_trigger && level0_free {
        return level0_plan(tables, &level0, claimed);
    }
    let mut target = options.level1_bytes;
    for at in 1..DEEPEST {
        let size: u64 = level(at).map(|t| t.meta.bytes).sum();
        if size > target
            && let Some(plan) = one_down(tables, at, claimed)
        {
            return Some(plan);
        }
        target = target.saturating_mul(RATIO);
    }
    if mood == Mood::Idle && !level0.is_empty() && level0_free {
        let plan = level0_plan(tables, &level0, claimed)?;
        let below: u64 = tables
            .iter()
            .filter(|t| t.meta.level > 0 && plan.inputs.contains(&t.id))
            .map(|t| t.meta.bytes)
            .sum();
        let above: u64 = level0.iter().map(|t| t.meta.bytes).sum();
        if above * WORTH >= below {
            return Some(plan);
        }
    }
    None
}

/// A table of which much can go although nothing is written over it: all of it was deleted with a
/// range, half of it has expired, or its values are in blob files that are mostly garbage.
pub(crate) fn hollow(
    tables: &[Candidate<'_>],
    claimed: &BTreeSet<SegmentId>,
    ranges: &[RangeDelete],
    sparse: &BTreeSet<SegmentId>,
    retention: &Retention,
    now: Timestamp,
) -> Option<Plan> {
    let deleted = |meta: &TableMeta| {
        ranges.iter().any(|range| {
            meta.max_commit < range.commit
                && range.covers_all(&meta.min_key, &meta.max_key)
                && !retention.needs(meta.min_commit, Some(range.commit))
        })
    };
    let table = tables.iter().find(|table| {
        !claimed.contains(&table.id)
            && (deleted(table.meta)
                || table.meta.expired(now) * 2 >= table.meta.entries.max(1)
                || table
                    .meta
                    .blobs
                    .iter()
                    .any(|(file, _)| sparse.contains(file)))
    })?;
    Some(Plan {
        inputs: vec![table.id],
        level: table.meta.level,
    })
}

/// All of level 0 with what it meets in level 1.
fn level0_plan(
    tables: &[Candidate<'_>],
    level0: &[Candidate<'_>],
    claimed: &BTreeSet<SegmentId>,
) -> Option<Plan> {
    let min = level0.iter().map(|t| &t.meta.min_key).min()?;
    let max = level0.iter().map(|t| &t.meta.max_key).max()?;
    let mut inputs: Vec<_> = level0.iter().map(|t| t.id).collect();
    for table in tables
        .iter()
        .filter(|t| t.meta.level == 1 && t.meta.overlaps(min, max))
    {
        if claimed.contains(&table.id) {
            return None;
        }
        inputs.push(table.id);
    }
    Some(Plan { inputs, level: 1 })
}

/// The table of level `at` that costs least to push down, with what it meets below.
fn one_down(tables: &[Candidate<'_>], at: u8, claimed: &BTreeSet<SegmentId>) -> Option<Plan> {
    let mut best: Option<(u64, Plan)> = None;
    for table in tables
        .iter()
        .filter(|t| t.meta.level == at && !claimed.contains(&t.id))
    {
        let below: Vec<_> = tables
            .iter()
            .filter(|t| {
                t.meta.level == at + 1 && t.meta.overlaps(&table.meta.min_key, &table.meta.max_key)
            })
            .collect();
        if below.iter().any(|t| claimed.contains(&t.id)) {
            continue;
        }
        let cost = below.iter().map(|t| t.meta.bytes).sum::<u64>() * 100 / table.meta.bytes.max(1);
        if best.as_ref().is_none_or(|(least, _)| cost < *least) {
            let inputs = std::iter::once(table.id)
                .chain(below.iter().map(|t| t.id))
                .collect();
            best = Some((
                cost,
                Plan {
                    inputs,
                    level: at + 1,
                },
            ));
        }
    }
    best.map(|(_, plan)| plan)
}

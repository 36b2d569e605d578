//! Commits that never happened here, although tables may hold what they wrote: those after the one
//! that a clone or a restored backup was cut at. Pure.
//!
//! Their numbers are not used again: the next commit follows the newest number in any table. Reads
//! pass them over, compactions drop what they wrote, and when no table can hold any of it they are
//! forgotten.

use crate::compaction::work::Work;
use crate::sst::format::TableMeta;
use crate::state::DbState;
use crate::types::{Commit, KeyspaceId, SegmentId};
use serde::{Deserialize, Serialize};

/// Ranges of commits that count for nothing, rising, without overlap.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hidden(Vec<Cut>);

/// What was cut off once.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
struct Cut {
    /// The last commit that counts.
    after: Commit,
    /// The last one that does not.
    through: Commit,
    /// Tables of writers with later epochs hold nothing of it.
    epoch: u64,
}

impl Cut {
    fn touches(&self, id: SegmentId, meta: &TableMeta) -> bool {
        id.epoch() <= self.epoch && meta.min_commit <= self.through && meta.max_commit > self.after
    }
}

impl Hidden {
    /// Hides more. What was cut off later than this is inside it.
    fn add(&mut self, cut: Cut) {
        self.0.retain(|earlier| earlier.after < cut.after);
        self.0.push(cut);
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// For a hidden commit: the newest one before it that is not.
    #[inline]
    pub(crate) fn before(&self, commit: Commit) -> Option<Commit> {
        let inside = |cut: &&Cut| cut.after < commit && commit <= cut.through;
        self.0.iter().find(inside).map(|cut| cut.after)
    }

    pub(crate) fn contains(&self, commit: Commit) -> bool {
        self.before(commit).is_some()
    }

    /// True when a table may hold what a hidden commit wrote.
    pub(crate) fn touches(&self, id: SegmentId, meta: &TableMeta) -> bool {
        self.0.iter().any(|cut| cut.touches(id, meta))
    }
}

impl DbState {
    /// Makes it the state of a database that ends with `commit`, whose writers have epochs after
    /// `epoch`. Every write up to there is in tables.
    pub(crate) fn cut(&mut self, commit: Commit, epoch: u64) {
        self.work = Work::default();
        let newest = self.tables().map(|segment| segment.meta.max_commit).max();
        let newest = newest.unwrap_or_default().max(commit);
        let later = self
            .tables
            .capture(|segment| !segment.meta.is_blob_file() && segment.meta.min_commit > commit);
        self.tables
            .replace(&later, Vec::new())
            .expect("it was captured in this state");
        if newest > commit {
            self.hidden.add(Cut {
                after: commit,
                through: newest,
                epoch,
            });
        }
        let ids: Vec<KeyspaceId> = self.keyspaces.iter().map(|keyspace| keyspace.id).collect();
        for keyspace in &mut self.keyspaces {
            keyspace.flushed = newest;
            keyspace
                .range_deletes
                .retain(|deleted| deleted.commit <= commit);
        }
        for id in ids {
            self.forget_range_deletes(id);
            self.retire_blob_files(id);
        }
        let retired: Vec<_> = self.tables.retired().copied().collect();
        self.tables.remove_retired(&retired);
        self.forget_hidden();
        self.head = newest;
        self.checkpoints
            .retain(|checkpoint| checkpoint.commit <= commit);
        self.keep_log = 0;
    }

    /// Forgets hidden commits of which no table can hold anything.
    pub(crate) fn forget_hidden(&mut self) {
        if self.hidden.is_empty() {
            return;
        }
        let mut hidden = std::mem::take(&mut self.hidden);
        let touched = |cut: &Cut| self.tables().any(|s| cut.touches(s.id, &s.meta));
        hidden.0.retain(touched);
        self.hidden = hidden;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn what_is_hidden_is_what_was_cut_off(cuts in prop::collection::vec((0u64..5, 0u64..4), 0..6)) {
            // After each cut the database goes on at a number above all before it.
            let mut hidden = Hidden::default();
            let mut newest = 3u64;
            let mut gone = std::collections::BTreeSet::new();
            for (back, more) in cuts {
                let readable: Vec<u64> = (0..=newest).filter(|n| !gone.contains(n)).collect();
                let at = readable[readable.len().saturating_sub(1 + back as usize)];
                if newest > at {
                    hidden.add(Cut { after: Commit(at), through: Commit(newest), epoch: 1 });
                }
                gone.extend(at + 1..=newest);
                newest += more;
                for n in 0..=newest + 1 {
                    prop_assert_eq!(hidden.contains(Commit(n)), gone.contains(&n), "{}", n);
                    let before = (0..=n).rev().find(|n| !gone.contains(n));
                    if gone.contains(&n) {
                        prop_assert_eq!(hidden.before(Commit(n)).map(|c| c.0), before);
                    }
                }
            }
        }
    }
}

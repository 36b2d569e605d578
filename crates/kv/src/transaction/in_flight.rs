//! Writes that have their number and are not visible yet, kept while a transaction is open: a
//! commit must know of them, and no table or memtable does. Pure; lives under the queue's lock.

use crate::error::Error;
use crate::key_range::KeyRange;
use crate::range_delete::RangeDelete;
use crate::transaction::guard::{Guard, Touched};
use crate::types::{Commit, KeyspaceId, Kind};
use crate::wal::frame;
use std::collections::{BTreeMap, VecDeque};

/// What a commit must not touch, and how far that is known already.
#[derive(Debug)]
pub(crate) struct Check<'a> {
    pub(crate) guard: &'a Guard,
    /// The commit that the transaction reads at.
    pub(crate) snapshot: Commit,
    /// Commits up to this one have been looked at already.
    pub(crate) seen: Commit,
}

/// The recorded writes, oldest first.
#[derive(Debug, Default)]
pub(crate) struct InFlight {
    writes: VecDeque<(Commit, Vec<u8>)>,
    open: usize,
    /// Writes from this one on are recorded.
    since: Commit,
    /// Commits at which checks began that are not over; what came later must stay.
    checking: BTreeMap<Commit, usize>,
}

impl InFlight {
    /// A transaction opens; `next` is the number that the next write gets.
    pub(crate) fn open(&mut self, next: Commit) {
        if self.open == 0 {
            self.since = next;
        }
        self.open += 1;
    }

    /// A transaction is over.
    pub(crate) fn close(&mut self) {
        self.open -= 1;
        if self.open == 0 {
            self.writes.clear();
        }
    }

    /// Begins a check at `visible`, unless writes before it were not recorded and are not visible.
    pub(crate) fn begin_check(&mut self, visible: Commit) -> bool {
        let complete = visible.0 + 1 >= self.since.0;
        if complete {
            *self.checking.entry(visible).or_default() += 1;
        }
        complete
    }

    pub(crate) fn end_check(&mut self, began: Commit) {
        if let Some(count) = self.checking.get_mut(&began) {
            *count -= 1;
            if *count == 0 {
                self.checking.remove(&began);
            }
        }
    }

    /// Notes a write, and forgets those that everybody can see.
    pub(crate) fn record(&mut self, commit: Commit, ops: &[u8], visible: Commit) {
        if self.open == 0 {
            return;
        }
        let looked_at = self.checking.keys().next().copied();
        let bound = looked_at.map_or(visible, |began| began.min(visible));
        while self
            .writes
            .front()
            .is_some_and(|(commit, _)| *commit <= bound)
        {
            self.writes.pop_front();
        }
        self.writes.push_back((commit, ops.to_vec()));
    }

    /// Fails when a write that the check has not seen touches its guard.
    pub(crate) fn check(&self, check: &Check<'_>) -> Result<(), Conflict> {
        let unseen = self
            .writes
            .partition_point(|(commit, _)| *commit <= check.seen);
        for (commit, ops) in self.writes.range(unseen..) {
            let mut at = 0;
            while at < ops.len() {
                let op = frame::get_op(ops, &mut at).expect("this process encoded it");
                let range = match op.tag.kind() {
                    Kind::RangeDelete => {
                        Some(RangeDelete::of_op(op.key, op.value, *commit).range())
                    }
                    Kind::Ingested => Some(KeyRange {
                        start: Some(op.key.to_vec()),
                        end: Some([op.value, b"\0"].concat()),
                    }),
                    Kind::Put | Kind::Delete | Kind::Merge => None,
                };
                let touched = match range {
                    Some(range) => check.guard.touched_by_range(op.keyspace, &range),
                    None => check.guard.touched_by(op.keyspace, op.key),
                };
                if let Some(touched) = touched {
                    return Err(Conflict {
                        keyspace: op.keyspace,
                        touched,
                        commit: *commit,
                    });
                }
            }
        }
        Ok(())
    }
}

/// Who was first.
#[derive(Debug)]
pub(crate) struct Conflict {
    pub(crate) keyspace: KeyspaceId,
    pub(crate) touched: Touched,
    pub(crate) commit: Commit,
}

impl Conflict {
    pub(crate) fn into_error(self, keyspace: &str, snapshot: Commit) -> Error {
        Error::Conflict {
            keyspace: keyspace.to_string(),
            touched: self.touched,
            snapshot,
            commit: self.commit,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::{KeyspaceId, Tag};

    fn ops(key: &[u8]) -> Vec<u8> {
        let mut out = Vec::new();
        let op = frame::Op {
            keyspace: KeyspaceId(0),
            tag: Tag::PUT,
            key,
            value: b"v",
        };
        frame::put_op(&mut out, &op);
        out
    }

    fn conflicts(in_flight: &InFlight, key: &[u8], seen: u64) -> bool {
        let mut guard = Guard::default();
        guard.add_key(KeyspaceId(0), key);
        let check = Check {
            guard: &guard,
            snapshot: Commit(seen),
            seen: Commit(seen),
        };
        in_flight.check(&check).is_err()
    }

    #[test]
    fn only_writes_that_a_check_has_not_seen_count_and_those_stay_while_it_lasts() {
        let mut in_flight = InFlight::default();
        in_flight.record(Commit(1), &ops(b"early"), Commit(0));
        assert!(!conflicts(&in_flight, b"early", 0), "nobody was open");
        in_flight.open(Commit(2));
        assert!(
            !in_flight.begin_check(Commit(0)),
            "commit 1 was not recorded and is not visible"
        );
        assert!(in_flight.begin_check(Commit(1)));
        in_flight.record(Commit(2), &ops(b"a"), Commit(1));
        in_flight.record(Commit(3), &ops(b"b"), Commit(2));
        assert!(
            conflicts(&in_flight, b"a", 1),
            "kept for the check although visible by now"
        );
        assert!(!conflicts(&in_flight, b"a", 2));
        in_flight.end_check(Commit(1));
        in_flight.record(Commit(4), &ops(b"c"), Commit(3));
        assert!(!conflicts(&in_flight, b"a", 0), "forgotten once visible");
        assert!(conflicts(&in_flight, b"c", 3));
        in_flight.close();
        assert!(!conflicts(&in_flight, b"c", 3));
    }
}

//! What a writer asks other processes to compact, as the manifest holds it. A value.
//!
//! A job says everything that a compaction decides by: what must be kept as the writer knew it when
//! it offered the job, and names for the outputs that nobody else uses. What is retained only shrinks
//! below a commit as time goes on, so a job may take as long as it likes. It counts while it is in the
//! manifest: the writer takes it out to do it itself, a writer that takes charge takes all out, and a
//! worker takes it out in the edit that puts its outputs in place of the inputs.

use crate::compaction::pick::Plan;
use crate::types::{Commit, KeyspaceId, SegmentId};
use serde::{Deserialize, Serialize};
use siltstone_storage::Timestamp;

/// More workers than this are not kept in mind.
const MOST_WORKERS: usize = 64;

/// What there is to do, and who is there to do it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Work {
    /// Compactions that the writer has offered.
    pub jobs: Vec<Job>,
    /// Processes that have said that they compact.
    pub workers: Vec<Worker>,
}

/// A process that compacts for the writer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Worker {
    /// Chosen at random when it starts.
    pub id: u64,
    /// Changes as long as it is there: nobody's clock is compared with anybody else's.
    pub beat: u64,
}

/// A compaction for another process.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Job {
    /// Unlike that of any other job of the database.
    pub number: u64,
    /// The keyspace.
    pub keyspace: KeyspaceId,
    /// The tables to compact.
    pub inputs: Vec<SegmentId>,
    /// The level that the outputs go to.
    pub level: u8,
    /// What must be kept.
    pub(crate) terms: Terms,
    /// What the outputs may be called.
    pub(crate) names: Names,
    /// Who does it.
    pub claim: Option<Worker>,
}

impl Job {
    pub(crate) fn plan(&self) -> Plan {
        Plan {
            inputs: self.inputs.clone(),
            level: self.level,
        }
    }
}

/// Names for outputs: an epoch, and numbers that the writer has set aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Names {
    pub(crate) epoch: u64,
    pub(crate) first: u64,
    pub(crate) count: u64,
}

impl Names {
    /// The name number `at`, if that is one of them.
    pub(crate) fn get(&self, at: u64, blob_file: bool) -> Option<SegmentId> {
        let counter = self.first.checked_add(at).filter(|_| at < self.count)?;
        SegmentId::checked(self.epoch, counter, blob_file)
    }

    pub(crate) fn contains(&self, id: SegmentId) -> bool {
        let at = id.counter().checked_sub(self.first);
        id.epoch() == self.epoch && at.is_some_and(|at| at < self.count)
    }
}

/// What a compaction decides by beside the manifest, as it stood at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Terms {
    /// The newest commit that was durable and visible.
    pub(crate) head: Commit,
    /// The first commit younger than the window's age.
    pub(crate) young: Commit,
    /// Commits held by snapshots and checkpoints.
    pub(crate) held: Vec<Commit>,
    /// Versions superseded at or before this commit are older than `max_age`.
    pub(crate) aged: Commit,
    /// Tombstones at or before this commit are older than `tombstone_age`.
    pub(crate) tombstones_aged: Commit,
    /// No memtable holds anything older.
    pub(crate) in_memory_from: Commit,
    pub(crate) now: Timestamp,
    /// Which policy of the keyspace this is about.
    pub(crate) policy_changes: u64,
    /// Size at which a table is closed, in bytes.
    pub(crate) table_bytes: u64,
}

impl Work {
    pub(crate) fn is_empty(&self) -> bool {
        self.jobs.is_empty() && self.workers.is_empty()
    }

    /// What a writer that takes charge goes on with: its predecessor's jobs are void.
    pub(crate) fn taken_over(&self) -> Self {
        Self {
            jobs: Vec::new(),
            workers: self.workers.clone(),
        }
    }

    pub(crate) fn job(&self, number: u64) -> Option<&Job> {
        self.jobs.iter().find(|job| job.number == number)
    }

    /// Takes a job out; `None` when it is not there any more.
    pub(crate) fn take(&mut self, number: u64) -> Option<Job> {
        let at = self.jobs.iter().position(|job| job.number == number)?;
        Some(self.jobs.remove(at))
    }

    /// Notes that a worker is there, under a new beat.
    pub(crate) fn note(&mut self, worker: &Worker) {
        self.workers.retain(|known| known.id != worker.id);
        if self.workers.len() >= MOST_WORKERS {
            self.workers.remove(0);
        }
        self.workers.push(worker.clone());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_those_that_were_set_aside_and_no_others() {
        let names = Names {
            epoch: 3,
            first: 10,
            count: 2,
        };
        for blob_file in [false, true] {
            let of = |at| names.get(at, blob_file);
            let (first, second) = (of(0).unwrap(), of(1).unwrap());
            assert_eq!((first.counter(), second.counter()), (10, 11));
            assert!(names.contains(first) && names.contains(second));
            assert_eq!(of(2), None);
        }
        for stranger in [(3, 9), (3, 12), (2, 10), (4, 10)] {
            assert!(!names.contains(SegmentId::new(stranger.0, stranger.1)));
        }
    }

    #[test]
    fn names_out_of_bounds_are_none() {
        for (epoch, first) in [(u64::MAX, 0), (1, u64::MAX), (1, 1 << 40), (1 << 28, 1)] {
            let names = Names {
                epoch,
                first,
                count: u64::MAX,
            };
            assert_eq!(names.get(1, false), None);
            names.contains(SegmentId::new(1, 1));
        }
    }
}

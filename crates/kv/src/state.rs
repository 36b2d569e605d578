//! What the manifest of a key-value database holds: keyspaces, tables, checkpoints, where the log
//! starts, and which commits belong to which time. A value; edits make new values.

use crate::compaction::work::Work;
use crate::dropped::Dropped;
use crate::hidden::Hidden;
use crate::options::KeyspaceOptions;
use crate::range_delete::RangeDelete;
use crate::sst::format::TableMeta;
use crate::types::{Commit, KeyspaceId, SegmentId};
use serde::{Deserialize, Serialize};
use siltstone_storage::{ManifestState, Segment, SegmentLog, Timestamp};
use std::time::Duration;

/// The keyspace that every database has.
pub const DEFAULT_KEYSPACE: &str = "default";

/// A keyspace as the manifest knows it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct KeyspaceState {
    /// Its number.
    pub id: KeyspaceId,
    /// Its name.
    pub name: String,
    /// Its settings.
    pub options: KeyspaceOptions,
    /// Every write to it up to this commit is in tables.
    pub flushed: Commit,
    /// Versions inside the window may have been removed, under this policy or an earlier one.
    pub limited: bool,
    /// What is gone, under this policy or an earlier one.
    pub dropped: Dropped,
    /// How often its history policy was changed: a flush or a compaction that began under another
    /// one does not count, even when the policy is the same again.
    pub policy_changes: u64,
    /// Deletions of ranges that may hide something in a table.
    pub range_deletes: Vec<RangeDelete>,
    /// Values that expired up to then may be gone from tables.
    pub expired: Timestamp,
}

impl KeyspaceState {
    /// A keyspace with nothing in it.
    pub(crate) fn new(id: KeyspaceId, name: &str, options: KeyspaceOptions) -> Self {
        Self {
            id,
            name: name.to_string(),
            options,
            flushed: Commit::ZERO,
            limited: false,
            dropped: Dropped::default(),
            policy_changes: 0,
            range_deletes: Vec::new(),
            expired: Timestamp::default(),
        }
    }

    /// True when reads must look for marks of removed versions.
    pub(crate) fn is_limited(&self) -> bool {
        self.limited || self.options.history.truncates()
    }
}

/// A commit held by name, until its lease ends.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// Its name.
    pub name: String,
    /// The commit it holds.
    pub commit: Commit,
    /// When it was made.
    pub created: Timestamp,
    /// When it lapses; `None` for a tag, which does not.
    pub expires: Option<Timestamp>,
}

/// The whole state.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DbState {
    /// All tables of all keyspaces.
    pub tables: SegmentLog<SegmentId, TableMeta>,
    /// All keyspaces.
    pub keyspaces: Vec<KeyspaceState>,
    /// The number the next keyspace gets.
    pub next_keyspace: u32,
    /// The first log file that is still needed.
    pub wal_floor: u64,
    /// A commit that exists; later ones may be in the log.
    pub head: Commit,
    /// Commits held by name.
    pub checkpoints: Vec<Checkpoint>,
    /// Which commits belong to which time.
    pub times: CommitTimes,
    /// Bytes of log that are kept for change feeds beside what recovery needs.
    pub keep_log: u64,
    /// Commits that never happened here, though tables may hold what they wrote.
    pub hidden: Hidden,
    /// Compactions offered to other processes. Follows the rest when there are any, so that a
    /// manifest without them is as it was before there were such.
    #[serde(skip)]
    pub work: Work,
}

impl DbState {
    /// An empty database with the default keyspace.
    pub(crate) fn first(options: KeyspaceOptions) -> Self {
        Self {
            tables: SegmentLog::new(),
            keyspaces: vec![KeyspaceState::new(KeyspaceId(0), DEFAULT_KEYSPACE, options)],
            next_keyspace: 1,
            wal_floor: 1,
            head: Commit::ZERO,
            checkpoints: Vec::new(),
            times: CommitTimes::default(),
            keep_log: 0,
            hidden: Hidden::default(),
            work: Work::default(),
        }
    }

    pub(crate) fn keyspace(&self, id: KeyspaceId) -> Option<&KeyspaceState> {
        self.keyspaces.iter().find(|keyspace| keyspace.id == id)
    }

    pub(crate) fn keyspace_mut(&mut self, id: KeyspaceId) -> Option<&mut KeyspaceState> {
        self.keyspaces.iter_mut().find(|keyspace| keyspace.id == id)
    }

    /// Forgets the range deletions of a keyspace that hide nothing any more: every table that they
    /// meet was written after them, or went through a compaction that left nothing for them to hide.
    pub(crate) fn forget_range_deletes(&mut self, id: KeyspaceId) {
        let Self {
            keyspaces, tables, ..
        } = self;
        let keyspace = keyspaces.iter_mut().find(|keyspace| keyspace.id == id);
        let Some(keyspace) = keyspace.filter(|keyspace| !keyspace.range_deletes.is_empty()) else {
            return;
        };
        let of_keyspace = |segment: &&Segment<SegmentId, TableMeta>| {
            segment.meta.keyspace == id && !segment.meta.is_blob_file()
        };
        let tables: Vec<_> = tables.live().iter().filter(of_keyspace).collect();
        keyspace.range_deletes.retain(|deleted| {
            tables
                .iter()
                .any(|segment| segment.meta.may_hold_hidden_by(deleted))
        });
    }

    /// Takes out the checkpoints whose lease has ended at `now`, before anything is dropped that
    /// they held: were the clock to step back, they would claim it again. Those of commits that were
    /// `kept` stay: one may have been made since, after a step back.
    pub(crate) fn forget_lapsed(&mut self, now: Timestamp, kept: impl Fn(Commit) -> bool) {
        self.checkpoints
            .retain(|c| c.expires.is_none_or(|expires| expires > now) || kept(c.commit));
    }

    /// Commits held by checkpoints whose lease has not ended at `now`.
    pub(crate) fn checkpoint_pins(&self, now: Timestamp) -> impl Iterator<Item = Commit> {
        let live = move |c: &&Checkpoint| c.expires.is_none_or(|expires| expires > now);
        self.checkpoints.iter().filter(live).map(|c| c.commit)
    }
}

impl ManifestState for DbState {
    fn encode(&self) -> Vec<u8> {
        let bytes = postcard::to_stdvec(self).expect("the state always serializes");
        match self.work.is_empty() {
            true => bytes,
            false => postcard::to_extend(&self.work, bytes).expect("work always serializes"),
        }
    }

    fn decode(bytes: &[u8]) -> Result<Self, String> {
        let unreadable = |error| format!("its contents cannot be read ({error})");
        let (mut state, rest): (Self, _) = postcard::take_from_bytes(bytes).map_err(unreadable)?;
        if !rest.is_empty() {
            state.work = postcard::from_bytes(rest).map_err(unreadable)?;
        }
        Ok(state)
    }

    fn taken_over(&self) -> Self {
        Self {
            work: self.work.taken_over(),
            ..self.clone()
        }
    }
}

/// When commits were made, in bounded space: to the second at first, coarser as time goes on, never
/// worse than one part in two thousand of the database's age.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct CommitTimes {
    /// Commits with their times, both rising. A commit between two was made between their times.
    samples: Vec<(Commit, Timestamp)>,
    /// Samples but the last lie at least this far apart.
    resolution: Duration,
}

impl Default for CommitTimes {
    fn default() -> Self {
        Self {
            samples: Vec::new(),
            resolution: Duration::from_secs(1),
        }
    }
}

const MAX_SAMPLES: usize = 4096;

impl CommitTimes {
    /// Notes that `commit` was made at `time`. A clock that stepped back stands still here.
    #[inline]
    pub(crate) fn note(&mut self, commit: Commit, time: Timestamp) {
        let last_time = self
            .samples
            .last()
            .map_or(time, |(_, last)| time.max(*last));
        let count = self.samples.len();
        // The newest sample moves along until it is far enough from the one before.
        if count > 1 && self.samples[count - 1].1.since(self.samples[count - 2].1) < self.resolution
        {
            self.samples[count - 1] = (commit, last_time);
            return;
        }
        self.samples.push((commit, last_time));
        if self.samples.len() > MAX_SAMPLES {
            self.thin();
        }
    }

    #[cold]
    fn thin(&mut self) {
        self.resolution *= 2;
        let mut at = 0;
        let count = self.samples.len();
        self.samples.retain(|_| {
            at += 1;
            at % 2 == 1 || at == count
        });
    }

    /// The newest commit that was certainly made at or before `time`.
    pub(crate) fn commit_at(&self, time: Timestamp) -> Commit {
        let at = self.samples.partition_point(|(_, t)| *t <= time);
        at.checked_sub(1)
            .map_or(Commit::ZERO, |at| self.samples[at].0)
    }

    /// A time at which `commit` was certainly not made yet, or 0.
    pub(crate) fn time_before(&self, commit: Commit) -> Timestamp {
        let at = self.samples.partition_point(|(c, _)| *c < commit);
        at.checked_sub(1)
            .map_or(Timestamp::default(), |at| self.samples[at].1)
    }

    /// The earliest noted time at which `commit` was already made.
    pub fn time_of(&self, commit: Commit) -> Option<Timestamp> {
        let at = self.samples.partition_point(|(c, _)| *c < commit);
        self.samples.get(at).map(|(_, time)| *time)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn seconds(n: u64) -> Timestamp {
        Timestamp(n * 1_000_000)
    }

    #[test]
    fn commits_are_found_by_time_even_when_the_clock_steps_back() {
        let mut times = CommitTimes::default();
        times.note(Commit(1), seconds(10));
        times.note(Commit(5), seconds(20));
        times.note(Commit(6), seconds(15));
        times.note(Commit(9), seconds(30));
        assert_eq!(times.commit_at(seconds(9)), Commit::ZERO);
        assert_eq!(times.commit_at(seconds(10)), Commit(1));
        assert!(times.commit_at(seconds(20)) >= Commit(5));
        assert_eq!(times.commit_at(seconds(40)), Commit(9));
    }

    #[test]
    fn samples_stay_bounded() {
        let mut times = CommitTimes::default();
        for n in 1..100_000 {
            times.note(Commit(n), seconds(n * 2));
        }
        assert!(times.samples.len() <= MAX_SAMPLES);
        assert!(times.commit_at(seconds(100_000)) <= Commit(50_000));
        assert!(times.commit_at(seconds(100_000)) > Commit(49_000));
    }
}

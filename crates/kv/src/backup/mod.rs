//! Backups: a repository, in a folder or a bucket, of states of a database. Each backup copies only
//! the tables that no earlier one has copied; each is whole by itself and can be restored, at its
//! commit or at any earlier one that it can still read.

pub(crate) mod copy;
pub(crate) mod format;
mod renamed;

use crate::clone::refuse_used;
use crate::db::Kv;
use crate::error::{Error, Result};
use crate::readable::Readable;
use crate::state::DbState;
use crate::types::Commit;
use crate::verify::VerifyReport;
use crate::view::{SegmentPin, View};
use copy::copy;
use format::{Stored, data_name};
use renamed::Renamed;
use serde::Serialize;
use siltstone_storage::{Blobs, Env, ManifestStore, PutOutcome, Timestamp};
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

/// Longest label of a backup, in bytes.
const MAX_LABEL: usize = 255;

/// A repository of backups. Several databases should not share one.
#[derive(Debug, Clone)]
pub struct Backups {
    env: Env,
}

/// One backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct BackupInfo {
    /// Its number; later ones have higher ones.
    pub number: u64,
    /// What it was called.
    pub label: String,
    /// When it was made.
    pub created: Timestamp,
    /// The commit that it ends with.
    pub commit: Commit,
    /// Tables and blob files in it.
    pub files: u64,
    /// Their size in bytes, shared with other backups or not.
    pub bytes: u64,
}

/// What making a backup did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct BackupStats {
    /// Its number.
    pub number: u64,
    /// The commit that it ends with.
    pub commit: Commit,
    /// Tables and blob files copied.
    pub copied_files: u64,
    /// Tables and blob files that an earlier backup had copied.
    pub kept_files: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// From start to end.
    pub latency: Duration,
}

/// What a restore did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct RestoreStats {
    /// The backup.
    pub number: u64,
    /// The commit whose contents the restored database has.
    pub commit: Commit,
    /// Tables and blob files copied.
    pub files: u64,
    /// Bytes copied.
    pub bytes: u64,
    /// From start to end.
    pub latency: Duration,
}

impl Backups {
    /// The repository in the store of `env`; it may be empty.
    pub fn new(env: Env) -> Self {
        Self { env }
    }

    /// Makes a backup of everything up to the newest commit, while the database is written to.
    /// `progress` is told how many of how many files are done.
    ///
    /// # Errors
    /// The stores'. What was copied stays for the next attempt; no backup is there but the earlier
    /// ones.
    pub fn create(
        &self,
        kv: &Kv,
        label: &str,
        progress: impl FnMut(usize, usize),
    ) -> Result<BackupStats> {
        self.create_with(kv, label, progress, |_| Ok(()))
    }

    /// As [`Backups::create`]. `also` copies what else belongs to the backup, told its number, before it is
    /// there; when that fails, it is not.
    ///
    /// # Errors
    /// As [`Backups::create`], and those of `also`.
    pub fn create_with<E: From<Error>>(
        &self,
        kv: &Kv,
        label: &str,
        progress: impl FnMut(usize, usize),
        also: impl FnOnce(u64) -> Result<(), E>,
    ) -> Result<BackupStats, E> {
        let (mut stats, stored, started) = self.copy_tables(kv, label, progress)?;
        also(stats.number)?;
        let finish = || -> Result<()> {
            let to = &self.env.blobs;
            to.put(&format::name(stats.number), &stored.encode())?;
            Ok(to.delete(&format::writing(stats.number))?)
        };
        finish()?;
        stats.latency = self.env.clock.elapsed().saturating_sub(started);
        Ok(stats)
    }

    /// Copies tables and blob files under a number that is taken with it; what the backup will say, and
    /// when this began.
    fn copy_tables(
        &self,
        kv: &Kv,
        label: &str,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<(BackupStats, Stored, Duration)> {
        if label.len() > MAX_LABEL {
            return Err(Error::Backup {
                what: "its label has at most 255 bytes".into(),
            });
        }
        let started = self.env.clock.elapsed();
        let number = self.claim()?;
        let held = kv.hold_state(None)?;
        let mut stats = BackupStats {
            number,
            commit: held.commit,
            ..BackupStats::default()
        };
        let (from, to) = (&*kv.env().blobs, &*self.env.blobs);
        let there = to.list("data/")?;
        let live = held.state.tables.live();
        for (done, segment) in live.iter().enumerate() {
            let name = data_name(segment.id, &segment.meta);
            let whole = |size: u64| size == segment.meta.bytes;
            match there
                .iter()
                .any(|blob| blob.name == name && whole(blob.size))
            {
                true => stats.kept_files += 1,
                false => {
                    stats.copied_files += 1;
                    stats.bytes += copy(from, &segment.id.blob(), to, &name)?;
                }
            }
            progress(done + 1, live.len());
        }
        let stored = Stored {
            label: label.to_string(),
            created: self.env.clock.now(),
            commit: held.commit,
            epoch: held.epoch,
            state: held.state,
        };
        Ok((stats, stored, started))
    }

    /// The blobs of the repository.
    pub fn blobs(&self) -> &Arc<dyn Blobs> {
        &self.env.blobs
    }

    /// The backups, oldest first.
    ///
    /// # Errors
    /// The store's; damage.
    pub fn list(&self) -> Result<Vec<BackupInfo>> {
        let mut all = Vec::new();
        for number in self.numbers()?.0 {
            let stored = self.load(number)?;
            let live = stored.state.tables.live();
            all.push(BackupInfo {
                number,
                files: live.len() as u64,
                bytes: live.iter().map(|segment| segment.meta.bytes).sum(),
                label: stored.label,
                created: stored.created,
                commit: stored.commit,
            });
        }
        Ok(all)
    }

    /// Makes a database in the store of `to`, which holds none, from backup `number`, or the newest;
    /// with the contents at `commit`, or at the commit that the backup ends with.
    ///
    /// # Errors
    /// [`Error::Backup`] when there is no such backup; [`Error::NotRetained`] when it cannot read
    /// that commit; [`Error::NotEmpty`]; the stores'. After an error there is no database in `to`.
    pub fn restore(
        &self,
        number: Option<u64>,
        commit: Option<Commit>,
        to: Env,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<RestoreStats> {
        let started = self.env.clock.elapsed();
        refuse_used(&*to.blobs, "manifest/")?;
        let number = self.find(number)?;
        let Stored {
            mut state,
            epoch,
            commit: last,
            ..
        } = self.load(number)?;
        let commit = commit.unwrap_or(last);
        check_readable(&state, last, commit, to.clock.now())?;
        state.cut(commit, epoch);
        let mut stats = RestoreStats {
            number,
            commit,
            ..RestoreStats::default()
        };
        let live = state.tables.live();
        for (done, segment) in live.iter().enumerate() {
            let (from, name) = (data_name(segment.id, &segment.meta), segment.id.blob());
            to.blobs.delete(&name)?;
            stats.bytes += copy(&*self.env.blobs, &from, &*to.blobs, &name)?;
            stats.files += 1;
            progress(done + 1, live.len());
        }
        ManifestStore::publish(to, epoch, state)?;
        stats.latency = self.env.clock.elapsed().saturating_sub(started);
        Ok(stats)
    }

    /// Reads every block of every file of backup `number`, or the newest.
    ///
    /// # Errors
    /// Only when the check itself cannot be made; damage is in the report.
    pub fn verify(
        &self,
        number: Option<u64>,
        progress: impl FnMut(usize, usize),
    ) -> Result<VerifyReport> {
        let stored = self.load(self.find(number)?)?;
        let names = stored.state.tables.live().iter();
        let names = names.map(|s| (s.id.blob(), data_name(s.id, &s.meta)));
        let blobs = Renamed {
            repository: self.env.blobs.clone(),
            names: names.collect(),
        };
        let env = Env {
            blobs: Arc::new(blobs),
            ..self.env.clone()
        };
        crate::verify(&env, &stored.state, progress)
    }

    /// Deletes backup `number`, or what is left of an attempt at it, and the files that no other
    /// backup needs. Answers the bytes freed.
    ///
    /// # Errors
    /// [`Error::Backup`] when there is none, or another one is being made; the store's.
    pub fn remove(&self, number: u64) -> Result<u64> {
        let (done, writing) = self.numbers()?;
        if let Some(other) = writing.iter().find(|other| **other != number) {
            return Err(Error::Backup {
                what: format!(
                    "number {other} is being made, or was given up; remove it first if so"
                ),
            });
        }
        if !done.contains(&number) && !writing.contains(&number) {
            return Err(self.unknown(number, &done));
        }
        let blobs = &self.env.blobs;
        let mut needed = BTreeSet::new();
        for other in done.iter().filter(|other| **other != number) {
            let stored = self.load(*other)?;
            let live = stored.state.tables.live().iter();
            needed.extend(live.map(|segment| data_name(segment.id, &segment.meta)));
        }
        // First the backup, so that none ever names a file that is gone.
        blobs.delete(&format::name(number))?;
        let mut freed = 0;
        for blob in blobs.list("data/")? {
            if !needed.contains(&blob.name) {
                blobs.delete(&blob.name)?;
                freed += blob.size;
            }
        }
        blobs.delete(&format::writing(number))?;
        Ok(freed)
    }

    /// Takes the next number, with a note that keeps files from being removed meanwhile.
    fn claim(&self) -> Result<u64> {
        loop {
            let (done, writing) = self.numbers()?;
            let last = done.iter().chain(&writing).max();
            let number = last.map_or(1, |last| last + 1);
            let note = self.env.rng.next().to_le_bytes();
            let note_name = format::writing(number);
            if self.env.blobs.put_if_absent(&note_name, &note)? == PutOutcome::Created {
                return Ok(number);
            }
        }
    }

    /// The numbers of backups that are done, and of those that are not.
    fn numbers(&self) -> Result<(BTreeSet<u64>, BTreeSet<u64>)> {
        let listed = self.env.blobs.list("backup/")?;
        let numbers = listed.iter().filter_map(|b| format::number_of(&b.name));
        let (writing, done): (Vec<_>, Vec<_>) = numbers.partition(|(_, writing)| *writing);
        let done: BTreeSet<u64> = done.into_iter().map(|(number, _)| number).collect();
        let writing = writing.into_iter().map(|(number, _)| number);
        let unfinished = writing.filter(|number| !done.contains(number)).collect();
        Ok((done, unfinished))
    }

    /// The number of a backup that is there: `number`, or the newest's.
    ///
    /// # Errors
    /// [`Error::Backup`] when there is none; the store's.
    pub fn number(&self, number: Option<u64>) -> Result<u64> {
        self.find(number)
    }

    fn find(&self, number: Option<u64>) -> Result<u64> {
        let (done, _) = self.numbers()?;
        match number {
            Some(number) if done.contains(&number) => Ok(number),
            Some(number) => Err(self.unknown(number, &done)),
            None => done.last().copied().ok_or_else(|| Error::Backup {
                what: format!("there is none in {}", self.env.blobs.describe()),
            }),
        }
    }

    fn unknown(&self, number: u64, known: &BTreeSet<u64>) -> Error {
        let known: Vec<_> = known.iter().map(u64::to_string).collect();
        Error::Backup {
            what: format!(
                "there is no number {number}; there are: {}",
                known.join(", ")
            ),
        }
    }

    fn load(&self, number: u64) -> Result<Stored> {
        let name = format::name(number);
        Stored::decode(&name, &self.env.blobs.get(&name)?)
    }
}

/// Fails when the state of a backup that ends with `last` cannot be read at `commit`.
fn check_readable(state: &DbState, last: Commit, commit: Commit, now: Timestamp) -> Result<()> {
    if commit > last {
        return Err(Error::FutureCommit {
            asked: commit,
            newest: last,
        });
    }
    if let Some(before) = state.hidden.before(commit) {
        return Err(Error::NotRetained {
            asked: commit,
            before: Some(before),
            after: None,
        });
    }
    if commit == last {
        return Ok(());
    }
    for keyspace in &state.keyspaces {
        let memtables = (Arc::new(crate::memtable::Memtable::new(0, 0)), Vec::new());
        let pin = SegmentPin::of_nothing();
        let no_runs = Vec::new().into();
        let view = View::new(keyspace, &state.hidden, memtables, no_runs, last, pin);
        let young = state.times.young_from(&view, now);
        Readable::new(&view, state.head, young).check(commit, || state.checkpoint_pins(now))?;
    }
    Ok(())
}

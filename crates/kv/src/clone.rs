//! Clones: another database that starts with the contents of this one at a commit. Its tables are
//! the same files (or copies that the bucket makes by itself); from there on each goes its way.

use crate::backup::copy::link_or_copy;
use crate::db::Kv;
use crate::error::{Error, Result};
use crate::snapshot::Snapshot;
use crate::state::DbState;
use crate::types::Commit;
use crate::view::SegmentPin;
use serde::Serialize;
use siltstone_storage::{Blobs, Env, ManifestStore};
use std::sync::Arc;
use std::time::Duration;

/// What a clone did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct CloneStats {
    /// The commit whose contents the clone starts with.
    pub commit: Commit,
    /// Tables and blob files that are shared, or were copied by the store itself.
    pub linked: u64,
    /// Tables and blob files that had to be read and written.
    pub copied: u64,
    /// Bytes read and written.
    pub bytes: u64,
    /// From start to end.
    pub latency: Duration,
}

/// A state of the database that ends with a commit, held while it is read.
#[derive(Debug)]
pub(crate) struct Held {
    /// The commit it ends with.
    pub(crate) commit: Commit,
    pub(crate) state: DbState,
    pub(crate) epoch: u64,
    _segments: Arc<SegmentPin>,
    _snapshots: Vec<Snapshot>,
}

impl Kv {
    /// Makes a database in `to`, which holds none, with the contents at `commit`; `None`: now.
    /// `progress` is told how many of how many files are done.
    ///
    /// # Errors
    /// [`Error::NotRetained`], [`Error::FutureCommit`]; [`Error::NotEmpty`]; the stores'. After an
    /// error there is no database in `to`, but perhaps files, which another attempt replaces.
    pub fn clone_at(
        &self,
        commit: Option<Commit>,
        to: Arc<dyn Blobs>,
        mut progress: impl FnMut(usize, usize),
    ) -> Result<CloneStats> {
        let core = self.core();
        let clock = &core.shared.env.clock;
        let started = clock.elapsed();
        refuse_used(&*to, "manifest/")?;
        let held = self.hold_state(commit)?;
        let mut stats = CloneStats {
            commit: held.commit,
            ..CloneStats::default()
        };
        let from = &core.shared.env.blobs;
        let live = held.state.tables.live();
        for (done, segment) in live.iter().enumerate() {
            let name = segment.id.blob();
            let (linked, bytes) = link_or_copy(&**from, &name, &*to, &name)?;
            stats.linked += u64::from(linked);
            stats.copied += u64::from(!linked);
            stats.bytes += bytes;
            progress(done + 1, live.len());
        }
        let target = Env {
            blobs: to,
            ..core.shared.env.clone()
        };
        ManifestStore::publish(target, held.epoch, held.state)?;
        stats.latency = clock.elapsed().saturating_sub(started);
        Ok(stats)
    }

    /// The state that ends with `commit`, all of it in tables, held from being changed.
    pub(crate) fn hold_state(&self, commit: Option<Commit>) -> Result<Held> {
        let core = self.core();
        let keyspaces = self.keyspaces();
        let mut snapshots = Vec::new();
        let commit = match commit {
            Some(commit) => commit,
            None => {
                let now = self.default_keyspace().snapshot()?;
                let commit = now.pin.commit;
                snapshots.push(now);
                commit
            }
        };
        if snapshots.is_empty() {
            for name in keyspaces {
                snapshots.push(self.keyspace(&name)?.at_commit(commit)?);
            }
        }
        // Durable, and in tables.
        core.sync()?;
        self.flush()?;
        let (current, segments) = core.pin_current();
        let mut state = current.state.clone();
        state.times = core.times.lock().clone();
        state.cut(commit, current.epoch);
        Ok(Held {
            commit,
            state,
            epoch: current.epoch,
            _segments: segments,
            _snapshots: snapshots,
        })
    }
}

/// Fails when something is there already.
pub(crate) fn refuse_used(to: &dyn Blobs, prefix: &str) -> Result<()> {
    match to.list(prefix)?.first() {
        None => Ok(()),
        Some(found) => Err(Error::NotEmpty {
            store: to.describe(),
            found: found.name.clone(),
        }),
    }
}

//! Commits that something holds: snapshots, and scans that outlive them.

use crate::error::Result;
use crate::read::{Read, ReadAt, ViewRef};
use crate::shared::Shared;
use crate::types::Commit;
use crate::view::KeyspaceCore;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The held commits of this process, with how often each is held.
#[derive(Debug, Default)]
pub(crate) struct HeldCommits(Mutex<BTreeMap<Commit, usize>>);

impl HeldCommits {
    /// Holds the commit that `choose` answers; a compaction cannot look between the two.
    pub(crate) fn hold(
        shared: &Arc<Shared>,
        choose: impl FnOnce() -> Result<Commit>,
    ) -> Result<CommitPin> {
        let mut held = shared.held.0.lock();
        let commit = choose()?;
        *held.entry(commit).or_default() += 1;
        Ok(CommitPin {
            shared: shared.clone(),
            commit,
        })
    }

    /// The held commits, and what `look` sees in the same moment.
    pub(crate) fn with<R>(&self, look: impl FnOnce() -> R) -> (Vec<Commit>, R) {
        let held = self.0.lock();
        (held.keys().copied().collect(), look())
    }

    /// The held commits, without one holder of `commit`.
    pub(crate) fn others(&self, commit: Commit) -> Vec<Commit> {
        let held = self.0.lock();
        held.iter()
            .filter(|(c, count)| **c != commit || **count > 1)
            .map(|(c, _)| *c)
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().values().sum()
    }
}

/// Holds a commit until dropped.
#[derive(Debug)]
pub(crate) struct CommitPin {
    shared: Arc<Shared>,
    pub(crate) commit: Commit,
}

impl Drop for CommitPin {
    fn drop(&mut self) {
        let mut held = self.shared.held.0.lock();
        if let Some(count) = held.get_mut(&self.commit) {
            *count -= 1;
            if *count == 0 {
                held.remove(&self.commit);
            }
        }
    }
}

/// A keyspace as it was at one commit, for as long as this lives.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) core: Arc<KeyspaceCore>,
    pub(crate) pin: Arc<CommitPin>,
}

impl Read for Snapshot {
    fn at(&self) -> Result<ReadAt> {
        let shared = self.pin.shared.clone();
        shared.check_open()?;
        Ok(ReadAt {
            view: ViewRef::Guard(self.core.view.load()),
            commit: self.pin.commit,
            shared,
            hold: Some(self.pin.clone()),
        })
    }
}

//! Commits that something holds: snapshots, and scans that outlive them.

use crate::error::Result;
use crate::read::{Read, ReadAt, ViewRef};
use crate::shared::Shared;
use crate::types::{Commit, KeyspaceId};
use crate::view::{KeyspaceCore, View};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// The held commits of this process, with how often each is held and for whom.
#[derive(Debug, Default)]
pub(crate) struct HeldCommits(Mutex<BTreeMap<Commit, BTreeMap<Scope, usize>>>);

/// Of which keyspaces a held commit was readable when it began to be held. Compaction honours every
/// hold; whether a commit is intact is told by those that were readable.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Scope {
    /// Of none, for all that is known yet.
    Unchecked,
    /// Of this one; another may have dropped it long before.
    Keyspace(KeyspaceId),
    /// Of all: it was the head.
    All,
}

impl HeldCommits {
    /// Holds the commit that `choose` answers; a compaction cannot look between the two.
    pub(crate) fn hold(
        shared: &Arc<Shared>,
        scope: Scope,
        choose: impl FnOnce() -> Result<Commit>,
    ) -> Result<CommitPin> {
        let mut held = shared.held.0.lock();
        let commit = choose()?;
        *held.entry(commit).or_default().entry(scope).or_default() += 1;
        Ok(CommitPin {
            shared: shared.clone(),
            commit,
            scope,
        })
    }

    /// The held commits, and what `look` sees in the same moment.
    pub(crate) fn with<R>(&self, look: impl FnOnce() -> R) -> (Vec<Commit>, R) {
        let held = self.0.lock();
        (held.keys().copied().collect(), look())
    }

    /// The held commits that are known to be intact in `keyspace`.
    pub(crate) fn intact(&self, keyspace: KeyspaceId) -> Vec<Commit> {
        let held = self.0.lock();
        let known = |scopes: &BTreeMap<Scope, usize>| {
            scopes.contains_key(&Scope::All) || scopes.contains_key(&Scope::Keyspace(keyspace))
        };
        held.iter()
            .filter(|(_, scopes)| known(scopes))
            .map(|(commit, _)| *commit)
            .collect()
    }

    pub(crate) fn count(&self) -> usize {
        self.0.lock().values().flat_map(BTreeMap::values).sum()
    }

    fn release(&self, commit: Commit, scope: Scope) {
        let mut held = self.0.lock();
        if let Some(scopes) = held.get_mut(&commit) {
            if let Some(count) = scopes.get_mut(&scope) {
                *count -= 1;
            }
            scopes.retain(|_, count| *count > 0);
            if scopes.is_empty() {
                held.remove(&commit);
            }
        }
    }
}

/// Holds a commit until dropped.
#[derive(Debug)]
pub(crate) struct CommitPin {
    shared: Arc<Shared>,
    pub(crate) commit: Commit,
    scope: Scope,
}

impl CommitPin {
    /// True when it was the head when it began to be held: every compaction since has kept what it
    /// reads, whatever marks say about versions around it.
    pub(crate) fn is_exact(&self) -> bool {
        self.scope == Scope::All
    }

    /// The commit proved to be readable in `keyspace`.
    pub(crate) fn confirm(self, keyspace: KeyspaceId) -> Result<Self> {
        // The new hold first, so that there is no moment without one.
        HeldCommits::hold(&self.shared, Scope::Keyspace(keyspace), || Ok(self.commit))
    }
}

impl Drop for CommitPin {
    fn drop(&mut self) {
        self.shared.held.release(self.commit, self.scope);
    }
}

/// A keyspace as it was at one commit, for as long as this lives.
#[derive(Debug, Clone)]
pub struct Snapshot {
    pub(crate) core: Arc<KeyspaceCore>,
    pub(crate) pin: Arc<CommitPin>,
    /// A reader's: what it saw. The writer knows nothing of a reader's commits, so a newer view may
    /// lack their versions.
    pub(crate) view: Option<Arc<View>>,
}

impl Read for Snapshot {
    fn at(&self) -> Result<ReadAt> {
        let shared = self.pin.shared.clone();
        shared.check_open()?;
        Ok(ReadAt {
            view: match &self.view {
                Some(view) => ViewRef::Held(view.clone()),
                None => ViewRef::Guard(self.core.view.load()),
            },
            commit: self.pin.commit,
            shared,
            hold: Some(self.pin.clone()),
            overlay: None,
        })
    }
}

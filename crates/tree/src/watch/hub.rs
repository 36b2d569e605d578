//! Where news of commits meets those who watch. A commit puts its changes, shared, into the boxes of
//! those it concerns, in the order of commits; each takes them out as they become visible. A box that
//! is full is emptied: its watch reads the history instead, so a slow one costs a writer nothing.

use super::index::Index;
use super::project::Watched;
use crate::error::Result;
use crate::key;
use crate::rows::{Changed, Rows};
use crate::view;
use parking_lot::{Condvar, Mutex};
use siltstone_kv::Commit;
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::Waker;

/// Commits that wait in a box.
pub(crate) const MOST_COMMITS: usize = 1024;
/// Rows of all commits that wait in a box.
const MOST_ROWS: usize = 64 * 1024;

/// The watches of a tree.
#[derive(Debug, Default)]
pub(crate) struct Hub {
    watches: Mutex<Watches>,
    /// How many there are; looked at without the lock.
    count: AtomicUsize,
}

#[derive(Debug, Default)]
struct Watches {
    last: u64,
    index: Index,
    boxes: BTreeMap<u64, (Arc<Mailbox>, Arc<Watched>)>,
}

/// What one commit wrote, for all who watch.
#[derive(Debug, Default)]
pub(crate) struct Wrote {
    pub(crate) changed: Changed,
    pub(crate) cleared: Vec<Vec<u8>>,
}

/// News of a commit that has no number yet, and whom they concern.
#[derive(Debug)]
pub(crate) struct News {
    wrote: Arc<Wrote>,
    boxes: Vec<Arc<Mailbox>>,
    numbered: AtomicUsize,
}

/// A watch's box.
#[derive(Debug, Default)]
pub(crate) struct Mailbox {
    state: Mutex<Waiting>,
    arrived: Condvar,
}

#[derive(Debug, Default)]
pub(crate) struct Waiting {
    pub(crate) news: VecDeque<(Commit, Arc<Wrote>)>,
    rows: usize,
    /// News up to this commit did not fit: the history must be read that far.
    pub(crate) lost: Option<Commit>,
    /// Nothing more will come.
    pub(crate) failed: Option<siltstone_kv::Error>,
    waker: Option<Waker>,
}

impl Hub {
    /// Registers a watch. The caller stands in the tree's gate.
    pub(crate) fn add(&self, watched: Arc<Watched>) -> (u64, Arc<Mailbox>) {
        let mailbox = Arc::new(Mailbox::default());
        let mut watches = self.watches.lock();
        watches.last += 1;
        let id = watches.last;
        watches.index.add(watched.key(), id);
        watches.boxes.insert(id, (mailbox.clone(), watched));
        self.count.store(watches.boxes.len(), Ordering::SeqCst);
        (id, mailbox)
    }

    pub(crate) fn remove(&self, id: u64) {
        let mut watches = self.watches.lock();
        if let Some((_, watched)) = watches.boxes.remove(&id) {
            watches.index.remove(watched.key(), id);
        }
        self.count.store(watches.boxes.len(), Ordering::SeqCst);
    }

    /// How many watches there are.
    pub(crate) fn count(&self) -> usize {
        self.count.load(Ordering::SeqCst)
    }

    /// Finds whom a commit concerns that is being worked out on `rows`. The caller stands in the
    /// tree's gate, where watches are registered, so that nobody comes between.
    pub(crate) fn prepare(
        &self,
        rows: &dyn Rows,
        changed: &Changed,
        cleared: &[Vec<u8>],
    ) -> Result<Option<News>> {
        if self.count() == 0 {
            return Ok(None);
        }
        let watches = self.watches.lock();
        let concerned = watches.index.concerned(changed, cleared);
        let found: Vec<_> = concerned
            .iter()
            .filter_map(|id| watches.boxes.get(id).cloned())
            .collect();
        drop(watches);
        if found.is_empty() {
            return Ok(None);
        }
        let mut wrote = Wrote {
            changed: changed.clone(),
            cleared: cleared.to_vec(),
        };
        for (_, watched) in &found {
            note_gone(rows, watched, cleared, &mut wrote.changed)?;
        }
        Ok(Some(News {
            wrote: Arc::new(wrote),
            boxes: found.into_iter().map(|(mailbox, _)| mailbox).collect(),
            numbered: AtomicUsize::new(0),
        }))
    }
}

/// The deletion of a whole subtree does not name what was in it. What a watch looks at in there is
/// looked up, so that it sees its own node go, and nothing when there was none.
pub(crate) fn note_gone(
    rows: &dyn Rows,
    watched: &Watched,
    cleared: &[Vec<u8>],
    changed: &mut Changed,
) -> Result<()> {
    for prefix in cleared {
        if watched.is_literal() {
            let key = watched.key();
            let below = key.starts_with(prefix) && key.len() > prefix.len();
            if below && !changed.contains_key(key) && rows.get(key)?.is_some() {
                changed.insert(key.to_vec(), None);
            }
        } else if let Some(path) = key::decode(prefix)
            && watched.pattern().may_match_below(&path)
        {
            for node in view::matching(rows, watched.pattern())? {
                let key = key::encode(&node);
                if key.len() > prefix.len() && key.starts_with(prefix) {
                    changed.entry(key).or_insert(None);
                }
            }
        }
    }
    Ok(())
}

impl News {
    /// The commit has its number. Called in the order of commits.
    pub(crate) fn number(&self, commit: Commit) {
        self.numbered.store(1, Ordering::SeqCst);
        for mailbox in &self.boxes {
            mailbox.put(commit, &self.wrote);
        }
    }

    /// The commit is visible, or has failed.
    pub(crate) fn deliver(&self, written: &Result<Commit, siltstone_kv::Error>) {
        for mailbox in &self.boxes {
            match written {
                Ok(_) => mailbox.wake(),
                // A write that fails with its number stops all writes.
                Err(error) if self.numbered.load(Ordering::SeqCst) == 1 => {
                    mailbox.fail(error.clone());
                }
                Err(_) => {}
            }
        }
    }
}

impl Mailbox {
    fn put(&self, commit: Commit, wrote: &Arc<Wrote>) {
        let rows = wrote.changed.len() + wrote.cleared.len();
        let mut state = self.state.lock();
        if state.lost.is_none()
            && state.news.len() < MOST_COMMITS
            && (state.news.is_empty() || state.rows + rows <= MOST_ROWS)
        {
            state.rows += rows;
            state.news.push_back((commit, wrote.clone()));
        } else {
            state.news.clear();
            state.rows = 0;
            state.lost = Some(commit);
        }
    }

    fn wake(&self) {
        let mut state = self.state.lock();
        let waker = state.waker.take();
        drop(state);
        self.arrived.notify_all();
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn fail(&self, error: siltstone_kv::Error) {
        self.state.lock().failed = Some(error);
        self.wake();
    }

    /// Looks in with the lock held.
    pub(crate) fn look<T>(&self, look: impl FnOnce(&mut Waiting) -> T) -> T {
        look(&mut self.state.lock())
    }

    /// Waits until `ready` answers something, for `most` at longest.
    pub(crate) fn wait<T>(
        &self,
        most: std::time::Duration,
        mut ready: impl FnMut(&mut Waiting) -> Option<T>,
    ) -> Option<T> {
        let mut state = self.state.lock();
        if let Some(found) = ready(&mut state) {
            return Some(found);
        }
        self.arrived.wait_for(&mut state, most);
        ready(&mut state)
    }
}

impl Waiting {
    /// Takes out the next news up to `visible`.
    pub(crate) fn take(&mut self, visible: Commit) -> Option<(Commit, Arc<Wrote>)> {
        let news = self.news.pop_front_if(|(commit, _)| *commit <= visible)?;
        self.rows -= news.1.changed.len() + news.1.cleared.len();
        Some(news)
    }

    /// Wakes this task when something comes.
    pub(crate) fn wake_by(&mut self, waker: &Waker) {
        self.waker = Some(waker.clone());
    }
}

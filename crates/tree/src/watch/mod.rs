//! Watches: every commit that changes what is watched, once, in order, with what it changed there.
//!
//! A watch has a place, the commit up to which everything was delivered. What happens now comes from
//! the tree's hub; what happened before, and what a slow watch has missed, is read from the history.
//! Both know commits by the same rows, so going from one to the other leaves no gap and repeats
//! nothing.

mod hub;
mod index;
#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "a test ends where it fails")]
mod interleavings;
mod project;

pub(crate) use hub::{Hub, News, note_gone};
pub use project::Change;
pub(crate) use project::Watched;

use crate::error::{Error, Result};
use crate::path::{Path, ToPattern};
use crate::rows::Changed;
use crate::source::Source;
use crate::tree::{Inner, Tree};
use crate::value::Value;
use hub::Mailbox;
use siltstone_kv::{Commit, Error as KvError, KeyRange, range_history};
use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

/// Commits whose history is read at once, at first; more while nothing is found in them.
const SPAN: u64 = 1_000;
/// The longest that a watch waits before it looks again by itself.
const LOOK_AGAIN: Duration = Duration::from_millis(250);

/// Where a watch starts.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum WatchFrom {
    /// With the state now; then every change.
    #[default]
    Now,
    /// With the state at this commit; then the changes since, a mark that all were delivered, and
    /// every change from then on.
    StateAt(Commit),
    /// With the changes after this commit; then the mark, and every change from then on. To go on
    /// after a break: the last commit that was delivered.
    After(Commit),
}

/// What a watch delivers.
#[derive(Debug, Clone, PartialEq)]
pub enum WatchEvent {
    /// What is watched, as it was at a commit.
    State {
        /// The commit.
        commit: Commit,
        /// The nodes with their values; none when there is nothing.
        nodes: Vec<(Path, Value)>,
    },
    /// A commit changed what is watched.
    Changes {
        /// The commit.
        commit: Commit,
        /// What it changed there, in the order of the paths.
        changes: Vec<Change>,
    },
    /// Everything up to this commit, the newest when the watch began or later, was delivered; what
    /// follows happens from now on.
    CaughtUp {
        /// The commit.
        commit: Commit,
    },
}

impl WatchEvent {
    /// The commit it is about.
    pub fn commit(&self) -> Commit {
        match self {
            WatchEvent::State { commit, .. }
            | WatchEvent::Changes { commit, .. }
            | WatchEvent::CaughtUp { commit } => *commit,
        }
    }
}

/// A watch. Dropped, it is over.
#[derive(Debug)]
pub struct Watch {
    tree: Arc<Inner>,
    id: u64,
    mailbox: Arc<Mailbox>,
    watched: Arc<Watched>,
    /// Everything up to here was read.
    read: Commit,
    /// Everything up to here was delivered.
    delivered: Commit,
    ready: VecDeque<WatchEvent>,
    phase: Phase,
    span: u64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Phase {
    /// Reads the history; `mark` when the end of it is to be told.
    History {
        mark: bool,
    },
    Live,
}

impl Tree {
    /// Watches what `pattern` names: a path, or a pattern with wildcards; also what is not there yet.
    ///
    /// ```
    /// # use siltstone_kv::{Kv, KeyspaceOptions, Options};
    /// # use siltstone_storage::{Env, MemBlobs};
    /// # let env = Env::system(std::sync::Arc::new(MemBlobs::new()));
    /// # let kv = Kv::open(env, Options::default(), KeyspaceOptions::default(), None).unwrap();
    /// use siltstone_tree::{Trees, WatchEvent, WatchFrom};
    /// let tree = Trees::of(&kv).create("users", KeyspaceOptions::default())?;
    /// let mut names = tree.watch("*.name", WatchFrom::Now)?;
    /// assert!(matches!(names.try_next()?, Some(WatchEvent::State { .. })));
    /// tree.set("ada.age", 36)?;
    /// let commit = tree.set("ada.name", "Ada")?;
    /// let Some(WatchEvent::Changes { commit: at, changes }) = names.try_next()? else { panic!() };
    /// assert_eq!(at, commit);
    /// assert_eq!(changes[0].path.to_string(), "ada.name");
    /// # Ok::<(), siltstone_tree::Error>(())
    /// ```
    ///
    /// # Errors
    /// [`Error::WatchGone`] when the commit to start from is not retained any more, naming where to
    /// start; [`KvError::FutureCommit`]; the store's.
    pub fn watch(&self, pattern: impl ToPattern, from: WatchFrom) -> Result<Watch> {
        let watched = Arc::new(Watched::new(pattern.to_pattern()?));
        let inner = &self.inner;
        let after = match from {
            WatchFrom::Now => None,
            WatchFrom::StateAt(commit) | WatchFrom::After(commit) => {
                check_start(&inner.source(), commit, inner.kv.head())?;
                Some(commit)
            }
        };
        let gate = inner.enter()?;
        let (id, mailbox) = inner.hub.add(watched.clone());
        let last = gate.last;
        drop(gate);
        // From here on `drop` takes the registration back.
        let mut watch = Watch {
            tree: inner.clone(),
            id,
            mailbox,
            watched,
            read: Commit::ZERO,
            delivered: Commit::ZERO,
            ready: VecDeque::new(),
            phase: Phase::Live,
            span: SPAN,
        };
        // What had its number before the registration is not in the box; it must be in the history.
        watch.wait_for(last)?;
        let state_at = match from {
            WatchFrom::Now => Some(None),
            WatchFrom::StateAt(commit) => Some(Some(commit)),
            WatchFrom::After(_) => None,
        };
        if let Some(at) = state_at {
            let view = inner.source().view(&inner.name, at)?;
            let nodes = view.nodes(watch.watched.pattern())?;
            let commit = view.commit();
            watch.ready.push_back(WatchEvent::State { commit, nodes });
            watch.read = commit;
        }
        if let Some(after) = after {
            watch.read = after;
            watch.phase = Phase::History { mark: true };
        }
        watch.delivered = watch.read;
        Ok(watch)
    }

    /// How many watches there are.
    pub fn watch_count(&self) -> usize {
        self.inner.hub.count()
    }
}

/// Refuses a start that lies before what can be told commit by commit, or after what there is.
pub(crate) fn check_start(source: &Source, after: Commit, head: Commit) -> Result<()> {
    if after > head {
        return Err(Error::Kv(KvError::FutureCommit {
            asked: after,
            newest: head,
        }));
    }
    let restart = source.window_start()?;
    match after < restart {
        true => Err(Error::WatchGone { after, restart }),
        false => Ok(()),
    }
}

/// The changes of a span of commits, by commit.
pub(crate) fn history_of(
    source: &Source,
    watched: &Watched,
    after: Commit,
    upto: Commit,
) -> Result<BTreeMap<Commit, Vec<Change>>> {
    let range = KeyRange::prefix(watched.key());
    let rows = range_history(source, &range, after, upto)?;
    let mut commits: BTreeMap<Commit, Changed> = BTreeMap::new();
    for row in rows {
        let changed = commits.entry(row.commit).or_default();
        changed.insert(row.key.to_vec(), row.new);
    }
    let mut found = BTreeMap::new();
    for (commit, changed) in commits {
        let changes = watched.changes(&changed, &[])?;
        if !changes.is_empty() {
            found.insert(commit, changes);
        }
    }
    Ok(found)
}

impl Watch {
    /// The commit up to which everything was delivered: where another watch can go on. It moves also
    /// when commits pass that do not concern this watch.
    pub fn position(&mut self) -> Commit {
        let visible = self.tree.kv.head();
        let quiet = self
            .mailbox
            .look(|state| state.news.is_empty() && state.lost.is_none());
        if quiet && self.phase == Phase::Live && self.ready.is_empty() {
            self.read = self.read.max(visible);
            self.delivered = self.read;
        }
        self.delivered
    }

    /// True when the next step reads the history, which may wait for a disk.
    pub fn reads_history(&self) -> bool {
        let lost = || self.mailbox.look(|state| state.lost.is_some());
        self.ready.is_empty() && (self.phase != Phase::Live || lost())
    }

    fn wait_for(&self, commit: Commit) -> Result<()> {
        if commit > self.tree.kv.head() {
            self.tree.kv.wait_visible()?;
        }
        Ok(())
    }

    /// The next event; `None` when there is none at this moment.
    ///
    /// # Errors
    /// [`Error::WatchGone`] when it was too slow and history has gone on, naming where to start again;
    /// the store's; [`KvError::Stopped`]. Nothing is passed over.
    pub fn try_next(&mut self) -> Result<Option<WatchEvent>> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.delivered = self.delivered.max(event.commit());
                return Ok(Some(event));
            }
            match self.phase {
                Phase::History { mark } => self.read_history(mark)?,
                Phase::Live => {
                    let visible = self.tree.kv.head();
                    let (lost, news, failed) = self.mailbox.look(|state| {
                        let lost = state.lost.take();
                        let news = match lost {
                            Some(_) => None,
                            None => state.take(visible),
                        };
                        (lost, news, state.failed.clone())
                    });
                    if let Some(lost) = lost {
                        self.wait_for(lost)?;
                        self.phase = Phase::History { mark: false };
                        continue;
                    }
                    let Some((commit, wrote)) = news else {
                        return failed.map_or(Ok(None), |error| Err(error.into()));
                    };
                    if commit <= self.read {
                        continue;
                    }
                    let changes = self.watched.changes(&wrote.changed, &wrote.cleared)?;
                    self.read = commit;
                    if !changes.is_empty() {
                        self.ready
                            .push_back(WatchEvent::Changes { commit, changes });
                    }
                }
            }
        }
    }

    /// Reads on in the history; at its end what comes is live.
    fn read_history(&mut self, mark: bool) -> Result<()> {
        let source = self.tree.source();
        let head = self.tree.kv.head();
        let upto = head.min(Commit(self.read.0.saturating_add(self.span)));
        let found = history_of(&source, &self.watched, self.read, upto)
            .map_err(|error| error.of_tree(&self.tree.name))?;
        // Looked at afterwards: what was let go of meanwhile may have been missed.
        let restart = source.window_start()?;
        if self.read < restart {
            // The same answer again, until somebody starts another watch.
            return Err(Error::WatchGone {
                after: self.read,
                restart,
            });
        }
        self.span = match found.len() {
            0..100 => self.span.saturating_mul(2),
            100..10_000 => self.span,
            _ => (self.span / 2).max(1),
        };
        let events = found.into_iter();
        self.ready
            .extend(events.map(|(commit, changes)| WatchEvent::Changes { commit, changes }));
        self.read = upto;
        if upto == head {
            if mark {
                self.ready.push_back(WatchEvent::CaughtUp { commit: upto });
            }
            self.phase = Phase::Live;
        }
        Ok(())
    }

    /// As [`Watch::try_next`], waiting for up to `patience`.
    ///
    /// # Errors
    /// As [`Watch::try_next`]; [`KvError::Closed`] when the database is closed.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<WatchEvent>> {
        let clock = self.tree.kv.env().clock.clone();
        let until = clock.elapsed() + patience;
        loop {
            if let Some(event) = self.try_next()? {
                return Ok(Some(event));
            }
            let left = until.saturating_sub(clock.elapsed());
            if left.is_zero() {
                return Ok(None);
            }
            siltstone_kv::Read::commit(&self.tree.keyspace)?;
            let kv = &self.tree.kv;
            self.mailbox
                .wait(left.min(LOOK_AGAIN), |state| is_there(state, kv.head()));
        }
    }

    /// As [`Watch::try_next`], waiting as long as it takes.
    ///
    /// # Errors
    /// As [`Watch::next_within`].
    #[expect(
        clippy::should_implement_trait,
        reason = "it can fail, and never ends by itself"
    )]
    pub fn next(&mut self) -> Result<WatchEvent> {
        loop {
            if let Some(event) = self.next_within(Duration::from_secs(3600))? {
                return Ok(event);
            }
        }
    }

    /// As [`Watch::try_next`], for tasks: the task is woken when there may be something. Reading the
    /// history may wait for a disk.
    ///
    /// # Errors
    /// As [`Watch::try_next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        loop {
            if let Some(event) = self.try_next().transpose() {
                return Poll::Ready(event);
            }
            let kv = &self.tree.kv;
            let there = self.mailbox.look(|state| {
                state.wake_by(context.waker());
                is_there(state, kv.head()).is_some()
            });
            if !there {
                return Poll::Pending;
            }
        }
    }
}

/// Something to take out, or to act on.
fn is_there(state: &mut hub::Waiting, visible: Commit) -> Option<()> {
    let next = state
        .news
        .front()
        .is_some_and(|(commit, _)| *commit <= visible);
    (next || state.lost.is_some() || state.failed.is_some()).then_some(())
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.tree.hub.remove(self.id);
    }
}

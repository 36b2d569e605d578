//! A tree beside its writer, in another process: reads of any retained commit, and watches that
//! follow the change feed.

use crate::error::{Error, Result};
use crate::history::{NodeHistory, history};
use crate::meta::{Meta, ScopeInfo};
use crate::path::{ToPath, ToPattern};
use crate::rows::{Changed, Stored};
use crate::source::Source;
use crate::tree::{keyspace_name, names};
use crate::view::View;
use crate::watch::{WatchEvent, WatchFrom, Watched, check_start, history_of, note_gone};
use siltstone_kv::{
    ChangeKind, ChangeSet, Changes, Commit, CommitRanges, Error as KvError, Read, Reader,
};
use std::collections::VecDeque;
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

/// A tree of a database that is open for reading.
#[derive(Debug, Clone)]
pub struct ReadTree {
    reader: Reader,
    name: Arc<str>,
}

impl ReadTree {
    /// The tree called `name`.
    ///
    /// # Errors
    /// [`Error::UnknownTree`] naming those there are.
    pub fn open(reader: &Reader, name: &str) -> Result<Self> {
        let tree = Self {
            reader: reader.clone(),
            name: name.into(),
        };
        tree.source()?;
        Ok(tree)
    }

    /// The names of all trees, in order.
    pub fn names(reader: &Reader) -> Vec<String> {
        names(&reader.keyspaces())
    }

    /// As the reader sees it now.
    fn source(&self) -> Result<Source> {
        match self.reader.keyspace(&keyspace_name(&self.name)) {
            Ok(keyspace) => Ok(Source::Reader(keyspace)),
            Err(KvError::UnknownKeyspace { .. }) => Err(Error::UnknownTree {
                name: self.name.to_string(),
                known: Self::names(&self.reader).join(", "),
            }),
            Err(error) => Err(error.into()),
        }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The newest commit that the reader sees.
    ///
    /// # Errors
    /// The store's.
    pub fn head(&self) -> Result<Commit> {
        Ok(self.source()?.commit()?)
    }

    /// The document as the reader sees it now.
    ///
    /// # Errors
    /// The store's.
    pub fn view(&self) -> Result<View> {
        self.source()?.view(&self.name, None)
    }

    /// The document as it was at `commit`.
    ///
    /// # Errors
    /// [`KvError::NotRetained`] naming the nearest readable commits.
    pub fn at(&self, commit: Commit) -> Result<View> {
        self.source()?.view(&self.name, Some(commit))
    }

    /// The document at `commit`, or now, as a scope sees it.
    ///
    /// # Errors
    /// [`Error::UnknownScope`]; as [`ReadTree::at`].
    pub fn scope(&self, name: &str, commit: Option<Commit>) -> Result<View> {
        let scopes = self.scopes()?;
        if !scopes.iter().any(|scope| scope.name == name) {
            let known: Vec<_> = scopes.into_iter().map(|scope| scope.name).collect();
            return Err(Error::UnknownScope {
                name: name.to_string(),
                known: known.join(", "),
            });
        }
        crate::scope::scoped_view(&self.source()?, &self.name, name, commit)
    }

    /// All scopes, by name.
    ///
    /// # Errors
    /// The store's.
    pub fn scopes(&self) -> Result<Vec<ScopeInfo>> {
        let meta = Meta::read(&Stored(self.source()?))?;
        Ok(meta.scopes.into_values().collect())
    }

    /// The commits of a range that changed a node; see [`crate::Tree::history`].
    ///
    /// # Errors
    /// As there.
    pub fn history(
        &self,
        path: impl ToPath,
        commits: impl RangeBounds<Commit>,
        limit: usize,
    ) -> Result<NodeHistory> {
        history(&self.source()?, &path.to_path()?, &commits, limit)
    }

    /// How a node differs between two commits; see [`crate::Tree::diff`].
    ///
    /// # Errors
    /// As there.
    pub fn diff(&self, path: impl ToPath, a: Commit, b: Commit) -> Result<json_patch::Patch> {
        self.at(a)?.diff(&self.at(b)?, path)
    }

    /// The commits at which the document can be read.
    ///
    /// # Errors
    /// The store's.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        self.source()?.retained()
    }

    /// Watches what `pattern` names, as [`crate::Tree::watch`] does, by the change feed: what the
    /// writer has made durable.
    ///
    /// # Errors
    /// As there.
    pub fn watch(&self, pattern: impl ToPattern, from: WatchFrom) -> Result<ReadWatch> {
        self.reader.refresh()?;
        let watched = Watched::new(pattern.to_pattern()?);
        let mut ready = VecDeque::new();
        let (read, mark) = match from {
            WatchFrom::After(commit) => (commit, true),
            WatchFrom::Now => (self.state(&watched, None, &mut ready)?, false),
            WatchFrom::StateAt(commit) => {
                check_start(&self.source()?, commit, self.head()?)?;
                (self.state(&watched, Some(commit), &mut ready)?, true)
            }
        };
        let mut watch = ReadWatch {
            tree: self.clone(),
            watched,
            feed: None,
            read,
            delivered: read,
            ready,
        };
        if mark {
            watch.read_history()?;
            let commit = watch.read;
            watch.ready.push_back(WatchEvent::CaughtUp { commit });
        }
        watch.follow()?;
        Ok(watch)
    }

    fn state(
        &self,
        watched: &Watched,
        at: Option<Commit>,
        ready: &mut VecDeque<WatchEvent>,
    ) -> Result<Commit> {
        let view = self.source()?.view(&self.name, at)?;
        let nodes = view.nodes(watched.pattern())?;
        let commit = view.commit();
        ready.push_back(WatchEvent::State { commit, nodes });
        Ok(commit)
    }
}

/// A watch in a process that only reads.
#[derive(Debug)]
pub struct ReadWatch {
    tree: ReadTree,
    watched: Watched,
    feed: Option<Changes>,
    /// Everything up to here was read.
    read: Commit,
    /// Everything up to here was delivered.
    delivered: Commit,
    ready: VecDeque<WatchEvent>,
}

impl ReadWatch {
    /// The commit up to which everything was delivered: where another watch can go on.
    pub fn position(&self) -> Commit {
        match self.ready.is_empty() {
            true => self.read,
            false => self.delivered,
        }
    }

    /// Reads what happened up to now from the history.
    fn read_history(&mut self) -> Result<()> {
        let source = self.tree.source()?;
        let head = source.commit()?;
        check_start(&source, self.read, head)?;
        let found = history_of(&source, &self.watched, self.read, head)?;
        check_start(&source, self.read, head)?;
        let events = found.into_iter();
        self.ready
            .extend(events.map(|(commit, changes)| WatchEvent::Changes { commit, changes }));
        self.read = head;
        Ok(())
    }

    /// Opens the feed where this stands; where the log does not reach back so far, history does.
    fn follow(&mut self) -> Result<()> {
        for _ in 0..10 {
            match self.tree.reader.changes(self.read) {
                Err(KvError::ChangesGone { .. }) => {
                    self.tree.reader.refresh()?;
                    self.read_history()?;
                }
                opened => {
                    self.feed = Some(opened?);
                    return Ok(());
                }
            }
        }
        Err(Error::WatchGone {
            after: self.read,
            restart: self.tree.head()?,
        })
    }

    /// The next event, waiting for up to `patience`; `None` when none came.
    ///
    /// # Errors
    /// [`Error::WatchGone`] when it was too slow, naming where to start again; the store's.
    pub fn next_within(&mut self, patience: Duration) -> Result<Option<WatchEvent>> {
        let clock = self.tree.reader.env().clock.clone();
        let until = clock.elapsed() + patience;
        loop {
            if let Some(event) = self.ready.pop_front() {
                self.delivered = self.delivered.max(event.commit());
                return Ok(Some(event));
            }
            let left = until.saturating_sub(clock.elapsed());
            let next = match &mut self.feed {
                None => Ok(None),
                Some(feed) => feed.next_within(left),
            };
            match next {
                Err(KvError::ChangesGone { .. }) => {
                    self.feed = None;
                    self.follow()?;
                }
                Err(error) => return Err(error.into()),
                Ok(Some(set)) => self.take(&set)?,
                Ok(None) if self.feed.is_none() => self.follow()?,
                Ok(None) => return Ok(None),
            }
        }
    }

    fn take(&mut self, set: &ChangeSet) -> Result<()> {
        let name = keyspace_name(&self.tree.name);
        let (mut changed, mut cleared) = (Changed::new(), Vec::new());
        for change in &set.changes {
            if change.keyspace_name.as_deref() != Some(&name) {
                continue;
            }
            match &change.write {
                ChangeKind::Put { key, value, .. } => {
                    changed.insert(key.to_vec(), Some(value.clone()));
                }
                ChangeKind::Delete { key } => {
                    changed.insert(key.to_vec(), None);
                }
                ChangeKind::DeleteRange { start, .. } => cleared.push(start.to_vec()),
                _ => {}
            }
        }
        if !cleared.is_empty() {
            self.tree.reader.refresh()?;
            let before = self.tree.source()?.at_commit(Commit(set.commit.0 - 1))?;
            note_gone(&Stored(before), &self.watched, &cleared, &mut changed)?;
        }
        let changes = self.watched.changes(&changed, &cleared)?;
        self.read = set.commit;
        if !changes.is_empty() {
            let commit = set.commit;
            self.ready
                .push_back(WatchEvent::Changes { commit, changes });
        }
        Ok(())
    }
}

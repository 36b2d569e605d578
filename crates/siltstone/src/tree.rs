//! A document tree for asynchronous programs. Commits and reads go to the runtime's blocking threads;
//! what a watch has at hand is handed out on the calling thread.

use crate::error::{Error, Result};
use crate::wait::wait;
use siltstone_kv::{Commit, CommitRanges, Durability};
use siltstone_tree::{
    Committed, Edit, Expect, Filter, JsonPatch, Path, ToPath, ToPattern, Value, View, WatchEvent,
    WatchFrom,
};
use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use tokio::task::{JoinHandle, spawn_blocking};

/// A document tree: one JSON document of any size, with its history.
#[derive(Debug, Clone)]
pub struct Tree(pub(crate) siltstone_tree::Tree);

impl Tree {
    /// The same tree for code that blocks: with scopes, transactions of several participants,
    /// declarations and schemas.
    pub fn blocking(&self) -> &siltstone_tree::Tree {
        &self.0
    }

    /// Its name.
    pub fn name(&self) -> &str {
        self.0.name()
    }

    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(&siltstone_tree::Tree) -> siltstone_tree::Result<T> + Send + 'static,
    ) -> Result<T> {
        let tree = self.0.clone();
        Ok(wait(move || work(&tree)).await??)
    }

    /// Commits an edit, durably: all of it, or, when something of it is refused, nothing.
    ///
    /// # Errors
    /// What an operation or a precondition is refused with; those of a write.
    pub async fn commit(&self, edit: Edit) -> Result<Committed> {
        self.commit_with(edit, Durability::Durable).await
    }

    /// Commits an edit, as durable as asked.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub async fn commit_with(&self, edit: Edit, durability: Durability) -> Result<Committed> {
        self.with(move |tree| tree.commit_with(&edit, durability))
            .await
    }

    async fn one(&self, edit: Edit) -> Result<Commit> {
        Ok(self.commit(edit).await?.commit)
    }

    /// Merges `value` into what is at `path`, as RFC 7396 has it.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub async fn patch(&self, path: impl ToPath, value: impl Into<Value>) -> Result<Commit> {
        self.one(Edit::new().patch(path, value)).await
    }

    /// Sets what is at `path`.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub async fn set(&self, path: impl ToPath, value: impl Into<Value>) -> Result<Commit> {
        self.one(Edit::new().set(path, value)).await
    }

    /// Sets what is at `path` if it is what is expected.
    ///
    /// # Errors
    /// [`siltstone_tree::Error::Unexpected`]; as [`Tree::commit`].
    pub async fn set_if(
        &self,
        path: impl ToPath,
        expect: Expect,
        value: impl Into<Value>,
    ) -> Result<Commit> {
        let path = path.to_path()?;
        self.one(Edit::new().expect(&path, expect).set(&path, value))
            .await
    }

    /// Deletes what is at `path`.
    ///
    /// # Errors
    /// As [`Tree::commit`]; there is nothing.
    pub async fn delete(&self, path: impl ToPath) -> Result<Commit> {
        self.one(Edit::new().delete(path)).await
    }

    /// Puts a value behind the last element of an array. Answers its path too.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub async fn append(&self, array: impl ToPath, value: impl Into<Value>) -> Result<Committed> {
        self.commit(Edit::new().append(array, value)).await
    }

    /// Adds to a number; where there is none yet, it counts from 0.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub async fn increment(&self, path: impl ToPath, delta: impl Into<Value>) -> Result<Commit> {
        self.one(Edit::new().increment(path, delta)).await
    }

    /// Applies an RFC 6902 patch whose pointers start at `path`.
    ///
    /// # Errors
    /// As [`Tree::commit`].
    pub async fn json_patch(&self, path: impl ToPath, patch: JsonPatch) -> Result<Commit> {
        self.one(Edit::new().json_patch(path, patch)).await
    }

    /// The value at `path` now.
    ///
    /// # Errors
    /// [`siltstone_tree::Error::NotFound`]; the store's.
    pub async fn get(&self, path: impl ToPath) -> Result<Value> {
        let path = path.to_path()?;
        self.with(move |tree| tree.get(&path)).await
    }

    /// The value at `path` now; `None` when there is nothing.
    ///
    /// # Errors
    /// The store's.
    pub async fn find(&self, path: impl ToPath) -> Result<Option<Value>> {
        let path = path.to_path()?;
        self.with(move |tree| tree.find(&path)).await
    }

    /// The value at `path` as it was at `commit`.
    ///
    /// # Errors
    /// As [`Tree::get`]; the commit is not retained, naming the nearest ones that are.
    pub async fn get_at(&self, path: impl ToPath, commit: Commit) -> Result<Value> {
        let path = path.to_path()?;
        self.with(move |tree| tree.get_at(&path, commit)).await
    }

    /// What passes `filter` now; see [`View::matching`].
    ///
    /// # Errors
    /// As there.
    pub async fn matching(
        &self,
        pattern: impl ToPattern,
        filter: Filter,
    ) -> Result<Vec<(Path, Value)>> {
        let pattern = pattern.to_pattern()?;
        self.with(move |tree| tree.matching(&pattern, &filter))
            .await
    }

    /// The document as it is now, held readable; for code that blocks.
    ///
    /// # Errors
    /// Closed.
    pub fn view(&self) -> Result<View> {
        Ok(self.0.view()?)
    }

    /// The document as it was at `commit`, held readable; for code that blocks.
    ///
    /// # Errors
    /// The commit is not retained, naming the nearest ones that are.
    pub fn at(&self, commit: Commit) -> Result<View> {
        Ok(self.0.at(commit)?)
    }

    /// The commits at which the document can be read.
    ///
    /// # Errors
    /// Closed.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        Ok(self.0.retained_commits()?)
    }

    /// Watches what `pattern` names: every commit that changes it, once, in order.
    ///
    /// # Errors
    /// [`siltstone_tree::Error::WatchGone`] naming where to start; the commit is not there yet.
    pub async fn watch(&self, pattern: impl ToPattern, from: WatchFrom) -> Result<Watch> {
        let pattern = pattern.to_pattern()?;
        let watch = self.with(move |tree| tree.watch(&pattern, from)).await?;
        Ok(Watch {
            place: Place::Here(Box::new(watch)),
        })
    }
}

/// A tree inside a transaction.
#[derive(Debug, Clone, Copy)]
pub struct TransactionTree<'a> {
    pub(crate) transaction: &'a Arc<siltstone_kv::Transaction>,
    pub(crate) tree: &'a Tree,
}

impl TransactionTree<'_> {
    async fn with<T: Send + 'static>(
        &self,
        work: impl FnOnce(siltstone_tree::TransactionTree<'_>) -> siltstone_tree::Result<T>
        + Send
        + 'static,
    ) -> Result<T> {
        let (transaction, tree) = (self.transaction.clone(), self.tree.0.clone());
        Ok(wait(move || work(tree.on(&transaction))).await??)
    }

    /// Does an edit within the transaction. Answers the paths of what was appended. When it is refused
    /// nothing of it is done, and the transaction can go on.
    ///
    /// # Errors
    /// What an operation or a precondition is refused with; the transaction is over.
    pub async fn apply(&self, edit: Edit) -> Result<Vec<Path>> {
        self.with(move |tree| tree.apply(&edit)).await
    }

    /// The value at `path`: as of the transaction's commit, with its own writes.
    ///
    /// # Errors
    /// As [`Tree::get`]; the transaction is over.
    pub async fn get(&self, path: impl ToPath) -> Result<Value> {
        let path = path.to_path()?;
        self.with(move |tree| tree.get(&path)).await
    }

    /// As [`TransactionTree::get`]; `None` when there is nothing.
    ///
    /// # Errors
    /// The store's; the transaction is over.
    pub async fn find(&self, path: impl ToPath) -> Result<Option<Value>> {
        let path = path.to_path()?;
        self.with(move |tree| tree.find(&path)).await
    }
}

/// A watch. While it waits it keeps no thread; only reading the history does.
#[derive(Debug)]
pub struct Watch {
    place: Place,
}

type Step = (
    Box<siltstone_tree::Watch>,
    siltstone_tree::Result<Option<WatchEvent>>,
);

/// Where the watch is.
#[derive(Debug)]
enum Place {
    Here(Box<siltstone_tree::Watch>),
    /// Reading the history on a blocking thread.
    Away(JoinHandle<Step>),
    /// The runtime ended while it was away.
    Lost,
}

impl Watch {
    /// The next event, waiting for it. The future may be dropped before it is ready, in a `select!`
    /// for instance: no event is lost, unless it was reading the history at that moment and is then
    /// never polled again.
    ///
    /// # Errors
    /// [`siltstone_tree::Error::WatchGone`] when it was too slow, naming where to start again; writes
    /// are stopped; the store's.
    pub async fn next(&mut self) -> Result<WatchEvent> {
        poll_fn(|context| self.poll_next(context)).await
    }

    /// As [`Watch::next`], for futures written by hand.
    ///
    /// # Errors
    /// As [`Watch::next`].
    pub fn poll_next(&mut self, context: &mut Context<'_>) -> Poll<Result<WatchEvent>> {
        loop {
            match &mut self.place {
                Place::Lost => return Poll::Ready(Err(Error::RuntimeGone)),
                Place::Here(watch) if !watch.reads_history() => {
                    return watch.poll_next(context).map_err(Error::from);
                }
                Place::Here(_) => {
                    let Place::Here(mut watch) = std::mem::replace(&mut self.place, Place::Lost)
                    else {
                        continue;
                    };
                    self.place = Place::Away(spawn_blocking(move || {
                        let next = watch.try_next();
                        (watch, next)
                    }));
                }
                Place::Away(step) => {
                    let Ok((watch, next)) = ready!(std::pin::Pin::new(step).poll(context)) else {
                        self.place = Place::Lost;
                        continue;
                    };
                    self.place = Place::Here(watch);
                    if let Some(event) = next.transpose() {
                        return Poll::Ready(event.map_err(Error::from));
                    }
                }
            }
        }
    }
}

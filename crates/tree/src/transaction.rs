//! A tree inside a transaction of the engine, together with keyspaces and other trees: one commit.
//!
//! Operations are worked out on what the transaction sees, and what they looked at is guarded: when
//! somebody else changes it first, the commit fails with a conflict and the transaction is begun
//! again. At the commit a listener stands in the tree's gate, so that the tree's own commits, its
//! watchers and its schemas know of it in order.

use crate::edit::{Edit, Expect};
use crate::error::{Error, Result};
use crate::key;
use crate::meta;
use crate::path::{Path, ToPath, ToPattern};
use crate::rows::{Changed, Rows, Stored};
use crate::schema::check_changes;
use crate::stage::Stage;
use crate::tree::{Inner, Tree};
use crate::value::Value;
use crate::view;
use crate::writer::{Ids, Writer};
use siltstone_kv::{
    Batch, Commit, CommitListener, Error as KvError, Go, KeyRange, PutStats, Transaction,
    TransactionKeyspace, Written,
};
use std::sync::Arc;

/// A tree as a transaction sees it, with the transaction's own writes.
#[derive(Debug, Clone, Copy)]
pub struct TransactionTree<'a> {
    tree: &'a Tree,
    transaction: &'a Transaction,
}

impl Tree {
    /// The tree inside `transaction`, which is of the same database.
    pub fn on<'a>(&'a self, transaction: &'a Transaction) -> TransactionTree<'a> {
        TransactionTree {
            tree: self,
            transaction,
        }
    }
}

impl TransactionTree<'_> {
    fn rows(&self) -> Stored<TransactionKeyspace<'_>> {
        Stored(self.transaction.on(&self.tree.inner.keyspace))
    }

    /// Does an edit within the transaction. Answers the paths of what was appended. When it is refused
    /// nothing of it is done, and the transaction can go on.
    ///
    /// # Errors
    /// What an operation or a precondition is refused with; the transaction is over. A schema is
    /// looked at when the transaction commits.
    pub fn apply(&self, edit: &Edit) -> Result<Vec<Path>> {
        let inner = &self.tree.inner;
        let listener = Arc::new(Listener {
            tree: inner.clone(),
        });
        self.transaction.listen(&inner.keyspace, listener)?;
        let rows = self.rows();
        // What is declared now must still hold at the commit.
        rows.get(&meta::VERSION)?;
        let meta = inner.meta();
        let ids = Ids::new(inner.enter()?.next_id(inner.kv.head()));
        let mut writer = Writer::new(&rows, &meta, ids);
        let appended = writer
            .run(edit)
            .map_err(|error| error.of_tree(&inner.name))?;
        for (path, expect) in edit.expects() {
            if let Expect::UnchangedSince(_) = expect {
                // Read, so that it is guarded.
                let key = key::encode(path);
                rows.scan(&key, &key, &mut |_, _| Ok(true))?;
            }
        }
        let staged = writer.finish();
        let savepoint = self.transaction.savepoint()?;
        self.write(&staged.cleared, &staged.changed)
            .inspect_err(|_| {
                // Over already is as good.
                let _ = self.transaction.roll_back_to(&savepoint);
            })?;
        Ok(appended)
    }

    fn write(&self, cleared: &[Vec<u8>], changed: &Changed) -> Result<()> {
        let keyspace = &self.tree.inner.keyspace;
        for prefix in cleared {
            self.transaction
                .delete_range(keyspace, &KeyRange::prefix(prefix))?;
        }
        for (key, row) in changed {
            match row {
                Some(row) => self.transaction.put(keyspace, key, row)?,
                None => self.transaction.delete(keyspace, key)?,
            }
        }
        Ok(())
    }

    /// As [`Tree::patch`], within the transaction.
    ///
    /// # Errors
    /// As [`TransactionTree::apply`].
    pub fn patch(&self, path: impl ToPath, value: impl Into<Value>) -> Result<()> {
        self.apply(&Edit::new().patch(path, value)).map(drop)
    }

    /// As [`Tree::set`], within the transaction.
    ///
    /// # Errors
    /// As [`TransactionTree::apply`].
    pub fn set(&self, path: impl ToPath, value: impl Into<Value>) -> Result<()> {
        self.apply(&Edit::new().set(path, value)).map(drop)
    }

    /// As [`Tree::delete`], within the transaction.
    ///
    /// # Errors
    /// As [`TransactionTree::apply`].
    pub fn delete(&self, path: impl ToPath) -> Result<()> {
        self.apply(&Edit::new().delete(path)).map(drop)
    }

    /// As [`Tree::increment`], within the transaction.
    ///
    /// # Errors
    /// As [`TransactionTree::apply`].
    pub fn increment(&self, path: impl ToPath, delta: impl Into<Value>) -> Result<()> {
        self.apply(&Edit::new().increment(path, delta)).map(drop)
    }

    /// As [`Tree::get`], within the transaction.
    ///
    /// # Errors
    /// As there; the transaction is over.
    pub fn get(&self, path: impl ToPath) -> Result<Value> {
        view::get(&self.rows(), &path.to_path()?)
    }

    /// As [`Tree::find`], within the transaction.
    ///
    /// # Errors
    /// As there; the transaction is over.
    pub fn find(&self, path: impl ToPath) -> Result<Option<Value>> {
        view::find(&self.rows(), &path.to_path()?)
    }

    /// As [`crate::View::nodes`], within the transaction.
    ///
    /// # Errors
    /// As there; the transaction is over.
    pub fn nodes(&self, pattern: impl ToPattern) -> Result<Vec<(Path, Value)>> {
        view::nodes(&self.rows(), &pattern.to_pattern()?)
    }
}

/// Stands in a tree's gate while a transaction that wrote to the tree commits.
#[derive(Debug)]
struct Listener {
    tree: Arc<Inner>,
}

impl CommitListener for Listener {
    fn commit(&self, writes: &Batch, go: &mut Go<'_>) -> siltstone_kv::Result<PutStats> {
        let tree = &*self.tree;
        let refused = |error: Error| match error {
            Error::Kv(error) => error,
            other => KvError::Refused {
                keyspace: tree.keyspace.name().to_string(),
                cause: Arc::new(other),
            },
        };
        let gate = tree.enter().map_err(refused)?;
        let (changed, cleared) = rows_of(writes, tree);
        let news = {
            let current = tree.current(&gate);
            let stage = Stage::of(&current, changed, cleared);
            let meta = tree.meta();
            check_changes(&meta.schemas, &stage).map_err(refused)?;
            tree.hub
                .prepare(&current, stage.changed(), stage.cleared())
                .map_err(refused)?
        };
        let mut gate = Some(gate);
        let answer = go(&mut |commit: Commit| {
            if let Some(news) = &news {
                news.number(commit);
            }
            if let Some(mut gate) = gate.take() {
                gate.numbered(commit, None);
            }
        });
        if let Some(news) = news {
            news.deliver(
                &answer
                    .as_ref()
                    .map(|stats| stats.commit)
                    .map_err(Clone::clone),
            );
        }
        answer
    }
}

/// What a transaction writes to a tree.
fn rows_of(writes: &Batch, tree: &Inner) -> (Changed, Vec<Vec<u8>>) {
    let (mut changed, mut cleared) = (Changed::new(), Vec::new());
    writes.for_each_in(tree.keyspace.id(), |write| match write {
        Written::Put { key, value } => {
            changed.insert(key.to_vec(), Some(value.to_vec().into()));
        }
        Written::Delete { key } => {
            changed.insert(key.to_vec(), None);
        }
        Written::DeleteRange(range) => {
            if let (Some(prefix), _) = range.bounds() {
                changed.retain(|key, _| !key.starts_with(prefix));
                cleared.push(prefix.to_vec());
            }
        }
        _ => {}
    });
    (changed, cleared)
}

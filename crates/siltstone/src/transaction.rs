//! A transaction for asynchronous programs. Its writes stay in memory until it commits; only reads
//! that must wait, and the commit, leave the thread.

use crate::error::Result;
use crate::keyspace::Keyspace;
use crate::scan::Scan;
use crate::tree::{TransactionTree, Tree};
use crate::wait::{get, key_range, open_scan, wait};
use bytes::Bytes;
use siltstone_kv::{Commit, Durability, KeyRange, Read, ReadAt, Savepoint, ScanOptions};
use std::ops::RangeBounds;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// A transaction: reads see one commit and its own writes, and its writes become one commit or
/// none. Dropped without a commit, it is rolled back.
///
/// ```
/// # #[tokio::main] async fn main() -> siltstone::Result<()> {
/// # let dir = tempfile::tempdir().expect("a folder");
/// # let url = dir.path().to_str().expect("a plain path");
/// use siltstone::{Database, Isolation};
/// let db = Database::open(url).await?;
/// let cities = db.default_keyspace();
/// let txn = db.begin(Isolation::Serializable)?;
/// txn.put(cities, "oslo", "Norway")?;
/// let before_rome = txn.savepoint()?;
/// txn.put(cities, "rome", "Norway")?;
/// txn.roll_back_to(&before_rome)?;
/// assert_eq!(txn.get(cities, "rome").await?, None);
/// txn.commit().await?;
/// assert_eq!(db.get("oslo").await?.as_deref(), Some(&b"Norway"[..]));
/// # db.close().await
/// # }
/// ```
#[derive(Debug)]
pub struct Transaction {
    inner: Arc<siltstone_kv::Transaction>,
    /// It is being committed: dropping it is nobody's business any more.
    handed_over: AtomicBool,
}

/// Reads of a keyspace inside a transaction, for any thread.
#[derive(Debug, Clone)]
struct Within {
    transaction: Arc<siltstone_kv::Transaction>,
    keyspace: siltstone_kv::Keyspace,
}

impl Read for Within {
    fn at(&self) -> siltstone_kv::Result<ReadAt> {
        self.transaction.on(&self.keyspace).at()
    }
}

impl Transaction {
    pub(crate) fn new(transaction: siltstone_kv::Transaction) -> Self {
        Self {
            inner: Arc::new(transaction),
            handed_over: AtomicBool::new(false),
        }
    }

    fn within(&self, keyspace: &Keyspace) -> Within {
        Within {
            transaction: self.inner.clone(),
            keyspace: keyspace.0.clone(),
        }
    }

    /// The commit that it reads at.
    pub fn snapshot_commit(&self) -> Commit {
        self.inner.snapshot_commit()
    }

    /// The value of `key` of `keyspace`: as of the transaction's commit, with its own writes.
    ///
    /// # Errors
    /// The store's; the transaction stood idle for too long.
    pub async fn get(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        get(&self.within(keyspace), key.as_ref()).await
    }

    /// As [`Transaction::get`], and guards `key` as if it were written, also under
    /// [`siltstone_kv::Isolation::Snapshot`].
    ///
    /// # Errors
    /// As [`Transaction::get`].
    pub async fn get_for_update(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
    ) -> Result<Option<Bytes>> {
        match self.inner.try_get_for_update(&keyspace.0, key.as_ref()) {
            Err(error) if error.is_would_block() => self.get(keyspace, key).await,
            other => Ok(other?),
        }
    }

    /// The keys of a range of `keyspace`, with the transaction's own writes up to now.
    ///
    /// # Errors
    /// The range's start lies after its end; the transaction stood idle for too long.
    pub fn scan<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
        options: ScanOptions,
    ) -> Result<Scan> {
        open_scan(&self.within(keyspace), key_range(&range)?, options)
    }

    /// The keys of `keyspace` that start with `prefix`.
    ///
    /// # Errors
    /// As [`Transaction::scan`].
    pub fn scan_prefix(
        &self,
        keyspace: &Keyspace,
        prefix: impl AsRef<[u8]>,
        options: ScanOptions,
    ) -> Result<Scan> {
        let range = KeyRange::prefix(prefix.as_ref());
        open_scan(&self.within(keyspace), range, options)
    }

    /// Sets `key` of `keyspace` to `value`, for this transaction until it commits.
    ///
    /// # Errors
    /// A limit's; the transaction stood idle for too long.
    pub fn put(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        Ok(self.inner.put(&keyspace.0, key, value)?)
    }

    /// Sets `key` of `keyspace` to `value` for as long as `ttl`, counted from now.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn put_ttl(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<()> {
        let (key, value) = (key.as_ref(), value.as_ref());
        Ok(self.inner.put_ttl(&keyspace.0, key, value, ttl)?)
    }

    /// Deletes `key` of `keyspace`, for this transaction until it commits.
    ///
    /// # Errors
    /// As [`Transaction::put`].
    pub fn delete(&self, keyspace: &Keyspace, key: impl AsRef<[u8]>) -> Result<()> {
        Ok(self.inner.delete(&keyspace.0, key.as_ref())?)
    }

    /// Deletes every key of a range. The whole range counts as written.
    ///
    /// # Errors
    /// As [`Transaction::put`]; the range's start lies after its end.
    pub fn delete_range<K: AsRef<[u8]>>(
        &self,
        keyspace: &Keyspace,
        range: impl RangeBounds<K>,
    ) -> Result<()> {
        Ok(self.inner.delete_range(&keyspace.0, &key_range(&range)?)?)
    }

    /// Changes `key` of `keyspace` by `operand`, as the keyspace's merge operator says. Nothing is
    /// read, but the key counts as written.
    ///
    /// # Errors
    /// As [`Transaction::put`]; the keyspace has no merge operator; it refuses the operand.
    pub fn merge(
        &self,
        keyspace: &Keyspace,
        key: impl AsRef<[u8]>,
        operand: impl AsRef<[u8]>,
    ) -> Result<()> {
        let (key, operand) = (key.as_ref(), operand.as_ref());
        Ok(self.inner.merge(&keyspace.0, key, operand)?)
    }

    /// A document tree inside the transaction, with its own writes.
    pub fn tree<'a>(&'a self, tree: &'a Tree) -> TransactionTree<'a> {
        TransactionTree {
            transaction: &self.inner,
            tree,
        }
    }

    /// Marks a place to roll back to.
    ///
    /// # Errors
    /// The transaction stood idle for too long.
    pub fn savepoint(&self) -> Result<Savepoint> {
        Ok(self.inner.savepoint()?)
    }

    /// Undoes the writes since `savepoint`. What was read stays guarded.
    ///
    /// # Errors
    /// It belongs to another transaction, or was rolled back over.
    pub fn roll_back_to(&self, savepoint: &Savepoint) -> Result<()> {
        Ok(self.inner.roll_back_to(savepoint)?)
    }

    /// Commits, durably: one commit, all or none. Answers it, or the snapshot's when nothing was
    /// written. A future that is dropped before it is ready has committed or not; one that was never
    /// polled has not.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::Conflict`] naming the key or range that was written since the
    /// transaction began; those of a write. After an error nothing of it is written, unless the error
    /// says that writes were stopped while this one was under way.
    pub async fn commit(self) -> Result<Commit> {
        self.commit_with(Durability::Durable).await
    }

    /// Commits, as durable as asked.
    ///
    /// # Errors
    /// As [`Transaction::commit`].
    pub async fn commit_with(self, durability: Durability) -> Result<Commit> {
        self.finish(durability).await
    }

    /// Commits; whoever else has a handle finds the transaction over. Giving up the future must not
    /// roll back what is being committed, nor wait for it.
    pub(crate) async fn finish(&self, durability: Durability) -> Result<Commit> {
        let transaction = self.hand_over();
        let commit = move || transaction.commit_with(durability);
        Ok(wait(commit).await??.commit)
    }

    /// The transaction for code that blocks, whose commit this handle no longer minds.
    pub(crate) fn hand_over(&self) -> Arc<siltstone_kv::Transaction> {
        self.handed_over.store(true, Ordering::Relaxed);
        self.inner.clone()
    }

    /// Gives it up, as dropping it does.
    pub fn roll_back(self) {
        drop(self);
    }
}

impl Drop for Transaction {
    fn drop(&mut self) {
        if !self.handed_over.load(Ordering::Relaxed) {
            // A read that was given up may still hold it. Over already is as good.
            let _ = self.inner.roll_back();
        }
    }
}

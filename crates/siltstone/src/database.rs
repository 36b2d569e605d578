//! The database for asynchronous programs. A call that finds what it needs in memory is done when
//! it is first polled; only what must wait for a disk or a network goes to the runtime's blocking
//! threads.

use crate::blocking;
use crate::changes::Changes;
use crate::error::{Error, Result};
use crate::keyspace::{Keyspace, Snapshot};
use crate::scan::Scan;
use crate::stored::Lists;
use crate::transaction::Transaction;
use crate::tree::Tree;
use crate::wait::{room, wait};
use bytes::Bytes;
use siltstone_kv::{
    BackupStats, Batch, Checkpoint, CloneStats, Commit, CommitRanges, CompactOptions, CompactStats,
    Durability, Expect, FlushStats, Isolation, KeyspaceOptions, Options, ScanOptions, Stats,
    VerifyReport,
};
use std::ops::RangeBounds;
use std::sync::Arc;
use std::time::Duration;

/// A database open for writing. Clones are handles of the same database; the last one closes it.
#[derive(Debug, Clone)]
pub struct Database {
    inner: blocking::Database,
    default: Keyspace,
}

impl Database {
    /// Opens the database at `url` for writing, creating it when there is none: a folder, or
    /// `s3://bucket/prefix` with credentials from the usual AWS variables.
    ///
    /// # Errors
    /// [`Error::Url`]; locked by another process; damage; the store's.
    pub async fn open(url: &str) -> Result<Self> {
        Self::open_with(url, Options::default(), KeyspaceOptions::default()).await
    }

    /// As [`Database::open`], with settings. `default_keyspace` holds for a database that is created
    /// here.
    ///
    /// # Errors
    /// As [`Database::open`], and for settings out of bounds.
    pub async fn open_with(
        url: &str,
        options: Options,
        default_keyspace: KeyspaceOptions,
    ) -> Result<Self> {
        let url = url.to_string();
        let open = move || blocking::Database::open_with(&url, options, default_keyspace);
        let inner = wait(open).await??;
        Ok(Self {
            default: Keyspace(inner.default_keyspace().clone()),
            inner,
        })
    }

    /// The same database for code that blocks.
    pub fn blocking(&self) -> &blocking::Database {
        &self.inner
    }

    /// Sets `key` to `value` in the default keyspace, durably. Answers the commit.
    ///
    /// # Errors
    /// A limit's; writes are stopped; closed.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Commit> {
        self.default.put(key, value).await
    }

    /// Deletes `key` from the default keyspace, durably. Answers the commit.
    ///
    /// # Errors
    /// As [`Database::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Commit> {
        self.default.delete(key).await
    }

    /// Sets `key` to `value` in the default keyspace for as long as `ttl`; then it is gone.
    ///
    /// # Errors
    /// As [`Database::put`].
    pub async fn put_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<Commit> {
        self.default.put_ttl(key, value, ttl).await
    }

    /// Changes `key` of the default keyspace by `operand`; see [`Keyspace::merge`].
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// use siltstone::{Database, KeyspaceOptions, Options};
    /// let counting = KeyspaceOptions {
    ///     merge_operator: Some("counter".into()),
    ///     ..KeyspaceOptions::default()
    /// };
    /// let db = Database::open_with(url, Options::default(), counting).await?;
    /// db.merge("visits", "1").await?;
    /// db.merge("visits", "41").await?;
    /// assert_eq!(db.get("visits").await?.as_deref(), Some(&b"42"[..]));
    /// # db.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Database::put`]; the keyspace has no merge operator; it refuses the operand.
    pub async fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<Commit> {
        self.default.merge(key, operand).await
    }

    /// Deletes every key of a range of the default keyspace, with one small record.
    ///
    /// # Errors
    /// As [`Database::put`]; the range's start lies after its end.
    pub async fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Commit> {
        self.default.delete_range(range).await
    }

    /// Sets `key` to `value` in the default keyspace if it holds what is expected.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::ConditionFailed`] with what was found; as [`Database::put`].
    pub async fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        expect: Expect<'_>,
        value: impl AsRef<[u8]>,
    ) -> Result<Commit> {
        self.default.put_if(key, expect, value).await
    }

    /// Deletes `key` from the default keyspace if it holds what is expected.
    ///
    /// # Errors
    /// As [`Database::put_if`].
    pub async fn delete_if(&self, key: impl AsRef<[u8]>, expect: Expect<'_>) -> Result<Commit> {
        self.default.delete_if(key, expect).await
    }

    /// Begins a transaction at the newest commit.
    ///
    /// # Errors
    /// Too many are open; writes are stopped; closed.
    pub fn begin(&self, isolation: Isolation) -> Result<Transaction> {
        Ok(Transaction::new(self.inner.begin(isolation)?))
    }

    /// Does `work` in a transaction and commits it; does it again, in another transaction, up to
    /// `retries` times when somebody else came first. When `work` fails nothing is written. Handles of
    /// the transaction that `work` leaves behind find it over.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// use siltstone::{Database, Isolation};
    /// let db = Database::open(url).await?;
    /// let stock = db.default_keyspace();
    /// db.put("apples", "ooo").await?;
    /// let left = db.transact(Isolation::Serializable, 10, |txn| async move {
    ///     let apples = txn.get(stock, "apples").await?.unwrap_or_default();
    ///     let left = apples.len().saturating_sub(1);
    ///     txn.put(stock, "apples", &apples[..left])?;
    ///     siltstone::Result::Ok(left)
    /// });
    /// let left: siltstone::Result<usize> = left.await;
    /// assert_eq!(left?, 2);
    /// # db.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last [`siltstone_kv::Error::Conflict`] when every try met one; what `work` fails with; those
    /// of [`Transaction::commit`].
    pub async fn transact<T, E: From<Error>, F: Future<Output = Result<T, E>>>(
        &self,
        isolation: Isolation,
        retries: u32,
        mut work: impl FnMut(Arc<Transaction>) -> F,
    ) -> Result<T, E> {
        let mut left = retries;
        loop {
            let transaction = Arc::new(self.begin(isolation)?);
            let answer = work(transaction.clone()).await?;
            match transaction.finish(Durability::Durable).await {
                Err(error) if error.is_conflict() && left > 0 => left -= 1,
                committed => return committed.map(|_| answer).map_err(E::from),
            }
        }
    }

    /// The document tree called `name`.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// use siltstone::{Database, KeyspaceOptions, Value, WatchEvent, WatchFrom};
    /// let db = Database::open(url).await?;
    /// let config = db.create_tree("config", KeyspaceOptions::default()).await?;
    /// let mut watch = config.watch("limits", WatchFrom::Now).await?;
    /// assert!(matches!(watch.next().await?, WatchEvent::State { .. }));
    /// let commit = config.patch("limits", r#"{"cpu": 2, "memory": "1GiB"}"#.parse::<Value>().unwrap()).await?;
    /// assert_eq!(watch.next().await?.commit(), commit);
    /// assert_eq!(config.get("limits.cpu").await?, 2.into());
    /// # drop(watch);
    /// # db.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn tree(&self, name: &str) -> Result<Tree> {
        let (inner, name) = (self.inner.clone(), name.to_string());
        Ok(Tree(wait(move || inner.tree(&name)).await??))
    }

    /// The stored lists and texts: to list, open, create and drop them.
    pub fn lists(&self) -> Lists {
        Lists(self.inner.lists())
    }

    /// Creates a document tree; its window, divisor and levels are those of `options`.
    ///
    /// # Errors
    /// The name is taken; a setting is out of bounds.
    pub async fn create_tree(&self, name: &str, options: KeyspaceOptions) -> Result<Tree> {
        let (inner, name) = (self.inner.clone(), name.to_string());
        Ok(Tree(
            wait(move || inner.create_tree(&name, options)).await??,
        ))
    }

    /// The names of all document trees.
    pub fn tree_names(&self) -> Vec<String> {
        self.inner.trees().names()
    }

    /// Drops a document tree with its history.
    ///
    /// # Errors
    /// There is none of this name.
    pub async fn drop_tree(&self, name: &str) -> Result<()> {
        let (inner, name) = (self.inner.clone(), name.to_string());
        Ok(wait(move || inner.trees().drop_tree(&name)).await??)
    }

    /// Every commit after `after`, in order, with what it wrote, as it becomes durable. Go on after a
    /// restart with the last commit that was delivered.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// use siltstone::{ChangeKind, Commit, Database};
    /// let db = Database::open(url).await?;
    /// let mut feed = db.changes(Commit(0)).await?;
    /// db.put("city/oslo", "Norway").await?;
    /// let set = feed.next().await?;
    /// assert_eq!(set.commit, Commit(1));
    /// assert!(matches!(&set.changes[0].write, ChangeKind::Put { key, .. } if key == "city/oslo"));
    /// # drop(feed);
    /// # db.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`siltstone_kv::Error::ChangesGone`] naming where to start instead; the commit is not there
    /// yet; the store's.
    pub async fn changes(&self, after: Commit) -> Result<Changes> {
        let inner = self.inner.clone();
        Ok(Changes::new(wait(move || inner.changes(after)).await??))
    }

    /// Keeps at least `bytes` of log, in whole files, beside what recovery and open feeds need, so that
    /// a feed can go on after it was away. Holds also after a restart and for other writers; 0, the
    /// default, keeps nothing more. A file that was cut off by a crash counts with the space set aside
    /// for it, up to 1 MiB more than it holds.
    ///
    /// # Errors
    /// The store's.
    pub async fn keep_log(&self, bytes: u64) -> Result<()> {
        let inner = self.inner.clone();
        wait(move || inner.keep_log(bytes)).await?
    }

    /// Writes a batch: one commit, all or none.
    ///
    /// # Errors
    /// As [`Database::put`].
    pub async fn write(&self, batch: &Batch, durability: Durability) -> Result<Commit> {
        room(self.inner.kv(), batch.bytes()).await?;
        Ok(self.inner.kv().write_async(batch, durability).await?)
    }

    /// The newest value of `key` in the default keyspace.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        self.default.get(key).await
    }

    /// The value of `key` in the default keyspace at `commit`.
    ///
    /// # Errors
    /// The commit is not retained, or not there yet.
    pub async fn get_at(&self, key: impl AsRef<[u8]>, commit: Commit) -> Result<Option<Bytes>> {
        self.default.at_commit(commit)?.get(key).await
    }

    /// The commits of the default keyspace that can be read.
    ///
    /// ```
    /// # #[tokio::main] async fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// use siltstone::{Commit, Database, Error, History, KeyspaceOptions, Options};
    /// let history = KeyspaceOptions { history: History::levels(10, 1), ..KeyspaceOptions::default() };
    /// let db = Database::open_with(url, Options::default(), history).await?;
    /// for n in 1..=35 {
    ///     db.put("k", n.to_string()).await?;
    /// }
    /// // The ten newest, and of a hundred every tenth.
    /// let readable: Vec<_> = db.retained_commits()?.iter().map(|commit| commit.0).collect();
    /// assert_eq!(readable, [0, 10, 20, 26, 27, 28, 29, 30, 31, 32, 33, 34, 35]);
    /// assert_eq!(db.get_at("k", Commit(20)).await?.as_deref(), Some(&b"20"[..]));
    /// assert!(db.get_at("k", Commit(21)).await.is_err());
    /// // From now on all of it, but for what is gone.
    /// let everything = KeyspaceOptions { history: History::everything(), ..KeyspaceOptions::default() };
    /// db.set_keyspace("default", everything).await?;
    /// # db.close().await
    /// # }
    /// ```
    ///
    /// # Errors
    /// Closed.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        self.default.retained_commits()
    }

    /// The keys of the default keyspace that start with `prefix`.
    ///
    /// # Errors
    /// Closed.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>) -> Result<Scan> {
        self.default.scan_prefix(prefix, ScanOptions::default())
    }

    /// The keys of a range of the default keyspace.
    ///
    /// # Errors
    /// The range's start lies after its end.
    pub fn scan<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<Scan> {
        self.default.scan(range, ScanOptions::default())
    }

    /// The default keyspace as it is now, for as long as the snapshot lives.
    ///
    /// # Errors
    /// Closed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot(self.inner.snapshot()?))
    }

    /// The keyspace that every database has.
    pub fn default_keyspace(&self) -> &Keyspace {
        &self.default
    }

    /// The keyspace called `name`.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn keyspace(&self, name: &str) -> Result<Keyspace> {
        Ok(Keyspace(self.inner.keyspace(name)?))
    }

    /// Creates a keyspace.
    ///
    /// # Errors
    /// The name is taken; a setting is out of bounds.
    pub async fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        let (inner, name) = (self.inner.clone(), name.to_string());
        Ok(Keyspace(
            wait(move || inner.create_keyspace(&name, options)).await??,
        ))
    }

    /// Changes the settings of a keyspace while it is in use. What an earlier history policy let go
    /// of stays gone.
    ///
    /// # Errors
    /// There is none of this name; a setting is out of bounds.
    pub async fn set_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<()> {
        let (inner, name) = (self.inner.clone(), name.to_string());
        wait(move || inner.set_keyspace(&name, options)).await?
    }

    /// Makes every write so far durable.
    ///
    /// # Errors
    /// The store's; then writes are stopped.
    pub async fn sync(&self) -> Result<()> {
        let inner = self.inner.clone();
        wait(move || inner.sync()).await?
    }

    /// Writes every memtable to tables.
    ///
    /// # Errors
    /// The store's; nothing is lost.
    pub async fn flush(&self) -> Result<FlushStats> {
        let inner = self.inner.clone();
        wait(move || inner.flush()).await?
    }

    /// Compacts tables of the default keyspace chosen by hand.
    ///
    /// # Errors
    /// The store's; nothing is changed.
    pub async fn compact(&self, options: CompactOptions) -> Result<CompactStats> {
        let inner = self.inner.clone();
        wait(move || inner.compact(&options)).await?
    }

    /// Holds the newest commit by name, for `lease` or for good.
    ///
    /// # Errors
    /// The name is taken.
    pub async fn checkpoint(&self, name: &str, lease: Option<Duration>) -> Result<Checkpoint> {
        let (inner, name) = (self.inner.clone(), name.to_string());
        wait(move || inner.checkpoint(&name, lease)).await?
    }

    /// Makes a backup in the repository at `url`; see [`blocking::Backups`].
    ///
    /// # Errors
    /// The stores'.
    pub async fn backup(&self, url: &str, label: &str) -> Result<BackupStats> {
        let (inner, url, label) = (self.inner.clone(), url.to_string(), label.to_string());
        wait(move || blocking::Backups::create_at(&url)?.create(&inner, &label, |_, _| {})).await?
    }

    /// As [`blocking::Database::clone_to`].
    ///
    /// # Errors
    /// As there.
    pub async fn clone_to(&self, url: &str, commit: Option<Commit>) -> Result<CloneStats> {
        let (inner, url) = (self.inner.clone(), url.to_string());
        wait(move || inner.clone_to(&url, commit, |_, _| {})).await?
    }

    /// Reads every block of every file.
    ///
    /// # Errors
    /// Only when the check itself cannot be made; damage is in the report.
    pub async fn verify(&self) -> Result<VerifyReport> {
        let inner = self.inner.clone();
        wait(move || inner.verify(|_, _| {})).await?
    }

    /// Everything about the database in numbers.
    pub fn stats(&self) -> Stats {
        self.inner.stats()
    }

    /// Flushes and closes. A second call does nothing.
    ///
    /// # Errors
    /// The flush's; what was acknowledged is safe all the same.
    pub async fn close(&self) -> Result<()> {
        let inner = self.inner.clone();
        wait(move || inner.close()).await?
    }
}

//! The database for asynchronous programs. A call that finds what it needs in memory is done when
//! it is first polled; only what must wait for a disk or a network goes to the runtime's blocking
//! threads.

use crate::blocking;
use crate::error::{Error, Result};
use crate::scan::Scan;
use bytes::Bytes;
use siltstone_kv::{
    BackupStats, Batch, Checkpoint, CloneStats, Commit, CommitRanges, CompactOptions, CompactStats,
    Durability, FlushStats, KeyRange, KeyspaceOptions, Options, Read, ScanOptions, Stats,
    VerifyReport,
};
use siltstone_storage::Wait;
use std::ops::RangeBounds;
use std::time::Duration;

/// Runs what must wait where waiting is allowed.
pub(crate) async fn wait<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .map_err(|_| Error::RuntimeGone)
}

/// Waits, elsewhere, until memory has room for a write.
async fn room(kv: &siltstone_kv::Kv, bytes: usize) -> Result<()> {
    if kv.is_short_of_room() {
        let kv = kv.clone();
        wait(move || kv.wait_for_room(bytes)).await??;
    }
    Ok(())
}

/// A point read: on this thread while the bytes are in memory, elsewhere otherwise.
async fn get<R: Read + Clone + Send + 'static>(read: &R, key: &[u8]) -> Result<Option<Bytes>> {
    match read.try_get(key) {
        Err(error) if error.is_would_block() => {
            let (read, key) = (read.clone(), key.to_vec());
            Ok(wait(move || read.get(&key)).await??)
        }
        other => Ok(other?),
    }
}

/// Opens a scan without waiting: what it has to wait for, it waits for at its first step.
fn open_scan<R: Read + Clone + Send + 'static>(
    read: &R,
    range: KeyRange,
    options: ScanOptions,
) -> Result<Scan> {
    match read.open_scan(range.clone(), options.clone(), Wait::Never) {
        Err(error) if error.is_would_block() => {
            let read = read.clone();
            Ok(Scan::unopened(move || {
                read.open_scan(range, options, Wait::Allowed)
            }))
        }
        opened => Ok(Scan::opened(opened?)),
    }
}

fn key_range<K: AsRef<[u8]>>(range: &impl RangeBounds<K>) -> Result<KeyRange> {
    let start = range.start_bound().map(AsRef::as_ref);
    Ok(KeyRange::new(start, range.end_bound().map(AsRef::as_ref))?)
}

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

/// A named ordered map of an open database.
#[derive(Debug, Clone)]
pub struct Keyspace(siltstone_kv::Keyspace);

impl Keyspace {
    /// The same keyspace for code that blocks, and for batches.
    pub fn blocking(&self) -> &siltstone_kv::Keyspace {
        &self.0
    }

    /// Sets `key` to `value`, durably. Answers the commit.
    ///
    /// # Errors
    /// A limit's; writes are stopped; closed.
    pub async fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<Commit> {
        self.put_with(key, value, Durability::Durable).await
    }

    /// Sets `key` to `value`, as durable as asked.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn put_with(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        durability: Durability,
    ) -> Result<Commit> {
        room(self.0.database(), key.as_ref().len() + value.as_ref().len()).await?;
        let put = self.0.put_async(key.as_ref(), value.as_ref(), durability);
        Ok(put.await?)
    }

    /// Deletes `key`, durably.
    ///
    /// # Errors
    /// As [`Keyspace::put`].
    pub async fn delete(&self, key: impl AsRef<[u8]>) -> Result<Commit> {
        room(self.0.database(), key.as_ref().len()).await?;
        let delete = self.0.delete_async(key.as_ref(), Durability::Durable);
        Ok(delete.await?)
    }

    /// The newest value of `key`.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        get(&self.0, key.as_ref()).await
    }

    /// The keys of a range.
    ///
    /// # Errors
    /// The range's start lies after its end.
    pub fn scan<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        options: ScanOptions,
    ) -> Result<Scan> {
        open_scan(&self.0, key_range(&range)?, options)
    }

    /// The keys that start with `prefix`.
    ///
    /// # Errors
    /// Closed.
    pub fn scan_prefix(&self, prefix: impl AsRef<[u8]>, options: ScanOptions) -> Result<Scan> {
        open_scan(&self.0, KeyRange::prefix(prefix.as_ref()), options)
    }

    /// The keyspace as it is now.
    ///
    /// # Errors
    /// Closed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(Snapshot(self.0.snapshot()?))
    }

    /// The commits that can be read: by the history policy, or because something holds them.
    ///
    /// # Errors
    /// Closed.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        Ok(self.0.retained_commits()?)
    }

    /// The keyspace as it was at `commit`.
    ///
    /// # Errors
    /// The commit is not retained, or not there yet.
    pub fn at_commit(&self, commit: Commit) -> Result<Snapshot> {
        Ok(Snapshot(self.0.at_commit(commit)?))
    }
}

/// A keyspace as it was at one commit, for as long as this lives.
#[derive(Debug, Clone)]
pub struct Snapshot(siltstone_kv::Snapshot);

impl Snapshot {
    /// The commit it reads at.
    ///
    /// # Errors
    /// Closed.
    pub fn commit(&self) -> Result<Commit> {
        Ok(self.0.commit()?)
    }

    /// The value of `key`.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        get(&self.0, key.as_ref()).await
    }

    /// The keys of a range.
    ///
    /// # Errors
    /// The range's start lies after its end.
    pub fn scan<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        options: ScanOptions,
    ) -> Result<Scan> {
        open_scan(&self.0, key_range(&range)?, options)
    }
}

/// A database open for reading beside its writer.
#[derive(Debug, Clone)]
pub struct Reader(blocking::Reader);

impl Reader {
    /// Opens the database at `url` for reading.
    ///
    /// # Errors
    /// There is no database; damage; the store's.
    pub async fn open(url: &str) -> Result<Self> {
        let url = url.to_string();
        Ok(Self(wait(move || blocking::Reader::open(&url)).await??))
    }

    /// Moves to the newest state. Answers its newest commit.
    ///
    /// # Errors
    /// The store's.
    pub async fn refresh(&self) -> Result<Commit> {
        let reader = self.0.clone();
        wait(move || reader.refresh()).await?
    }

    /// The newest value of `key` in the default keyspace.
    ///
    /// # Errors
    /// The store's.
    pub async fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        get(&self.0, key.as_ref()).await
    }

    /// The keys of a range of the default keyspace.
    ///
    /// # Errors
    /// The range's start lies after its end.
    pub fn scan<K: AsRef<[u8]>>(
        &self,
        range: impl RangeBounds<K>,
        options: ScanOptions,
    ) -> Result<Scan> {
        open_scan(&self.0, key_range(&range)?, options)
    }

    /// The commits of the default keyspace that can be read.
    ///
    /// # Errors
    /// The store's.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        self.0.retained_commits()
    }

    /// The same reader for code that blocks.
    pub fn blocking(&self) -> &blocking::Reader {
        &self.0
    }
}

#[cfg(test)]
mod tests;

//! The database for programs without an asynchronous runtime: every call returns when it is done.

pub use crate::backups::Backups;
use crate::error::{Error, Result};
use crate::ledgers::{Copying, Ledgers, names, open_reader};
use crate::lists::Lists;
use crate::location::Location;
use crate::wait::key_range;
use bytes::Bytes;
use siltstone_kv::{
    Batch, Checkpoint, CloneStats, Commit, CommitRanges, CompactOptions, CompactStats, Durability,
    Expect, FlushStats, Isolation, KeyspaceOptions, Kv, OpenStats, Options, PutStats, Read, ReadAt,
    Stats, VerifyReport, Worked,
};
pub use siltstone_kv::{
    Changes, CompactWorker as KvCompactWorker, Ingest, Keyspace, Reader as KvReader,
    ReaderKeyspace, Rows, Scan, Snapshot, Transaction, TransactionKeyspace, Version,
};
pub use siltstone_tree::{
    Joined, NodeHistory, ReadTree, ReadWatch, Scope, TransactionTree, Tree, Trees, View, Watch,
};
use std::ops::RangeBounds;
use std::time::Duration;

/// A database open for writing. Clones are handles of the same database; the last one closes it.
#[derive(Debug, Clone)]
pub struct Database {
    kv: Kv,
    default: Keyspace,
    location: Location,
}

impl Database {
    /// Opens the database at `url` for writing, creating it when there is none.
    ///
    /// # Errors
    /// [`crate::Error::Url`]; locked by another process; damage; the store's.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, Options::default(), KeyspaceOptions::default())
    }

    /// As [`Database::open`], with settings. `default_keyspace` holds for a database that is created
    /// here.
    ///
    /// # Errors
    /// As [`Database::open`], and for settings out of bounds.
    pub fn open_with(
        url: &str,
        options: Options,
        default_keyspace: KeyspaceOptions,
    ) -> Result<Self> {
        let location = Location::parse(url)?;
        let (env, lock) = location.for_database()?;
        let kv = Kv::open(env, options, default_keyspace, lock)?;
        Ok(Self {
            default: kv.default_keyspace(),
            kv,
            location,
        })
    }

    /// Where the database lives.
    pub fn location(&self) -> &Location {
        &self.location
    }

    /// The engine underneath.
    pub fn kv(&self) -> &Kv {
        &self.kv
    }

    /// What opening found and did.
    pub fn open_stats(&self) -> &OpenStats {
        self.kv.open_stats()
    }

    /// Sets `key` to `value` in the default keyspace, durably.
    ///
    /// # Errors
    /// A limit's; writes are stopped; closed.
    pub fn put(&self, key: impl AsRef<[u8]>, value: impl AsRef<[u8]>) -> Result<PutStats> {
        Ok(self.default.put(key.as_ref(), value.as_ref())?)
    }

    /// Deletes `key` from the default keyspace, durably.
    ///
    /// # Errors
    /// As [`Database::put`].
    pub fn delete(&self, key: impl AsRef<[u8]>) -> Result<PutStats> {
        Ok(self.default.delete(key.as_ref())?)
    }

    /// Sets `key` to `value` in the default keyspace for as long as `ttl`; then it is gone.
    ///
    /// # Errors
    /// As [`Database::put`].
    pub fn put_ttl(
        &self,
        key: impl AsRef<[u8]>,
        value: impl AsRef<[u8]>,
        ttl: Duration,
    ) -> Result<PutStats> {
        Ok(self.default.put_ttl(key.as_ref(), value.as_ref(), ttl)?)
    }

    /// Changes `key` of the default keyspace by `operand`, as its merge operator says.
    ///
    /// # Errors
    /// As [`Database::put`]; the keyspace has no merge operator; it refuses the operand.
    pub fn merge(&self, key: impl AsRef<[u8]>, operand: impl AsRef<[u8]>) -> Result<PutStats> {
        Ok(self.default.merge(key.as_ref(), operand.as_ref())?)
    }

    /// Deletes every key of a range of the default keyspace, with one small record.
    ///
    /// # Errors
    /// As [`Database::put`]; the range's start lies after its end.
    pub fn delete_range<K: AsRef<[u8]>>(&self, range: impl RangeBounds<K>) -> Result<PutStats> {
        Ok(self.default.delete_range(&key_range(&range)?)?)
    }

    /// Sets `key` to `value` in the default keyspace if it holds what is expected.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::ConditionFailed`] with what was found; as [`Database::put`].
    pub fn put_if(
        &self,
        key: impl AsRef<[u8]>,
        expect: Expect<'_>,
        value: impl AsRef<[u8]>,
    ) -> Result<PutStats> {
        Ok(self.default.put_if(key.as_ref(), expect, value.as_ref())?)
    }

    /// Deletes `key` from the default keyspace if it holds what is expected.
    ///
    /// # Errors
    /// As [`Database::put_if`].
    pub fn delete_if(&self, key: impl AsRef<[u8]>, expect: Expect<'_>) -> Result<PutStats> {
        Ok(self.default.delete_if(key.as_ref(), expect)?)
    }

    /// Begins a transaction at the newest commit.
    ///
    /// # Errors
    /// Too many are open; writes are stopped; closed.
    pub fn begin(&self, isolation: Isolation) -> Result<Transaction> {
        Ok(self.kv.begin(isolation)?)
    }

    /// Does `work` in a transaction and commits it; does it again, in another transaction, up to
    /// `retries` times when somebody else came first. When `work` fails nothing is written.
    ///
    /// ```
    /// # fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// use siltstone::blocking::Database;
    /// use siltstone::{Isolation, Read};
    /// let db = Database::open(url)?;
    /// db.put("from", "oo")?;
    /// let all = db.default_keyspace();
    /// db.transact(Isolation::Serializable, 10, |txn| -> siltstone::Result<()> {
    ///     let moved = txn.on(all).get(b"from")?.unwrap_or_default();
    ///     txn.delete(all, b"from")?;
    ///     Ok(txn.put(all, b"to", &moved)?)
    /// })?;
    /// assert_eq!(db.get("to")?.as_deref(), Some(&b"oo"[..]));
    /// # db.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// The last [`siltstone_kv::Error::Conflict`] when every try met one; what `work` fails with; those
    /// of [`Transaction::commit`].
    pub fn transact<T, E: From<Error>>(
        &self,
        isolation: Isolation,
        retries: u32,
        mut work: impl FnMut(&Transaction) -> Result<T, E>,
    ) -> Result<T, E> {
        let mut left = retries;
        loop {
            let transaction = self.begin(isolation)?;
            let answer = work(&transaction)?;
            match transaction.commit().map_err(Error::from) {
                Err(error) if error.is_conflict() && left > 0 => left -= 1,
                committed => return committed.map(|_| answer).map_err(E::from),
            }
        }
    }

    /// Every commit after `after`, in order, with what it wrote, as it becomes durable. Go on after a
    /// restart with the last commit that was delivered.
    ///
    /// # Errors
    /// [`siltstone_kv::Error::ChangesGone`] naming where to start instead; the commit is not there
    /// yet; the store's.
    pub fn changes(&self, after: Commit) -> Result<Changes> {
        Ok(self.kv.changes(after)?)
    }

    /// Keeps at least `bytes` of log, in whole files, beside what recovery and open feeds need, so that
    /// a feed can go on after it was away. Holds also after a restart and for other writers; 0, the
    /// default, keeps nothing more. A file that was cut off by a crash counts with the space set aside
    /// for it, up to 1 MiB more than it holds.
    ///
    /// # Errors
    /// The store's.
    pub fn keep_log(&self, bytes: u64) -> Result<()> {
        Ok(self.kv.keep_log(bytes)?)
    }

    /// Writes a batch: one commit, all or none.
    ///
    /// # Errors
    /// As [`Database::put`].
    pub fn write(&self, batch: &Batch, durability: Durability) -> Result<PutStats> {
        Ok(self.kv.write(batch, durability)?)
    }

    /// The newest value of `key` in the default keyspace.
    ///
    /// # Errors
    /// The store's.
    pub fn get(&self, key: impl AsRef<[u8]>) -> Result<Option<Bytes>> {
        Ok(self.default.get(key.as_ref())?)
    }

    /// Lets `see` look at the newest value of `key` in the default keyspace, without a copy, and
    /// returns its answer; `None` when there is no value.
    ///
    /// ```
    /// # fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// # let db = siltstone::blocking::Database::open(url)?;
    /// db.put("grain", "fine")?;
    /// assert_eq!(db.get_with("grain", |value| value.len())?, Some(4));
    /// # db.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// The store's.
    pub fn get_with<T>(
        &self,
        key: impl AsRef<[u8]>,
        see: impl FnOnce(&[u8]) -> T,
    ) -> Result<Option<T>> {
        Ok(self.default.get_with(key.as_ref(), see)?)
    }

    /// The value of `key` in the default keyspace at `commit`.
    ///
    /// # Errors
    /// The commit is not retained, or not there yet.
    pub fn get_at(&self, key: impl AsRef<[u8]>, commit: Commit) -> Result<Option<Bytes>> {
        Ok(self.default.get_at(key.as_ref(), commit)?)
    }

    /// The commits of the default keyspace that can be read.
    ///
    /// # Errors
    /// Closed.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        Ok(self.default.retained_commits()?)
    }

    /// The stored versions of `key` in the default keyspace, newest first.
    ///
    /// # Errors
    /// The store's.
    pub fn history(&self, key: impl AsRef<[u8]>) -> Result<Vec<Version>> {
        Ok(siltstone_kv::history(&self.default, key.as_ref())?)
    }

    /// The default keyspace as it is now, for as long as the snapshot lives.
    ///
    /// # Errors
    /// Closed.
    pub fn snapshot(&self) -> Result<Snapshot> {
        Ok(self.default.snapshot()?)
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
        Ok(self.kv.keyspace(name)?)
    }

    /// Creates a keyspace.
    ///
    /// # Errors
    /// The name is taken; a setting is out of bounds.
    pub fn create_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<Keyspace> {
        Ok(self.kv.create_keyspace(name, options)?)
    }

    /// Changes the settings of a keyspace while it is in use. What an earlier history policy let go
    /// of stays gone.
    ///
    /// # Errors
    /// There is none of this name; a setting is out of bounds.
    pub fn set_keyspace(&self, name: &str, options: KeyspaceOptions) -> Result<()> {
        Ok(self.kv.set_keyspace(name, options)?)
    }

    /// The document tree called `name`.
    ///
    /// ```
    /// # fn main() -> siltstone::Result<()> {
    /// # let dir = tempfile::tempdir().expect("a folder");
    /// # let url = dir.path().to_str().expect("a plain path");
    /// use siltstone::blocking::Database;
    /// use siltstone::{Isolation, KeyspaceOptions};
    /// let db = Database::open(url)?;
    /// let shop = db.create_tree("shop", KeyspaceOptions::default())?;
    /// let before = shop.set("stock.apples", 5)?;
    /// // One commit for a tree and a keyspace.
    /// db.transact(Isolation::Serializable, 10, |txn| -> siltstone::Result<()> {
    ///     shop.on(txn).increment("stock.apples", -1)?;
    ///     Ok(txn.put(db.default_keyspace(), b"last sale", b"an apple")?)
    /// })?;
    /// assert_eq!(shop.get("stock.apples")?, 4.into());
    /// assert_eq!(shop.get_at("stock.apples", before)?, 5.into());
    /// # db.close()
    /// # }
    /// ```
    ///
    /// # Errors
    /// There is none of this name.
    pub fn tree(&self, name: &str) -> Result<Tree> {
        Ok(self.trees().open(name)?)
    }

    /// Creates a document tree; its window, divisor and levels are those of `options`.
    ///
    /// # Errors
    /// The name is taken; a setting is out of bounds.
    pub fn create_tree(&self, name: &str, options: KeyspaceOptions) -> Result<Tree> {
        Ok(self.trees().create(name, options)?)
    }

    /// All document trees: to list, create, change and drop them.
    pub fn trees(&self) -> Trees {
        Trees::of(&self.kv)
    }

    /// The ledgers: to list, open, create and drop them.
    pub fn ledgers(&self) -> Ledgers {
        Ledgers::of(&self.kv)
    }

    /// The stored lists and texts: to list, open, create and drop them.
    pub fn lists(&self) -> Lists {
        Lists::of(&self.kv, self.location.absolute())
    }

    /// Makes every write so far durable.
    ///
    /// # Errors
    /// The store's; then writes are stopped.
    pub fn sync(&self) -> Result<()> {
        Ok(self.kv.sync()?)
    }

    /// Writes every memtable to tables.
    ///
    /// # Errors
    /// The store's; nothing is lost.
    pub fn flush(&self) -> Result<FlushStats> {
        Ok(self.kv.flush()?)
    }

    /// Compacts tables of the default keyspace chosen by hand.
    ///
    /// # Errors
    /// The store's; nothing is changed.
    pub fn compact(&self, options: &CompactOptions) -> Result<CompactStats> {
        Ok(self
            .default
            .compact(options)
            .map_err(|failed| failed.error)?)
    }

    /// Holds the newest commit by name, for `lease` or for good.
    ///
    /// # Errors
    /// The name is taken.
    pub fn checkpoint(&self, name: &str, lease: Option<Duration>) -> Result<Checkpoint> {
        Ok(self.kv.checkpoint(name, lease)?)
    }

    /// Makes a database at `url`, where there is none, with the contents at `commit`, or of now. In
    /// one file system, or in one bucket, no byte of tables is copied through this process. Ledgers, which
    /// have clocks of their own, are copied as they are now.
    ///
    /// # Errors
    /// The commit cannot be read; `url` is not empty; the stores'.
    pub fn clone_to(
        &self,
        url: &str,
        commit: Option<Commit>,
        progress: impl FnMut(usize, usize),
    ) -> Result<CloneStats> {
        let (env, _lock) = Location::parse(url)?.for_writer()?;
        // Before there is a database, so that none is there without them.
        let copying = Copying::begin(&env)?;
        let copied = self.ledgers().copy_to(&env)?;
        let mut stats = self.kv.clone_at(commit, env.blobs.clone(), progress)?;
        copying.done();
        stats.copied += copied.copied;
        stats.bytes += copied.bytes;
        Ok(stats)
    }

    /// Reads every block of every file, and every archive of the ledgers.
    ///
    /// # Errors
    /// Only when the check itself cannot be made; damage is in the report.
    pub fn verify(&self, progress: impl FnMut(usize, usize)) -> Result<VerifyReport> {
        let mut report = self.kv.verify(progress)?;
        let ledgers = self.ledgers().verify()?;
        report.bytes += ledgers.bytes;
        report.problems.extend(ledgers.problems);
        Ok(report)
    }

    /// Everything about the database in numbers.
    pub fn stats(&self) -> Stats {
        self.kv.stats()
    }

    /// Flushes and closes. A second call does nothing.
    ///
    /// # Errors
    /// The flush's; what was acknowledged is safe all the same.
    pub fn close(&self) -> Result<()> {
        self.ledgers().close()?;
        Ok(self.kv.close()?)
    }
}

impl Read for Database {
    fn at(&self) -> siltstone_kv::Result<ReadAt> {
        self.default.at()
    }

    fn try_at(&self) -> siltstone_kv::Result<ReadAt> {
        self.default.try_at()
    }
}

/// Compacts for the writer of a database, in a process of its own; see
/// [`siltstone_kv::CompactWorker`].
#[derive(Debug)]
pub struct CompactWorker(KvCompactWorker);

impl CompactWorker {
    /// Opens the database at `url` to work on it.
    ///
    /// # Errors
    /// There is no database; damage; the store's.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, Options::default())
    }

    /// As [`CompactWorker::open`], with settings.
    ///
    /// # Errors
    /// As [`CompactWorker::open`].
    pub fn open_with(url: &str, options: Options) -> Result<Self> {
        let env = Location::parse(url)?.for_reader()?;
        Ok(Self(KvCompactWorker::open(env, options)?))
    }

    /// Looks for a compaction that the writer offers, and does it. Call it again at once after one
    /// that was done, else after a while.
    ///
    /// # Errors
    /// The store's, and damage in a table; the job is then the writer's again.
    pub fn work(&self) -> Result<Worked> {
        Ok(self.0.work()?)
    }

    /// Says goodbye, so that the writer offers nothing more.
    ///
    /// # Errors
    /// The store's.
    pub fn leave(&self) -> Result<()> {
        Ok(self.0.leave()?)
    }

    /// The engine's worker underneath.
    pub fn kv(&self) -> &KvCompactWorker {
        &self.0
    }
}

/// A database open for reading beside its writer.
#[derive(Debug, Clone)]
pub struct Reader {
    reader: KvReader,
    default: ReaderKeyspace,
}

impl Reader {
    /// Opens the database at `url` for reading.
    ///
    /// # Errors
    /// There is no database; damage; the store's.
    pub fn open(url: &str) -> Result<Self> {
        Self::open_with(url, Options::default())
    }

    /// As [`Reader::open`], with settings.
    ///
    /// # Errors
    /// As [`Reader::open`].
    pub fn open_with(url: &str, options: Options) -> Result<Self> {
        let env = Location::parse(url)?.for_reader()?;
        let reader = KvReader::open(env, options)?;
        Ok(Self {
            default: reader.default_keyspace(),
            reader,
        })
    }

    /// The engine's reader underneath.
    pub fn kv(&self) -> &KvReader {
        &self.reader
    }

    /// The names of all ledgers, in order.
    ///
    /// # Errors
    /// The store's.
    pub fn ledger_names(&self) -> Result<Vec<String>> {
        names(&*self.reader.env().blobs)
    }

    /// The ledger `name`, open for reading beside its writer:
    /// [`Ledger::open_reader`](siltstone_ledger::Ledger::open_reader).
    ///
    /// # Errors
    /// [`Error::UnknownLedger`] naming those there are; the ledger's.
    pub fn ledger(
        &self,
        name: &str,
        options: siltstone_ledger::Options,
    ) -> Result<siltstone_ledger::Ledger> {
        open_reader(self.reader.env(), name, options)
    }

    /// As [`Database::changes`], in a process that only reads.
    ///
    /// # Errors
    /// As [`Database::changes`].
    pub fn changes(&self, after: Commit) -> Result<Changes> {
        Ok(self.reader.changes(after)?)
    }

    /// Moves to the newest state. Answers its newest commit.
    ///
    /// # Errors
    /// The store's.
    pub fn refresh(&self) -> Result<Commit> {
        Ok(self.reader.refresh()?)
    }

    /// The keyspace called `name`.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn keyspace(&self, name: &str) -> Result<ReaderKeyspace> {
        Ok(self.reader.keyspace(name)?)
    }

    /// The document tree called `name`.
    ///
    /// # Errors
    /// There is none of this name.
    pub fn tree(&self, name: &str) -> Result<ReadTree> {
        Ok(ReadTree::open(&self.reader, name)?)
    }

    /// The names of all document trees.
    pub fn tree_names(&self) -> Vec<String> {
        ReadTree::names(&self.reader)
    }

    /// The keyspace that every database has.
    pub fn default_keyspace(&self) -> &ReaderKeyspace {
        &self.default
    }

    /// The commits of the default keyspace that can be read.
    ///
    /// # Errors
    /// The store's.
    pub fn retained_commits(&self) -> Result<CommitRanges> {
        Ok(self.default.retained_commits()?)
    }

    /// The default keyspace as it was at `commit`.
    ///
    /// # Errors
    /// The commit is not retained, or not there yet.
    pub fn at_commit(&self, commit: Commit) -> Result<Snapshot> {
        Ok(self.default.at_commit(commit)?)
    }
}

impl Read for Reader {
    fn at(&self) -> siltstone_kv::Result<ReadAt> {
        self.default.at()
    }

    fn try_at(&self) -> siltstone_kv::Result<ReadAt> {
        self.default.try_at()
    }
}

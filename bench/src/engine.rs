//! The contract between the workloads and the databases they measure.
//!
//! A database takes part through one file in `engines/` that implements [`Engine`]; everything
//! else (threads, tasks, timing, memory, bytes written) is the harness, and the same for all.
//! Methods are async so that one workload serves both kinds of database: a synchronous engine
//! returns futures that are ready at once, and the driver polls those a single time.

use std::future::Future;
use std::path::Path;

/// What an engine call may return; the harness adds which engine and workload it was.
pub(crate) type Result<T> = std::result::Result<T, Box<dyn std::error::Error + Send + Sync>>;

/// The kind of tree inside; ratios are taken against the best log-structured peer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "a build without peers has no engine of some kinds"
)]
pub(crate) enum Family {
    /// A log-structured merge tree.
    Lsm,
    /// Anything else, such as a B+tree; measured beside, never the bar.
    Other,
}

/// How concurrent callers of an engine are run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(
    dead_code,
    reason = "a build without peers has no engine of some kinds"
)]
pub(crate) enum Drive {
    /// One operating system thread a caller; the engine's futures never wait.
    Threads,
    /// One task a caller on a Tokio runtime with two worker threads.
    Tasks,
}

/// Compression of table blocks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Compression {
    /// LZ4 where the engine has it, else its codec of the same class (Snappy), else none.
    Lz4,
    /// No compression anywhere.
    None,
}

/// What every engine is opened with.
#[derive(Clone, Copy, Debug)]
#[allow(
    dead_code,
    reason = "a build without peers has no engine that reads all of it"
)]
pub(crate) struct Config {
    /// Bytes for blocks held for reads.
    pub(crate) cache_bytes: usize,
    /// Bytes of one write buffer, at which it is sealed and written out.
    pub(crate) memtable_bytes: usize,
    /// Compression of table blocks.
    pub(crate) compression: Compression,
    /// Set where every write of the workload waits for the disk, so that an engine with a timer
    /// in its commit path can shorten it.
    pub(crate) durable: bool,
    /// Set where the workload reads at old commits; only for engines with [`Engine::HISTORY`].
    pub(crate) history: bool,
}

/// A key and its value.
pub(crate) type Entry = ([u8; crate::data::KEY_LEN], Vec<u8>);

/// A database under test. Opening a folder that already holds one reopens it. It has as many keyspaces
/// as [`crate::data::keyspaces`] says, or keeps them apart by a prefix if it has none, and an entry is in
/// the one that [`crate::data::keyspace_of`] names.
pub(crate) trait Engine: Sized + Send + Sync + 'static {
    /// The name on the command line and in the results.
    const NAME: &'static str;
    /// The kind of tree inside.
    const FAMILY: Family;
    /// How concurrent writers are run.
    const WRITES: Drive;
    /// How many writers at once are run, for an engine with both kinds of calls.
    const CROWD: Drive = Self::WRITES;
    /// Whether it numbers its commits and can read at old ones.
    const HISTORY: bool = false;
    /// How concurrent readers are run; an engine with async writes may read synchronously.
    const READS: Drive;

    /// Opens the database in `dir`, creating it if the folder is empty.
    fn open(dir: &Path, config: &Config) -> impl Future<Output = Result<Self>> + Send;

    /// Writes one entry without waiting for the disk.
    fn put(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// Writes one entry and returns once it would survive a loss of power.
    fn put_durable(&self, key: &[u8], value: &[u8]) -> impl Future<Output = Result<()>> + Send;

    /// The same call for one of many writers, run as [`Engine::CROWD`] says.
    fn put_durable_in_crowd(
        &self,
        key: &[u8],
        value: &[u8],
    ) -> impl Future<Output = Result<()>> + Send {
        self.put_durable(key, value)
    }

    /// Writes entries as one atomic batch without waiting for the disk.
    fn put_batch(&self, entries: &[Entry]) -> impl Future<Output = Result<()>> + Send;

    /// Reads one key, hands its value to `see`, and returns whether it was there.
    fn get(
        &self,
        key: &[u8],
        see: impl FnMut(&[u8]) + Send,
    ) -> impl Future<Output = Result<bool>> + Send;

    /// The number of the newest commit.
    fn commit(&self) -> u64 {
        0
    }

    /// The first commit from `commit` on that can be read.
    fn readable_from(&self, commit: u64) -> Result<u64> {
        Err(format!("{} cannot read at commit {commit}", Self::NAME).into())
    }

    /// As [`Engine::get`], at an old commit.
    fn get_at(
        &self,
        commit: u64,
        key: &[u8],
        see: impl FnMut(&[u8]) + Send,
    ) -> impl Future<Output = Result<bool>> + Send {
        let _ = (key, see);
        async move { Err(format!("{} cannot read at commit {commit}", Self::NAME).into()) }
    }

    /// Reads up to `limit` entries of a keyspace in key order from `from` on (inclusive), hands each
    /// to `see`, and returns how many there were.
    fn scan(
        &self,
        keyspace: usize,
        from: &[u8],
        limit: usize,
        see: impl FnMut(&[u8], &[u8]) + Send,
    ) -> impl Future<Output = Result<usize>> + Send;

    /// Returns once every write so far is in tables (or the tree's pages) and on disk.
    fn flush(&self) -> impl Future<Output = Result<()>> + Send;

    /// Flushes and waits for background work as far as the engine can tell; the harness then
    /// waits until the process is quiet.
    fn settle(&self) -> impl Future<Output = Result<()>> + Send;

    /// Merges everything into as few tables as the engine can and returns when done; false if the
    /// engine cannot be asked to.
    fn compact(&mut self) -> impl Future<Output = Result<bool>> + Send;

    /// Closes cleanly.
    fn close(self) -> impl Future<Output = Result<()>> + Send;
}

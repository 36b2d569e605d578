//! Settings: plain data, each with its unit, default and limits. A builder is not needed: fill in
//! the struct; [`Options::check`] runs at open.

use crate::error::{Error, Result};
use crate::operator::MergeOperator;
use serde::{Deserialize, Serialize};
use siltstone_storage::{DiskCache, Env};
use std::sync::Arc;
use std::time::Duration;

const MIB: usize = 1 << 20;
const LONGEST_LOG_INTERVAL: Duration = Duration::from_secs(10);

/// How a database is opened.
#[derive(Debug, Clone)]
pub struct Options {
    /// Memory for memtables, caches, filters and scans together, in bytes. Default 256 MiB, at
    /// least 8 MiB.
    pub memory_budget: usize,
    /// Size at which a memtable is sealed and flushed, in bytes. Default 64 MiB; at most a quarter
    /// of the budget is used.
    pub memtable_bytes: usize,
    /// Size of a log file, in bytes. Default 64 MiB.
    pub wal_bytes: usize,
    /// The least time between two objects of the log in a bucket, unless one is full (256 KiB): durable
    /// writes that come meanwhile share the next, so it bounds what they cost. With 25 ms there are at
    /// most 40 requests a second, however many commit, and a durable write, and what comes behind it,
    /// waits up to 25 ms more. Default 0: about eight leave in the time that one takes. Limit 10 s. A
    /// folder does not use it.
    pub log_interval: Duration,
    /// Log files that may pile up before lagging keyspaces are flushed. Default 8.
    pub max_wal_files: usize,
    /// Largest key, in bytes. Default and limit 65,535.
    pub max_key_bytes: usize,
    /// Largest value, in bytes. Default 64 MiB, limit 1 GiB.
    pub max_value_bytes: usize,
    /// Largest batch, in bytes. Default 128 MiB, limit 1 GiB. The bookkeeping
    /// of its writes counts with 80 bytes each.
    pub max_batch_bytes: usize,
    /// Scans open at once; one more waits. Default 1,000.
    pub max_scans: usize,
    /// Compactions at once. Default 1.
    pub max_compactions: usize,
    /// Tables in level 0 that start a compaction. Default 4.
    pub level0_trigger: usize,
    /// Tables in level 0 at which writers wait. Default 40.
    pub level0_stop: usize,
    /// Size of level 1, in bytes; each further level holds ten times as much. Default 256 MiB.
    pub level1_bytes: u64,
    /// Size at which a compaction starts a new table, in bytes. Default 64 MiB.
    pub table_bytes: u64,
    /// Merge operators beside the built-in ones.
    pub merge_operators: Vec<Arc<dyn MergeOperator>>,
    /// Who does background work.
    pub background: Background,
    /// What to do with a log that is damaged in the middle.
    pub wal_recovery: WalRecovery,
    /// How long a reader's pin holds without being renewed. Default 60 s.
    pub reader_lease: Duration,
    /// Transactions open at once; one more is refused. Default 10,000.
    pub max_transactions: usize,
    /// A transaction that is not used for this long is ended, so that history can go on without it.
    /// Default 60 s.
    pub transaction_idle: Duration,
    /// Log that open change feeds may keep from being deleted, in bytes; one that falls further
    /// behind is told where to start again. Default 1 GiB.
    pub max_feed_log_bytes: u64,
    /// How long a worker process may show no sign of going on with a compaction before the writer
    /// takes it back and does it itself; one that no worker begins, after a third of that. Default
    /// 30 s; with 0 nothing is left to workers.
    pub worker_patience: Duration,
    /// A folder on a local disk that keeps what was read from a bucket, over restarts; needs the feature
    /// `disk-cache`. A database in a folder does not use it, nor does a worker. Default: none.
    pub disk_cache: Option<DiskCache>,
    /// Idle time after which level 0 is merged down although it is small. Default 1 s.
    pub settle_after: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            memory_budget: 256 * MIB,
            memtable_bytes: 64 * MIB,
            wal_bytes: 64 * MIB,
            log_interval: Duration::ZERO,
            max_wal_files: 8,
            max_key_bytes: 65_535,
            max_value_bytes: 64 * MIB,
            max_batch_bytes: 128 * MIB,
            max_scans: 1_000,
            max_compactions: 1,
            level0_trigger: 4,
            level0_stop: 40,
            level1_bytes: 256 * MIB as u64,
            table_bytes: 64 * MIB as u64,
            merge_operators: Vec::new(),
            background: Background::Threads,
            wal_recovery: WalRecovery::Strict,
            reader_lease: Duration::from_secs(60),
            max_transactions: 10_000,
            transaction_idle: Duration::from_secs(60),
            max_feed_log_bytes: 1024 * MIB as u64,
            worker_patience: Duration::from_secs(30),
            disk_cache: None,
            settle_after: Duration::from_secs(1),
        }
    }
}

impl Options {
    /// Checks every limit.
    ///
    /// # Errors
    /// [`Error::Setting`] naming the first setting that is out of bounds.
    pub fn check(&self) -> Result<()> {
        let bounds = [
            ("memory_budget", self.memory_budget, 8 * MIB, usize::MAX),
            ("memtable_bytes", self.memtable_bytes, 4096, 4096 * MIB),
            ("wal_bytes", self.wal_bytes, 4096, 4096 * MIB),
            ("max_wal_files", self.max_wal_files, 2, 10_000),
            ("max_key_bytes", self.max_key_bytes, 1, 65_535),
            ("max_value_bytes", self.max_value_bytes, 1, 1024 * MIB),
            ("max_batch_bytes", self.max_batch_bytes, 1, 1024 * MIB),
            ("max_scans", self.max_scans, 1, 1_000_000),
            ("max_transactions", self.max_transactions, 1, 1_000_000),
            ("max_compactions", self.max_compactions, 1, 64),
            ("level0_trigger", self.level0_trigger, 2, 1_000),
            ("level0_stop", self.level0_stop, self.level0_trigger, 10_000),
        ];
        for (setting, value, low, high) in bounds {
            if !(low..=high).contains(&value) {
                let what = format!("{value} is outside {low} to {high}");
                return Err(Error::Setting { setting, what });
            }
        }
        if self.log_interval > LONGEST_LOG_INTERVAL {
            return Err(Error::Setting {
                setting: "log_interval",
                what: format!("{:?} is more than 10 s", self.log_interval),
            });
        }
        Ok(())
    }

    /// `env` with the disk cache in front of its store, where there is to be one.
    pub(crate) fn cached(&self, env: Env) -> Result<Env> {
        let Some(disk_cache) = &self.disk_cache else {
            return Ok(env);
        };
        disk_cache.in_front_of(env).map_err(|error| Error::Setting {
            setting: "disk_cache",
            what: error.to_string(),
        })
    }

    /// The size at which a memtable is sealed, within the budget.
    pub(crate) fn memtable_limit(&self) -> usize {
        self.memtable_bytes.min(self.memory_budget / 4)
    }
}

/// Who flushes and compacts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Background {
    /// Threads of the database's own.
    Threads,
    /// Nobody, until [`crate::Kv::work`] is called: everything happens on the caller's thread, in
    /// an order that repeats. For simulations and tests.
    Manual,
}

/// What to do with a log that is damaged before intact records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WalRecovery {
    /// Refuse to open, and say what can be saved.
    Strict,
    /// Keep what comes before the damage and give up the rest.
    Truncate,
}

/// When a write counts as done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Durability {
    /// In the log buffer of this process: a crash of the process or the machine may lose it, and
    /// then everything after it. [`crate::Kv::sync`] makes it durable.
    Buffered,
    /// Fsynced, or in the object store.
    #[default]
    Durable,
}

/// How table blocks are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
pub enum Compression {
    /// Not at all.
    None,
    /// LZ4: fast both ways.
    #[default]
    Lz4,
    /// Zstandard, level 1: smaller, for buckets and cold data.
    Zstd,
}

/// Which commits of a keyspace stay readable, and which old versions go earlier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct History {
    /// The newest `window` commits stay readable; at least 1. Default 10,000.
    pub window: u64,
    /// Commits younger than this stay readable too, to the second at first and coarser as the
    /// database ages. Default: none.
    pub window_age: Option<Duration>,
    /// How much each level thins out and how much further it reaches; at least 2. Default 10.
    pub divisor: u64,
    /// Levels of thinned history behind the window: on level L, from 1 to this, every
    /// `divisor`^L-th commit of the newest `window * divisor`^L stays readable. Default 0, and at
    /// most so many that `divisor`^L fits 64 bits.
    pub levels: u32,
    /// At most this many versions of a key are kept. Default: no limit.
    pub max_versions: Option<u32>,
    /// A version superseded longer ago than this goes. Default: no limit.
    pub max_age: Option<Duration>,
    /// With `max_age`: the newest version of a key goes too when it is that old. Default: it stays.
    pub expire: bool,
    /// A tombstone is kept at least this long. Default 0.
    pub tombstone_age: Duration,
}

impl Default for History {
    fn default() -> Self {
        Self {
            window: 10_000,
            window_age: None,
            divisor: 10,
            levels: 0,
            max_versions: None,
            max_age: None,
            expire: false,
            tombstone_age: Duration::ZERO,
        }
    }
}

impl History {
    /// Only the newest commit stays readable (and what snapshots and checkpoints hold).
    pub fn head_only() -> Self {
        Self {
            window: 1,
            ..Self::default()
        }
    }

    /// Every commit stays readable.
    pub fn everything() -> Self {
        Self {
            window: u64::MAX,
            ..Self::default()
        }
    }

    /// The newest `window` commits stay readable, and of the `window * 10^levels` newest every tenth,
    /// hundredth and so on, ever coarser: for each tenfold of history about nine tenths of a window
    /// more.
    pub fn levels(window: u64, levels: u32) -> Self {
        Self {
            window,
            levels,
            ..Self::default()
        }
    }

    /// True when versions inside the window can go, so that reads must look for truncated marks.
    pub(crate) fn truncates(&self) -> bool {
        self.max_versions.is_some() || self.max_age.is_some()
    }
}

/// Settings of one keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeyspaceOptions {
    /// Which commits stay readable.
    pub history: History,
    /// How blocks are compressed. Default LZ4.
    pub compression: Compression,
    /// Bits of bloom filter a key; 0 turns filters off. Default 12, which lets one absent key in two
    /// hundred pass; at most 32.
    pub filter_bits: u8,
    /// Size of a block before compression, in bytes. Default 8 KiB, 512 bytes to 1 MiB.
    pub block_bytes: u32,
    /// The operator that merges are resolved with: built in (`counter`, `append`, `max`,
    /// `set-union`, `json-merge-patch`), or one of [`Options::merge_operators`]. Default: none.
    pub merge_operator: Option<String>,
    /// Values of this size and more, in bytes, are kept apart from their keys, in blob files:
    /// compactions then do not move them. At least 64; with `u32::MAX` none are. Default: a flush to a
    /// folder does so with those from 16 KiB on, if they make up 4 MiB and there is no merge operator;
    /// in a bucket none are, where each is a request of its own.
    pub blob_threshold: Option<u32>,
}

impl Default for KeyspaceOptions {
    fn default() -> Self {
        Self {
            history: History::default(),
            compression: Compression::default(),
            filter_bits: 12,
            block_bytes: 8 * 1024,
            merge_operator: None,
            blob_threshold: None,
        }
    }
}

impl KeyspaceOptions {
    pub(crate) fn check(&self) -> Result<()> {
        let bad = |setting, what: &str| {
            Err(Error::Setting {
                setting,
                what: what.to_string(),
            })
        };
        if self.history.window == 0 {
            return bad(
                "history.window",
                "is at least 1 commit: the head is always readable",
            );
        }
        if self.history.divisor < 2 {
            return bad("history.divisor", "is at least 2");
        }
        if self
            .history
            .divisor
            .checked_pow(self.history.levels)
            .is_none()
        {
            return bad(
                "history.levels",
                "divisor^levels does not fit 64 bits; take fewer levels",
            );
        }
        if self.history.max_versions == Some(0) {
            return bad("history.max_versions", "is at least 1");
        }
        if self.filter_bits > 32 {
            return bad("filter_bits", "is at most 32 bits a key");
        }
        if self.blob_threshold.is_some_and(|least| least < 64) {
            return bad(
                "blob_threshold",
                "is at least 64 bytes: a pointer takes up to 28",
            );
        }
        if !(512..=1 << 20).contains(&self.block_bytes) {
            return bad("block_bytes", "is 512 bytes to 1 MiB");
        }
        Ok(())
    }
}

//! What each operation did, exactly.

use crate::types::{Commit, SegmentId};
use serde::Serialize;
use siltstone_storage::DiskCacheStats;
use std::fmt;
use std::time::Duration;

/// Where something was found or went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Source {
    /// Nowhere.
    #[default]
    None,
    /// The transaction's own writes.
    Transaction,
    /// The active memtable.
    Memtable,
    /// A memtable that waits to be flushed.
    SealedMemtable,
    /// This table.
    Table(SegmentId),
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Source::None => f.write_str("nowhere"),
            Source::Transaction => f.write_str("the transaction"),
            Source::Memtable => f.write_str("memtable"),
            Source::SealedMemtable => f.write_str("sealed memtable"),
            Source::Table(id) => id.fmt(f),
        }
    }
}

/// What a write did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct PutStats {
    /// The commit it became.
    pub commit: Commit,
    /// Where it went.
    pub destination: Source,
    /// From call to return.
    pub latency: Duration,
    /// How often it waited for room in memory before it was let in.
    pub retries: u32,
}

/// What a read did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct GetStats {
    /// Where the newest entry was found, a tombstone included.
    pub source: Source,
    /// The commit that wrote it.
    pub commit: Option<Commit>,
    /// Tables whose index and blocks were searched.
    pub tables_read: u64,
    /// Tables of the keyspace that were left out: by key range, commit range or filter.
    pub tables_skipped: u64,
    /// Blocks looked at, cached or not.
    pub blocks_read: u64,
    /// Entries compared against the key and found to be its versions.
    pub records_scanned: u64,
    /// From call to return.
    pub latency: Duration,
}

/// What a scan has done so far.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct ScanStats {
    /// The commit it reads at.
    pub commit: Commit,
    /// Rows returned so far.
    pub rows: u64,
    /// Entries passed so far, hidden ones among them.
    pub records_scanned: u64,
    /// Memtables and runs it reads from.
    pub sources: u64,
    /// Tables opened so far.
    pub tables_read: u64,
    /// Tables left out by range or commit.
    pub tables_skipped: u64,
    /// Blocks looked at so far, cached or not.
    pub blocks_read: u64,
}

/// What a flush did.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct FlushStats {
    /// Tables written.
    pub tables: Vec<SegmentId>,
    /// Versions written.
    pub entries: u64,
    /// Versions that no retained commit reads and that were left out.
    pub dropped: u64,
    /// Bytes written.
    pub bytes: u64,
    /// From start to end.
    pub latency: Duration,
}

/// What a compaction did, also when it failed.
#[derive(Debug, Clone, Default, Serialize)]
pub struct CompactStats {
    /// Tables it took.
    pub inputs: Vec<SegmentId>,
    /// Tables it made; none after an error.
    pub outputs: Vec<SegmentId>,
    /// Bytes of the inputs.
    pub bytes_read: u64,
    /// Bytes of the outputs.
    pub bytes_written: u64,
    /// Versions kept.
    pub entries: u64,
    /// Versions dropped.
    pub dropped: u64,
    /// The level the outputs went to.
    pub level: u8,
    /// From start to end.
    pub latency: Duration,
    /// Why it failed.
    pub error: Option<String>,
}

/// One level of a keyspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct LevelStats {
    /// The level.
    pub level: u8,
    /// Tables in it.
    pub tables: u64,
    /// Their size in bytes.
    pub bytes: u64,
    /// Versions in them.
    pub entries: u64,
    /// Tombstones in them.
    pub tombstones: u64,
    /// Bytes of keys and values before compression.
    pub raw_bytes: u64,
}

/// One keyspace.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct KeyspaceStats {
    /// Its name.
    pub name: String,
    /// Levels that have tables.
    pub levels: Vec<LevelStats>,
    /// Entries in memtables.
    pub memtable_entries: u64,
    /// Bytes in memtables.
    pub memtable_bytes: u64,
    /// Memtables that wait to be flushed.
    pub sealed_memtables: u64,
    /// Blob files.
    pub blob_files: u64,
    /// Their size in bytes.
    pub blob_bytes: u64,
    /// How many of those bytes tables point to; the rest goes when compaction comes by.
    pub blob_live_bytes: u64,
    /// Of the commits up to this one, only those on a level of the history policy, and those that
    /// something holds, are readable.
    pub dropped: Commit,
}

/// A whole database.
#[derive(Debug, Clone, PartialEq, Default, Serialize)]
pub struct Stats {
    /// The newest visible commit.
    pub commit: Commit,
    /// Number of the manifest.
    pub manifest: u64,
    /// Epoch of the writer.
    pub epoch: u64,
    /// Keyspaces by name.
    pub keyspaces: Vec<KeyspaceStats>,
    /// Bytes of decompressed blocks in the cache.
    pub cache_bytes: u64,
    /// What the cache may hold, in bytes.
    pub cache_capacity: u64,
    /// Bytes of indexes and filters kept in memory.
    pub pinned_bytes: u64,
    /// Block reads that missed the cache.
    pub cache_misses: u64,
    /// Totals since this process opened the database.
    pub totals: Totals,
    /// Replaced tables that still wait for readers.
    pub retired_tables: u64,
    /// Open scans.
    pub open_scans: u64,
    /// Open snapshots.
    pub open_snapshots: u64,
    /// Transactions that this process has open.
    pub open_transactions: u64,
    /// Change feeds of the writer's process.
    pub open_feeds: u64,
    /// The disk cache in front of the bucket; `None` where there is none.
    pub disk_cache: Option<DiskCacheStats>,
}

impl Stats {
    /// Sets everything as counters and gauges of the `metrics` facade.
    pub(crate) fn report(&self) {
        let totals = &self.totals;
        for (name, value) in [
            ("siltstone_commits_total", totals.commits),
            ("siltstone_user_bytes_total", totals.user_bytes),
            ("siltstone_wal_bytes_total", totals.wal_bytes),
            ("siltstone_syncs_total", totals.syncs),
            ("siltstone_gets_total", totals.gets),
            ("siltstone_filter_skips_total", totals.filter_skips),
            ("siltstone_filter_misses_total", totals.filter_misses),
            ("siltstone_dropped_versions_total", totals.dropped_versions),
            ("siltstone_cache_misses_total", self.cache_misses),
            ("siltstone_stall_microseconds_total", totals.stall_micros),
        ] {
            metrics::counter!(name).absolute(value);
        }
        for (name, value) in [
            ("siltstone_cache_bytes", self.cache_bytes),
            ("siltstone_pinned_bytes", self.pinned_bytes),
            ("siltstone_open_scans", self.open_scans),
            ("siltstone_open_snapshots", self.open_snapshots),
            ("siltstone_retired_tables", self.retired_tables),
            ("siltstone_open_transactions", self.open_transactions),
            ("siltstone_open_feeds", self.open_feeds),
        ] {
            metrics::gauge!(name).set(value as f64);
        }
        if let Some(cache) = &self.disk_cache {
            report_disk_cache(cache);
        }
        for keyspace in &self.keyspaces {
            let label = [("keyspace", keyspace.name.clone())];
            metrics::gauge!("siltstone_blob_bytes", &label).set(keyspace.blob_bytes as f64);
            let live = keyspace.blob_live_bytes as f64;
            metrics::gauge!("siltstone_blob_live_bytes", &label).set(live);
            for level in &keyspace.levels {
                let labels = [
                    ("keyspace", keyspace.name.clone()),
                    ("level", level.level.to_string()),
                ];
                metrics::gauge!("siltstone_tables", &labels).set(level.tables as f64);
                metrics::gauge!("siltstone_table_bytes", &labels).set(level.bytes as f64);
            }
        }
    }
}

fn report_disk_cache(cache: &DiskCacheStats) {
    for (name, value) in [
        ("siltstone_disk_cache_hits_total", cache.hits),
        ("siltstone_disk_cache_misses_total", cache.misses),
        ("siltstone_disk_cache_hit_bytes_total", cache.hit_bytes),
        ("siltstone_disk_cache_written_total", cache.written),
        ("siltstone_disk_cache_skipped_total", cache.skipped),
        ("siltstone_disk_cache_dropped_total", cache.dropped),
    ] {
        metrics::counter!(name).absolute(value);
    }
    metrics::gauge!("siltstone_disk_cache_bytes").set(cache.disk_bytes as f64);
    metrics::gauge!("siltstone_disk_cache_off").set(f64::from(u8::from(cache.off.is_some())));
}

/// Totals since the database was opened in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Totals {
    /// Commits made.
    pub commits: u64,
    /// Bytes of keys and values written by users.
    pub user_bytes: u64,
    /// Bytes written to the log.
    pub wal_bytes: u64,
    /// Groups that were made durable together.
    pub syncs: u64,
    /// Point reads.
    pub gets: u64,
    /// Tables that a filter ruled out.
    pub filter_skips: u64,
    /// Tables searched in vain although the filter let the key pass.
    pub filter_misses: u64,
    /// Flushes.
    pub flushes: u64,
    /// Bytes written by flushes.
    pub flush_bytes: u64,
    /// Compactions.
    pub compactions: u64,
    /// Bytes written by compactions.
    pub compaction_bytes: u64,
    /// Compactions that workers did.
    pub worker_compactions: u64,
    /// Versions dropped by flushes and compactions.
    pub dropped_versions: u64,
    /// Time writers spent waiting for room, in microseconds.
    pub stall_micros: u64,
}

impl Totals {
    /// Bytes written to storage for each byte a user wrote; `None` before the first write.
    pub fn write_amplification(&self) -> Option<f64> {
        let written = self.wal_bytes + self.flush_bytes + self.compaction_bytes;
        (self.user_bytes > 0).then(|| written as f64 / self.user_bytes as f64)
    }
}

macro_rules! counters {
    ($($name:ident),*) => {
        /// The totals as counters.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $(pub(crate) $name: std::sync::atomic::AtomicU64,)*
        }

        impl Counters {
            pub(crate) fn totals(&self) -> Totals {
                Totals { $($name: self.$name.load(std::sync::atomic::Ordering::Relaxed),)* }
            }
        }
    };
}

counters!(
    commits,
    user_bytes,
    wal_bytes,
    syncs,
    gets,
    filter_skips,
    filter_misses,
    flushes,
    flush_bytes,
    compactions,
    compaction_bytes,
    worker_compactions,
    dropped_versions,
    stall_micros
);

/// Adds to a counter.
#[inline]
pub(crate) fn add(counter: &std::sync::atomic::AtomicU64, n: u64) {
    counter.fetch_add(n, std::sync::atomic::Ordering::Relaxed);
}

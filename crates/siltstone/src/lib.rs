//! Siltstone: a versioned database that lives in a folder or in a bucket.
//!
//! ```
//! # #[tokio::main] async fn main() -> siltstone::Result<()> {
//! # let dir = tempfile::tempdir().expect("a folder");
//! # let url = dir.path().to_str().expect("a plain path");
//! let db = siltstone::Database::open(url).await?;
//! db.put("city/oslo", "Norway").await?;
//! let before = db.snapshot()?;
//! db.put("city/oslo", "Norge").await?;
//! assert_eq!(db.get("city/oslo").await?.as_deref(), Some(&b"Norge"[..]));
//! assert_eq!(before.get("city/oslo").await?.as_deref(), Some(&b"Norway"[..]));
//! let mut cities = db.scan_prefix("city/")?;
//! while let Some((key, value)) = cities.next().await? {
//!     println!("{key:?}: {value:?}");
//! }
//! db.close().await
//! # }
//! ```
//!
//! - [`Database::begin`], [`Database::transact`]: transactions
//! - [`Database::merge`], [`Database::delete_range`], [`Database::put_ttl`], [`Database::put_if`]: other
//!   kinds of writes; [`Keyspace::ingest`]: many rows at once
//! - [`Database::tree`]: document trees, JSON by path with watches, scopes and exact history, in the
//!   same commits and transactions
//! - [`Database::lists`]: collaborative lists and texts, stored with their history, that sync with
//!   other copies; [`Lists::commit`]: their edits in a transaction with everything else
//! - [`blocking::Database::ledgers`]: local-first ledgers of content-addressed, encrypted documents
//! - [`Options::disk_cache`]: a folder on a local disk that keeps what was read from a bucket; in builds
//!   with the feature `disk-cache`
//! - [`return_freed_memory`]: for programs that do little else, so that memory stays near the budget
//! - [`Database::changes`]: every commit with what it wrote, as it happens
//!
//! [`Database`] is for asynchronous programs (Tokio), [`blocking::Database`] for all others; both
//! are the same database underneath. A read that finds its bytes in memory or in the page cache
//! never leaves the calling thread.
#![deny(unsafe_code)]

mod backups;
pub mod blocking;
mod changes;
mod database;
mod error;
mod ingest;
mod keyspace;
pub mod ledgers;
pub mod lists;
mod location;
mod process;
mod reader;
mod scan;
mod stored;
#[cfg(test)]
mod tests;
mod transaction;
mod tree;
mod wait;

pub use changes::Changes;
pub use database::Database;
pub use error::{Error, Result};
pub use ingest::Ingest;
pub use keyspace::{Keyspace, Snapshot};
pub use location::Location;
pub use process::return_freed_memory;
pub use reader::Reader;
pub use scan::Scan;
pub use siltstone_kv::{
    Background, BackupInfo, BackupStats, Batch, CancelToken, Change, ChangeKind, ChangeSet,
    Checkpoint, CloneStats, Commit, CommitRange, CommitRanges, CompactOptions, CompactOrder,
    CompactStats, Compression, Durability, Error as KvError, Expect, FlushStats, GetStats, History,
    IngestStats, Isolation, KeyRange, KeyspaceId, KeyspaceOptions, KeyspaceStats, LevelStats,
    MERGE_OPERATORS, MergeOperator, OpenStats, Options, Order, PutStats, RangeDelete, Read,
    RestoreStats, Savepoint, ScanOptions, ScanStats, SegmentId, Source, Stats, TableMeta, Totals,
    Touched, VerifyReport, Version, WalRecovery, Worked, inspect,
};
pub use siltstone_ledger as ledger;
pub use siltstone_list as list;
pub use siltstone_storage::{
    Blobs, DiskCache, DiskCacheStats, Env, Error as StorageError, StoreKind, Timestamp,
};
pub use siltstone_tree::{
    self as trees, Edit, Expect as TreeExpect, Filter, JsonPatch, Path, Pattern, Segment, ToPath,
    ToPattern, Value, WatchEvent, WatchFrom, parse_json_patch,
};
pub use stored::{Lists, Stored, StoredList, StoredText};
pub use transaction::Transaction;
pub use tree::{TransactionTree, Tree, Watch};

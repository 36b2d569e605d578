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
//! [`Database`] is for asynchronous programs (Tokio), [`blocking::Database`] for all others; both
//! are the same database underneath. A read that finds its bytes in memory or in the page cache
//! never leaves the calling thread.
#![forbid(unsafe_code)]

mod backups;
pub mod blocking;
mod database;
mod error;
mod location;
mod scan;

pub use database::{Database, Keyspace, Reader, Snapshot};
pub use error::{Error, Result};
pub use location::Location;
pub use scan::Scan;
pub use siltstone_kv::{
    Background, BackupInfo, BackupStats, Batch, CancelToken, Checkpoint, CloneStats, Commit,
    CommitRange, CommitRanges, CompactOptions, CompactOrder, CompactStats, Compression, Durability,
    FlushStats, GetStats, History, KeyRange, KeyspaceOptions, KeyspaceStats, LevelStats, OpenStats,
    Options, Order, PutStats, Read, RestoreStats, ScanOptions, ScanStats, SegmentId, Source, Stats,
    TableMeta, Totals, VerifyReport, Version, WalRecovery, inspect,
};
pub use siltstone_storage::{Blobs, Env, Error as StorageError, StoreKind, Timestamp};

//! Siltstone's key-value engine: an LSM tree in a folder or a bucket whose compaction never loses a
//! write, never leaves a dangling reference and never changes an answer.
//!
//! Most users want the crate `siltstone`, which opens a database by URL. Here are the parts:
//!
//! - [`Kv`]: a database open for writing; [`Keyspace`]: a named ordered map in it
//! - [`Read`]: one trait for reading a keyspace, a [`Snapshot`] and a [`Reader`]; [`Scan`]
//! - [`Batch`], [`Durability`]: what a write is and when it counts
//! - [`CompactOptions`], [`History`]: which tables are merged and which versions stay;
//!   [`CompactWorker`]: merges them in another process
//! - [`Options`], [`KeyspaceOptions`]: settings, as plain data
//! - [`Error`]: what, where, and what to do
//!
//! The core is synchronous; [`Kv::write_async`] and [`Read::try_get`] are what an asynchronous
//! front needs.
#![deny(unsafe_code)]

mod admin;
mod backup;
mod batch;
mod blob;
mod cache;
mod changes;
mod clone;
mod commit_ranges;
mod compaction;
mod conditional;
mod core;
mod cursor;
mod db;
mod dropped;
mod error;
mod flush;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod garbage;
mod hidden;
mod history;
mod ingest;
pub mod inspect;
mod key_range;
mod keyspace;
mod memtable;
mod merge;
mod open;
mod operator;
mod options;
mod permits;
mod pipeline;
mod prefetch;
mod range_delete;
mod range_history;
mod read;
mod readable;
mod reader;
mod replay_order;
mod retention;
mod scan;
mod shared;
mod signals;
mod snapshot;
mod sst;
mod state;
mod stats;
mod sync_thread;
mod threads;
mod transaction;
mod ttl;
mod types;
mod varint;
mod verify;
mod view;
mod waiter;
mod wal;
mod write_future;

pub use backup::{BackupInfo, BackupStats, Backups, RestoreStats};
pub use batch::{Batch, Written};
pub use changes::{Change, ChangeKind, ChangeSet, Changes};
pub use clone::CloneStats;
pub use commit_ranges::{CommitRange, CommitRanges};
pub use compaction::pick::{CompactOptions, CompactOrder};
pub use compaction::run::CompactFailed;
pub use compaction::work::{Job, Work, Worker};
pub use compaction::worker::{CompactWorker, Worked};
pub use conditional::Expect;
pub use db::Kv;
pub use dropped::{DropRecord, Dropped};
pub use error::{Error, Result};
pub use hidden::Hidden;
pub use history::{Version, history};
pub use ingest::{Ingest, IngestStats};
pub use key_range::KeyRange;
pub use keyspace::Keyspace;
pub use open::OpenStats;
pub use operator::{BUILT_IN as MERGE_OPERATORS, MergeOperator};
pub use options::{
    Background, Compression, Durability, History, KeyspaceOptions, Options, WalRecovery,
};
pub use permits::CancelToken;
pub use range_delete::RangeDelete;
pub use range_history::{KeyChange, changed_since, range_history};
pub use read::{Read, ReadAt};
pub use reader::{Reader, ReaderKeyspace};
pub use retention::Rule;
pub use scan::{Order, Rows, Scan, ScanOptions};
pub use shared::Shared;
pub use snapshot::Snapshot;
pub use sst::format::TableMeta;
pub use state::{Checkpoint, CommitTimes, DEFAULT_KEYSPACE, DbState, KeyspaceState};
pub use stats::{
    CompactStats, FlushStats, GetStats, KeyspaceStats, LevelStats, PutStats, ScanStats, Source,
    Stats, Totals,
};
pub use transaction::guard::Touched;
pub use transaction::listener::{CommitListener, Go};
pub use transaction::{Isolation, Savepoint, Transaction, TransactionKeyspace};
pub use types::{Commit, KeyspaceId, SegmentId};
pub use verify::{VerifyReport, verify};
pub use write_future::WriteFuture;

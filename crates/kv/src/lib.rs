//! Siltstone's key-value engine: an LSM tree in a folder or a bucket whose compaction never loses a
//! write, never leaves a dangling reference and never changes an answer.
//!
//! Most users want the crate `siltstone`, which opens a database by URL. Here are the parts:
//!
//! - [`Kv`]: a database open for writing; [`Keyspace`]: a named ordered map in it
//! - [`Read`]: one trait for reading a keyspace, a [`Snapshot`] and a [`Reader`]; [`Scan`]
//! - [`Batch`], [`Durability`]: what a write is and when it counts
//! - [`CompactOptions`], [`History`]: which tables are merged and which versions stay
//! - [`Options`], [`KeyspaceOptions`]: settings, as plain data
//! - [`Error`]: what, where, and what to do
//!
//! The core is synchronous; [`Kv::write_async`] and [`Read::try_get`] are what an asynchronous
//! front needs.
#![deny(unsafe_code)]

mod admin;
mod backup;
mod batch;
mod cache;
mod compaction;
mod core;
mod cursor;
mod db;
mod error;
mod flush;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod garbage;
mod history;
pub mod inspect;
mod memtable;
mod merge;
mod open;
mod options;
mod permits;
mod pipeline;
mod read;
mod reader;
mod retention;
mod scan;
mod shared;
mod signals;
mod snapshot;
mod sst;
mod state;
mod stats;
mod sync_thread;
mod types;
mod varint;
mod verify;
mod view;
mod waiter;
mod wal;

pub use backup::BackupStats;
pub use batch::Batch;
pub use compaction::pick::{CompactOptions, CompactOrder};
pub use compaction::run::CompactFailed;
pub use db::{Keyspace, Kv, WriteFuture};
pub use error::{Error, Result};
pub use history::{Version, history};
pub use open::OpenStats;
pub use options::{
    Background, Compression, Durability, History, KeyspaceOptions, Options, WalRecovery,
};
pub use permits::CancelToken;
pub use read::{KeyRange, Read, ReadAt};
pub use reader::{Reader, ReaderKeyspace};
pub use scan::{Order, Rows, Scan, ScanOptions};
pub use shared::Shared;
pub use snapshot::Snapshot;
pub use sst::format::TableMeta;
pub use state::{Checkpoint, CommitTimes, DEFAULT_KEYSPACE, DbState, KeyspaceState};
pub use stats::{
    CompactStats, FlushStats, GetStats, KeyspaceStats, LevelStats, PutStats, ScanStats, Source,
    Stats, Totals,
};
pub use types::{Commit, KeyspaceId, SegmentId};
pub use verify::{VerifyReport, verify};

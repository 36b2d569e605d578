//! Local-first ledgers of JSON documents.
//!
//! Every block is content-addressed, every commit is one atomic group of CAR files, encrypted at
//! will, and a ledger is synced through any folder or bucket without a server between.
#![forbid(unsafe_code)]

mod background;
pub mod block;
pub mod car;
pub mod cbor;
mod changes;
pub mod clock;
mod compaction;
mod core;
pub mod crypto;
mod document;
pub mod error;
mod files;
mod held;
mod ledger;
pub mod merge;
mod names;
mod options;
pub mod prolly;
mod prune;
mod query;
pub mod race;
mod reader;
mod reading;
mod remote;
mod repair;
mod snapshot;
mod stats;
pub mod store;
mod subscribe;
mod transfer;
mod varint;
mod verify;
mod writes;

pub use block::{Block, Blocks, Cid, Codec, Staged};
pub use changes::{ChangedDoc, Changes, Clock, Since};
pub use compaction::{
    Captured, CapturedBlock, Compaction, CompactionReport, Content, Full, Output, Strategy,
};
pub use document::{Document, ID_FIELD};
pub use error::{Error, Result};
pub use files::{FILE_BLOCK_BYTES, FileReader, FileRef};
pub use held::{CopyStats, Held, HeldReport};
pub use ledger::{BulkWrite, Ledger, MAX_BULK, Meta, Written};
pub use options::{Background, Options};
pub use prune::{Keep, PruneReport};
pub use query::{Emitter, Index, IndexRow, Query, encode_key};
pub use reading::{AllDocs, Conflict, History, MAX_ID_BYTES, Page, Row, Version};
pub use remote::{
    Attachment, Fetch, Phase, Progress, Remote, RemoteStatus, Replica, RetireReport, Standing,
    SyncReport,
};
pub use repair::{Mended, RepairReport, Unmended};
pub use snapshot::Snapshot;
pub use stats::Stats;
pub use subscribe::Subscription;
pub use transfer::ImportReport;
pub use verify::VerifyReport;

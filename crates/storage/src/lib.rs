//! Where Siltstone keeps its bytes.
//!
//! - [`Blobs`]: the only door to bytes. [`LocalBlobs`] is a folder, `ObjectBlobs` a bucket,
//!   [`MemBlobs`] memory that knows what a crash would lose.
//! - [`FaultyBlobs`]: any of them, failing by seed or stopping at the n-th call.
//! - [`probe_put_if_absent`]: refuses a store on which two creations of one name both succeed.
//! - [`DiskCache`]: a folder of bounded size in front of a bucket; needs the feature `disk-cache`.
//! - [`Buffer`]: memory of large reads, used again.
//! - [`Env`]: clock, random numbers and blobs, so that a whole database runs under a seeded
//!   simulation.
//! - [`SegmentLog`]: the pure decision core: append, capture, replace, resolve, retire.
//! - [`ManifestStore`]: the numbered, checksummed, fenced file that makes a decision durable.
//! - [`ReaderPins`]: how a reader process holds segments that the writer would delete.
//! - [`FolderLock`]: one writer process a folder.
#![forbid(unsafe_code)]

mod blobs;
mod buffer;
mod disk_cache;
mod env;
mod error;
mod faulty;
mod local;
mod lock;
mod manifest;
mod memory;
#[cfg(feature = "bucket")]
mod object;
mod pins;
mod probe;
mod segment_log;

pub use blobs::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, Caching, PendingList, PendingPut,
    PendingRead, Place, PutOutcome, StoreKind, Wait,
};
pub use buffer::Buffer;
pub use disk_cache::{DiskCache, DiskCacheStats};
pub use env::{Clock, Env, ManualClock, Rng, SeededRng, SystemClock, SystemRng, Timestamp};
pub use error::{Error, Result};
pub use faulty::{Call, CallKind, FaultPlan, FaultyBlobs, Injected};
pub use local::LocalBlobs;
pub use lock::{FolderLock, LockHolder};
pub use manifest::charge::Charge;
pub use manifest::{ManifestState, ManifestStore, Numbered, Role, decode_manifest, manifest_name};
pub use memory::MemBlobs;
#[cfg(feature = "bucket")]
pub use object::{AzureSettings, GcsSettings, MAX_CONDITIONAL_BYTES, ObjectBlobs, S3Settings};
pub use pins::{PinInfo, ReaderPins};
pub use probe::{Probe, forget_standing, probe_put_if_absent};
pub use segment_log::{Capture, Pins, ReplaceError, Segment, SegmentLog};

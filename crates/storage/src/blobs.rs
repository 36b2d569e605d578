//! The only door to bytes. Everything above speaks to a folder, a bucket, memory or a faulty store
//! through these traits.
//!
//! The traits are synchronous: a read that finds its bytes in the page cache returns on the calling
//! thread, a simulated run is one thread, and a caller who must not wait says so with
//! [`Wait::Never`] (`docs/decisions/0001-synchronous-core.md`).

use crate::disk_cache::DiskCacheStats;
use crate::error::{Error, Result};
use bytes::Bytes;
use std::fmt::Debug;
use std::path::PathBuf;
use std::sync::Arc;

/// May a read wait for a disk or a network?
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wait {
    /// Wait for the bytes.
    Allowed,
    /// Fail with [`Error::WouldBlock`] when the bytes are not in memory.
    Never,
}

/// How reads treat a cache in front of the store.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Caching {
    /// Take what it has, and leave there what it has not.
    Use,
    /// Take what it has, and leave nothing: for reads that would push out what others read.
    Spare,
    /// Read the store itself, and put right what the cache has of it.
    Past,
}

/// The kind of place a store is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StoreKind {
    /// A folder of this machine.
    Folder,
    /// A bucket of an object store.
    Bucket,
    /// Memory.
    Memory,
}

/// Where a blob is in the world.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Place {
    /// A file.
    File(PathBuf),
    /// An object: the bucket with its scheme, and the key in it.
    Object {
        /// As in `s3://bucket`.
        bucket: String,
        /// From the root of the bucket.
        key: String,
    },
}

/// What a conditional put came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum PutOutcome {
    /// The name was free; the bytes are durable under it.
    Created,
    /// The name was taken; nothing was written.
    Exists,
}

/// A blob as a listing shows it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlobMeta {
    /// Name from the root of the database.
    pub name: String,
    /// Size in bytes.
    pub size: u64,
}

/// A store of named, immutable byte strings, and of logs that grow at their end.
///
/// Names are relative, with `/` between parts. A finished put is durable: a folder has fsynced file
/// and directory, a bucket has answered.
pub trait Blobs: Send + Sync + Debug {
    /// The kind of store.
    fn kind(&self) -> StoreKind;

    /// The store in words, for messages.
    fn describe(&self) -> String;

    /// Writes a blob, replacing what was there, all or nothing.
    fn put(&self, name: &str, bytes: &[u8]) -> Result<()>;

    /// Writes a blob if the name is free, all or nothing. Of any number of racing calls for one
    /// name exactly one answers [`PutOutcome::Created`].
    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<PutOutcome>;

    /// Starts a conditional put and returns at once where the store allows it, so that several can
    /// be under way. The default does it before it returns.
    fn start_put_if_absent(&self, name: &str, bytes: Bytes) -> PendingPut {
        PendingPut::done(self.put_if_absent(name, &bytes))
    }

    /// Reads a whole blob.
    fn get(&self, name: &str) -> Result<Bytes>;

    /// Starts to read a whole blob and returns at once where the store allows it, so that several can
    /// be under way. The default does it before it returns.
    fn start_get(&self, name: &str) -> PendingRead {
        PendingRead::done(self.get(name))
    }

    /// Opens a blob for reads by range.
    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>>;

    /// As [`Blobs::open`], for a blob that is known to have `size` bytes: where opening is a request,
    /// it is saved, and the first read finds out whether the blob is there.
    fn open_sized(&self, name: &str, size: u64) -> Result<Arc<dyn BlobReader>> {
        let _ = size;
        self.open(name)
    }

    /// Starts a blob that is written piece by piece and appears, whole, when finished.
    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>>;

    /// All blobs whose names start with `prefix`, sorted by name.
    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>>;

    /// The names that [`Blobs::list`] would show. Cheaper where the store keeps sizes elsewhere.
    fn names(&self, prefix: &str) -> Result<Vec<String>> {
        let listed = self.list(prefix)?;
        Ok(listed.into_iter().map(|blob| blob.name).collect())
    }

    /// Starts a listing and returns at once where the store allows it. The default does it before it
    /// returns.
    fn start_list(&self, prefix: &str) -> PendingList {
        PendingList::done(self.list(prefix))
    }

    /// Deletes a blob. One that is not there is already deleted.
    fn delete(&self, name: &str) -> Result<()>;

    /// Deletes blobs in as few requests as the store allows, in no order: after a failure any of them
    /// may be left.
    fn delete_all(&self, names: &[String]) -> Result<()> {
        names.iter().try_for_each(|name| self.delete(name))
    }

    /// Where a blob is, where other stores may reach it too.
    fn place(&self, _name: &str) -> Option<Place> {
        None
    }

    /// Gives the blob at `source` the name `name` here, without reading it: another link to the file,
    /// or a copy that the store makes by itself. False when that is not possible. The name is free.
    fn link(&self, _name: &str, _source: &Place) -> Result<bool> {
        Ok(false)
    }

    /// The same store with another way of reading, where there is a cache in front of it.
    fn caching(&self, _how: Caching) -> Option<Arc<dyn Blobs>> {
        None
    }

    /// What a cache in front of the store has done, where there is one.
    fn disk_cache(&self) -> Option<DiskCacheStats> {
        None
    }

    /// Makes a log that another process appended to durable as far as it goes.
    fn sync(&self, name: &str) -> Result<()>;

    /// True when [`Blobs::append`] works: a folder can, a bucket cannot.
    fn can_append(&self) -> bool;

    /// Creates a log that grows at its end. `reserve` bytes of space are set aside where the store
    /// can, so that a sync writes data only. Fails when the name is taken.
    fn append(&self, name: &str, reserve: u64) -> Result<Box<dyn Appender>>;
}

/// Reads of one blob by range.
pub trait BlobReader: Send + Sync + Debug {
    /// Reads exactly `len` bytes at `offset`. Fails with [`Error::Corrupt`] when the blob is shorter.
    fn read(&self, offset: u64, len: usize, wait: Wait) -> Result<Bytes>;

    /// As [`BlobReader::read`], into memory of the caller's, which holds anything after an error.
    fn read_into(&self, offset: u64, bytes: &mut [u8], wait: Wait) -> Result<()> {
        bytes.copy_from_slice(&self.read(offset, bytes.len(), wait)?);
        Ok(())
    }

    /// Starts a read and returns at once where the store allows it, so that several can be under
    /// way. The default does it before it returns.
    fn start_read(&self, offset: u64, len: usize) -> PendingRead {
        PendingRead::done(self.read(offset, len, Wait::Allowed))
    }

    /// Size in bytes.
    fn size(&self) -> u64;
}

/// A blob being written piece by piece. Dropped unfinished, it never was.
pub trait BlobWriter: Send + Debug {
    /// Adds bytes.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes the blob durable and visible under its name.
    fn finish(self: Box<Self>) -> Result<()>;
}

/// The end of a log. Bytes may be lost by a crash until [`Appender::sync`] returns.
pub trait Appender: Send + Debug {
    /// Hands bytes to the store (the page cache of a folder).
    fn append(&mut self, bytes: &[u8]) -> Result<()>;

    /// Makes everything appended durable.
    fn sync(&mut self) -> Result<()>;

    /// [`Appender::append`], then [`Appender::sync`]; a store may do both in one step.
    fn append_durable(&mut self, bytes: &[u8]) -> Result<()> {
        self.append(bytes)?;
        self.sync()
    }

    /// Nothing more will be appended: gives back space that was set aside. A failure costs space only.
    fn trim(&mut self) {}
}

/// A conditional put under way.
pub struct PendingPut(Box<dyn FnOnce() -> Result<PutOutcome> + Send>);

impl Debug for PendingPut {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingPut")
    }
}

impl PendingPut {
    /// A put that is already over.
    pub fn done(result: Result<PutOutcome>) -> Self {
        Self(Box::new(move || result))
    }

    /// A put that `wait` waits for.
    pub fn new(wait: impl FnOnce() -> Result<PutOutcome> + Send + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// Waits for the answer.
    pub fn wait(self) -> Result<PutOutcome> {
        (self.0)()
    }
}

/// A read under way.
pub struct PendingRead(Box<dyn FnOnce() -> Result<Bytes> + Send + Sync>);

impl Debug for PendingRead {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingRead")
    }
}

impl PendingRead {
    /// A read that is already over.
    pub fn done(result: Result<Bytes>) -> Self {
        Self(Box::new(move || result))
    }

    /// A read that `wait` waits for.
    pub fn new(wait: impl FnOnce() -> Result<Bytes> + Send + Sync + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// Waits for the bytes.
    ///
    /// # Errors
    /// As [`BlobReader::read`].
    pub fn wait(self) -> Result<Bytes> {
        (self.0)()
    }
}

/// A listing under way.
pub struct PendingList(Box<dyn FnOnce() -> Result<Vec<BlobMeta>> + Send>);

impl Debug for PendingList {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("PendingList")
    }
}

impl PendingList {
    /// A listing that is already over.
    pub fn done(result: Result<Vec<BlobMeta>>) -> Self {
        Self(Box::new(move || result))
    }

    /// A listing that `wait` waits for.
    pub fn new(wait: impl FnOnce() -> Result<Vec<BlobMeta>> + Send + 'static) -> Self {
        Self(Box::new(wait))
    }

    /// Waits for the names.
    ///
    /// # Errors
    /// As [`Blobs::list`].
    pub fn wait(self) -> Result<Vec<BlobMeta>> {
        (self.0)()
    }
}

/// Refuses names that would leave the root of a store.
pub(crate) fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name.starts_with('/')
        || name.ends_with('/')
        || name.contains('\\')
        || name.contains('\0')
        || name
            .split('/')
            .any(|part| part.is_empty() || part == "." || part == "..");
    if bad {
        return Err(Error::Invalid {
            name: name.to_string(),
            what: "a blob name is relative, with single slashes and no dots between them".into(),
        });
    }
    Ok(())
}

/// The error for a read past the end.
pub(crate) fn short_read(name: &str, size: u64, offset: u64, len: usize) -> Error {
    Error::corrupt(
        name,
        offset,
        format!("{len} bytes wanted, the blob ends at {size}"),
    )
}

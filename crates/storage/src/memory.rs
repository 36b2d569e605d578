//! Blobs in memory that know what a crash would lose: synced and unsynced bytes are kept apart.

use crate::blobs::{
    Appender, BlobMeta, BlobReader, BlobWriter, Blobs, PutOutcome, StoreKind, Wait, check_name,
    short_read,
};
use crate::error::{Error, Result};
use bytes::Bytes;
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;

/// A store in memory, for tests and simulations. Clones share their bytes.
#[derive(Debug, Clone, Default)]
pub struct MemBlobs {
    inner: Arc<Mutex<BTreeMap<String, Entry>>>,
    bucket: bool,
}

#[derive(Debug, Clone)]
enum Entry {
    /// Written whole, durable.
    Whole(Bytes),
    /// A log, shared with those who read it: how much of it is durable.
    Log {
        bytes: Arc<Mutex<Vec<u8>>>,
        synced: usize,
    },
}

impl Entry {
    fn bytes(&self) -> Bytes {
        match self {
            Entry::Whole(bytes) => bytes.clone(),
            Entry::Log { bytes, .. } => Bytes::copy_from_slice(&bytes.lock()),
        }
    }

    fn len(&self) -> u64 {
        match self {
            Entry::Whole(bytes) => bytes.len() as u64,
            Entry::Log { bytes, .. } => bytes.lock().len() as u64,
        }
    }
}

impl MemBlobs {
    /// An empty store that behaves as a folder does (logs can be appended to).
    pub fn new() -> Self {
        Self::default()
    }

    /// An empty store that behaves as a bucket does (no appending).
    pub fn bucket() -> Self {
        Self {
            inner: Arc::default(),
            bucket: true,
        }
    }

    /// What the disk holds after a power cut: whole blobs, and of each log its synced bytes and an
    /// arbitrary part of the rest. `choose(n)` gives a number in `0..=n`: how many unsynced bytes
    /// got through, and where in them one byte was damaged (0: none).
    pub fn after_crash(&self, mut choose: impl FnMut(usize) -> usize) -> MemBlobs {
        let mut kept = BTreeMap::new();
        for (name, entry) in self.inner.lock().iter() {
            let entry = match entry {
                Entry::Whole(bytes) => Entry::Whole(bytes.clone()),
                Entry::Log { bytes, synced } => {
                    let bytes = bytes.lock();
                    let torn = choose(bytes.len() - synced);
                    let mut bytes = bytes[..synced + torn].to_vec();
                    let hit = choose(torn);
                    if hit > 0 {
                        bytes[synced + hit - 1] ^= 0x5a;
                    }
                    let synced = bytes.len();
                    let bytes = Arc::new(Mutex::new(bytes));
                    Entry::Log { bytes, synced }
                }
            };
            kept.insert(name.clone(), entry);
        }
        MemBlobs {
            inner: Arc::new(Mutex::new(kept)),
            bucket: self.bucket,
        }
    }

    /// Total bytes held.
    pub fn total_bytes(&self) -> u64 {
        self.inner.lock().values().map(Entry::len).sum()
    }

    /// Changes one byte of a blob, as a failing disk would.
    ///
    /// # Panics
    /// When the blob is not there or shorter.
    pub fn flip_byte(&self, name: &str, offset: usize) {
        let mut inner = self.inner.lock();
        let entry = inner.get_mut(name).expect("the blob to damage is there");
        match entry {
            Entry::Whole(bytes) => {
                let mut changed = bytes.to_vec();
                changed[offset] ^= 0x01;
                *bytes = Bytes::from(changed);
            }
            Entry::Log { bytes, .. } => bytes.lock()[offset] ^= 0x01,
        }
    }

    /// Cuts a blob short.
    ///
    /// # Panics
    /// When the blob is not there.
    pub fn truncate(&self, name: &str, len: usize) {
        let mut inner = self.inner.lock();
        let entry = inner.get_mut(name).expect("the blob to cut is there");
        let kept = entry.bytes().slice(..len.min(entry.len() as usize));
        *entry = Entry::Whole(kept);
    }

    fn not_found(&self, name: &str) -> Error {
        Error::NotFound {
            name: name.to_string(),
            store: self.describe(),
        }
    }
}

impl Blobs for MemBlobs {
    fn kind(&self) -> StoreKind {
        StoreKind::Memory
    }

    fn describe(&self) -> String {
        "memory".into()
    }

    fn put(&self, name: &str, bytes: &[u8]) -> Result<()> {
        check_name(name)?;
        let entry = Entry::Whole(Bytes::copy_from_slice(bytes));
        self.inner.lock().insert(name.to_string(), entry);
        Ok(())
    }

    fn put_if_absent(&self, name: &str, bytes: &[u8]) -> Result<PutOutcome> {
        check_name(name)?;
        let mut inner = self.inner.lock();
        if inner.contains_key(name) {
            return Ok(PutOutcome::Exists);
        }
        inner.insert(
            name.to_string(),
            Entry::Whole(Bytes::copy_from_slice(bytes)),
        );
        Ok(PutOutcome::Created)
    }

    fn get(&self, name: &str) -> Result<Bytes> {
        check_name(name)?;
        let inner = self.inner.lock();
        inner
            .get(name)
            .map(Entry::bytes)
            .ok_or_else(|| self.not_found(name))
    }

    fn open(&self, name: &str) -> Result<Arc<dyn BlobReader>> {
        check_name(name)?;
        let inner = self.inner.lock();
        let bytes = match inner.get(name) {
            Some(Entry::Whole(bytes)) => Opened::Whole(bytes.clone()),
            Some(Entry::Log { bytes, .. }) => {
                let size = bytes.lock().len();
                Opened::Log(bytes.clone(), size)
            }
            None => return Err(self.not_found(name)),
        };
        let name = name.to_string();
        Ok(Arc::new(MemReader { name, bytes }))
    }

    fn create(&self, name: &str) -> Result<Box<dyn BlobWriter>> {
        check_name(name)?;
        Ok(Box::new(MemWriter {
            blobs: self.clone(),
            name: name.to_string(),
            bytes: Vec::new(),
        }))
    }

    fn list(&self, prefix: &str) -> Result<Vec<BlobMeta>> {
        let inner = self.inner.lock();
        Ok(inner
            .range(prefix.to_string()..)
            .take_while(|(name, _)| name.starts_with(prefix))
            .map(|(name, entry)| BlobMeta {
                name: name.clone(),
                size: entry.len(),
            })
            .collect())
    }

    fn delete(&self, name: &str) -> Result<()> {
        check_name(name)?;
        self.inner.lock().remove(name);
        Ok(())
    }

    fn sync(&self, name: &str) -> Result<()> {
        match self.inner.lock().get_mut(name) {
            Some(Entry::Log { bytes, synced }) => *synced = bytes.lock().len(),
            Some(Entry::Whole(_)) => {}
            None => return Err(self.not_found(name)),
        }
        Ok(())
    }

    fn can_append(&self) -> bool {
        !self.bucket
    }

    fn append(&self, name: &str, _reserve: u64) -> Result<Box<dyn Appender>> {
        check_name(name)?;
        if self.bucket {
            return Err(Error::Unsupported {
                store: self.describe(),
                operation: "append",
            });
        }
        let log = Entry::Log {
            bytes: Arc::default(),
            synced: 0,
        };
        let mut inner = self.inner.lock();
        if inner.contains_key(name) {
            let taken = std::io::Error::from(std::io::ErrorKind::AlreadyExists);
            return Err(Error::io(name, "create", &taken));
        }
        inner.insert(name.to_string(), log);
        Ok(Box::new(MemAppender {
            blobs: self.clone(),
            name: name.to_string(),
        }))
    }
}

#[derive(Debug)]
struct MemReader {
    name: String,
    bytes: Opened,
}

#[derive(Debug)]
enum Opened {
    Whole(Bytes),
    /// With its size when it was opened.
    Log(Arc<Mutex<Vec<u8>>>, usize),
}

impl BlobReader for MemReader {
    fn read(&self, offset: u64, len: usize, _wait: Wait) -> Result<Bytes> {
        let size = self.size();
        if offset.checked_add(len as u64).is_none_or(|end| end > size) {
            return Err(short_read(&self.name, size, offset, len));
        }
        let start = offset as usize;
        let range = start..start + len;
        Ok(match &self.bytes {
            Opened::Whole(bytes) => bytes.slice(range),
            Opened::Log(bytes, _) => Bytes::copy_from_slice(&bytes.lock()[range]),
        })
    }

    fn size(&self) -> u64 {
        match &self.bytes {
            Opened::Whole(bytes) => bytes.len() as u64,
            Opened::Log(_, size) => *size as u64,
        }
    }
}

#[derive(Debug)]
struct MemWriter {
    blobs: MemBlobs,
    name: String,
    bytes: Vec<u8>,
}

impl BlobWriter for MemWriter {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.bytes.extend_from_slice(bytes);
        Ok(())
    }

    fn finish(self: Box<Self>) -> Result<()> {
        let entry = Entry::Whole(Bytes::from(self.bytes));
        self.blobs.inner.lock().insert(self.name, entry);
        Ok(())
    }
}

#[derive(Debug)]
struct MemAppender {
    blobs: MemBlobs,
    name: String,
}

impl MemAppender {
    fn with_log(&self, change: impl FnOnce(&mut Vec<u8>, &mut usize)) -> Result<()> {
        match self.blobs.inner.lock().get_mut(&self.name) {
            Some(Entry::Log { bytes, synced }) => {
                change(&mut bytes.lock(), synced);
                Ok(())
            }
            _ => Err(self.blobs.not_found(&self.name)),
        }
    }
}

impl Appender for MemAppender {
    fn append(&mut self, more: &[u8]) -> Result<()> {
        self.with_log(|bytes, _| bytes.extend_from_slice(more))
    }

    fn sync(&mut self) -> Result<()> {
        self.with_log(|bytes, synced| *synced = bytes.len())
    }
}

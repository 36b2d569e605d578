//! Blob files: values one behind the other, each in a frame with its checksum, then a footer.

use crate::blob::Pointer;
use crate::error::{Error, Result};
use crate::options::Compression;
use crate::sst::format::TableMeta;
use crate::sst::frame::{self, Sealer};
use crate::types::SegmentId;
use bytes::Bytes;
use parking_lot::Mutex;
use siltstone_storage::{BlobReader, BlobWriter, Blobs, Caching, Error as StorageError, Wait};
use std::collections::BTreeMap;
use std::sync::Arc;

const MAGIC: &[u8; 8] = b"SILTBLB\n";
const FORMAT: u32 = 1;
/// Bytes of the footer: values, format, checksum, magic.
const FOOTER: usize = 8 + 4 + 4 + 8;
/// Bytes gathered before they go to the store.
const WRITE_BUFFER: usize = 256 * 1024;
/// Blob files kept open at once.
const MAX_OPEN: usize = 512;

/// A blob file being written.
#[derive(Debug)]
pub(crate) struct BlobFileWriter {
    id: SegmentId,
    blob: Box<dyn BlobWriter>,
    sealer: Sealer,
    buffer: Vec<u8>,
    written: u64,
    values: u64,
    raw_bytes: u64,
}

impl BlobFileWriter {
    pub(crate) fn create(
        blobs: &dyn Blobs,
        id: SegmentId,
        compression: Compression,
    ) -> Result<Self> {
        Ok(Self {
            id,
            blob: blobs.create(&id.blob())?,
            sealer: Sealer::new(compression),
            buffer: Vec::new(),
            written: 0,
            values: 0,
            raw_bytes: 0,
        })
    }

    pub(crate) fn id(&self) -> SegmentId {
        self.id
    }

    /// Bytes so far.
    pub(crate) fn bytes(&self) -> u64 {
        self.written + self.buffer.len() as u64
    }

    /// Adds a value and says where it is.
    pub(crate) fn add(&mut self, value: &[u8]) -> Result<Pointer> {
        let at = self.bytes();
        let before = self.buffer.len();
        self.sealer.seal(value, &mut self.buffer);
        let len = self.buffer.len() - before;
        self.values += 1;
        self.raw_bytes += value.len() as u64;
        if self.buffer.len() >= WRITE_BUFFER {
            self.write_out()?;
        }
        Ok(Pointer {
            file: self.id,
            at,
            len,
        })
    }

    /// Closes the file and makes it durable; `like` is a description of one of its tables.
    pub(crate) fn finish(mut self, like: &TableMeta) -> Result<TableMeta> {
        let values_end = self.bytes();
        let mut footer = Vec::with_capacity(FOOTER);
        footer.extend_from_slice(&self.values.to_le_bytes());
        footer.extend_from_slice(&FORMAT.to_le_bytes());
        let sum = crc_fast::crc32_iscsi(&footer);
        footer.extend_from_slice(&sum.to_le_bytes());
        footer.extend_from_slice(MAGIC);
        self.buffer.extend_from_slice(&footer);
        self.write_out()?;
        self.blob.finish()?;
        Ok(TableMeta {
            bytes: self.written,
            index_at: values_end,
            entries: self.values,
            raw_bytes: self.raw_bytes,
            ..TableMeta::blob_file(like)
        })
    }

    fn write_out(&mut self) -> Result<()> {
        self.blob.write(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }
}

/// The open blob files of a database.
#[derive(Debug, Default)]
pub(crate) struct BlobFiles(Mutex<BTreeMap<SegmentId, Arc<dyn BlobReader>>>);

impl BlobFiles {
    /// The value that `pointer` names.
    pub(crate) fn read(&self, blobs: &dyn Blobs, pointer: Pointer, wait: Wait) -> Result<Bytes> {
        let name = pointer.file.blob();
        let reader = self.reader(blobs, pointer.file)?;
        let end = pointer.at.saturating_add(pointer.len as u64);
        if end > reader.size() {
            return Err(Error::corrupt(name, pointer.at, "a pointer past its end"));
        }
        let framed = reader.read(pointer.at, pointer.len, wait)?;
        let damaged = |what| Error::corrupt(name.clone(), pointer.at, what);
        frame::open(framed).map_err(damaged).or_else(|damage| {
            // A cache of the store may have kept what was damaged on its way there.
            let past = blobs.caching(Caching::Past).ok_or(damage)?;
            let reader = past.open_sized(&name, reader.size())?;
            let framed = reader.read(pointer.at, pointer.len, wait)?;
            frame::open(framed).map_err(damaged)
        })
    }

    fn reader(&self, blobs: &dyn Blobs, id: SegmentId) -> Result<Arc<dyn BlobReader>> {
        if let Some(reader) = self.0.lock().get(&id) {
            return Ok(reader.clone());
        }
        let reader = blobs
            .open(&id.blob())
            .map_err(|error| match error.is_not_found() {
                true => Error::corrupt(
                    id.blob(),
                    0,
                    "a table points to this blob file and it is not there",
                ),
                false => error.into(),
            })?;
        let mut open = self.0.lock();
        if open.len() >= MAX_OPEN {
            open.pop_first();
        }
        open.insert(id, reader.clone());
        Ok(reader)
    }

    pub(crate) fn forget(&self, id: SegmentId) {
        self.0.lock().remove(&id);
    }
}

/// Checks the footer of a blob file and answers how many values it says it holds.
pub(crate) fn check_footer(blobs: &dyn Blobs, id: SegmentId) -> Result<u64> {
    let name = id.blob();
    let reader = blobs.open(&name)?;
    let at = reader.size().checked_sub(FOOTER as u64);
    let bad = |what: &str| Error::corrupt(name.clone(), at.unwrap_or(0), what);
    let at_footer = at.ok_or_else(|| bad("the file is too short to be a blob file"))?;
    let bytes = reader.read(at_footer, FOOTER, Wait::Allowed)?;
    if &bytes[16..] != MAGIC {
        return Err(bad("it does not end as a Siltstone blob file does"));
    }
    let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four"));
    if u32_at(8) > FORMAT {
        return Err(Error::Storage(StorageError::NewerFormat {
            name: name.clone(),
            found: u32_at(8),
            supported: FORMAT,
        }));
    }
    if crc_fast::crc32_iscsi(&bytes[..12]) != u32_at(12) {
        return Err(bad("the footer's checksum does not match"));
    }
    Ok(u64::from_le_bytes(bytes[..8].try_into().expect("eight")))
}

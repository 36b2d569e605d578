//! The write-ahead log: what was written since the last flush.
//!
//! In a folder a log file grows by appended records; in a bucket every record is an object of its
//! own. Either way a file starts with a header that names its number and the writer's epoch.

pub(crate) mod ahead;
mod batch;
pub(crate) mod fences;
pub(crate) mod file;
pub(crate) mod files;
pub(crate) mod frame;
pub(crate) mod log;
pub(crate) mod recovery;
mod relay;

use siltstone_storage::Error as StorageError;

const MAGIC: &[u8; 8] = b"SILTWAL\n";
const FORMAT: u32 = 1;
pub(crate) const PREFIX: &str = "wal/";
const SUFFIX: &str = ".wal";
/// Bytes of the header: magic, format, number, epoch, nonce, checksum.
pub(crate) const FILE_HEADER: usize = 8 + 4 + 8 * 3 + 4;

/// The name of log file `number`.
pub(crate) fn blob_name(number: u64) -> String {
    format!("{PREFIX}{number:020}{SUFFIX}")
}

pub(crate) fn number_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?
        .strip_suffix(SUFFIX)?
        .parse()
        .ok()
}

/// The start of a log file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) number: u64,
    pub(crate) epoch: u64,
    /// Different for every file ever made, so that a writer recognizes its own.
    pub(crate) nonce: u64,
}

impl FileHeader {
    pub(crate) fn encode(&self, out: &mut Vec<u8>) {
        let start = out.len();
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        for field in [self.number, self.epoch, self.nonce] {
            out.extend_from_slice(&field.to_le_bytes());
        }
        let sum = crc_fast::crc32_iscsi(&out[start..]);
        out.extend_from_slice(&sum.to_le_bytes());
    }

    /// `Ok(None)`: the file was cut off before its header was whole, or never written.
    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Option<Self>, StorageError> {
        let Some(header) = bytes.get(..FILE_HEADER) else {
            return Ok(None);
        };
        if header.iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if &header[..8] != MAGIC {
            return Err(StorageError::corrupt(name, 0, "it is not a Siltstone log"));
        }
        let u32_at = |i: usize| u32::from_le_bytes(header[i..i + 4].try_into().expect("four"));
        let u64_at = |i: usize| u64::from_le_bytes(header[i..i + 8].try_into().expect("eight"));
        // First: a header that a crash tore may claim any version. Later versions keep this place.
        if crc_fast::crc32_iscsi(&header[..FILE_HEADER - 4]) != u32_at(FILE_HEADER - 4) {
            return Err(StorageError::corrupt(
                name,
                8,
                "its header's checksum does not match",
            ));
        }
        if u32_at(8) > FORMAT {
            return Err(StorageError::NewerFormat {
                name: name.to_string(),
                found: u32_at(8),
                supported: FORMAT,
            });
        }
        Ok(Some(Self {
            number: u64_at(12),
            epoch: u64_at(20),
            nonce: u64_at(28),
        }))
    }
}

//! What a backup is in its repository: one small file that names the state; the segments of all
//! backups lie beside each other, each once.

use crate::error::{Error, Result};
use crate::sst::format::TableMeta;
use crate::state::DbState;
use crate::types::{Commit, SegmentId};
use serde::{Deserialize, Serialize};
use siltstone_storage::{Error as StorageError, Timestamp};

const MAGIC: &[u8; 8] = b"SILTBKP\n";
const FORMAT: u32 = 1;
/// Magic, format, checksum.
const HEADER: usize = 8 + 4 + 4;
const PREFIX: &str = "backup/";
const SUFFIX: &str = ".backup";
const WRITING: &str = ".writing";

/// A backup as it is stored.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(crate) struct Stored {
    pub(crate) label: String,
    pub(crate) created: Timestamp,
    /// The commit that it ends with.
    pub(crate) commit: Commit,
    /// A restored database goes on with a later epoch.
    pub(crate) epoch: u64,
    pub(crate) state: DbState,
}

impl Stored {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let body = postcard::to_stdvec(self).expect("a backup always serializes");
        let mut out = Vec::with_capacity(HEADER + body.len());
        out.extend_from_slice(MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&crc_fast::crc32_iscsi(&body).to_le_bytes());
        out.extend_from_slice(&body);
        out
    }

    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Self> {
        let bad = |what: &str| Error::corrupt(name, 0, what);
        let header = bytes.get(..HEADER).ok_or_else(|| bad("it is cut off"))?;
        if &header[..8] != MAGIC {
            return Err(bad("it is not a Siltstone backup"));
        }
        let u32_at = |at: usize| u32::from_le_bytes(header[at..at + 4].try_into().expect("four"));
        if u32_at(8) > FORMAT {
            return Err(Error::Storage(StorageError::NewerFormat {
                name: name.to_string(),
                found: u32_at(8),
                supported: FORMAT,
            }));
        }
        let body = &bytes[HEADER..];
        if crc_fast::crc32_iscsi(body) != u32_at(12) {
            return Err(bad("its checksum does not match"));
        }
        postcard::from_bytes(body).map_err(|error| bad(&format!("it cannot be read ({error})")))
    }
}

/// The name of backup `number`.
pub(crate) fn name(number: u64) -> String {
    format!("{PREFIX}{number:020}{SUFFIX}")
}

/// The name of the note that backup `number` is being made.
pub(crate) fn writing(number: u64) -> String {
    format!("{PREFIX}{number:020}{WRITING}")
}

/// The number of a backup, and whether it is being made.
pub(crate) fn number_of(name: &str) -> Option<(u64, bool)> {
    let rest = name.strip_prefix(PREFIX)?;
    match rest.strip_suffix(SUFFIX) {
        Some(number) => Some((number.parse().ok()?, false)),
        None => Some((rest.strip_suffix(WRITING)?.parse().ok()?, true)),
    }
}

/// The name of a segment in a repository. Databases that were restored and lived on may use an id
/// again for other contents, so what is known of the contents is part of it.
pub(crate) fn data_name(id: SegmentId, meta: &TableMeta) -> String {
    // A table may move to another level, and learn the commit it was ingested by.
    let written = TableMeta {
        level: u8::from(meta.is_blob_file()),
        ..meta.clone()
    };
    let bytes = postcard::to_stdvec(&written).expect("properties always serialize");
    let hash = xxhash_rust::xxh3::xxh3_64(&bytes);
    format!("data/{:016x}-{hash:016x}", id.0)
}

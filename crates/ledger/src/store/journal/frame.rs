//! The bytes of a journal file: a header, then records. A record is an edit of the state and the body
//! that belongs to it (the CARs of a commit), written by one append and made durable by one sync.
//!
//! ```text
//! file header (44 bytes)   magic "SILTLJRN", format u32, number u64, epoch u64, nonce u64, crc64 of these 36 bytes
//! record header (44 bytes) nonce u64, sequence u64, edit length u32, body length u64, crc64 of the body,
//!                          crc64 of these 36 bytes and the edit
//! then the edit, then the body
//! ```
//!
//! All numbers are little-endian. The nonce is random for each file, so that the bytes of a stored
//! document can never pass for a record.

use siltstone_storage::{Error, Result};

pub(crate) const FILE_HEADER: usize = 44;
pub(crate) const RECORD_HEADER: usize = 44;
/// The most bytes that the edit of one record may have.
pub(crate) const MAX_EDIT: u32 = 256 << 20;
const MAGIC: &[u8; 8] = b"SILTLJRN";
const FORMAT: u32 = 1;

/// What the header of a journal file says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileHeader {
    pub(crate) number: u64,
    pub(crate) epoch: u64,
    pub(crate) nonce: u64,
}

/// What the header of a record says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RecordHeader {
    pub(crate) sequence: u64,
    pub(crate) edit: u32,
    pub(crate) body: u64,
    pub(crate) body_sum: u64,
    sum: u64,
}

/// CRC-64/NVME over several pieces.
pub(crate) fn checksum(pieces: &[&[u8]]) -> u64 {
    let mut digest = crc_fast::Digest::new(crc_fast::CrcAlgorithm::Crc64Nvme);
    for piece in pieces {
        digest.update(piece);
    }
    digest.finalize()
}

fn u64_at(bytes: &[u8], at: usize) -> u64 {
    let mut field = [0; 8];
    field.copy_from_slice(&bytes[at..at + 8]);
    u64::from_le_bytes(field)
}

fn u32_at(bytes: &[u8], at: usize) -> u32 {
    let mut field = [0; 4];
    field.copy_from_slice(&bytes[at..at + 4]);
    u32::from_le_bytes(field)
}

impl FileHeader {
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(FILE_HEADER);
        bytes.extend_from_slice(MAGIC);
        bytes.extend_from_slice(&FORMAT.to_le_bytes());
        for field in [self.number, self.epoch, self.nonce] {
            bytes.extend_from_slice(&field.to_le_bytes());
        }
        let sum = checksum(&[&bytes]);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes
    }

    /// `None`: the file was never finished being created (it is shorter than a header, or all zeros).
    pub(crate) fn decode(name: &str, bytes: &[u8]) -> Result<Option<Self>> {
        if bytes.len() < FILE_HEADER || bytes[..FILE_HEADER].iter().all(|byte| *byte == 0) {
            return Ok(None);
        }
        if &bytes[..8] != MAGIC {
            return Err(Error::corrupt(name, 0, "it is not a ledger's journal"));
        }
        if checksum(&[&bytes[..36]]) != u64_at(bytes, 36) {
            return Err(Error::corrupt(name, 36, "its checksum does not match"));
        }
        let format = u32_at(bytes, 8);
        if format > FORMAT {
            return Err(Error::NewerFormat {
                name: name.to_string(),
                found: format,
                supported: FORMAT,
            });
        }
        Ok(Some(Self {
            number: u64_at(bytes, 12),
            epoch: u64_at(bytes, 20),
            nonce: u64_at(bytes, 28),
        }))
    }
}

impl RecordHeader {
    /// The header and the edit of a record, to be followed by the body.
    pub(crate) fn encode(nonce: u64, sequence: u64, edit: &[u8], body: &[&[u8]]) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(RECORD_HEADER + edit.len());
        let body_len: usize = body.iter().map(|piece| piece.len()).sum();
        let edit_len = u32::try_from(edit.len()).expect("an edit is below MAX_EDIT");
        bytes.extend_from_slice(&nonce.to_le_bytes());
        bytes.extend_from_slice(&sequence.to_le_bytes());
        bytes.extend_from_slice(&edit_len.to_le_bytes());
        bytes.extend_from_slice(&(body_len as u64).to_le_bytes());
        bytes.extend_from_slice(&checksum(body).to_le_bytes());
        let sum = checksum(&[&bytes, edit]);
        bytes.extend_from_slice(&sum.to_le_bytes());
        bytes.extend_from_slice(edit);
        bytes
    }

    /// The header at the start of `bytes` (at least [`RECORD_HEADER`] of them), when it carries the
    /// file's nonce. Its checksum is not yet checked.
    pub(crate) fn decode(nonce: u64, bytes: &[u8]) -> Option<Self> {
        if bytes.len() < RECORD_HEADER || u64_at(bytes, 0) != nonce {
            return None;
        }
        Some(Self {
            sequence: u64_at(bytes, 8),
            edit: u32_at(bytes, 16),
            body: u64_at(bytes, 20),
            body_sum: u64_at(bytes, 28),
            sum: u64_at(bytes, 36),
        })
    }

    /// Whether header and edit are as they were written; `header` is the header's bytes.
    pub(crate) fn holds(&self, header: &[u8], edit: &[u8]) -> bool {
        self.edit as usize == edit.len() && checksum(&[&header[..36], edit]) == self.sum
    }

    /// Bytes of the whole record; `None` when its lengths are absurd.
    pub(crate) fn len(&self) -> Option<u64> {
        if self.edit > MAX_EDIT {
            return None;
        }
        (RECORD_HEADER as u64 + u64::from(self.edit)).checked_add(self.body)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_header_survives_and_every_damage_is_seen() {
        let header = FileHeader {
            number: 7,
            epoch: 3,
            nonce: 0x1234,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), FILE_HEADER);
        assert_eq!(FileHeader::decode("j", &bytes).unwrap(), Some(header));
        for at in 0..FILE_HEADER {
            let mut bad = bytes.clone();
            bad[at] ^= 0x10;
            assert!(FileHeader::decode("j", &bad).is_err(), "flip at {at}");
            assert_eq!(FileHeader::decode("j", &bytes[..at]).unwrap(), None);
        }
    }

    #[test]
    fn a_record_header_covers_itself_and_the_edit() {
        let bytes = RecordHeader::encode(9, 1, b"edit", &[b"bo", b"dy"]);
        let (head, edit) = bytes.split_at(RECORD_HEADER);
        let header = RecordHeader::decode(9, head).unwrap();
        assert!(header.holds(head, edit));
        assert_eq!(header.len(), Some(RECORD_HEADER as u64 + 8));
        assert_eq!(header.body_sum, checksum(&[b"body"]));
        assert!(RecordHeader::decode(8, head).is_none());
        for at in 8..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 1;
            let (head, edit) = bad.split_at(RECORD_HEADER);
            let whole = RecordHeader::decode(9, head).is_some_and(|h| h.holds(head, edit));
            assert!(!whole, "flip at {at}");
        }
    }
}

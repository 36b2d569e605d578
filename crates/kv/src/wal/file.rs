//! A log file as it is read back: a folder's in pieces, so that a replay needs no memory for it; a
//! bucket's object, which is small, at once.

use crate::error::Result;
use crate::wal::frame::{self, Payloads, Record};
use bytes::Bytes;
use siltstone_storage::{BlobReader, Result as StorageResult, Wait};
use std::ops::Range;
use std::sync::Arc;

/// Bytes of a folder's file that are read at once.
const PIECE: usize = 512 << 10;

/// A log file that is being read.
#[derive(Debug)]
pub(crate) struct LogFile {
    source: Source,
    /// Nothing from here on counts.
    end: u64,
}

#[derive(Debug)]
enum Source {
    AtHand(Bytes),
    Blob {
        reader: Arc<dyn BlobReader>,
        /// What was read last, and where in the file it stands.
        piece: Vec<u8>,
        at: u64,
    },
}

/// A record that was read.
#[derive(Debug)]
pub(crate) struct Found {
    pub(crate) record: Record,
    /// Where it stands in the file.
    pub(crate) at: u64,
    /// Where its payload was put.
    pub(crate) payload: Range<usize>,
}

impl LogFile {
    /// A file that is at hand.
    pub(crate) fn at_hand(bytes: Bytes) -> Self {
        Self {
            end: bytes.len() as u64,
            source: Source::AtHand(bytes),
        }
    }

    /// The first `end` bytes of a file, or all there are.
    pub(crate) fn of(reader: Arc<dyn BlobReader>, end: u64) -> Self {
        Self {
            end: end.min(reader.size()),
            source: Source::Blob {
                reader,
                piece: Vec::new(),
                at: 0,
            },
        }
    }

    /// The bytes from `from` on: `len` of them, or those that there are.
    pub(crate) fn bytes(&mut self, from: u64, len: usize) -> StorageResult<&[u8]> {
        let left = usize::try_from(self.end.saturating_sub(from)).unwrap_or(usize::MAX);
        let len = len.min(left);
        if len == 0 {
            return Ok(&[]);
        }
        match &mut self.source {
            Source::AtHand(bytes) => Ok(&bytes[bytes.len() - left..][..len]),
            Source::Blob { reader, piece, at } => {
                if from < *at || from + len as u64 > *at + piece.len() as u64 {
                    let mut read = std::mem::take(piece);
                    read.resize(len.max(PIECE).min(left), 0);
                    reader.read_into(from, &mut read, Wait::Allowed)?;
                    (*piece, *at) = (read, from);
                }
                Ok(&piece[(from - *at) as usize..][..len])
            }
        }
    }

    /// Reads the record at `at`, in file `number`, and puts its payload behind `payloads`. Answers
    /// it and where it ends; `None` when there is no intact one.
    pub(crate) fn record(
        &mut self,
        number: u64,
        at: u64,
        payloads: &mut Payloads,
    ) -> StorageResult<Option<(Found, u64)>> {
        let left = self.end.saturating_sub(at);
        // A damaged length asks for no memory that the file does not have.
        let Some(len) =
            frame::record_bytes(self.bytes(at, frame::HEADER)?).filter(|len| *len as u64 <= left)
        else {
            return Ok(None);
        };
        let found = frame::decode_into(self.bytes(at, len)?, number, payloads);
        let found = found.map(|(record, payload)| Found {
            record,
            at,
            payload,
        });
        Ok(found.map(|found| (found, at + len as u64)))
    }

    /// True when nothing but zeros stands behind `at`.
    pub(crate) fn is_zero_from(&mut self, mut at: u64) -> StorageResult<bool> {
        loop {
            let bytes = self.bytes(at, PIECE)?;
            // Without a way out in the midst of it a piece is looked at many bytes at a time.
            let is_zero = |piece: &[u8]| piece.iter().fold(0, |any, byte| any | byte) == 0;
            if bytes.is_empty() || !bytes.chunks(4096).all(is_zero) {
                return Ok(bytes.is_empty());
            }
            at += bytes.len() as u64;
        }
    }

    /// All of it, for a close look at what is not as it should be.
    pub(crate) fn all(&mut self) -> Result<Bytes> {
        Ok(match &self.source {
            Source::AtHand(bytes) => bytes.clone(),
            Source::Blob { reader, .. } => reader.read(0, self.end as usize, Wait::Allowed)?,
        })
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, reason = "tests")]
mod tests {
    use super::*;
    use crate::types::Commit;
    use siltstone_storage::{Blobs, MemBlobs, Timestamp};

    /// A file that takes more than one look, in pieces and at hand.
    fn both(bytes: &[u8], end: u64) -> [LogFile; 2] {
        let blobs = MemBlobs::new();
        blobs.put("log", bytes).unwrap();
        let end = end.min(bytes.len() as u64);
        [
            LogFile::of(blobs.open("log").unwrap(), end),
            LogFile::at_hand(Bytes::copy_from_slice(&bytes[..end as usize])),
        ]
    }

    #[test]
    fn the_bytes_are_the_files_wherever_they_are_asked_for() {
        let bytes: Vec<u8> = (0..3 * PIECE + 5).map(|at| (at % 251) as u8).collect();
        for end in [0, 7, PIECE + 1, 3 * PIECE, usize::MAX] {
            let end = end.min(bytes.len());
            for mut file in both(&bytes, end as u64) {
                let places = [0, 1, 6, 7, PIECE - 1, PIECE, 2 * PIECE + 3, end, end + 9];
                for (from, len) in places.iter().flat_map(|at| [(*at, 9), (*at, PIECE + 2)]) {
                    let there = bytes[..end].get(from..).unwrap_or_default();
                    let there = &there[..len.min(there.len())];
                    assert!(
                        file.bytes(from as u64, len).unwrap() == there,
                        "{from} {len}"
                    );
                }
                assert_eq!(file.all().unwrap(), bytes[..end]);
            }
        }
    }

    #[test]
    fn records_of_any_length_are_read_wherever_they_stand() {
        let record = |commit: u64| Record {
            first: Commit(commit),
            last: Commit(commit),
            durable: 0,
            time: Timestamp(1),
        };
        let mut bytes = Vec::new();
        // Across the ends of pieces, larger than one, compressed, stored and empty.
        let lens = [PIECE - 100, 300, 2 * PIECE, 0, 100_000, PIECE];
        for (commit, len) in (1..).zip(lens) {
            let payload = vec![commit as u8; len];
            let compress_from = [0, usize::MAX][commit as usize % 2];
            frame::encode(&mut bytes, 3, &record(commit), &payload, compress_from);
        }
        let whole = bytes.len() as u64;
        bytes.resize(bytes.len() + PIECE + 1, 0);
        for mut file in both(&bytes, u64::MAX) {
            let (mut at, mut payloads) = (0, Payloads::default());
            for (commit, len) in (1..).zip(lens) {
                let (found, end) = file.record(3, at, &mut payloads).unwrap().unwrap();
                assert_eq!((found.record, found.at), (record(commit), at));
                assert!(payloads.get(found.payload) == vec![commit as u8; len]);
                at = end;
            }
            assert_eq!(at, whole);
            assert!(file.record(3, at, &mut payloads).unwrap().is_none());
            assert!(file.is_zero_from(whole).unwrap() && !file.is_zero_from(whole - 1).unwrap());
            assert!(
                file.record(4, 0, &mut payloads).unwrap().is_none(),
                "another file's"
            );
            assert_eq!(payloads.len(), lens.iter().sum::<usize>());
        }
        // Cut off, or with an end in front of it: no record, and no memory for what is not there.
        for mut file in both(&bytes, 500) {
            let mut payloads = Payloads::default();
            assert!(file.record(3, 0, &mut payloads).unwrap().is_none());
            assert_eq!(payloads.len(), 0);
        }
    }

    #[test]
    fn a_damaged_record_leaves_nothing_behind() {
        let mut bytes = Vec::new();
        let record = Record {
            first: Commit(1),
            last: Commit(1),
            durable: 0,
            time: Timestamp(1),
        };
        frame::encode(&mut bytes, 3, &record, &[9; 5000], 0);
        for at in 0..bytes.len() {
            let mut bad = bytes.clone();
            bad[at] ^= 4;
            for mut file in both(&bad, u64::MAX) {
                let mut payloads = Payloads::default();
                assert!(file.record(3, 0, &mut payloads).unwrap().is_none());
                assert_eq!(payloads.len(), 0);
            }
        }
    }
}

//! Pages: how a blob is cut up, what a page is found by, and the digest that proves what it is.

use bytes::{BufMut, Bytes, BytesMut};
use foyer::{Code, Error, ErrorKind};
use std::io::{Read, Write};
use xxhash_rust::xxh3::{Xxh3, xxh3_128};

/// Bytes of a blob in a page. With all that is stored beside it a page takes 32 KiB on the disk.
pub(super) const PAGE_BYTES: u64 = (32 << 10) - 128;

/// What a page takes on the disk at most, in bytes.
pub(super) const PAGE_ON_DISK: u64 = 32 << 10;

/// What a page is found by.
pub(super) type Key = u128;

/// A database, told from all others and from those that were at its place before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Database(u128);

impl Database {
    /// The database at `place` whose standing blob holds `incarnation`.
    pub(super) fn new(place: &str, incarnation: &[u8]) -> Self {
        let mut bytes = (place.len() as u64).to_le_bytes().to_vec();
        bytes.extend_from_slice(place.as_bytes());
        bytes.extend_from_slice(incarnation);
        Self(xxh3_128(&bytes))
    }

    /// Page `number` of `blob`.
    pub(super) fn key(self, blob: &str, number: u64) -> Key {
        self.hasher(blob, number).digest128()
    }

    fn hasher(self, blob: &str, number: u64) -> Xxh3 {
        let mut hasher = Xxh3::new();
        hasher.update(&self.0.to_le_bytes());
        hasher.update(&number.to_le_bytes());
        hasher.update(&(blob.len() as u64).to_le_bytes());
        hasher.update(blob.as_bytes());
        hasher
    }

    /// `bytes`, from the start of page `number` of `blob`, sealed.
    pub(super) fn seal(self, blob: &str, number: u64, bytes: &[u8]) -> Page {
        Page {
            digest: self.digest(blob, number, bytes),
            bytes: Bytes::copy_from_slice(bytes),
        }
    }

    /// The bytes of a page, if it is page `number` of `blob` and nothing of it has changed.
    pub(super) fn open(self, blob: &str, number: u64, page: Page) -> Option<Bytes> {
        let right = self.digest(blob, number, &page.bytes) == page.digest;
        right.then_some(page.bytes)
    }

    fn digest(self, blob: &str, number: u64, bytes: &[u8]) -> u128 {
        let mut hasher = self.hasher(blob, number);
        hasher.update(bytes);
        hasher.digest128()
    }
}

/// The beginning of a page of a blob, or all of it, as it lies in the cache.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Page {
    digest: u128,
    bytes: Bytes,
}

impl Page {
    /// What it takes on the disk, in bytes.
    pub(super) fn on_disk(&self) -> u64 {
        (self.bytes.len() as u64 + 128).next_multiple_of(4096)
    }
}

impl Code for Page {
    fn encode(&self, writer: &mut impl Write) -> foyer::Result<()> {
        let written = writer
            .write_all(&self.digest.to_le_bytes())
            .and_then(|()| writer.write_all(&self.bytes));
        written.map_err(Error::io_error)
    }

    fn decode(reader: &mut impl Read) -> foyer::Result<Self> {
        let mut digest = [0; 16];
        reader.read_exact(&mut digest).map_err(Error::io_error)?;
        let mut bytes = BytesMut::with_capacity(PAGE_BYTES as usize).writer();
        let read = std::io::copy(&mut reader.take(PAGE_BYTES + 1), &mut bytes);
        match read.map_err(Error::io_error)? {
            ..=PAGE_BYTES => Ok(Self {
                digest: u128::from_le_bytes(digest),
                bytes: bytes.into_inner().freeze(),
            }),
            _ => Err(Error::new(ErrorKind::OutOfRange, "longer than a page")),
        }
    }

    fn estimated_size(&self) -> usize {
        16 + self.bytes.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_opens_only_as_what_it_was_sealed_as() {
        let ours = Database::new("s3://bucket/db", &[1; 16]);
        let page = ours.seal("sst/a.sst", 3, b"bytes");
        let open = |database: Database, blob: &str, number| {
            database.open(blob, number, page.clone()).is_some()
        };
        assert!(open(ours, "sst/a.sst", 3));
        assert!(!open(ours, "sst/b.sst", 3), "another blob");
        assert!(!open(ours, "sst/a.sst", 4), "another page");
        assert!(!open(
            Database::new("s3://bucket/db", &[2; 16]),
            "sst/a.sst",
            3
        ));
        assert!(!open(
            Database::new("s3://bucket/d", &[1; 16]),
            "sst/a.sst",
            3
        ));
        for at in 0..page.bytes.len() {
            let mut bytes = page.bytes.to_vec();
            bytes[at] ^= 1;
            let bytes = bytes.into();
            let damaged = Page { bytes, ..page };
            assert_eq!(ours.open("sst/a.sst", 3, damaged), None, "byte {at}");
        }
        let bytes = page.bytes.slice(..4);
        assert_eq!(ours.open("sst/a.sst", 3, Page { bytes, ..page }), None);
    }

    #[test]
    fn a_page_reads_back_and_no_longer_one_is_taken() {
        let database = Database::new("here", &[]);
        for len in [0, 1, PAGE_BYTES as usize] {
            let page = database.seal("blob", 0, &vec![7; len]);
            let mut stored = Vec::new();
            page.encode(&mut stored).unwrap();
            assert_eq!(Page::decode(&mut &stored[..]).unwrap(), page);
            assert!(page.on_disk() <= PAGE_ON_DISK);
        }
        let longer = vec![7; PAGE_BYTES as usize + 17];
        assert!(Page::decode(&mut &longer[..]).is_err());
        assert!(Page::decode(&mut &longer[..15]).is_err());
    }
}

//! The index of an archive: where each block lies, by address.
//!
//! Entries of 40 bytes, sorted: digest (32), codec (1), length (3, big-endian), offset (4, big-endian).
//! Offsets are those of the frame's bytes, behind its CID. Up to [`PAGE_ENTRIES`] of them lie in the index
//! block itself; more lie in pages, raw blocks before it, which it lists by their first entry's digest: a
//! lookup reads the index, which is small, and one page.

use bytes::Bytes;

use crate::block::{Block, Cid, Codec};
use crate::cbor::{self, Read, Reader};
use crate::clock::check_version;
use crate::error::{Error, Result};

/// The most entries of the index block itself, and of a page.
pub const PAGE_ENTRIES: usize = 1024;
/// Bytes of an entry.
pub(super) const ENTRY_BYTES: usize = 40;
/// The format version of an index.
const VERSION: u64 = 1;
/// Codecs in the order of their byte.
const CODECS: [Codec; 4] = [Codec::DAG_CBOR, Codec::RAW, Codec::CAR, Codec::DAG_PB];

/// Where a block lies in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Location {
    /// The block's own address, also where the archive is sealed.
    pub cid: Cid,
    /// Where its bytes (or its envelope) begin in the archive.
    pub offset: u32,
    /// How many there are.
    pub length: u32,
}

impl Location {
    /// The entry; None for a codec that an archive of a ledger does not hold.
    pub(super) fn entry(&self) -> Option<[u8; ENTRY_BYTES]> {
        let codec = CODECS.iter().position(|codec| *codec == self.cid.codec())?;
        let mut entry = [0; ENTRY_BYTES];
        entry[..32].copy_from_slice(self.cid.digest());
        entry[32..36].copy_from_slice(&self.length.to_be_bytes());
        entry[32] = codec as u8;
        entry[36..].copy_from_slice(&self.offset.to_be_bytes());
        Some(entry)
    }

    fn read(entry: &[u8]) -> Self {
        let number = |at: usize| {
            let bytes = entry[at..at + 4].try_into();
            u32::from_be_bytes(bytes.expect("an entry has 40 bytes"))
        };
        let digest = entry[..32].try_into().expect("an entry has 40 bytes");
        Self {
            cid: Cid::from_digest(CODECS[usize::from(entry[32])], digest),
            offset: number(36),
            length: number(32) & 0xff_ffff,
        }
    }
}

/// What an index says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// The block lies there.
    At(Location),
    /// The page that lies there knows.
    OnPage(Location),
    /// The archive does not hold the block.
    Absent,
}

/// The index of an archive: the bytes of its last block.
#[derive(Debug, Clone)]
pub struct CarIndex {
    blocks: u64,
    pages: Entries,
    entries: Entries,
}

impl CarIndex {
    /// The block: a DAG-CBOR map of `v`, `pages`, `blocks`, `entries`.
    pub(super) fn encode(blocks: u64, pages: &[u8], entries: &[u8]) -> Block {
        let mut out = Vec::with_capacity(pages.len() + entries.len() + 64);
        cbor::put_map(4, &mut out);
        cbor::put_text("v", &mut out);
        cbor::put_uint(VERSION, &mut out);
        cbor::put_text("pages", &mut out);
        cbor::put_bytes(pages, &mut out);
        cbor::put_text("blocks", &mut out);
        cbor::put_uint(blocks, &mut out);
        cbor::put_text("entries", &mut out);
        cbor::put_bytes(entries, &mut out);
        Block::dag_cbor(out)
    }

    /// Decodes the bytes of an index block, opened if it was sealed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for other bytes, [`Error::NewerFormat`].
    pub fn decode(bytes: &Bytes) -> Result<Self> {
        let place = || "an archive's index".to_string();
        let mut reader = Reader::new(bytes);
        check_version(&mut reader, 4, VERSION, &place)?;
        Self::decode_body(&mut reader, bytes).map_err(|malformed| malformed.in_place(place()))
    }

    fn decode_body(reader: &mut Reader<'_>, bytes: &Bytes) -> Read<Self> {
        reader.key("pages")?;
        let pages = Entries::decode(bytes.slice_ref(reader.bytes()?));
        reader.key("blocks")?;
        let blocks = reader.uint()?;
        reader.key("entries")?;
        let entries = Entries::decode(bytes.slice_ref(reader.bytes()?));
        reader.finish()?;
        let (Some(pages), Some(entries)) = (pages, entries) else {
            return Err(reader.malformed("the entries of an index are not in order"));
        };
        let fits = match pages.len() as u64 {
            0 => entries.len() as u64 == blocks,
            count => {
                let page = PAGE_ENTRIES as u64;
                entries.len() == 0 && ((count - 1) * page < blocks && blocks <= count * page)
            }
        };
        if !fits {
            return Err(reader.malformed("an index counts its blocks wrongly"));
        }
        Ok(Self {
            blocks,
            pages,
            entries,
        })
    }

    /// How many blocks the archive holds, its header and index left out.
    pub fn blocks(&self) -> u64 {
        self.blocks
    }

    /// Where a block is.
    pub fn lookup(&self, cid: &Cid) -> Lookup {
        if self.pages.len() == 0 {
            return self.entries.find(cid).map_or(Lookup::Absent, Lookup::At);
        }
        match self.pages.page_of(cid) {
            Some(page) => Lookup::OnPage(page),
            None => Lookup::Absent,
        }
    }

    /// Its pages, in order; none when it holds its entries itself. Their `cid` is that of the first
    /// block on the page.
    pub fn pages(&self) -> impl Iterator<Item = Location> + '_ {
        self.pages.iter()
    }

    /// Its own entries, sorted by digest; none when it has pages.
    pub fn entries(&self) -> impl Iterator<Item = Location> + '_ {
        self.entries.iter()
    }

    /// Bytes of memory it takes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.pages.0.len() + self.entries.0.len()
    }
}

/// A page of an index.
#[derive(Debug, Clone)]
pub struct IndexPage(Entries);

impl IndexPage {
    /// Decodes the bytes of a page, opened if it was sealed.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for other bytes.
    pub fn decode(bytes: Bytes) -> Result<Self> {
        match Entries::decode(bytes) {
            Some(entries) if (1..=PAGE_ENTRIES).contains(&entries.len()) => Ok(Self(entries)),
            _ => Err(Error::corrupt(
                "a page of an archive's index",
                "its entries are not in order",
            )),
        }
    }

    /// Where a block is; None when it is not in the archive.
    pub fn lookup(&self, cid: &Cid) -> Option<Location> {
        self.0.find(cid)
    }

    /// Its entries, sorted by digest.
    pub fn entries(&self) -> impl Iterator<Item = Location> + '_ {
        self.0.iter()
    }

    /// Bytes of memory it takes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.0.0.len()
    }
}

/// Sorted entries.
#[derive(Debug, Clone)]
struct Entries(Bytes);

impl Entries {
    fn decode(bytes: Bytes) -> Option<Self> {
        let (entries, rest) = bytes.as_chunks::<ENTRY_BYTES>();
        let sound = rest.is_empty()
            && entries.is_sorted_by(|a, b| a[..33] <= b[..33])
            && entries
                .iter()
                .all(|entry| usize::from(entry[32]) < CODECS.len());
        sound.then_some(Self(bytes))
    }

    fn all(&self) -> &[[u8; ENTRY_BYTES]] {
        self.0.as_chunks().0
    }

    fn len(&self) -> usize {
        self.all().len()
    }

    fn iter(&self) -> impl Iterator<Item = Location> + '_ {
        self.all().iter().map(|entry| Location::read(entry))
    }

    fn find(&self, cid: &Cid) -> Option<Location> {
        let at = self
            .all()
            .partition_point(|entry| entry[..32] < cid.digest()[..]);
        self.all()[at..]
            .iter()
            .take_while(|entry| entry[..32] == cid.digest()[..])
            .map(|entry| Location::read(entry))
            .find(|location| location.cid == *cid)
    }

    /// The last page whose first entry is not behind `cid`. A digest under two codecs may lie on both
    /// sides of a page's end, so codecs count.
    fn page_of(&self, cid: &Cid) -> Option<Location> {
        let codec = CODECS.iter().position(|codec| *codec == cid.codec())? as u8;
        let after = self
            .all()
            .partition_point(|first| (&first[..32], first[32]) <= (&cid.digest()[..], codec));
        let at = after.checked_sub(1)?;
        Some(Location::read(&self.all()[at]))
    }
}

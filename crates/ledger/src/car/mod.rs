//! CAR files.
use crate::block::{Block, Cid};
use crate::error::Result;
use bytes::Bytes;

/// Where a writer's bytes go.
pub trait Sink {
    /// Takes the next bytes.
    ///
    /// # Errors
    /// The sink's own.
    fn write(&mut self, bytes: &[u8]) -> Result<()>;
}

impl Sink for Vec<u8> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        self.extend_from_slice(bytes);
        Ok(())
    }
}

/// What is known of a finished archive.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct CarRef {
    /// Its address: CIDv1, codec 0x0202, SHA2-256 of the whole file.
    pub cid: Cid,
    /// Its length in bytes.
    pub length: u64,
    /// Where the bytes of its index block begin.
    pub index_offset: u64,
    /// Length of the index block in bytes; the file ends with it.
    pub index_length: u32,
    /// How many blocks it holds, header and index left out.
    pub blocks: u64,
}

/// The header: root and first block of an archive.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Header {
    /// Heads after the commit (events), sorted.
    pub heads: Vec<Cid>,
    /// Heads before it, sorted.
    pub parents: Vec<Cid>,
    /// The other archives of the group, in order.
    pub cars: Vec<Cid>,
}

impl Header {
    /// The block.
    pub fn block(&self) -> Block {
        todo!()
    }
    /// Decodes.
    ///
    /// # Errors
    /// Corrupt, NewerFormat.
    pub fn decode(_cid: &Cid, _bytes: &[u8]) -> Result<Self> {
        todo!()
    }
}

/// How blocks are sealed in an archive. [`crate::crypto::Sealer`] is one.
pub trait Seal {
    /// The envelope of a block.
    ///
    /// # Errors
    /// The key ring's.
    fn seal(&self, block: &Block) -> Result<Block>;
}

/// Writes one archive.
#[derive(Debug)]
pub struct CarWriter<S> {
    sink: S,
}

impl<S: Sink> CarWriter<S> {
    /// Begins an archive with its header block, plain or sealed.
    ///
    /// # Errors
    /// The sink's.
    pub fn new(_sink: S, _header: &Block, _seal: Option<&dyn Seal>) -> Result<Self> {
        todo!()
    }
    /// Adds a block (sealed if the archive is).
    ///
    /// # Errors
    /// The sink's, TooLarge.
    pub fn add(&mut self, _block: &Block, _seal: Option<&dyn Seal>) -> Result<()> {
        todo!()
    }
    /// Adds a block that is sealed already: `plain` is the address inside.
    ///
    /// # Errors
    /// The sink's, TooLarge.
    pub fn add_sealed(&mut self, _plain: &Cid, _envelope: &Block) -> Result<()> {
        todo!()
    }
    /// Bytes so far, the index that would be written included.
    pub fn length(&self) -> u64 {
        todo!()
    }
    /// Writes the index.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(self, _seal: Option<&dyn Seal>) -> Result<(S, CarRef)> {
        todo!()
    }
}

/// One block of an archive, as it lies there.
#[derive(Debug, Clone)]
pub struct Frame {
    /// The address of the bytes as they are (of the envelope when sealed).
    pub cid: Cid,
    /// The bytes.
    pub bytes: Bytes,
    /// Where the bytes begin in the archive.
    pub offset: u64,
}

/// Walks an archive in memory.
#[derive(Debug)]
pub struct Frames {
    _bytes: Bytes,
}

impl Frames {
    /// Begins at the first block.
    ///
    /// # Errors
    /// Corrupt.
    pub fn new(_bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// The roots.
    pub fn roots(&self) -> &[Cid] {
        todo!()
    }
}

impl Iterator for Frames {
    type Item = Result<Frame>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// Where a block lies in an archive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Location {
    /// The plain address.
    pub cid: Cid,
    /// Where the bytes begin in the archive.
    pub offset: u32,
    /// How many.
    pub length: u32,
}

/// What an index says about an address.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Lookup {
    /// It lies there.
    At(Location),
    /// This page knows.
    OnPage(Location),
    /// It is not in this archive.
    Absent,
}

/// The index of an archive: its last block.
#[derive(Debug, Clone)]
pub struct CarIndex {}

impl CarIndex {
    /// Decodes (plain bytes).
    ///
    /// # Errors
    /// Corrupt, NewerFormat.
    pub fn decode(_bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// Blocks in the archive.
    pub fn blocks(&self) -> u64 {
        todo!()
    }
    /// Where an address is.
    pub fn lookup(&self, _cid: &Cid) -> Lookup {
        todo!()
    }
    /// The pages, when it has pages.
    pub fn pages(&self) -> Vec<Location> {
        todo!()
    }
    /// The entries, when it has no pages.
    pub fn entries(&self) -> impl Iterator<Item = Location> + '_ {
        std::iter::empty()
    }
}

/// A page of an index.
#[derive(Debug, Clone)]
pub struct IndexPage {}

impl IndexPage {
    /// Decodes (plain bytes).
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(_bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// Where an address is.
    pub fn lookup(&self, _cid: &Cid) -> Option<Location> {
        todo!()
    }
    /// All entries.
    pub fn entries(&self) -> impl Iterator<Item = Location> + '_ {
        std::iter::empty()
    }
}

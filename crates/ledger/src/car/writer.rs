//! Writes an archive, block after block, into any sink; the whole is hashed as it goes.

use sha2::{Digest, Sha256};

use crate::block::{Block, Cid, Codec, MAX_BLOCK_BYTES};
use crate::cbor;
use crate::error::{Error, Result};

use super::index::{CarIndex, ENTRY_BYTES, Location, PAGE_ENTRIES};

/// Bytes that are gathered before they are hashed and handed on.
const BUFFER_BYTES: usize = 64 << 10;

/// Where an archive's bytes go.
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

impl Sink for Box<dyn siltstone_storage::BlobWriter> {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        Ok((**self).write(bytes)?)
    }
}

impl<S: Sink + ?Sized> Sink for &mut S {
    fn write(&mut self, bytes: &[u8]) -> Result<()> {
        (**self).write(bytes)
    }
}

/// What seals the blocks of an archive; [`crate::crypto::Sealer`] does.
pub trait Seal {
    /// The envelope of a block: a raw block that only the key opens.
    ///
    /// # Errors
    /// The sealer's own.
    fn seal(&self, block: &Block) -> Result<Block>;

    /// Bytes that an envelope has beyond its block's.
    fn overhead(&self, cid: &Cid) -> usize;
}

/// A finished archive: all that is needed to find a block in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, serde::Serialize, serde::Deserialize)]
pub struct CarRef {
    /// Its address: CIDv1, codec 0x0202, SHA2-256 of the whole file.
    pub cid: Cid,
    /// Its length in bytes.
    pub length: u64,
    /// Where the bytes of its index (or their envelope) begin; the file ends with them.
    pub index_offset: u64,
    /// How many blocks it holds, header and index left out.
    pub blocks: u64,
}

impl CarRef {
    /// Length of the index (or its envelope) in bytes.
    pub fn index_length(&self) -> u64 {
        self.length - self.index_offset
    }
}

/// Writes one archive. Dropped unfinished, what was handed to the sink is no archive.
pub struct CarWriter<'s, S> {
    sink: S,
    seal: Option<&'s dyn Seal>,
    buffer: Vec<u8>,
    hasher: Sha256,
    /// Bytes before the buffer.
    written: u64,
    entries: Vec<[u8; ENTRY_BYTES]>,
}

impl<S> std::fmt::Debug for CarWriter<'_, S> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("CarWriter")
            .field("written", &self.written)
            .field("blocks", &self.entries.len())
            .finish_non_exhaustive()
    }
}

impl<'s, S: Sink> CarWriter<'s, S> {
    /// Begins an archive with its header block (of [`super::Header`]). With `seal`, every block is
    /// sealed.
    ///
    /// # Errors
    /// The sink's and the sealer's.
    pub fn new(sink: S, header: &Block, seal: Option<&'s dyn Seal>) -> Result<Self> {
        let mut writer = Self {
            sink,
            seal,
            buffer: Vec::with_capacity(BUFFER_BYTES),
            hasher: Sha256::new(),
            written: 0,
            entries: Vec::new(),
        };
        let root = match seal {
            Some(seal) => seal.seal(header)?,
            None => header.clone(),
        };
        let mut car = Vec::with_capacity(64);
        cbor::put_map(2, &mut car);
        cbor::put_text("roots", &mut car);
        cbor::put_array(1, &mut car);
        cbor::put_link(&root.cid, &mut car);
        cbor::put_text("version", &mut car);
        cbor::put_uint(1, &mut car);
        crate::varint::write(car.len() as u64, &mut writer.buffer);
        writer.buffer.extend_from_slice(&car);
        writer.frame(&root)?;
        Ok(writer)
    }

    /// Adds a block, sealed if the archive is.
    ///
    /// # Errors
    /// [`Error::TooLarge`] for a block or an archive over its limit, [`Error::UnsupportedCid`] for a codec
    /// that ledgers do not hold; the sink's and the sealer's.
    pub fn add(&mut self, block: &Block) -> Result<()> {
        match self.seal {
            Some(seal) => self.add_sealed(&block.cid, &seal.seal(block)?),
            None => self.add_as(&block.cid, block),
        }
    }

    /// Adds a block that is in its envelope already; `plain` is the address inside.
    ///
    /// # Errors
    /// As [`CarWriter::add`].
    pub fn add_sealed(&mut self, plain: &Cid, envelope: &Block) -> Result<()> {
        self.add_as(plain, envelope)
    }

    fn add_as(&mut self, plain: &Cid, block: &Block) -> Result<()> {
        if block.bytes.len() > MAX_BLOCK_BYTES + 128 {
            return Err(Error::TooLarge {
                what: "the bytes of a block",
                size: block.bytes.len() as u64,
                limit: MAX_BLOCK_BYTES as u64,
            });
        }
        let location = self.frame(block)?;
        let entry = Location {
            cid: *plain,
            ..location
        };
        let entry = entry.entry().ok_or_else(|| Error::UnsupportedCid {
            cid: plain.to_string(),
            what: "a ledger holds DAG-CBOR, raw and DAG-PB blocks and archives",
        })?;
        self.entries.push(entry);
        Ok(())
    }

    /// Writes a frame: where its bytes lie.
    fn frame(&mut self, block: &Block) -> Result<Location> {
        let cid_len = block.cid.encoded_len();
        crate::varint::write((cid_len + block.bytes.len()) as u64, &mut self.buffer);
        block.cid.write_to(&mut self.buffer);
        let offset = self.written + self.buffer.len() as u64;
        let end = offset + block.bytes.len() as u64;
        if end > u64::from(u32::MAX) {
            return Err(Error::TooLarge {
                what: "the bytes of an archive",
                size: end,
                limit: u64::from(u32::MAX),
            });
        }
        if block.bytes.len() >= BUFFER_BYTES {
            self.hand_on()?;
            self.hasher.update(&block.bytes);
            self.sink.write(&block.bytes)?;
            self.written += block.bytes.len() as u64;
        } else {
            self.buffer.extend_from_slice(&block.bytes);
            if self.buffer.len() >= BUFFER_BYTES {
                self.hand_on()?;
            }
        }
        Ok(Location {
            cid: block.cid,
            offset: offset as u32,
            length: block.bytes.len() as u32,
        })
    }

    fn hand_on(&mut self) -> Result<()> {
        self.hasher.update(&self.buffer);
        self.sink.write(&self.buffer)?;
        self.written += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// How many blocks were added.
    pub fn blocks(&self) -> usize {
        self.entries.len()
    }

    /// How long the archive would be if it were finished now, or a little less than this.
    pub fn length(&self) -> u64 {
        let pages = match self.entries.len() {
            0..=PAGE_ENTRIES => 0,
            many => many.div_ceil(PAGE_ENTRIES),
        };
        let sealed = self.seal.map_or(0, |seal| {
            seal.overhead(&Cid::from_digest(Codec::RAW, [0; 32]))
        });
        let index = self.entries.len() * ENTRY_BYTES + pages * ENTRY_BYTES;
        let frames = (pages + 1) * (96 + sealed);
        self.written + (self.buffer.len() + index + frames) as u64
    }

    /// Writes the index and hands the sink back.
    ///
    /// # Errors
    /// The sink's and the sealer's.
    pub fn finish(mut self) -> Result<(S, CarRef)> {
        let entries = sorted(&self.entries);
        let mut pages = Vec::new();
        let mut inline = &entries[..];
        if entries.len() > PAGE_ENTRIES {
            for page in entries.chunks(PAGE_ENTRIES) {
                let block = Block::raw(page.as_flattened().to_vec());
                let at = self.index_frame(&block)?;
                let mut entry = page[0];
                entry[33..36].copy_from_slice(&at.length.to_be_bytes()[1..]);
                entry[36..].copy_from_slice(&at.offset.to_be_bytes());
                pages.push(entry);
            }
            inline = &[];
        }
        let index = CarIndex::encode(
            entries.len() as u64,
            pages.as_flattened(),
            inline.as_flattened(),
        );
        let at = self.index_frame(&index)?;
        self.hand_on()?;
        let digest = self.hasher.finalize().into();
        let car = CarRef {
            cid: Cid::from_digest(Codec::CAR, digest),
            length: self.written,
            index_offset: u64::from(at.offset),
            blocks: entries.len() as u64,
        };
        Ok((self.sink, car))
    }

    fn index_frame(&mut self, block: &Block) -> Result<Location> {
        match self.seal {
            Some(seal) => {
                let envelope = seal.seal(block)?;
                self.frame(&envelope)
            }
            None => self.frame(block),
        }
    }
}

/// The entries in order. Digests are as good as random: dealt out by their first bits into as many
/// heaps as there are entries, they lie where they belong but for a step or two.
fn sorted(entries: &[[u8; ENTRY_BYTES]]) -> Vec<[u8; ENTRY_BYTES]> {
    if entries.len() < 64 {
        let mut few = entries.to_vec();
        few.sort_unstable();
        return few;
    }
    let bits = entries.len().ilog2().min(20);
    let heap = |entry: &[u8; ENTRY_BYTES]| {
        let head = entry.first_chunk::<4>().expect("an entry has 40 bytes");
        (u32::from_be_bytes(*head) >> (32 - bits)) as usize
    };
    let mut ends = vec![0u32; 1 << bits];
    for entry in entries {
        ends[heap(entry)] += 1;
    }
    let mut sum = 0;
    for end in &mut ends {
        sum += *end;
        *end = sum;
    }
    let mut sorted = vec![[0; ENTRY_BYTES]; entries.len()];
    for entry in entries.iter().rev() {
        let end = &mut ends[heap(entry)];
        *end -= 1;
        sorted[*end as usize] = *entry;
    }
    for heap in sorted.chunk_by_mut(|a, b| heap(a) == heap(b)) {
        if heap.len() > 1 {
            heap.sort_unstable();
        }
    }
    sorted
}

/// An archive in memory.
///
/// # Errors
/// As [`CarWriter::add`].
pub fn write_car<'a>(
    header: &Block,
    blocks: impl IntoIterator<Item = &'a Block>,
    seal: Option<&dyn Seal>,
) -> Result<(Vec<u8>, CarRef)> {
    let mut writer = CarWriter::new(Vec::new(), header, seal)?;
    for block in blocks {
        writer.add(block)?;
    }
    writer.finish()
}

//! Bytes that belong to documents: a file is raw blocks of 256 KiB and a small list of them, which
//! documents name by a link. They travel, are compacted and encrypted as all blocks are, equal blocks are
//! stored once, and a prune drops those that no document names which it keeps.

use crate::block::{Block, Blocks, Cid, Codec};
use crate::cbor::{self, Kind, Reader};
use crate::core::Core;
use crate::error::{Error, Result};
use crate::ledger::Ledger;
use crate::snapshot::Snapshot;
use crate::store::{Edit, NewCar, car_name, pack};
use crate::writes::Request;
use bytes::Bytes;
use serde_json::{Value, json};
use std::collections::HashSet;
use std::io::{self, Read};

/// Bytes of each block of a file but its last.
pub const FILE_BLOCK_BYTES: usize = 256 << 10;
/// The most blocks of a file: 20 GiB.
const MAX_BLOCKS: usize = 80_000;
const VERSION: u64 = 1;

/// The name of a file: what documents link to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FileRef {
    /// The address of the list of its blocks.
    pub cid: Cid,
}

impl FileRef {
    /// The link to it as a document has it in JSON: `{"/": "<cid>"}`.
    pub fn link(&self) -> Value {
        json!({"/": self.cid.to_string()})
    }

    /// The file that a link of a document names; `None` for what is no link.
    pub fn from_link(value: &Value) -> Option<Self> {
        let cid = value.as_object()?.get("/")?.as_str()?.parse().ok()?;
        Some(Self { cid })
    }
}

/// Reads a file, a block at a time. What it reads stays until it is dropped.
#[derive(Debug)]
pub struct FileReader {
    ledger: Ledger,
    _held: Snapshot,
    size: u64,
    blocks: std::vec::IntoIter<Cid>,
    at: Bytes,
}

impl FileReader {
    /// Bytes of the file.
    pub fn size(&self) -> u64 {
        self.size
    }
}

impl Read for FileReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        while self.at.is_empty() {
            let Some(cid) = self.blocks.next() else {
                return Ok(0);
            };
            let store = &self.ledger.core().store;
            // Past the cache: a file would push everything else out.
            let read = store.cars.read(&cid, &store.cache);
            self.at = read.map_err(io::Error::other)?;
        }
        let count = out.len().min(self.at.len());
        out[..count].copy_from_slice(&self.at.split_to(count));
        Ok(count)
    }
}

impl Ledger {
    /// Stores a file; documents name it by [`FileRef::link`]. It is durable when the call returns, and
    /// read with a few MiB of memory however large it is. Blocks that are here already are not stored
    /// again. A prune that runs before a document names it drops it.
    ///
    /// # Errors
    /// [`Error::Io`] of the reader, [`Error::TooLarge`] over 20 GiB; as [`Ledger::put`].
    pub fn put_file(&self, from: &mut dyn Read) -> Result<FileRef> {
        self.core().store.check_writer()?;
        let mut cars = Vec::new();
        let stored = self.core().store_file(from, &mut cars);
        let names: Vec<Cid> = cars.iter().map(|new| new.car.cid).collect();
        let done = stored.and_then(|file| {
            if !cars.is_empty() {
                let edit = Box::new(move |_: &_| Ok((Edit::default(), cars)));
                self.core().submit(Request::Edit(edit))?;
            }
            Ok(file)
        });
        if done.is_err() {
            self.core().store.delete_unlisted(&names);
        }
        self.core().after_write();
        done
    }

    /// Bytes of the file that a link names; `None` when it names something else.
    ///
    /// # Errors
    /// [`Error::MissingBlock`] when what it names is not here; the store's.
    pub fn file_size(&self, file: &FileRef) -> Result<Option<u64>> {
        if file.cid.codec() != Codec::DAG_CBOR {
            return Ok(None);
        }
        self.core().keep_up()?;
        let list = self.core().store.block(&file.cid)?;
        Ok(decode(&list).ok().map(|(size, _)| size))
    }

    /// Opens a file.
    ///
    /// # Errors
    /// [`Error::MissingBlock`] when it is not here, or was dropped; [`Error::Corrupt`] for a link to
    /// something else.
    pub fn open_file(&self, file: &FileRef) -> Result<FileReader> {
        self.core().keep_up()?;
        let held = self.snapshot();
        let list = self.core().store.block(&file.cid)?;
        let (size, blocks) =
            decode(&list).map_err(|malformed| malformed.in_place(format!("file {}", file.cid)))?;
        Ok(FileReader {
            ledger: self.clone(),
            _held: held,
            size,
            blocks: blocks.into_iter(),
            at: Bytes::new(),
        })
    }
}

impl Core {
    /// Writes the new blocks of a file into CARs of their own, which nobody lists yet.
    fn store_file(&self, from: &mut dyn Read, cars: &mut Vec<NewCar>) -> Result<FileRef> {
        self.store.check_writable()?;
        let limit = self.store.options.compacted_car_bytes;
        let (mut all, mut size) = (Vec::new(), 0);
        let (mut batch, mut bytes) = (Vec::new(), 0);
        let mut seen: HashSet<Cid> = HashSet::new();
        loop {
            let mut chunk = Vec::new();
            let read = from.take(FILE_BLOCK_BYTES as u64).read_to_end(&mut chunk);
            read.map_err(|e| Error::io("read the file", &e))?;
            if chunk.is_empty() {
                break;
            }
            size += chunk.len() as u64;
            let block = Block::raw(chunk);
            all.push(block.cid);
            if all.len() > MAX_BLOCKS {
                return Err(Error::TooLarge {
                    what: "blocks of a file",
                    size: all.len() as u64,
                    limit: MAX_BLOCKS as u64,
                });
            }
            if seen.insert(block.cid) && !self.store_holds(&block.cid)? {
                bytes += block.bytes.len();
                batch.push(block);
            }
            if bytes >= limit {
                self.write_file_car(&std::mem::take(&mut batch), cars)?;
                bytes = 0;
            }
        }
        let list = encode(size, &all);
        let file = FileRef { cid: list.cid };
        if !self.store_holds(&list.cid)? {
            batch.push(list);
        }
        self.write_file_car(&batch, cars)?;
        Ok(file)
    }

    /// Whether a live CAR holds a block. One that is replaced may go at any moment.
    fn store_holds(&self, cid: &Cid) -> Result<bool> {
        let car = self.store.cars.holder(cid, &self.store.cache)?;
        let log = self.store.log.lock();
        Ok(car.is_some_and(|car| log.state.cars.live().iter().any(|live| live.id == car)))
    }

    fn write_file_car(&self, blocks: &[Block], cars: &mut Vec<NewCar>) -> Result<()> {
        if blocks.is_empty() {
            return Ok(());
        }
        let heads = self.view().heads.clone();
        let sealer = self.store.sealer();
        let make = |blocks: &[Block]| pack(&heads, &heads, blocks, usize::MAX, sealer.as_ref());
        let mut made = make(blocks)?;
        if made
            .iter()
            .any(|new| self.store.log.lock().state.has(&new.car.cid))
        {
            // A replaced CAR of this name waits to be deleted: this one gets another name.
            let mut salted = blocks.to_vec();
            salted.push(Block::raw(self.store.env.rng.next().to_be_bytes().to_vec()));
            made = make(&salted)?;
        }
        for mut new in made {
            let bytes = new.bytes.take().unwrap_or_default();
            let name = car_name(&new.car.cid);
            // Listed first: should the put fail after it happened, the blob is deleted all the same.
            cars.push(new);
            self.store.env.blobs.put(&name, &bytes)?;
        }
        Ok(())
    }

    /// The blocks of files that a document names, and what else it links to.
    pub(crate) fn linked(&self, document: &[u8], into: &mut Vec<Cid>) -> Result<()> {
        for link in links(document)? {
            if link.codec() == Codec::DAG_CBOR {
                match self.store.block(&link) {
                    Ok(list) => into.extend(file_blocks(&link, &list).unwrap_or_default()),
                    // A link may name what was never here.
                    Err(error) if error.is_missing_block() => {}
                    Err(error) => return Err(error),
                }
            }
            into.push(link);
        }
        Ok(())
    }
}

/// What a document links to, in its order.
pub(crate) fn links(document: &[u8]) -> Result<Vec<Cid>> {
    let mut links = Vec::new();
    collect_links(&mut Reader::new(document), &mut links)
        .map_err(|malformed| malformed.in_place("a document"))?;
    Ok(links)
}

/// The blocks of the file that a link names; `None` when it names something else.
pub(crate) fn file_blocks(link: &Cid, bytes: &[u8]) -> Option<Vec<Cid>> {
    let is_list = link.codec() == Codec::DAG_CBOR;
    is_list
        .then(|| decode(bytes).ok())
        .flatten()
        .map(|(_, all)| all)
}

fn encode(size: u64, blocks: &[Cid]) -> Block {
    let mut out = Vec::with_capacity(32 + blocks.len() * 41);
    cbor::put_map(3, &mut out);
    cbor::put_text("v", &mut out);
    cbor::put_uint(VERSION, &mut out);
    cbor::put_text("size", &mut out);
    cbor::put_uint(size, &mut out);
    cbor::put_text("blocks", &mut out);
    cbor::put_array(blocks.len(), &mut out);
    for block in blocks {
        cbor::put_link(block, &mut out);
    }
    Block::dag_cbor(out)
}

fn decode(bytes: &[u8]) -> cbor::Read<(u64, Vec<Cid>)> {
    let mut reader = Reader::new(bytes);
    reader.map_of(3)?;
    reader.key("v")?;
    if reader.uint()? != VERSION {
        return Err(reader.malformed("a list of blocks of another version"));
    }
    reader.key("size")?;
    let size = reader.uint()?;
    reader.key("blocks")?;
    let count = reader.array()?;
    if count as u64 != size.div_ceil(FILE_BLOCK_BYTES as u64) {
        return Err(reader.malformed("a file's size does not fit its blocks"));
    }
    let blocks = (0..count)
        .map(|_| reader.link())
        .collect::<cbor::Read<_>>()?;
    reader.finish()?;
    Ok((size, blocks))
}

/// The links in an item. Documents are nested a limited number of times.
fn collect_links(reader: &mut Reader<'_>, links: &mut Vec<Cid>) -> cbor::Read<()> {
    match reader.kind()? {
        Kind::Array => {
            for _ in 0..reader.array()? {
                collect_links(reader, links)?;
            }
        }
        Kind::Map => {
            for _ in 0..reader.map()? {
                reader.text()?;
                collect_links(reader, links)?;
            }
        }
        Kind::Link => links.extend(Cid::from_bytes(reader.link_bytes()?).ok()),
        _ => reader.skip()?,
    }
    Ok(())
}

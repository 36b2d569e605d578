//! A change: what was written, by whom, when, and after what.
//!
//! Its operations are sorted by key. Up to [`MAX_OPS`] of them lie in the change itself; more are cut into
//! blocks of their own, which the change names with the first key of each, so that no block grows with
//! the size of a bulk and one key is found by reading one of them.

use bytes::Bytes;

use crate::block::{Block, Blocks, Cid, Staged};
use crate::cbor::{self, Malformed, Read, Reader};
use crate::error::{Error, Result};

use super::event::check_version;

/// The format version of a change.
const VERSION: u64 = 1;
/// The most operations of one block.
pub const MAX_OPS: usize = 1000;
/// The largest lamport time.
const MAX_LAMPORT: u64 = 1 << 53;
/// Bytes of operations at which a block of them ends.
const MAX_OPS_BYTES: usize = 256 << 10;

/// What one write did, and after what. A merge has no author and no operations.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// The events before it, sorted.
    pub parents: Vec<Cid>,
    /// One more than the largest of its parents; 1 without parents.
    pub lamport: u64,
    /// Who wrote; None for a merge.
    pub author: Option<Bytes>,
    /// Milliseconds since 1970 by the author's clock; the largest of its parents for a merge.
    pub time: u64,
    ops: Ops,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Ops {
    /// How many, and their encodings one after another.
    Here(usize, Bytes),
    /// Blocks of them, with the first key of each.
    Chunks(Vec<(String, Cid)>),
}

/// One written key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Op {
    /// The document's id.
    pub key: String,
    /// The document; None for a delete.
    pub doc: Option<Cid>,
    /// The changes whose values it replaced, sorted.
    pub overwrote: Vec<Cid>,
}

impl Op {
    fn write_to(&self, out: &mut Vec<u8>) {
        cbor::put_array(3, out);
        cbor::put_text(&self.key, out);
        cbor::put_nullable_link(self.doc.as_ref(), out);
        put_links(&self.overwrote, out);
    }

    fn read(reader: &mut Reader<'_>) -> Read<Self> {
        reader.array_of(3)?;
        Ok(Self {
            key: reader.text()?.to_string(),
            doc: reader.nullable_link()?,
            overwrote: read_links(reader)?,
        })
    }
}

/// Appends an array of links.
pub(crate) fn put_links(links: &[Cid], out: &mut Vec<u8>) {
    cbor::put_array(links.len(), out);
    for link in links {
        cbor::put_link(link, out);
    }
}

/// Reads an array of links that are sorted and unique.
pub(crate) fn read_links(reader: &mut Reader<'_>) -> Read<Vec<Cid>> {
    let links = read_list(reader)?;
    if links.windows(2).any(|pair| pair[0] >= pair[1]) {
        return Err(reader.malformed("links are not unique and in order"));
    }
    Ok(links)
}

/// Reads an array of links.
pub(crate) fn read_list(reader: &mut Reader<'_>) -> Read<Vec<Cid>> {
    (0..reader.array()?).map(|_| reader.link()).collect()
}

impl Change {
    /// A change without operations: a merge.
    pub(crate) fn merge(parents: Vec<Cid>, lamport: u64, time: u64) -> Self {
        Self {
            parents,
            lamport,
            author: None,
            time,
            ops: Ops::Here(0, Bytes::new()),
        }
    }

    /// A change of `ops`, which are sorted by key; the blocks of many are staged.
    pub(crate) fn new(
        staged: &mut Staged<'_>,
        parents: Vec<Cid>,
        lamport: u64,
        author: &[u8],
        time: u64,
        ops: &[Op],
    ) -> Self {
        let mut chunks = Vec::new();
        let mut here = Vec::new();
        let mut first = 0;
        for (index, op) in ops.iter().enumerate() {
            op.write_to(&mut here);
            if index + 1 - first == MAX_OPS || here.len() >= MAX_OPS_BYTES {
                chunks.push((first, index + 1, std::mem::take(&mut here)));
                first = index + 1;
            }
        }
        if !here.is_empty() || chunks.is_empty() {
            chunks.push((first, ops.len(), here));
        }
        let ops = if let [(first, end, here)] = &mut chunks[..] {
            Ops::Here(*end - *first, Bytes::from(std::mem::take(here)))
        } else {
            let name = |(first, end, body): (usize, usize, Vec<u8>)| {
                let mut out = Vec::with_capacity(body.len() + 3);
                cbor::put_array(end - first, &mut out);
                out.extend_from_slice(&body);
                (ops[first].key.clone(), staged.put(Block::dag_cbor(out)))
            };
            Ops::Chunks(chunks.into_iter().map(name).collect())
        };
        Self {
            parents,
            lamport,
            author: Some(Bytes::copy_from_slice(author)),
            time,
            ops,
        }
    }

    /// The block: a DAG-CBOR map of `v`, `ops`, `time`, `author`, `chunks`, `lamport`, `parents`.
    pub fn block(&self) -> Block {
        let mut out = Vec::with_capacity(128 + self.weight());
        cbor::put_map(7, &mut out);
        cbor::put_text("v", &mut out);
        cbor::put_uint(VERSION, &mut out);
        cbor::put_text("ops", &mut out);
        let chunks: &[_] = match &self.ops {
            Ops::Here(count, bytes) => {
                cbor::put_array(*count, &mut out);
                out.extend_from_slice(bytes);
                &[]
            }
            Ops::Chunks(chunks) => {
                cbor::put_array(0, &mut out);
                chunks
            }
        };
        cbor::put_text("time", &mut out);
        cbor::put_uint(self.time, &mut out);
        cbor::put_text("author", &mut out);
        match &self.author {
            Some(author) => cbor::put_bytes(author, &mut out),
            None => cbor::put_null(&mut out),
        }
        cbor::put_text("chunks", &mut out);
        cbor::put_array(chunks.len(), &mut out);
        for (key, cid) in chunks {
            cbor::put_array(2, &mut out);
            cbor::put_text(key, &mut out);
            cbor::put_link(cid, &mut out);
        }
        cbor::put_text("lamport", &mut out);
        cbor::put_uint(self.lamport, &mut out);
        cbor::put_text("parents", &mut out);
        put_links(&self.parents, &mut out);
        Block::dag_cbor(out)
    }

    /// Decodes the block at `cid`. Operations are checked here and decoded when asked for.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that are no change; [`Error::NewerFormat`].
    pub fn decode(cid: &Cid, bytes: Bytes) -> Result<Self> {
        let place = || format!("change {cid}");
        let mut reader = Reader::new(&bytes);
        check_version(&mut reader, 7, VERSION, &place)?;
        Self::decode_body(&mut reader, &bytes).map_err(|malformed| malformed.in_place(place()))
    }

    fn decode_body(reader: &mut Reader<'_>, bytes: &Bytes) -> Read<Self> {
        reader.key("ops")?;
        let count = reader.array()?;
        let start = reader.position();
        check_ops(reader, count)?;
        let here = bytes.slice(start..reader.position());
        reader.key("time")?;
        let time = reader.uint()?;
        reader.key("author")?;
        let author = match reader.null() {
            true => None,
            false => Some(Bytes::copy_from_slice(reader.bytes()?)),
        };
        reader.key("chunks")?;
        let chunks = (0..reader.array()?)
            .map(|_| {
                reader.array_of(2)?;
                Ok((reader.text()?.to_string(), reader.link()?))
            })
            .collect::<Read<Vec<_>>>()?;
        reader.key("lamport")?;
        let lamport = reader.uint()?;
        reader.key("parents")?;
        let parents = read_links(reader)?;
        reader.finish()?;
        let wrong = |what| Err(Malformed { at: start, what });
        if chunks.windows(2).any(|pair| pair[0].0 >= pair[1].0) {
            return wrong("blocks of operations are not in order");
        }
        if chunks.len() == 1 || (!chunks.is_empty() && count > 0) {
            return wrong("operations are neither in the change nor in blocks of their own");
        }
        if author.is_none() != (count == 0 && chunks.is_empty()) {
            return wrong("a merge has operations, or a write has none");
        }
        if lamport == 0 || lamport > MAX_LAMPORT || (author.is_none() && parents.len() < 2) {
            return wrong("a merge of fewer than two, or a lamport time out of range");
        }
        Ok(Self {
            parents,
            lamport,
            author,
            time,
            ops: match chunks.is_empty() {
                true => Ops::Here(count, here),
                false => Ops::Chunks(chunks),
            },
        })
    }

    /// True for a merge.
    pub fn is_merge(&self) -> bool {
        self.author.is_none()
    }

    /// The addresses of its blocks of operations, to walk a ledger block by block; none for a small one.
    pub fn chunks(&self) -> impl Iterator<Item = Cid> + '_ {
        let chunks: &[_] = match &self.ops {
            Ops::Here(..) => &[],
            Ops::Chunks(chunks) => chunks,
        };
        chunks.iter().map(|(_, cid)| *cid)
    }

    /// All operations in key order. The blocks of a large change are read one at a time.
    pub fn ops<'b>(&'b self, blocks: &'b dyn Blocks) -> impl Iterator<Item = Result<Op>> + 'b {
        let (here, chunks): (_, &[_]) = match &self.ops {
            Ops::Here(count, bytes) => (read_ops(*count, bytes), &[]),
            Ops::Chunks(chunks) => (Vec::new(), chunks),
        };
        let later = chunks.iter().flat_map(move |(_, cid)| {
            match blocks
                .block(cid)
                .and_then(|bytes| decode_chunk(cid, &bytes))
            {
                Ok(ops) => ops.into_iter().map(Ok).collect(),
                Err(error) => vec![Err(error)],
            }
        });
        here.into_iter().map(Ok).chain(later)
    }

    /// The operation on a key. Reads at most one more block.
    ///
    /// # Errors
    /// Those of reading it.
    pub fn op(&self, blocks: &dyn Blocks, key: &str) -> Result<Option<Op>> {
        let ops = match &self.ops {
            Ops::Here(count, bytes) => read_ops(*count, bytes),
            Ops::Chunks(chunks) => {
                let at = chunks.partition_point(|(first, _)| first.as_str() <= key);
                let Some((_, cid)) = at.checked_sub(1).map(|at| &chunks[at]) else {
                    return Ok(None);
                };
                decode_chunk(cid, &blocks.block(cid)?)?
            }
        };
        Ok(ops.into_iter().find(|op| op.key == key))
    }

    /// Bytes of memory it takes.
    pub fn weight(&self) -> usize {
        let ops = match &self.ops {
            Ops::Here(_, bytes) => bytes.len(),
            Ops::Chunks(chunks) => chunks.iter().map(|(key, _)| key.len() + 64).sum(),
        };
        size_of::<Self>() + self.parents.len() * size_of::<Cid>() + ops
    }
}

/// Checks `count` operations and that they are in order.
fn check_ops(reader: &mut Reader<'_>, count: usize) -> Read<()> {
    let mut last: Option<&str> = None;
    for _ in 0..count {
        reader.array_of(3)?;
        let key = reader.text()?;
        if last.is_some_and(|last| last >= key) {
            return Err(reader.malformed("operations are not in the order of their keys"));
        }
        last = Some(key);
        reader.nullable_link()?;
        read_links(reader)?;
    }
    Ok(())
}

/// Reads operations that [`check_ops`] has seen.
fn read_ops(count: usize, bytes: &[u8]) -> Vec<Op> {
    let mut reader = Reader::new(bytes);
    (0..count)
        .map_while(|_| Op::read(&mut reader).ok())
        .collect()
}

fn decode_chunk(cid: &Cid, bytes: &[u8]) -> Result<Vec<Op>> {
    let decode = || {
        let mut reader = Reader::new(bytes);
        let count = reader.array()?;
        let start = reader.position();
        check_ops(&mut reader, count)?;
        reader.finish()?;
        Ok(read_ops(count, &bytes[start..]))
    };
    decode().map_err(|malformed: Malformed| malformed.in_place(format!("operations {cid}")))
}

/// The lamport time after the largest of the parents'.
pub(crate) fn next_lamport(parents: u64) -> Result<u64> {
    match parents {
        MAX_LAMPORT.. => Err(Error::invalid(
            "the lamport time of this ledger is at its end; a hostile writer moved it there",
        )),
        _ => Ok(1 + parents),
    }
}

/// The error for a change that does not follow from its parents.
pub(crate) fn out_of_order(event: &Cid) -> Error {
    Error::corrupt(
        format!("event {event}"),
        "its lamport time is not above its parents'",
    )
}

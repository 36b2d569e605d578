//! Blocks and their addresses: a block never changes, and its address is the hash of its bytes.
//!
//! [`Blocks`] is where blocks are read from; [`Staged`] is the new blocks of one commit over it.

use std::collections::HashMap;
use std::fmt;
use std::hash::{Hash, Hasher};
use std::str::FromStr;
use std::sync::Arc;

use bytes::Bytes;
use sha2::{Digest, Sha256};

use crate::clock::{Change, Event};
use crate::error::{Error, Result};
use crate::prolly::Node;

/// The largest block, in bytes, that is written or read.
pub const MAX_BLOCK_BYTES: usize = 4 << 20;

/// What the bytes of a block are: a code of the multicodec table.
#[derive(
    Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, serde::Serialize, serde::Deserialize,
)]
pub struct Codec(pub u32);

impl Codec {
    /// Deterministic CBOR of the IPLD data model: structure.
    pub const DAG_CBOR: Self = Self(0x71);
    /// Plain bytes: chunks of files, encrypted blocks, pages of an index.
    pub const RAW: Self = Self(0x55);
    /// A whole archive.
    pub const CAR: Self = Self(0x0202);
    /// Protocol-buffer nodes of UnixFS; found in archives of other tools.
    pub const DAG_PB: Self = Self(0x70);
}

impl fmt::Debug for Codec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "0x{:02x}", self.0)
    }
}

/// The address of a block: CIDv1 with a SHA2-256 hash. Ordered by codec, then by hash.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
pub struct Cid {
    codec: Codec,
    digest: [u8; 32],
}

impl Hash for Cid {
    fn hash<H: Hasher>(&self, state: &mut H) {
        // Eight bytes of a cryptographic hash are as good as all of it.
        let mut head = [0; 8];
        head.copy_from_slice(&self.digest[..8]);
        state.write_u64(u64::from_le_bytes(head));
    }
}

impl Cid {
    /// The most bytes that [`Cid::write_to`] appends.
    pub const MAX_LEN: usize = 1 + 5 + 2 + 32;

    /// The address of `bytes` as `codec`.
    pub fn of(codec: Codec, bytes: &[u8]) -> Self {
        Self::from_digest(codec, sha256(bytes))
    }

    /// The address with this SHA2-256 digest.
    pub fn from_digest(codec: Codec, digest: [u8; 32]) -> Self {
        Self { codec, digest }
    }

    /// What the block's bytes are.
    pub fn codec(&self) -> Codec {
        self.codec
    }

    /// The SHA2-256 hash of the block's bytes.
    pub fn digest(&self) -> &[u8; 32] {
        &self.digest
    }

    /// True when this is the address of `bytes`.
    pub fn matches(&self, bytes: &[u8]) -> bool {
        sha256(bytes) == self.digest
    }

    /// Checks that this is the address of `bytes`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when it is not.
    pub fn check(&self, bytes: &[u8]) -> Result<()> {
        if self.matches(bytes) {
            Ok(())
        } else {
            Err(Error::corrupt(
                format!("block {self}"),
                "its bytes do not have the hash of its address",
            ))
        }
    }

    /// Appends the binary form: version, codec, hash code and hash length as varints, the hash.
    #[inline]
    pub fn write_to(&self, out: &mut Vec<u8>) {
        match self.codec.0 {
            codec @ 0..0x80 => out.extend_from_slice(&[1, codec as u8, 0x12, 0x20]),
            codec => {
                out.push(1);
                crate::varint::write(u64::from(codec), out);
                out.extend_from_slice(&[0x12, 0x20]);
            }
        }
        out.extend_from_slice(&self.digest);
    }

    /// The binary form.
    pub fn to_bytes(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(Self::MAX_LEN);
        self.write_to(&mut out);
        out
    }

    /// Length of the binary form in bytes.
    pub fn encoded_len(&self) -> usize {
        1 + crate::varint::len(u64::from(self.codec.0)) + 2 + 32
    }

    /// Reads a binary form from the start of `bytes`: the address and how many bytes it took. CIDv0 is
    /// taken as the CIDv1 with the same hash and the codec DAG-PB.
    ///
    /// # Errors
    /// [`Error::UnsupportedCid`] for another version or hash, [`Error::Corrupt`] for bytes that are
    /// no address.
    #[inline]
    pub fn read_from(bytes: &[u8]) -> Result<(Self, usize)> {
        let damaged = |what: &str| Error::corrupt("an address", what);
        let digest = |at: usize| -> Result<[u8; 32]> {
            let end = at.saturating_add(32);
            let hash = bytes
                .get(at..end)
                .ok_or_else(|| damaged("its hash is cut short"))?;
            Ok(hash.try_into().expect("the slice has 32 bytes"))
        };
        match bytes {
            [1, codec @ 0..0x80, 0x12, 0x20, ..] => {
                Ok((Self::from_digest(Codec(u32::from(*codec)), digest(4)?), 36))
            }
            [0x12, 0x20, ..] => Ok((Self::from_digest(Codec::DAG_PB, digest(2)?), 34)),
            [1, rest @ ..] => {
                let (codec, used) =
                    crate::varint::read(rest).ok_or_else(|| damaged("its codec is no varint"))?;
                let at = 1 + used;
                let codec = u32::try_from(codec).map_err(|_| Error::UnsupportedCid {
                    cid: hex(&bytes[..at]),
                    what: "its codec is not one of the multicodec table",
                })?;
                match bytes.get(at..at + 2) {
                    Some([0x12, 0x20]) => {}
                    Some(_) => {
                        return Err(Error::UnsupportedCid {
                            cid: hex(&bytes[..at + 2]),
                            what: "its hash is not SHA2-256; address the block by that",
                        });
                    }
                    None => return Err(damaged("it ends before its hash")),
                }
                Ok((Self::from_digest(Codec(codec), digest(at + 2)?), at + 34))
            }
            [] => Err(damaged("it is empty")),
            _ => Err(Error::UnsupportedCid {
                cid: hex(&bytes[..bytes.len().min(4)]),
                what: "its version is not 1; use CIDv1",
            }),
        }
    }

    /// Reads a binary form that takes all of `bytes`.
    ///
    /// # Errors
    /// As [`Cid::read_from`]; [`Error::Corrupt`] for bytes behind it.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self> {
        let (cid, used) = Self::read_from(bytes)?;
        if used != bytes.len() {
            return Err(Error::corrupt("an address", "there are bytes behind it"));
        }
        Ok(cid)
    }
}

/// SHA2-256, with the processor's instructions where it has them.
pub fn sha256(bytes: &[u8]) -> [u8; 32] {
    Sha256::digest(bytes).into()
}

fn hex(bytes: &[u8]) -> String {
    use fmt::Write;
    let mut out = String::from("0x");
    for byte in bytes {
        let _ = write!(out, "{byte:02x}");
    }
    out
}

impl From<Cid> for cid::Cid {
    fn from(ours: Cid) -> Self {
        let hash = cid::multihash::Multihash::wrap(0x12, &ours.digest)
            .expect("32 bytes fit the 64 of a multihash");
        Self::new_v1(u64::from(ours.codec.0), hash)
    }
}

impl TryFrom<&cid::Cid> for Cid {
    type Error = Error;

    fn try_from(theirs: &cid::Cid) -> Result<Self> {
        Self::from_bytes(&theirs.to_bytes())
    }
}

impl fmt::Display for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&cid::Cid::from(*self), f)
    }
}

impl fmt::Debug for Cid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Cid {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self> {
        let theirs = cid::Cid::try_from(text).map_err(|error| {
            let shown: String = text.chars().take(80).collect();
            Error::invalid(format!("{shown:?} is not a CID: {error}"))
        })?;
        Self::try_from(&theirs)
    }
}

/// A block: bytes with their address.
#[derive(Clone, PartialEq, Eq)]
pub struct Block {
    /// The address.
    pub cid: Cid,
    /// The bytes.
    pub bytes: Bytes,
}

impl Block {
    /// The block of `bytes` as `codec`.
    pub fn new(codec: Codec, bytes: impl Into<Bytes>) -> Self {
        let bytes = bytes.into();
        Self {
            cid: Cid::of(codec, &bytes),
            bytes,
        }
    }

    /// The block of structure in `bytes`.
    pub fn dag_cbor(bytes: impl Into<Bytes>) -> Self {
        Self::new(Codec::DAG_CBOR, bytes)
    }

    /// The block of plain `bytes`.
    pub fn raw(bytes: impl Into<Bytes>) -> Self {
        Self::new(Codec::RAW, bytes)
    }

    /// Checks that the bytes have the address's hash.
    ///
    /// # Errors
    /// [`Error::Corrupt`] when they do not.
    pub fn check(&self) -> Result<()> {
        self.cid.check(&self.bytes)
    }
}

impl fmt::Debug for Block {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Block({}, {} bytes)", self.cid, self.bytes.len())
    }
}

/// Where blocks are read from.
///
/// A store answers [`Blocks::block`]; one with a cache answers the others too, so that a node that is
/// read a thousand times is decoded once. Whoever answers has checked the bytes against the address.
pub trait Blocks {
    /// The bytes of a block.
    ///
    /// # Errors
    /// [`Error::MissingBlock`] when it is not here; the store's own.
    fn block(&self, cid: &Cid) -> Result<Bytes>;

    /// A node of a map, decoded.
    ///
    /// # Errors
    /// As [`Blocks::block`]; [`Error::Corrupt`] when it is no node.
    fn node(&self, cid: &Cid) -> Result<Arc<Node>> {
        Ok(Arc::new(Node::decode(cid, self.block(cid)?)?))
    }

    /// An event, decoded.
    ///
    /// # Errors
    /// As [`Blocks::block`]; [`Error::Corrupt`] when it is no event.
    fn event(&self, cid: &Cid) -> Result<Event> {
        Event::decode(cid, &self.block(cid)?)
    }

    /// A change, decoded.
    ///
    /// # Errors
    /// As [`Blocks::block`]; [`Error::Corrupt`] when it is no change.
    fn change(&self, cid: &Cid) -> Result<Arc<Change>> {
        Ok(Arc::new(Change::decode(cid, self.block(cid)?)?))
    }
}

impl<B: Blocks + ?Sized> Blocks for &B {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        (**self).block(cid)
    }

    fn node(&self, cid: &Cid) -> Result<Arc<Node>> {
        (**self).node(cid)
    }

    fn event(&self, cid: &Cid) -> Result<Event> {
        (**self).event(cid)
    }

    fn change(&self, cid: &Cid) -> Result<Arc<Change>> {
        (**self).change(cid)
    }
}

/// Blocks in memory, for tests and for what is small.
#[derive(Debug, Clone, Default)]
pub struct MemBlocks(HashMap<Cid, Bytes>);

impl MemBlocks {
    /// None.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a block.
    pub fn insert(&mut self, block: Block) {
        self.0.insert(block.cid, block.bytes);
    }

    /// Adds what a commit made.
    pub fn extend(&mut self, blocks: impl IntoIterator<Item = Block>) {
        for block in blocks {
            self.insert(block);
        }
    }

    /// Takes a block away: true when it was there.
    pub fn remove(&mut self, cid: &Cid) -> bool {
        self.0.remove(cid).is_some()
    }

    /// True when the block is here.
    pub fn contains(&self, cid: &Cid) -> bool {
        self.0.contains_key(cid)
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// True when there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// All of them, in no order.
    pub fn iter(&self) -> impl Iterator<Item = Block> {
        self.0.iter().map(|(cid, bytes)| Block {
            cid: *cid,
            bytes: bytes.clone(),
        })
    }
}

impl Blocks for MemBlocks {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        self.0
            .get(cid)
            .cloned()
            .ok_or(Error::MissingBlock { cid: *cid })
    }
}

/// The new blocks of a commit, in the order they were made, over the blocks there were.
///
/// What was staged can be read at once, decoded nodes without decoding them again.
pub struct Staged<'b> {
    base: &'b dyn Blocks,
    order: Vec<Block>,
    at: HashMap<Cid, usize>,
    nodes: HashMap<Cid, Arc<Node>>,
    bytes: usize,
}

impl<'b> Staged<'b> {
    /// Nothing new over `base`.
    pub fn new(base: &'b dyn Blocks) -> Self {
        Self {
            base,
            order: Vec::new(),
            at: HashMap::new(),
            nodes: HashMap::new(),
            bytes: 0,
        }
    }

    /// Adds a block. One that is already staged is not added twice.
    pub fn put(&mut self, block: Block) -> Cid {
        let cid = block.cid;
        if let std::collections::hash_map::Entry::Vacant(free) = self.at.entry(cid) {
            free.insert(self.order.len());
            self.bytes += block.bytes.len();
            self.order.push(block);
        }
        cid
    }

    /// Adds a node that was just built, with what reads of it need.
    pub(crate) fn put_node(&mut self, block: Block, node: Arc<Node>) -> Cid {
        let cid = self.put(block);
        self.nodes.insert(cid, node);
        cid
    }

    /// How many blocks are new.
    pub fn len(&self) -> usize {
        self.order.len()
    }

    /// True when nothing is new.
    pub fn is_empty(&self) -> bool {
        self.order.is_empty()
    }

    /// The new blocks' bytes together, addresses not counted.
    pub fn bytes(&self) -> usize {
        self.bytes
    }

    /// The new blocks, oldest first.
    pub fn blocks(&self) -> &[Block] {
        &self.order
    }

    /// The new blocks, oldest first, and the decoded nodes among them (for a cache).
    pub fn into_parts(self) -> (Vec<Block>, Vec<(Cid, Arc<Node>)>) {
        (self.order, self.nodes.into_iter().collect())
    }

    /// The new blocks, oldest first.
    pub fn into_blocks(self) -> Vec<Block> {
        self.order
    }
}

impl fmt::Debug for Staged<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Staged({} blocks, {} bytes)", self.len(), self.bytes)
    }
}

impl Blocks for Staged<'_> {
    fn block(&self, cid: &Cid) -> Result<Bytes> {
        match self.at.get(cid) {
            Some(at) => Ok(self.order[*at].bytes.clone()),
            None => self.base.block(cid),
        }
    }

    fn node(&self, cid: &Cid) -> Result<Arc<Node>> {
        if let Some(node) = self.nodes.get(cid) {
            return Ok(node.clone());
        }
        match self.at.get(cid) {
            Some(at) => Ok(Arc::new(Node::decode(cid, self.order[*at].bytes.clone())?)),
            None => self.base.node(cid),
        }
    }

    fn event(&self, cid: &Cid) -> Result<Event> {
        match self.at.get(cid) {
            Some(at) => Event::decode(cid, &self.order[*at].bytes),
            None => self.base.event(cid),
        }
    }

    fn change(&self, cid: &Cid) -> Result<Arc<Change>> {
        match self.at.get(cid) {
            Some(at) => Ok(Arc::new(Change::decode(
                cid,
                self.order[*at].bytes.clone(),
            )?)),
            None => self.base.change(cid),
        }
    }
}

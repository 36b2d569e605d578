//! One node of a prolly tree: its bytes, and where in them its entries lie.
//!
//! A node is a DAG-CBOR array `[1, level, prefix, entries]`: `prefix` is the longest common prefix of its
//! keys, and `entries` the flat array `suffix, item, suffix, item, ...` of a leaf (level 0) or `suffix,
//! link, count, ...` of a branch, whose keys are the last keys of its children and whose counts are the
//! entries below them. Decoding keeps the bytes and writes down 24 bytes an entry, the first eight bytes
//! of each suffix among them, so that a search seldom leaves that array.

use std::cmp::Ordering;

use bytes::Bytes;

use crate::block::{Block, Cid, Codec};
use crate::cbor::{self, Malformed, Read, Reader};
use crate::error::{Error, Result};

/// The format version of a node.
pub(super) const VERSION: u64 = 1;
/// The highest level of a node.
pub(super) const MAX_LEVEL: u8 = 31;
/// Where the address begins behind a suffix: tag, length and the leading zero come first.
const LINK_HEAD: [u8; 5] = [0xd8, 42, 0x58, 37, 0];

/// A decoded node of a prolly tree.
#[derive(Debug, Clone)]
pub struct Node {
    bytes: Bytes,
    slots: Box<[Slot]>,
    prefix_start: u32,
    prefix_end: u32,
    level: u8,
    count: u64,
}

/// Where an entry lies in the bytes: suffix, then value, up to the end.
#[derive(Debug, Clone, Copy)]
struct Slot {
    /// The suffix's first eight bytes, zeros behind a shorter one.
    head: u64,
    suffix: u32,
    value: u32,
    end: u32,
}

fn head_of(suffix: &[u8]) -> u64 {
    match suffix.first_chunk::<8>() {
        Some(head) => u64::from_be_bytes(*head),
        None => {
            let mut head = [0; 8];
            head[..suffix.len()].copy_from_slice(suffix);
            u64::from_be_bytes(head)
        }
    }
}

impl Node {
    /// Decodes the block at `cid`.
    ///
    /// # Errors
    /// [`Error::Corrupt`] for bytes that are no node, or not as this crate writes one;
    /// [`Error::NewerFormat`] for a node of a later format.
    pub fn decode(cid: &Cid, bytes: Bytes) -> Result<Self> {
        let mut reader = Reader::new(&bytes);
        let version = (|| {
            reader.array_of(4)?;
            reader.uint()
        })()
        .map_err(|malformed| malformed.in_place(format!("node {cid}")))?;
        if version != VERSION {
            return Err(Error::NewerFormat {
                place: format!("node {cid}"),
                found: version,
                supported: VERSION,
            });
        }
        Self::decode_body(reader.position(), bytes.clone())
            .map_err(|malformed| malformed.in_place(format!("node {cid}")))
    }

    fn decode_body(at: usize, bytes: Bytes) -> Read<Self> {
        let mut reader = Reader::starting_at(&bytes, at);
        let level = match u8::try_from(reader.uint()?) {
            Ok(level) if level <= MAX_LEVEL => level,
            _ => return Err(reader.malformed("a level is too high")),
        };
        if u32::try_from(bytes.len()).is_err() {
            return Err(reader.malformed("a node is too large"));
        }
        let prefix = reader.bytes()?;
        let prefix_end = reader.position();
        let each = if level == 0 { 2 } else { 3 };
        let items = reader.array()?;
        if items == 0 || items % each != 0 {
            return Err(reader.malformed("a node's items are not whole entries"));
        }
        let mut slots: Vec<Slot> = Vec::with_capacity(items / each);
        let mut last: &[u8] = &[];
        let mut count = 0u64;
        for index in 0..items / each {
            let suffix = reader.bytes()?;
            if index > 0 && last >= suffix {
                return Err(reader.malformed("a node's keys are not in order"));
            }
            last = suffix;
            let value = reader.position();
            if level == 0 {
                reader.skip()?;
                count += 1;
            } else {
                count = count
                    .checked_add(read_child(&mut reader)?)
                    .ok_or_else(|| reader.malformed("a node's counts are too large"))?;
            }
            slots.push(Slot {
                head: head_of(suffix),
                suffix: (value - suffix.len()) as u32,
                value: value as u32,
                end: reader.position() as u32,
            });
        }
        reader.finish()?;
        let first = &bytes[slots[0].suffix as usize..slots[0].value as usize];
        if common_prefix(first, last) != 0 {
            return Err(reader.malformed("a node's prefix is not the longest"));
        }
        Ok(Self {
            prefix_start: (prefix_end - prefix.len()) as u32,
            prefix_end: prefix_end as u32,
            slots: slots.into_boxed_slice(),
            level,
            count,
            bytes,
        })
    }

    /// Bytes of memory it takes.
    pub fn weight(&self) -> usize {
        size_of::<Self>() + self.bytes.len() + self.slots.len() * size_of::<Slot>()
    }

    /// 0 for a leaf.
    pub fn level(&self) -> u8 {
        self.level
    }

    /// How many entries it has itself: children for a branch. At least one.
    #[expect(clippy::len_without_is_empty, reason = "a node is never empty")]
    pub fn len(&self) -> usize {
        self.slots.len()
    }

    /// How many entries are in the leaves below it.
    pub fn count(&self) -> u64 {
        self.count
    }

    /// The addresses of a branch's children, in key order; none for a leaf.
    pub fn children(&self) -> impl Iterator<Item = Cid> + '_ {
        let count = if self.level == 0 { 0 } else { self.len() };
        (0..count).map(|index| self.child(index))
    }

    /// The encoded bytes.
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    pub(super) fn prefix(&self) -> &[u8] {
        &self.bytes[self.prefix_start as usize..self.prefix_end as usize]
    }

    pub(super) fn suffix(&self, index: usize) -> &[u8] {
        let slot = &self.slots[index];
        &self.bytes[slot.suffix as usize..slot.value as usize]
    }

    /// The item of a leaf's entry, or link and count of a branch's.
    pub(super) fn value(&self, index: usize) -> &[u8] {
        let slot = &self.slots[index];
        &self.bytes[slot.value as usize..slot.end as usize]
    }

    pub(super) fn value_bytes(&self, index: usize) -> Bytes {
        let slot = &self.slots[index];
        self.bytes.slice(slot.value as usize..slot.end as usize)
    }

    pub(super) fn write_key(&self, index: usize, out: &mut Vec<u8>) {
        out.clear();
        out.extend_from_slice(self.prefix());
        out.extend_from_slice(self.suffix(index));
    }

    pub(super) fn key(&self, index: usize) -> Vec<u8> {
        let mut key = Vec::with_capacity(self.prefix().len() + self.suffix(index).len());
        self.write_key(index, &mut key);
        key
    }

    pub(super) fn child(&self, index: usize) -> Cid {
        let at = self.slots[index].value as usize + LINK_HEAD.len() + 4;
        let digest: [u8; 32] = self.bytes[at..at + 32]
            .try_into()
            .expect("decoding checked that a link lies here");
        Cid::from_digest(Codec::DAG_CBOR, digest)
    }

    /// The first entry whose key is `key` or greater, and whether it is `key`.
    pub(super) fn search(&self, key: &[u8]) -> (usize, bool) {
        let prefix = self.prefix();
        let Some(suffix) = key.strip_prefix(prefix) else {
            let at = if key < prefix { 0 } else { self.len() };
            return (at, false);
        };
        let head = head_of(suffix);
        let at = self
            .slots
            .partition_point(|slot| match slot.head.cmp(&head) {
                Ordering::Less => true,
                Ordering::Greater => false,
                Ordering::Equal => &self.bytes[slot.suffix as usize..slot.value as usize] < suffix,
            });
        let found = self.slots.get(at).is_some_and(|slot| {
            slot.head == head && &self.bytes[slot.suffix as usize..slot.value as usize] == suffix
        });
        (at, found)
    }
}

fn read_child(reader: &mut Reader<'_>) -> Read<u64> {
    let cid = reader.link()?;
    if cid.codec() != Codec::DAG_CBOR {
        return Err(reader.malformed("a child is not DAG-CBOR"));
    }
    match reader.uint()? {
        0 => Err(reader.malformed("a child is empty")),
        count => Ok(count),
    }
}

/// Link and count of a child as a branch's value.
pub(super) fn put_child(cid: &Cid, count: u64, out: &mut Vec<u8>) {
    cbor::put_link(cid, out);
    cbor::put_uint(count, out);
}

/// Entries below a child, from [`put_child`]'s bytes.
fn child_count(value: &[u8]) -> u64 {
    Reader::starting_at(value, LINK_HEAD.len() + 36)
        .uint()
        .unwrap_or(0)
}

fn common_prefix(a: &[u8], b: &[u8]) -> usize {
    a.iter().zip(b).take_while(|(a, b)| a == b).count()
}

/// The entries of a node to be, in flat buffers that are used again and again.
#[derive(Debug, Default)]
pub(super) struct NodeBuilder {
    keys: Vec<u8>,
    values: Vec<u8>,
    /// Where each key and value ends.
    ends: Vec<(u32, u32)>,
}

impl NodeBuilder {
    pub(super) fn push(&mut self, key: &[u8], value: &[u8]) {
        self.push_parts(key, &[], value);
    }

    /// Adds an entry whose key comes in two parts.
    pub(super) fn push_parts(&mut self, prefix: &[u8], suffix: &[u8], value: &[u8]) {
        self.keys.extend_from_slice(prefix);
        self.keys.extend_from_slice(suffix);
        self.values.extend_from_slice(value);
        self.ends
            .push((self.keys.len() as u32, self.values.len() as u32));
    }

    pub(super) fn len(&self) -> usize {
        self.ends.len()
    }

    pub(super) fn is_empty(&self) -> bool {
        self.ends.is_empty()
    }

    /// Bytes of keys and values so far.
    pub(super) fn payload(&self) -> usize {
        self.keys.len() + self.values.len()
    }

    pub(super) fn last_key(&self) -> &[u8] {
        let start = match self.ends.len() {
            0 | 1 => 0,
            len => self.ends[len - 2].0 as usize,
        };
        &self.keys[start..]
    }

    /// The value of the only entry.
    pub(super) fn only_value(&self) -> Option<&[u8]> {
        (self.len() == 1).then_some(&self.values[..])
    }

    /// The node of what was pushed; the builder is empty again.
    pub(super) fn finish(&mut self, level: u8) -> (Block, Node) {
        let first = &self.keys[..self.ends[0].0 as usize];
        let prefix_len = common_prefix(first, self.last_key());
        let each = if level == 0 { 2 } else { 3 };
        let mut out = Vec::with_capacity(self.payload() + 3 * self.len() + prefix_len + 16);
        cbor::put_array(4, &mut out);
        cbor::put_uint(VERSION, &mut out);
        cbor::put_uint(u64::from(level), &mut out);
        cbor::put_bytes(&first[..prefix_len], &mut out);
        let prefix_end = out.len();
        cbor::put_array(self.len() * each, &mut out);
        let mut slots = Vec::with_capacity(self.len());
        let (mut key_start, mut value_start, mut count) = (0, 0, 0u64);
        for (key_end, value_end) in &self.ends {
            let suffix = &self.keys[key_start + prefix_len..*key_end as usize];
            let item = &self.values[value_start..*value_end as usize];
            cbor::put_bytes(suffix, &mut out);
            let value = out.len();
            out.extend_from_slice(item);
            count += if level == 0 { 1 } else { child_count(item) };
            slots.push(Slot {
                head: head_of(suffix),
                suffix: (value - suffix.len()) as u32,
                value: value as u32,
                end: out.len() as u32,
            });
            (key_start, value_start) = (*key_end as usize, *value_end as usize);
        }
        self.keys.clear();
        self.values.clear();
        self.ends.clear();
        let block = Block::dag_cbor(out);
        let node = Node {
            bytes: block.bytes.clone(),
            slots: slots.into_boxed_slice(),
            prefix_start: (prefix_end - prefix_len) as u32,
            prefix_end: prefix_end as u32,
            level,
            count,
        };
        (block, node)
    }
}

/// Checks that `value` is exactly one canonical item.
pub(super) fn check_item(value: &[u8]) -> Result<(), Malformed> {
    let mut reader = Reader::new(value);
    reader.skip()?;
    reader.finish()
}

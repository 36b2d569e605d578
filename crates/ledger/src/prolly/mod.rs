//! Prolly trees: sorted maps of byte keys to one DAG-CBOR item each. Equal content, equal root.
use crate::block::{Blocks, Cid, Staged};
use crate::error::Result;
use bytes::Bytes;
use std::ops::Bound;

/// A decoded node.
#[derive(Debug)]
pub struct Node {}

impl Node {
    /// Decodes.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(_cid: &Cid, _bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// Bytes of memory it takes, for a cache.
    pub fn weight(&self) -> usize {
        todo!()
    }
    /// 0 for a leaf.
    pub fn level(&self) -> u8 {
        todo!()
    }
    /// Entries (children for a branch).
    pub fn len(&self) -> usize {
        todo!()
    }
    /// Never.
    pub fn is_empty(&self) -> bool {
        false
    }
    /// A branch's children, to walk a tree block by block; none for a leaf.
    pub fn children(&self) -> impl Iterator<Item = Cid> + '_ {
        std::iter::empty()
    }
}

/// A change to one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Edit {
    /// The key.
    pub key: Bytes,
    /// One DAG-CBOR item, or None to take the key away.
    pub value: Option<Bytes>,
}

/// One entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Entry {
    /// The key.
    pub key: Bytes,
    /// One DAG-CBOR item.
    pub value: Bytes,
}

/// `value` as a DAG-CBOR byte string, for maps of plain bytes.
pub fn bytes_item(_value: &[u8]) -> Bytes {
    todo!()
}

/// The bytes in a [`bytes_item`].
pub fn item_bytes(_item: &Bytes) -> Option<Bytes> {
    todo!()
}

/// The value of a key; `root` None is the empty tree.
///
/// # Errors
/// Blocks'.
pub fn get(_blocks: &dyn Blocks, _root: Option<&Cid>, _key: &[u8]) -> Result<Option<Bytes>> {
    todo!()
}

/// The values of sorted keys.
///
/// # Errors
/// Blocks'.
pub fn get_many<K: AsRef<[u8]>>(
    _blocks: &dyn Blocks,
    _root: Option<&Cid>,
    _keys: &[K],
) -> Result<Vec<Option<Bytes>>> {
    todo!()
}

/// How many entries.
///
/// # Errors
/// Blocks'.
pub fn len(_blocks: &dyn Blocks, _root: Option<&Cid>) -> Result<u64> {
    todo!()
}

/// Applies edits sorted by key, each key once; stages the new nodes; the new root (None: empty).
///
/// # Errors
/// Blocks'; Invalid for unsorted edits or values that are not one item.
pub fn apply(
    _staged: &mut Staged<'_>,
    _root: Option<&Cid>,
    _edits: &[Edit],
) -> Result<Option<Cid>> {
    todo!()
}

/// A range of keys.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// Where it begins.
    pub start: Bound<Bytes>,
    /// Where it ends.
    pub end: Bound<Bytes>,
}

impl KeyRange {
    /// All keys.
    pub fn all() -> Self {
        todo!()
    }
    /// Keys that begin with `prefix`.
    pub fn prefix(_prefix: &[u8]) -> Self {
        todo!()
    }
}

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Smallest key first.
    Ascending,
    /// Largest key first.
    Descending,
}

/// Entries of a range, in order; reads as it goes.
pub struct Scan<'b> {
    _blocks: &'b dyn Blocks,
}

impl<'b> Scan<'b> {
    /// Begins.
    pub fn new(
        _blocks: &'b dyn Blocks,
        _root: Option<Cid>,
        _range: KeyRange,
        _direction: Direction,
    ) -> Self {
        todo!()
    }
    /// The next entry without an allocation.
    ///
    /// # Errors
    /// Blocks'.
    pub fn advance(&mut self) -> Result<Option<(&[u8], &[u8])>> {
        todo!()
    }
}

impl Iterator for Scan<'_> {
    type Item = Result<Entry>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

/// A key whose value differs between two trees.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Difference {
    /// The key.
    pub key: Bytes,
    /// Its value in the first tree.
    pub left: Option<Bytes>,
    /// Its value in the second.
    pub right: Option<Bytes>,
}

/// The keys whose values differ, in order; reads O(differences) nodes.
pub struct Diff<'b> {
    _blocks: &'b dyn Blocks,
}

impl<'b> Diff<'b> {
    /// Begins.
    pub fn new(_blocks: &'b dyn Blocks, _left: Option<Cid>, _right: Option<Cid>) -> Self {
        todo!()
    }
}

impl Iterator for Diff<'_> {
    type Item = Result<Difference>;
    fn next(&mut self) -> Option<Self::Item> {
        todo!()
    }
}

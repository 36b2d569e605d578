//! The Merkle clock.
use crate::block::{Block, Blocks, Cid, Staged};
use crate::error::Result;
use bytes::Bytes;
use std::collections::HashSet;

/// An event: a change and the map after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Event {
    /// The change.
    pub change: Cid,
    /// Root of the map of documents after it; None when empty.
    pub root: Option<Cid>,
    /// Root of the tree of keys in conflict; None when there is none.
    pub conflicts: Option<Cid>,
}

impl Event {
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

/// What one write did, and after what. A merge has no author and no ops.
#[derive(Debug, Clone)]
pub struct Change {
    /// Events before it, sorted.
    pub parents: Vec<Cid>,
    /// 1 + the largest of its parents; 1 without parents.
    pub lamport: u64,
    /// Who wrote; None for a merge.
    pub author: Option<Bytes>,
    /// Milliseconds since 1970 by the author's clock; the largest of the parents for a merge.
    pub time: u64,
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

impl Change {
    /// Decodes.
    ///
    /// # Errors
    /// Corrupt, NewerFormat.
    pub fn decode(_cid: &Cid, _bytes: Bytes) -> Result<Self> {
        todo!()
    }
    /// True for a merge.
    pub fn is_merge(&self) -> bool {
        self.author.is_none()
    }
    /// All ops in key order; reads the blocks of a large one.
    ///
    /// # Errors
    /// Blocks'.
    pub fn ops<'b>(&'b self, _blocks: &'b dyn Blocks) -> impl Iterator<Item = Result<Op>> + 'b {
        std::iter::empty()
    }
    /// The op on a key; reads at most one more block.
    ///
    /// # Errors
    /// Blocks'.
    pub fn op(&self, _blocks: &dyn Blocks, _key: &str) -> Result<Option<Op>> {
        todo!()
    }
    /// Blocks of further ops, to walk a ledger block by block.
    pub fn chunks(&self) -> &[Cid] {
        todo!()
    }
    /// Bytes of memory it takes, for a cache.
    pub fn weight(&self) -> usize {
        todo!()
    }
}

/// One of the values a key has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sibling {
    /// Lamport time of the change.
    pub lamport: u64,
    /// The change that wrote it.
    pub change: Cid,
    /// The document; None: deleted.
    pub doc: Option<Cid>,
}

/// The values of a key, winner first. A value of the map.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Siblings(Vec<Sibling>);

impl Siblings {
    /// Decodes a value of the map.
    ///
    /// # Errors
    /// Corrupt.
    pub fn decode(_value: &[u8]) -> Result<Self> {
        todo!()
    }
    /// The winner alone, without an allocation.
    ///
    /// # Errors
    /// Corrupt.
    pub fn winner_of(_value: &[u8]) -> Result<Sibling> {
        todo!()
    }
    /// The winner.
    pub fn winner(&self) -> &Sibling {
        &self.0[0]
    }
    /// All, winner first.
    pub fn all(&self) -> &[Sibling] {
        &self.0
    }
    /// More than one distinct document?
    pub fn is_conflict(&self) -> bool {
        todo!()
    }
    /// As a value of the map.
    pub fn encode(&self) -> Bytes {
        todo!()
    }
}

/// A write to one key: a document's address, or None to delete.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Write {
    /// The document's id.
    pub key: String,
    /// Its document; None deletes.
    pub doc: Option<Cid>,
}

/// Appends an event after `head` (None: the first): stages change, nodes and event; gives the event.
/// Several writes to one key: the last one counts. The documents themselves are staged by the caller.
///
/// # Errors
/// Blocks'; Invalid for no writes.
pub fn append(
    _staged: &mut Staged<'_>,
    _head: Option<&Cid>,
    _author: &[u8],
    _time: u64,
    _writes: Vec<Write>,
) -> Result<Cid> {
    todo!()
}

/// Two histories, apart.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Apart {
    /// Changes that only the left knows.
    pub left: HashSet<Cid>,
    /// Changes that only the right knows.
    pub right: HashSet<Cid>,
}

/// What each of two sets of heads knows that the other does not. Reads O(difference) events.
///
/// # Errors
/// Blocks'; Corrupt when lamport times do not grow.
pub fn apart(_blocks: &dyn Blocks, _left: &[Cid], _right: &[Cid]) -> Result<Apart> {
    todo!()
}

/// Events that `heads` know and `since` does not, oldest first (by lamport, then address), merges too.
///
/// # Errors
/// As [`apart`].
pub fn events_since(_blocks: &dyn Blocks, _heads: &[Cid], _since: &[Cid]) -> Result<Vec<Cid>> {
    todo!()
}

/// True when `heads` know event `of` (it is one of them or an ancestor).
///
/// # Errors
/// As [`apart`].
pub fn knows(_blocks: &dyn Blocks, _heads: &[Cid], _of: &Cid) -> Result<bool> {
    todo!()
}

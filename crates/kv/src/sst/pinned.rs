//! An index in memory: its parts as they are in the file, and a short cut through them.
//!
//! The short cut is the first eight bytes of each key of the index as numbers, side by side. Where
//! the wanted key's number lies strictly between two of them, they alone say which block may hold
//! it; where it meets one, or the key lacks what all keys of the index begin with, the parts are
//! asked. Keys of an index are no longer than it takes to tell blocks apart, so few meet.

use crate::sst::block::{Block, BlockCursor, head_of};
use crate::sst::slots::{Home, Slots};
use std::sync::Arc;

/// All parts of a table's index.
#[derive(Debug)]
pub(super) struct PinnedIndex {
    parts: Vec<Part>,
    /// What all its keys begin with.
    prefix: Vec<u8>,
    /// Of each key, behind the prefix.
    heads: Box<[u64]>,
    slots: Arc<Slots>,
}

/// A part of the index.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) index: Arc<Block>,
    /// The number of its first block among all of the table.
    pub(super) first: usize,
}

impl PinnedIndex {
    /// Of all parts in order. `None`: damaged bytes.
    pub(super) fn new(parts: Vec<Arc<Block>>) -> Option<Self> {
        let prefix = shared_prefix(&parts)?;
        let mut heads = Vec::with_capacity(parts.iter().map(|part| part.len()).sum());
        for part in &parts {
            let mut cursor = BlockCursor::new(part.clone());
            cursor.seek_first()?;
            while cursor.valid() {
                heads.push(head_of(cursor.key().get(prefix.len()..)?));
                cursor.next()?;
            }
        }
        // Damaged keys may stand out of order.
        if !heads.is_sorted() {
            return None;
        }
        let mut first = 0;
        let mut numbered = Vec::with_capacity(parts.len());
        for index in parts {
            let len = index.len();
            numbered.push(Part { index, first });
            first += len;
        }
        Some(Self {
            parts: numbered,
            prefix,
            slots: Arc::new(Slots::new(heads.len())),
            heads: heads.into(),
        })
    }

    pub(super) fn weight(&self) -> usize {
        let parts = self.parts.iter().map(|part| part.index.weight());
        parts.sum::<usize>() + self.short_cut_weight()
    }

    /// What it takes beside the parts.
    pub(super) fn short_cut_weight(&self) -> usize {
        size_of_val(&*self.heads) + self.slots.weight()
    }

    /// The one part, when there is one only.
    pub(super) fn only_part(&self) -> Option<&Part> {
        match &*self.parts {
            [only] => Some(only),
            _ => None,
        }
    }

    pub(super) fn part(&self, number: usize) -> Option<&Part> {
        self.parts.get(number)
    }

    /// The number of the block that holds the first version of `key` or of a key behind it. `None`:
    /// the parts must be asked.
    #[inline]
    pub(super) fn block_number(&self, key: &[u8]) -> Option<usize> {
        let head = head_of(key.strip_prefix(&*self.prefix)?);
        let number = self.heads.partition_point(|own| *own < head);
        self.heads.get(number).filter(|own| **own > head)?;
        Some(number)
    }

    /// A block in its slot.
    #[inline]
    pub(super) fn cached(&self, block: usize) -> Option<Arc<Block>> {
        self.slots.get(block)
    }

    /// The slot of a block.
    pub(super) fn home(&self, block: usize) -> Option<Home> {
        Home::new(&self.slots, block)
    }

    #[cfg(test)]
    pub(super) fn parts(&self) -> &[Part] {
        &self.parts
    }
}

/// What all keys begin with: they are in order, so what the first and the last have in common.
fn shared_prefix(parts: &[Arc<Block>]) -> Option<Vec<u8>> {
    let (Some(first), Some(last)) = (parts.first(), parts.last()) else {
        return Some(Vec::new());
    };
    let (mut first, mut last) = (
        BlockCursor::new(first.clone()),
        BlockCursor::new(last.clone()),
    );
    first.seek_first()?;
    last.seek_last()?;
    let (first, last) = (first.key(), last.key());
    let shared = first.iter().zip(last).take_while(|(a, b)| a == b).count();
    Some(first[..shared].to_vec())
}

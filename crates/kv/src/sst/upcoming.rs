//! The block that a walk will enter next, asked for while it is still in the one before: a processor
//! foresees what follows in memory, and the next block lies somewhere else.

use crate::cache::{BlockCache, CacheKey, Cached};
use crate::prefetch::prefetch;
use crate::sst::block::Block;
use std::sync::Arc;

/// What is known of it.
#[derive(Debug)]
pub(super) enum Upcoming {
    /// Nothing yet. Whoever reads a single entry of a block need not pay for another.
    Unknown,
    /// It is not in the cache, or there is none.
    Absent,
    Found(Found),
}

/// It is in the cache.
#[derive(Debug)]
pub(super) struct Found {
    at: u64,
    block: Arc<Block>,
    /// Bytes to ask for with each step, so that it is there when the walk arrives.
    piece: usize,
    asked: usize,
}

impl Upcoming {
    /// Looks for the block in the cache.
    pub(super) fn look(cache: &BlockCache, slot: &CacheKey) -> Self {
        match cache.get(slot) {
            Some(Cached::Block(block, _)) => Self::Found(Found {
                at: slot.at,
                piece: block.bytes().len().div_ceil(block.len().max(1)),
                block,
                asked: 0,
            }),
            _ => Self::Absent,
        }
    }

    /// The block at `at`, if that is the one.
    pub(super) fn take(&mut self, at: u64) -> Option<Arc<Block>> {
        match std::mem::replace(self, Self::Unknown) {
            Self::Found(found) if found.at == at => Some(found.block),
            _ => None,
        }
    }
}

impl Found {
    /// Asks for the next piece.
    #[inline(always)]
    pub(super) fn ask(&mut self) {
        if let Some(rest) = self.block.bytes().get(self.asked..) {
            prefetch(&rest[..self.piece.min(rest.len())]);
            self.asked += self.piece;
        }
    }
}

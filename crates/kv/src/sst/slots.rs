//! The cached blocks of a table, by their number in it: a point read goes from index to block without
//! asking the cache, whose lookup costs three cache lines more.
//!
//! Invariant: a slot holds a block only while the cache does. The cache's entry knows its slot and
//! empties it when it goes; a slot is filled after the entry is there, and emptied again when the
//! entry went meanwhile. Of a block's uses the cache is told the first few since its hand passed
//! ([`Block::is_told`]).

use crate::sst::block::Block;
use crate::sst::prefetch::prefetch;
use arc_swap::{ArcSwapOption, Guard};
use std::ops::Deref;
use std::sync::Arc;

/// One slot a block.
#[derive(Debug)]
pub(crate) struct Slots(Box<[ArcSwapOption<Block>]>);

impl Slots {
    pub(super) fn new(len: usize) -> Self {
        Self((0..len).map(|_| ArcSwapOption::empty()).collect())
    }

    /// Bytes they take in memory.
    pub(super) fn weight(&self) -> usize {
        self.0.len() * size_of::<ArcSwapOption<Block>>() + size_of::<Self>()
    }

    /// The block in a slot, borrowed.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<BlockRef> {
        let guard = self.0.get(number)?.load();
        prefetch(&**guard.as_ref()?);
        Some(BlockRef::Borrowed(guard))
    }
}

/// The slot of a cached block.
#[derive(Debug, Clone)]
pub(crate) struct Home {
    slots: Arc<Slots>,
    number: u32,
}

impl Home {
    /// `None` when there is no such slot.
    pub(super) fn new(slots: &Arc<Slots>, number: usize) -> Option<Self> {
        let number = u32::try_from(number).ok()?;
        (slots.0.len() > number as usize).then(|| Self {
            slots: slots.clone(),
            number,
        })
    }

    pub(crate) fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.slots, &other.slots) && self.number == other.number
    }

    pub(super) fn fill(&self, block: Arc<Block>) {
        self.slots.0[self.number as usize].store(Some(block));
    }

    pub(crate) fn empty(&self) {
        self.slots.0[self.number as usize].store(None);
    }
}

/// A block, borrowed from its slot or held.
#[derive(Debug)]
pub(crate) enum BlockRef {
    Borrowed(Guard<Option<Arc<Block>>>),
    Held(Arc<Block>),
}

impl Deref for BlockRef {
    type Target = Block;

    #[inline]
    fn deref(&self) -> &Block {
        match self {
            BlockRef::Borrowed(guard) => guard.as_ref().expect("made of a slot that was filled"),
            BlockRef::Held(block) => block,
        }
    }
}

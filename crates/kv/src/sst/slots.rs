//! The cached blocks of a table, by their number in it: a point read goes from index to block without
//! asking the cache, whose lookup costs three cache lines more.
//!
//! Invariant: a slot holds a block only while the cache does. The cache's entry knows its slot and
//! empties it when it goes; a slot is filled after the entry is there, and emptied again when the
//! entry went meanwhile. Of a block's uses the cache is told the first few since its hand passed
//! ([`Block::is_told`]).

use crate::prefetch::prefetch;
use crate::sst::block::Block;
use parking_lot::RwLock;
use std::sync::Arc;

/// One slot a block.
#[derive(Debug)]
pub(crate) struct Slots(Box<[Slot]>);

/// A lock held for a few instructions. Pointers that are read without one cost more where they are
/// given up, and tables give up thousands at once.
type Slot = RwLock<Option<Arc<Block>>>;

impl Slots {
    pub(super) fn new(len: usize) -> Self {
        Self((0..len).map(|_| Slot::default()).collect())
    }

    /// Bytes they take in memory.
    pub(super) fn weight(&self) -> usize {
        self.0.len() * size_of::<Slot>() + size_of::<Self>()
    }

    /// The block in a slot. `None` also while the slot changes.
    #[inline]
    pub(super) fn get(&self, number: usize) -> Option<Arc<Block>> {
        let slot = self.0.get(number)?.try_read()?;
        let block = slot.as_ref()?;
        prefetch(&**block);
        Some(block.clone())
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
        *self.slots.0[self.number as usize].write() = Some(block);
    }

    pub(crate) fn empty(&self) {
        // The block's memory is given back outside the lock.
        let _went = self.slots.0[self.number as usize].write().take();
    }
}

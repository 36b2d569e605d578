//! The memory of a memtable's list: zeroed, and in huge pages where much of it fills at once.
//!
//! Its `unsafe`, and the argument: the memory is one allocation, made and freed here with the same
//! layout. Advice about pages changes neither what they hold nor whether they may be used.
#![expect(unsafe_code, reason = "argued above")]

#[cfg(target_os = "linux")]
use rustix::mm::{Advice, madvise};
use std::alloc::{Layout, alloc_zeroed, dealloc, handle_alloc_error};
use std::ptr::NonNull;

/// All of it is aligned to so many bytes.
pub(super) const ALIGN: usize = 8;
/// A multiple of every page size in use, but for huge pages.
const PAGE: usize = 64 << 10;

/// Zeroed memory. Who uses which bytes is its owner's affair.
#[derive(Debug)]
pub(super) struct Memory {
    base: NonNull<u8>,
    bytes: usize,
}

// SAFETY: nothing here reads or writes it, and whoever does so through `base` argues for it.
unsafe impl Send for Memory {}
// SAFETY: as above.
unsafe impl Sync for Memory {}

impl Memory {
    /// Pages are touched as they are used.
    pub(super) fn zeroed(bytes: usize) -> Self {
        let bytes = bytes.max(ALIGN);
        let layout = Self::layout(bytes);
        // SAFETY: the layout has a non-zero size.
        let base = unsafe { alloc_zeroed(layout) };
        let Some(base) = NonNull::new(base) else {
            handle_alloc_error(layout)
        };
        Self { base, bytes }
    }

    fn layout(bytes: usize) -> Layout {
        Layout::from_size_align(bytes, ALIGN).expect("a list is below 32 GiB")
    }

    #[inline(always)]
    pub(super) fn base(&self) -> *mut u8 {
        self.base.as_ptr()
    }

    /// Asks for huge pages, where the system has any: a page fault for each 4 KiB takes longer than what
    /// is put there. For memory that is filled from its start on, and at once: whoever first writes to
    /// a huge page waits until all of it is cleared, and has it even if nothing more is written there.
    /// An allocator that hands the memory out again hands out huge pages.
    pub(super) fn in_huge_pages(&self) {
        let start = self.base.as_ptr().addr();
        let from = start.next_multiple_of(PAGE);
        let to = (start + self.bytes) / PAGE * PAGE;
        if from < to {
            let at = self.base.as_ptr().with_addr(from).cast();
            // SAFETY: `from..to` is whole pages within the allocation, and the advice changes no byte.
            // A system that does not know it does without.
            #[cfg(target_os = "linux")]
            let _ = unsafe { madvise(at, to - from, Advice::LinuxHugepage) };
        }
    }
}

impl Drop for Memory {
    fn drop(&mut self) {
        // SAFETY: allocated in `zeroed` with the same layout.
        unsafe { dealloc(self.base.as_ptr(), Self::layout(self.bytes)) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::Memtable;
    use super::PAGE;
    use crate::memtable::Entry;
    use crate::types::{Commit, Tag};

    #[test]
    fn huge_pages_change_nothing_that_is_held() {
        for capacity in [0, PAGE - 1, 3 * PAGE, 5 << 20] {
            let memtable = Memtable::new(capacity, 1);
            let value = |at: u64| vec![at as u8; 1000];
            let mut held = 0;
            let mut fill_to = |most: u64| {
                let put = |at: u64| {
                    memtable.insert(Entry {
                        key: &at.to_be_bytes(),
                        commit: Commit(at),
                        tag: Tag::PUT,
                        value: &value(at),
                    })
                };
                while held < most && put(held) {
                    held += 1;
                }
                held
            };
            fill_to(capacity as u64 / 5000);
            memtable.fills();
            let held = fill_to(u64::MAX);
            assert!(held >= capacity as u64 / 1100, "{held} in {capacity}");
            for at in 0..held {
                let found = memtable.list.seek(&at.to_be_bytes(), Commit::MAX);
                let entry = memtable.list.entry(found);
                assert_eq!((entry.commit, entry.value), (Commit(at), &value(at)[..]));
            }
        }
    }
}

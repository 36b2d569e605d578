//! Heap bytes of a piece of work: a global allocator that forwards to the system's and counts while
//! it is asked to.
//!
//! Counting is off unless [`measure`] runs, and then every allocation costs one relaxed load more;
//! times are never taken while it is on. Bytes are those asked for, without the allocator's own
//! overhead. A block that was allocated before counting began and is freed while it is on counts as
//! less than nothing, so the work must not free what it did not make.
#![allow(unsafe_code, reason = "a global allocator is an unsafe trait")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};

use serde::{Deserialize, Serialize};

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Held while someone measures.
static TURN: Mutex<()> = Mutex::new(());
static COUNTING: AtomicBool = AtomicBool::new(false);
static LIVE: AtomicI64 = AtomicI64::new(0);
static PEAK: AtomicI64 = AtomicI64::new(0);

/// Heap bytes of a piece of work.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Usage {
    /// Allocated and not freed when it ended.
    pub(crate) live_bytes: u64,
    /// Most that was allocated at one time.
    pub(crate) peak_bytes: u64,
}

/// Runs `work` and counts what the process allocates meanwhile. What it returns is part of the live
/// bytes. A second call waits for the first one.
pub(crate) fn measure<T>(work: impl FnOnce() -> T) -> (T, Usage) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    LIVE.store(0, Relaxed);
    PEAK.store(0, Relaxed);
    COUNTING.store(true, Relaxed);
    let result = work();
    COUNTING.store(false, Relaxed);
    let usage = Usage {
        live_bytes: LIVE.load(Relaxed).max(0).unsigned_abs(),
        peak_bytes: PEAK.load(Relaxed).max(0).unsigned_abs(),
    };
    (result, usage)
}

fn count(bytes: i64) {
    if COUNTING.load(Relaxed) {
        let live = LIVE.fetch_add(bytes, Relaxed) + bytes;
        PEAK.fetch_max(live, Relaxed);
    }
}

/// The system's allocator, with a count beside it.
struct Counting;

// SAFETY: every method passes its arguments on to `System` unchanged and returns what `System`
// returned, so `System` keeps each of the trait's promises for it and the caller's obligations are
// exactly `System`'s. The counters are atomics that no decision about memory depends on; counting
// neither allocates nor panics. A layout's size is at most `isize::MAX`, so the casts are exact.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's obligations are those of `System::alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as i64);
        // SAFETY: the caller's obligations are those of `System::alloc_zeroed`.
        unsafe { System.alloc_zeroed(layout) }
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        count(-(layout.size() as i64));
        // SAFETY: `block` came from `System` with this layout, as every block of this allocator.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as i64 - layout.size() as i64);
        // SAFETY: `block` came from `System` with this layout, as every block of this allocator.
        unsafe { System.realloc(block, layout, size) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn live_and_peak_bytes_are_those_asked_for() {
        // Other tests allocate at the same time, so the bytes are far more than theirs.
        const LARGE: usize = 1 << 30;
        let near = |bytes: u64, wanted: usize| bytes.abs_diff(wanted as u64) < 1 << 28;
        let (kept, usage) = measure(|| {
            drop(Vec::<u8>::with_capacity(2 * LARGE));
            Vec::<u8>::with_capacity(LARGE)
        });
        assert!(kept.capacity() == LARGE && near(usage.live_bytes, LARGE));
        assert!(near(usage.peak_bytes, 2 * LARGE));
    }
}

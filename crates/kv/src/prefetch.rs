//! Asking the processor for memory that will be read soon, so that several cache misses wait at the
//! same time instead of one after the other.
//!
//! Safety: a prefetch reads nothing that the program sees and cannot fault, whatever the address. The
//! addresses here are those of live references anyway.

#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "argued above"))]

/// What a cache line has, in bytes.
const LINE: usize = 64;

/// Asks for all lines of `value`.
#[inline(always)]
pub(crate) fn prefetch<T: ?Sized>(value: &T) {
    #[cfg(target_arch = "x86_64")]
    {
        use std::arch::x86_64::{_MM_HINT_T0, _mm_prefetch};
        let start = std::ptr::from_ref(value).cast::<i8>();
        for at in (0..size_of_val(value)).step_by(LINE) {
            // SAFETY: see the module's argument.
            unsafe { _mm_prefetch::<_MM_HINT_T0>(start.wrapping_add(at)) };
        }
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (value, LINE);
}

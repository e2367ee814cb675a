//! Hints to the processor's caches.
//!
//! They change nothing but how long a later access takes, and are owned by nobody.
#![cfg_attr(target_arch = "x86_64", expect(unsafe_code, reason = "a processor instruction"))]

/// Bytes that are fetched together.
const LINE: usize = 64;

/// Asks for `length` bytes at an address, which may be any, to be near when they are used; nothing where there is no stable
/// instruction for it.
#[inline(always)]
pub fn prefetch<T>(address: *const T, length: usize) {
    #[cfg(target_arch = "x86_64")]
    for offset in (0..length).step_by(LINE) {
        use core::arch::x86_64::{_mm_prefetch, _MM_HINT_T0};
        // SAFETY: a hint, which reads nothing and never faults.
        unsafe { _mm_prefetch::<_MM_HINT_T0>(address.cast::<i8>().wrapping_add(offset)) };
    }
    #[cfg(not(target_arch = "x86_64"))]
    let _ = (address, length, LINE);
}

//! The allocator of every program that hosts services.

use std::ffi::{c_int, c_long};

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// `mi_option_purge_delay` of mimalloc 3, which its Rust binding does not name.
const PURGE_DELAY: c_int = 15;
const KEPT_MILLIS: c_long = 1000;

/// Keeps freed memory for a second, rather than ten milliseconds, before the system gets it back: under load it is
/// needed again sooner, and faulting it in anew took 4 % of a page's time.
pub fn keep_freed_memory() {
    #[expect(unsafe_code, reason = "the allocator's options have no safe form")]
    // SAFETY: sets one word that the allocator reads with every purge; any value is valid.
    unsafe {
        libmimalloc_sys::mi_option_set(PURGE_DELAY, KEPT_MILLIS);
    }
}

//! Copies of many words between shared and private memory, by the C library.
//!
//! Other processes may change the shared words meanwhile. So Rust may not copy them as plain bytes,
//! and word by word, with atomics, megabytes take twice as long. The C library's copy is foreign
//! code that the compiler does not see into: which function is called it does not know. Who copies
//! while others write gets old bytes, new ones or a mix. Nothing is ordered among them.

use crate::primitive::AtomicU64;
use libc::c_void;

/// In bytes. Below this it gains nothing.
const LEAST: usize = 4096;

/// Stores whole words of `bytes` from the first cell on, as far as there are cells. Returns how
/// many words that were; none if there are too few for it to pay.
pub(crate) fn store(cells: &[AtomicU64], bytes: &[u8]) -> usize {
    let words = cells.len().min(bytes.len() / 8);
    // SAFETY: both are that long, and a cell may be changed through a shared reference. A slice of
    // bytes that somebody has borrowed is no mapped memory: that leaves this crate as cells.
    unsafe { copy(cells.as_ptr().cast_mut().cast(), bytes.as_ptr(), words) }
}

/// Loads whole words from the first cell on into `bytes`, as far as there are cells. Returns as
/// [`store`].
pub(crate) fn load(cells: &[AtomicU64], bytes: &mut [u8]) -> usize {
    let words = cells.len().min(bytes.len() / 8);
    // SAFETY: both are that long, and the bytes are the caller's alone.
    unsafe { copy(bytes.as_mut_ptr(), cells.as_ptr().cast(), words) }
}

/// Copies so many words if that pays, and returns how many it has copied.
///
/// # Safety
/// There are as many words at `from` to be read, and at `to` to be written, and they do not
/// overlap.
unsafe fn copy(to: *mut u8, from: *const u8, words: usize) -> usize {
    type Copy = unsafe extern "C" fn(*mut c_void, *const c_void, usize) -> *mut c_void;
    static COPY: Copy = libc::memcpy;
    let bytes = words * 8;
    if bytes < LEAST {
        return 0;
    }
    // SAFETY: a static. A volatile read: the compiler does not know what comes of it.
    let copy = unsafe { std::ptr::addr_of!(COPY).read_volatile() };
    // SAFETY: as the caller says.
    unsafe { copy(to.cast(), from.cast(), bytes) };
    words
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::primitive::Ordering;

    #[test]
    fn what_is_copied_is_as_long_as_it_says_and_nothing_beyond_changes() {
        for len in [0, 7, 8, LEAST - 1, LEAST, LEAST + 1, LEAST + 15, 3 * LEAST] {
            let cells: Vec<AtomicU64> = (0..LEAST / 4).map(|_| AtomicU64::new(u64::MAX)).collect();
            let bytes: Vec<u8> = (0..len).map(|at| at as u8).collect();
            let words = store(&cells, &bytes);
            assert!(words <= len / 8 && words <= cells.len());
            let mut back = vec![99; len];
            assert_eq!(load(&cells, &mut back), words);
            assert_eq!(back[..words * 8], bytes[..words * 8]);
            assert!(back[words * 8..].iter().all(|&byte| byte == 99));
            assert!(cells[words..].iter().all(|cell| cell.load(Ordering::Relaxed) == u64::MAX));
        }
    }
}

//! Bytes into words of the buffer and out of them.
//!
//! A position counts words since the queue was created; its place in the buffer is the position
//! modulo the buffer's length. Copies are relaxed loads and stores of 64-bit atomics. The positions
//! order them, see the head of `queue`.

use crate::primitive::{AtomicU64, Ordering};
use crate::words::{load, store};

/// How many words hold this many bytes.
pub(super) const fn of_bytes(bytes: usize) -> usize {
    bytes.div_ceil(8)
}

/// The `count` cells of the buffer from `position` on: those up to its end, then those from its
/// start. Fewer if the buffer is shorter than that.
fn runs(buffer: &[AtomicU64], position: u64, count: usize) -> (&[AtomicU64], &[AtomicU64]) {
    // Less than the length, so it fits.
    let start = (position % buffer.len().max(1) as u64) as usize;
    let (wrapped, straight) = buffer.split_at(start.min(buffer.len()));
    let first = straight.get(..count).unwrap_or(straight);
    let left = count - first.len();
    (first, wrapped.get(..left).unwrap_or(wrapped))
}

/// Stores one word.
pub(super) fn put_word(buffer: &[AtomicU64], position: u64, word: u64) {
    if let Some(cell) = runs(buffer, position, 1).0.first() {
        cell.store(word, Ordering::Relaxed);
    }
}

/// Loads one word.
pub(super) fn take_word(buffer: &[AtomicU64], position: u64) -> u64 {
    runs(buffer, position, 1).0.first().map_or(0, |cell| cell.load(Ordering::Relaxed))
}

/// Stores `bytes` from `position` on; the rest of the last word is zero.
pub(super) fn put(buffer: &[AtomicU64], position: u64, bytes: &[u8]) {
    let (first, second) = runs(buffer, position, of_bytes(bytes.len()));
    let (head, tail) = bytes.split_at(bytes.len().min(first.len() * 8));
    store(first, head);
    store(second, tail);
}

/// Fills `bytes` from `position` on.
pub(super) fn take(buffer: &[AtomicU64], position: u64, bytes: &mut [u8]) {
    let (first, second) = runs(buffer, position, of_bytes(bytes.len()));
    let (head, tail) = bytes.split_at_mut(bytes.len().min(first.len() * 8));
    load(first, head);
    load(second, tail);
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn bytes_come_out_as_they_went_in_at_every_place_of_a_small_buffer() {
        let buffer: Vec<AtomicU64> = (0..5).map(|_| AtomicU64::new(u64::MAX)).collect();
        let message: Vec<u8> = (1..=40).collect();
        for position in 0..12 {
            for len in 0..=message.len() {
                put(&buffer, position, &message[..len]);
                let mut out = vec![99; len];
                take(&buffer, position, &mut out);
                assert_eq!(out, message[..len], "{len} bytes at {position}");
            }
        }
    }

    #[test]
    fn more_than_the_buffer_holds_is_cut_and_not_written_beyond_it() {
        let buffer: Vec<AtomicU64> = (0..2).map(|_| AtomicU64::new(0)).collect();
        put(&buffer, 1, &[7; 40]);
        let mut out = [9; 40];
        take(&buffer, 1, &mut out);
        assert_eq!((out[15], out[16]), (7, 9));
        assert_eq!(take_word(&[], 3), 0);
    }
}

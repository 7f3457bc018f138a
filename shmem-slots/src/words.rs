//! Bytes into cells and out of them, word by word, by relaxed atomics.
//!
//! Nothing is ordered here: the protocols that copy do that with fences and with other cells.

use crate::primitive::{AtomicU64, Ordering};

/// Stores `bytes` from the first cell on, as far as there are cells. The rest of the last word is
/// zero.
#[inline]
pub(crate) fn store(cells: &[AtomicU64], bytes: &[u8]) {
    let chunks = bytes.chunks_exact(8);
    let rest = chunks.remainder();
    for (cell, chunk) in cells.iter().zip(chunks) {
        let mut word = [0; 8];
        word.copy_from_slice(chunk);
        cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
    if let (false, Some(cell)) = (rest.is_empty(), cells.get(bytes.len() / 8)) {
        let mut word = [0; 8];
        for (to, from) in word.iter_mut().zip(rest) {
            *to = *from;
        }
        cell.store(u64::from_ne_bytes(word), Ordering::Relaxed);
    }
}

/// Fills `bytes` from the first cell on, as far as there are cells.
#[inline]
pub(crate) fn load(cells: &[AtomicU64], bytes: &mut [u8]) {
    let last = cells.get(bytes.len() / 8);
    let mut chunks = bytes.chunks_exact_mut(8);
    for (chunk, cell) in chunks.by_ref().zip(cells) {
        chunk.copy_from_slice(&cell.load(Ordering::Relaxed).to_ne_bytes());
    }
    if let (rest @ [_, ..], Some(cell)) = (chunks.into_remainder(), last) {
        let word = cell.load(Ordering::Relaxed).to_ne_bytes();
        rest.iter_mut().zip(word).for_each(|(to, from)| *to = from);
    }
}

/// How many of the words of `bytes` count: all up to the last one that is not zero. The length of
/// `bytes` is a multiple of 8.
pub(crate) fn used(bytes: &[u8]) -> usize {
    const LINE: usize = 64;
    // Line by line, each compared in wide registers: most of a typical request is zero.
    let lines = bytes.chunks_exact(LINE);
    let in_rest = used_words(lines.remainder());
    if in_rest > 0 {
        return lines.len() * LINE / 8 + in_rest;
    }
    match lines.enumerate().rfind(|(_, line)| **line != [0; LINE]) {
        Some((before, line)) => before * LINE / 8 + used_words(line),
        None => 0,
    }
}

fn used_words(bytes: &[u8]) -> usize {
    let mut words = bytes.chunks_exact(8);
    words.rposition(|word| *word != [0; 8]).map_or(0, |last| last + 1)
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    #[test]
    fn every_word_up_to_the_last_that_is_not_zero_counts() {
        for len in [0, 8, 64, 72, 1024] {
            let mut bytes = vec![0; len];
            assert_eq!(used(&bytes), 0);
            for at in 0..len {
                bytes.fill(0);
                bytes[at] = 1;
                assert_eq!(used(&bytes), at / 8 + 1, "byte {at} of {len}");
            }
        }
    }

    #[test]
    fn bytes_come_out_as_they_went_in_and_no_cell_beyond_them_changes() {
        let cells: Vec<AtomicU64> = (0..4).map(|_| AtomicU64::new(u64::MAX)).collect();
        for len in 0..=24 {
            let bytes: Vec<u8> = (1..=len).collect();
            store(&cells, &bytes);
            let mut out = vec![99; bytes.len()];
            load(&cells, &mut out);
            assert_eq!(out, bytes);
            assert_eq!(cells[3].load(Ordering::Relaxed), u64::MAX);
        }
    }
}

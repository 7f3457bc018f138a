//! Random numbers that a seed determines (SplitMix64).

use std::time::{SystemTime, UNIX_EPOCH};

/// A sequence of numbers.
pub(crate) struct Random(u64);

impl Random {
    pub(crate) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(crate) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// A number below `end`, and 0 if that is 0.
    pub(crate) const fn below(&mut self, end: usize) -> usize {
        let number = self.next() >> 1;
        if end == 0 { 0 } else { (number % end as u64) as usize }
    }

    /// One of `all`, which is not empty.
    pub(crate) const fn one_of<T: Copy>(&mut self, all: &[T]) -> T {
        all[self.below(all.len())]
    }
}

/// A seed that differs from run to run.
pub(crate) fn seed_from_clock() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    // Short enough to type.
    u64::from(now.subsec_nanos()) ^ now.as_secs()
}

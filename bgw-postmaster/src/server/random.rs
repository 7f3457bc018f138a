//! Random numbers for jitter. Not for secrets.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};

/// Marsaglia's xorshift, 64 bits.
#[derive(Debug)]
pub(super) struct Random(u64);

impl Random {
    /// Begins with what the system has at random, so that no two postmasters go in step.
    pub(super) fn new() -> Self {
        // 0 would stay 0.
        Self(RandomState::new().build_hasher().finish() | 1)
    }

    pub(super) const fn next(&mut self) -> u32 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        // The high half is the better one.
        (self.0 >> 32) as u32
    }
}

#[cfg(test)]
mod tests {
    use super::Random;

    /// Would fail if the numbers stood still, or came from one part of the range only.
    #[test]
    fn the_numbers_are_spread_over_the_range_and_differ_between_two_postmasters() {
        let (mut one, mut other) = (Random::new(), Random::new());
        let numbers: Vec<u32> = (0..4_000).map(|_| one.next()).collect();
        for quarter in 0..4 {
            let here = numbers.iter().filter(|&number| number >> 30 == quarter).count();
            assert!((700..1_300).contains(&here), "{here} of 4000 in quarter {quarter}");
        }
        assert!(numbers.iter().any(|&number| number != other.next()));
    }
}

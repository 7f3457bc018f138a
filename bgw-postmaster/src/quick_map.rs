//! Hash maps whose keys nobody chooses: pids, and what the postmaster numbers itself.
//!
//! The standard library's hasher makes it hard to find keys that collide, and takes a hundred
//! instructions for a number. Here each start and each end looks into a few maps, and whoever forks
//! until it has the pids that it wants makes them a little slower, no more.

use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hasher};

/// A map by numbers.
pub(crate) type QuickMap<K, V> = HashMap<K, V, BuildHasherDefault<QuickHasher>>;

/// One multiplication for each number.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct QuickHasher(u64);

impl QuickHasher {
    const fn add(&mut self, number: u64) {
        // An odd factor without a pattern: no two numbers become one, and neighbours lie far apart.
        self.0 = (self.0.rotate_left(5) ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

impl Hasher for QuickHasher {
    fn write(&mut self, bytes: &[u8]) {
        bytes.iter().for_each(|&byte| self.add(byte.into()));
    }

    fn write_u32(&mut self, number: u32) {
        self.add(number.into());
    }

    fn write_u64(&mut self, number: u64) {
        self.add(number);
    }

    fn finish(&self) -> u64 {
        // The map takes its places from the low bits, and the high ones are the better ones.
        self.0.rotate_left(26)
    }
}

#[cfg(test)]
mod tests {
    use super::QuickMap;
    use shmem_slots::Key;
    use std::collections::HashSet;
    use std::hash::BuildHasher;

    /// Breaks if pids or slots in a row, which is how they come, land in few places.
    #[test]
    fn numbers_in_a_row_are_spread() {
        let map: QuickMap<Key, ()> = QuickMap::default();
        let places = |hashes: &mut dyn Iterator<Item = u64>| -> usize {
            hashes.map(|hash| (hash & 1023, hash >> 57)).collect::<HashSet<_>>().len()
        };
        let pids = places(&mut (300_000u32..301_024).map(|pid| map.hasher().hash_one(pid)));
        let key = |(index, generation)| map.hasher().hash_one(Key { index, generation });
        let slots = places(&mut (0..1024).map(|index| key((index, 1))));
        let generations = places(&mut (0..1024).map(|generation| key((7, generation))));
        for spread in [pids, slots, generations] {
            assert!(spread > 900, "{spread} of 1024");
        }
    }
}

//! The writer's side. See the head of `ring` for N2 to N4.

use super::shared::Ring;
use crate::error::NotWritable;
use crate::futex;
use crate::memory::Memory;
use crate::primitive::{Ordering, fence};
use crate::words;
use bytemuck::Pod;

impl<T: Pod, M: Memory> Ring<T, M> {
    /// Appends a value and returns its number. A full ring loses its oldest value. For the one
    /// writer. Wait-free and without a system call: [`Ring::wake`] wakes the readers.
    ///
    /// # Errors
    /// A ring that was attached: it is read-only.
    pub fn append(&self, value: &T) -> Result<u64, NotWritable> {
        self.memory.writable_cells()?;
        let count = self.count_cell();
        // Only this process stores it.
        let number = count.load(Ordering::Relaxed);
        let (mark, cells) = self.entry(number);
        mark.store(0, Ordering::Relaxed);
        fence(Ordering::Release); // N2, pairs with N5
        words::store(cells, bytemuck::bytes_of(value));
        // A ring does not live to see 2^64 values.
        let next = number.wrapping_add(1);
        mark.store(next, Ordering::Release); // N3
        count.store(next, Ordering::Release); // N4
        Ok(number)
    }

    /// Wakes all readers that sleep. One system call.
    pub fn wake(&self) {
        futex::wake_all(self.count_cell());
    }
}

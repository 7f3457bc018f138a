//! The stack of a child that runs in the postmaster's memory.

use super::anon_map::{AnonMap, Sharing};
use std::ffi::c_void;
use std::io;

/// The stack of one child. Later children do not have it.
#[derive(Debug)]
pub(super) struct Stack(AnonMap);

impl Stack {
    /// Much more than the child needs; only touched pages cost memory.
    const LENGTH: usize = 256 << 10;
    /// The inaccessible lower end: larger than any page.
    const GUARD: usize = 64 << 10;

    pub(super) fn new() -> io::Result<Self> {
        let map = AnonMap::new(Self::LENGTH, Sharing::Stack)?;
        // The stack works without either.
        let _ = map.guard(Self::GUARD);
        let _ = map.hide_from_later_children();
        Ok(Self(map))
    }

    /// The upper end, where the stack begins. The child uses it until it has left this memory;
    /// `exec.rs` keeps the stack until then.
    pub(super) const fn top(&self) -> *mut c_void {
        self.0.start().as_ptr().wrapping_byte_add(Self::LENGTH)
    }
}

//! A reference to a cell, together with the owner that keeps the cell where it is.

use crate::primitive::AtomicU64;
use std::ptr::NonNull;
use std::sync::Arc;

/// A cell inside of what an `Arc` owns.
pub(crate) struct OwnedRef<O> {
    cell: NonNull<AtomicU64>,
    owner: Arc<O>,
}

// SAFETY: the pointer is to an atomic that lives as long as the owner. Every copy holds the owner
// by an `Arc`, whose rules for being sent and shared therefore apply to the whole.
unsafe impl<O> Send for OwnedRef<O> where Arc<O>: Send {}
// SAFETY: as above.
unsafe impl<O> Sync for OwnedRef<O> where Arc<O>: Sync {}

impl<O> OwnedRef<O> {
    /// The cell that `find` finds in the owner.
    pub(crate) fn new(owner: Arc<O>, find: impl FnOnce(&O) -> Option<&AtomicU64>) -> Option<Self> {
        let cell = NonNull::from(find(&owner)?);
        Some(Self { cell, owner })
    }

    #[inline]
    pub(crate) fn cell(&self) -> &AtomicU64 {
        // SAFETY: `find` returned a reference that is valid for as long as the owner is borrowed.
        // The `Arc` held here neither moves the owner nor gives anybody mutable access to it, so it
        // stays borrowable, and the reference valid, while `self` lives.
        unsafe { self.cell.as_ref() }
    }

    pub(crate) const fn owner(&self) -> &Arc<O> {
        &self.owner
    }
}

impl<O> Clone for OwnedRef<O> {
    fn clone(&self) -> Self {
        Self { cell: self.cell, owner: Arc::clone(&self.owner) }
    }
}

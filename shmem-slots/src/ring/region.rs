//! A ring in a region of its own: a memfd that nobody but its creator can write.

use super::layout::{Layout, MAX_ENTRIES, RingOptions};
use super::shared::Ring;
use crate::error::{AttachError, CreateError};
use crate::memory::{Access, Memory};
use crate::region::Region;
use bytemuck::Pod;
use std::os::fd::OwnedFd;

impl<T: Pod> Ring<T> {
    /// Creates a ring in a new memfd. The calling process is its writer.
    ///
    /// Whoever else gets the descriptor can read, and neither write, truncate nor map it for
    /// writing, not even after it has opened the file again; the writer's own mapping is left out
    /// of its children. Memory is used only for entries that were written.
    ///
    /// # Errors
    /// Sizes out of range, or a failing system call.
    pub fn create(options: &RingOptions) -> Result<Self, CreateError> {
        let &RingOptions { entries, tag } = options;
        let size = CreateError::RingSize { entries, limit: MAX_ENTRIES };
        let layout = Layout::new(entries, size_of::<T>()).ok_or(size)?;
        let memory = Region::create_for_one_writer(layout.total())?;
        layout.write(memory.cells().0, tag);
        Ok(Self::new(memory, layout))
    }

    /// Attaches a ring, to read, by the descriptor of its memfd ([`Ring::region`] has it).
    ///
    /// # Errors
    /// A descriptor that is not sealed against shrinking; a header that does not fit, with the
    /// field, what was expected and what was found; a failing system call.
    pub fn attach(file: OwnedFd, tag: u64) -> Result<Self, AttachError> {
        let memory = Region::attach_sealed(file, Access::ReadOnly)?;
        let layout = Layout::check(memory.cells().0, size_of::<T>(), tag)?;
        Ok(Self::new(memory, layout))
    }

    /// The region, to pass on.
    #[must_use]
    pub const fn region(&self) -> &Region {
        &self.memory
    }
}

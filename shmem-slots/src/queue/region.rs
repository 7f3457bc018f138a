//! A queue in a region of its own: a sealed memfd, inherited by fork or passed over a socket.

use super::layout::{Layout, MAX_BYTES, QueueOptions};
use super::shared::Queue;
use crate::error::{AttachError, CreateError};
use crate::memory::{Access, Memory};
use crate::region::Region;
use std::os::fd::OwnedFd;

impl Queue<Region> {
    /// Creates a queue in a new memfd, which is mapped into this process and into every child that
    /// it forks. Memory is used only for the parts of the buffer that messages have passed through.
    ///
    /// # Errors
    /// Sizes out of range, or a failing system call.
    #[doc(alias = "shm_mq_create")]
    pub fn create(options: &QueueOptions) -> Result<Self, CreateError> {
        let &QueueOptions { buffer, max_message, tag } = options;
        let size = CreateError::QueueSize { buffer, max_message, limit: MAX_BYTES };
        let layout = Layout::new(buffer, max_message).ok_or(size)?;
        let memory = Region::create_sealed(layout.total())?;
        layout.write(memory.cells().0, tag);
        Ok(Self { memory, layout })
    }

    /// Creates a queue in the file of a [`Segment`](crate::Segment) that nobody else uses yet and
    /// nothing was written to, of at least [`QueueOptions::bytes`] bytes.
    ///
    /// # Errors
    /// As [`Queue::create`]; a segment that is too small or not sealed.
    pub fn create_in(file: OwnedFd, options: &QueueOptions) -> Result<Self, CreateError> {
        let &QueueOptions { buffer, max_message, tag } = options;
        let size = CreateError::QueueSize { buffer, max_message, limit: MAX_BYTES };
        let layout = Layout::new(buffer, max_message).ok_or(size)?;
        let memory = Region::for_cells(file, layout.total())?;
        layout.write(memory.cells().0, tag);
        Ok(Self { memory, layout })
    }

    /// Attaches a queue by the descriptor of its memfd ([`Queue::region`] has it). It takes neither
    /// side: see [`Queue::sender`] and [`Queue::receiver`].
    ///
    /// # Errors
    /// A descriptor that is not sealed against shrinking; a header that does not fit, with the
    /// field, what was expected and what was found; a failing system call.
    #[doc(alias = "shm_mq_attach")]
    pub fn attach(file: OwnedFd, tag: u64) -> Result<Self, AttachError> {
        let memory = Region::attach_sealed(file, Access::ReadWrite)?;
        let layout = Layout::check(memory.cells().0, tag)?;
        Ok(Self { memory, layout })
    }

    /// The region, to pass on.
    #[must_use]
    pub const fn region(&self) -> &Region {
        &self.memory
    }
}

//! A job queue in a region of its own: a sealed memfd, inherited by fork or passed over a socket.

use super::layout::{JobsOptions, Layout};
use super::shared::Jobs;
use crate::error::{AttachError, CreateError};
use crate::memory::{Access, Memory};
use crate::region::Region;
use std::os::fd::OwnedFd;

impl Jobs<Region> {
    /// Creates a job queue in a new memfd, which is mapped into this process and into every child
    /// that it forks. Memory is used only for the jobs that were there at a time.
    ///
    /// # Errors
    /// Sizes out of range, or a failing system call.
    pub fn create(options: &JobsOptions) -> Result<Self, CreateError> {
        let layout = Layout::new(options).ok_or(CreateError::JobsSize)?;
        let memory = Region::create_sealed(layout.total)?;
        layout.write(memory.cells().0);
        Ok(Self { memory, layout })
    }

    /// Creates a job queue in the file of a [`Segment`](crate::Segment) that nobody else uses yet
    /// and nothing was written to, of at least [`JobsOptions::bytes`] bytes.
    ///
    /// # Errors
    /// As [`Jobs::create`]; a segment that is too small or not sealed.
    pub fn create_in(file: OwnedFd, options: &JobsOptions) -> Result<Self, CreateError> {
        let layout = Layout::new(options).ok_or(CreateError::JobsSize)?;
        let memory = Region::for_cells(file, layout.total)?;
        layout.write(memory.cells().0);
        Ok(Self { memory, layout })
    }

    /// Attaches a job queue by the descriptor of its memfd ([`Jobs::region`] has it).
    ///
    /// # Errors
    /// A descriptor that is not sealed against shrinking; a header that does not fit, with the
    /// field, what was expected and what was found; a failing system call.
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

//! Slots in a region: creating and attaching them.

use crate::error::{AttachError, CreateError};
use crate::format;
use crate::layout::Layout;
use crate::memory::{Access, Memory};
use crate::options::{MAX_CAPACITY, Options, Shape};
use crate::region::Region;
use crate::slots::Slots;
use bytemuck::Pod;
use std::os::fd::OwnedFd;
use std::path::Path;

impl<T: Pod, R: Pod> Slots<T, R, Region> {
    /// Creates slots in a new memfd, which is mapped into this process and into every child that it
    /// forks. Memory is used only for slots that are used.
    ///
    /// # Errors
    /// Sizes out of range, or a failing system call.
    pub fn create(options: &Options) -> Result<Self, CreateError> {
        let layout = Self::layout_for(options)?;
        Ok(Self::created(Region::create_sealed(layout.total)?, layout, options))
    }

    /// Creates slots in the file of a [`Segment`](crate::Segment) that nobody else uses yet and
    /// nothing was written to, of at least [`Slots::bytes`] bytes.
    ///
    /// # Errors
    /// As [`Slots::create`]; a segment that is too small or not sealed.
    pub fn create_in(file: OwnedFd, options: &Options) -> Result<Self, CreateError> {
        let layout = Self::layout_for(options)?;
        Ok(Self::created(Region::for_cells(file, layout.total)?, layout, options))
    }

    /// How many bytes slots of these sizes take, for a segment that is to hold them.
    ///
    /// # Errors
    /// Sizes out of range.
    pub fn bytes(options: &Options) -> Result<usize, CreateError> {
        Ok(Self::layout_for(options)?.total * 8)
    }

    /// Creates slots in a new file, which its owner alone can read and write. An existing file is
    /// refused.
    ///
    /// This process gets a handler for SIGBUS that turns a truncation of the file into an error.
    ///
    /// # Errors
    /// As [`Slots::create`]; a file that exists.
    pub fn create_file(path: impl AsRef<Path>, options: &Options) -> Result<Self, CreateError> {
        let layout = Self::layout_for(options)?;
        Ok(Self::created(Region::create_file(path.as_ref(), layout.total)?, layout, options))
    }

    /// Attaches slots by the descriptor of their memfd.
    ///
    /// # Errors
    /// A descriptor that is not sealed against shrinking; a header that does not fit, with the
    /// field, what was expected and what was found; a failing system call.
    pub fn attach(file: OwnedFd, tag: u64, access: Access) -> Result<Self, AttachError> {
        Self::attached(Region::attach_sealed(file, access)?, tag)
    }

    /// Attaches slots by the path of their file. See [`Slots::create_file`] for the SIGBUS handler.
    ///
    /// # Errors
    /// As [`Slots::attach`], except for the seal; a path that names no regular file.
    pub fn attach_file(
        path: impl AsRef<Path>,
        tag: u64,
        access: Access,
    ) -> Result<Self, AttachError> {
        Self::attached(Region::attach_file(path.as_ref(), access)?, tag)
    }

    /// The region, to pass on.
    #[must_use]
    pub const fn region(&self) -> &Region {
        self.memory()
    }

    fn layout_for(options: &Options) -> Result<Layout, CreateError> {
        let size = CreateError::Size { capacity: options.capacity, limit: MAX_CAPACITY };
        Shape::of::<T, R>(options).layout().ok_or(size)
    }

    fn created(mut region: Region, layout: Layout, options: &Options) -> Self {
        format::write(region.cells().0, &layout, options);
        region.expect_mark(layout.end(), format::END);
        Self::new(region, layout)
    }

    fn attached(mut region: Region, tag: u64) -> Result<Self, AttachError> {
        let layout = format::check(region.cells().0, Shape::of_any::<T, R>(), tag)?;
        region.expect_mark(layout.end(), format::END);
        Ok(Self::new(region, layout))
    }
}

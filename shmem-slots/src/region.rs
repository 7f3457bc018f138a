//! A region: cells in a file that several processes map.
//!
//! Usually the file is a memfd, sealed so that nobody can shrink or grow it: it has no name, is
//! passed on by fork or over a socket, and is gone with its last user. A named file can be attached
//! by path; since it cannot be sealed, a file that is truncated is found out by `sys/sigbus.rs` and
//! reported by the operations that look for damage ([`Memory::check`]).

use crate::error::{AttachError, CreateError};
use crate::header;
use crate::layout::{Layout, MAX_CAPACITY};
use crate::memory::{Access, Memory};
use crate::payload::shape;
use crate::primitive::AtomicU64;
use crate::slots::{Options, Slots};
use crate::sys::map::Mapping;
use crate::sys::sigbus::Guard;
use bytemuck::Pod;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::Path;

/// The name of the memfd, as it is seen in `/proc/PID/maps`.
pub const MEMFD_NAME: &str = "shmem-slots";

/// Mapped cells, and the file that they lie in.
#[derive(Debug)]
pub struct Region {
    // Before the mapping, so that it is dropped first.
    guard: Option<Guard>,
    mapping: Mapping,
    file: OwnedFd,
    access: Access,
}

impl Memory for Region {
    #[inline]
    fn cells(&self) -> &[AtomicU64] {
        self.mapping.cells()
    }

    fn access(&self) -> Access {
        self.access
    }

    fn check(&self) -> io::Result<()> {
        if self.guard.as_ref().is_some_and(Guard::damaged) {
            return Err(io::Error::other("the file of the region was truncated"));
        }
        Ok(())
    }
}

impl AsFd for Region {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.file.as_fd()
    }
}

impl Region {
    /// How many bytes are mapped.
    #[must_use]
    pub fn len(&self) -> usize {
        self.mapping.cells().len() * 8
    }

    /// Never: a region has at least its header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

fn create_failed(call: &'static str) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::System { call, source }
}

fn attach_failed(call: &'static str) -> impl FnOnce(io::Error) -> AttachError {
    move |source| AttachError::System { call, source }
}

impl<T: Pod, R: Pod> Slots<T, R, Region> {
    fn layout_for(options: &Options) -> Result<Layout, CreateError> {
        let size = CreateError::Size { capacity: options.capacity, limit: MAX_CAPACITY };
        shape::<T, R>(options.capacity, options.user_cells).layout().ok_or(size)
    }

    /// Slots in a new memfd, mapped into this process and into every child that it forks. Memory is
    /// used only for slots that are used.
    ///
    /// # Errors
    /// Sizes out of range, or a failing system call.
    pub fn create(options: &Options) -> Result<Self, CreateError> {
        let layout = Self::layout_for(options)?;
        let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
        let file = memfd_create(MEMFD_NAME, flags)
            .map_err(|errno| create_failed("memfd_create")(errno.into()))?;
        let file = File::from(file);
        file.set_len(layout.total as u64 * 8).map_err(create_failed("ftruncate"))?;
        let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
        fcntl(&file, FcntlArg::F_ADD_SEALS(seals))
            .map_err(|errno| create_failed("sealing the memfd")(errno.into()))?;
        Self::made(file, layout, options, false)
    }

    /// Slots in a new file, readable and writable by its owner only. An existing file is refused.
    ///
    /// The process gets a handler for SIGBUS that turns a file that was truncated into an error.
    ///
    /// # Errors
    /// As [`Slots::create`]; a file that exists.
    pub fn create_file(path: impl AsRef<Path>, options: &Options) -> Result<Self, CreateError> {
        let layout = Self::layout_for(options)?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(create_failed("open"))?;
        file.set_len(layout.total as u64 * 8).map_err(create_failed("ftruncate"))?;
        Self::made(file, layout, options, true)
    }

    fn made(
        file: File,
        layout: Layout,
        options: &Options,
        named: bool,
    ) -> Result<Self, CreateError> {
        let mapping = Mapping::new(&file, layout.total * 8, Access::ReadWrite)
            .map_err(create_failed("mmap"))?;
        let guard = named.then(|| Guard::new(mapping.range())).transpose();
        let guard = guard.map_err(create_failed("guarding the mapping"))?;
        header::write(mapping.cells(), &layout, options);
        let region = Region { guard, mapping, file: file.into(), access: Access::ReadWrite };
        Ok(Self::new(region, layout))
    }

    /// Attaches slots by the descriptor of their memfd.
    ///
    /// # Errors
    /// A descriptor that is not sealed against shrinking; a header that does not fit, with the field,
    /// what was expected and what was found; a failing system call.
    pub fn attach(file: OwnedFd, tag: u64, access: Access) -> Result<Self, AttachError> {
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|_| AttachError::Unsealed)?;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(AttachError::Unsealed);
        }
        Self::attached(File::from(file), tag, access, false)
    }

    /// Attaches slots by the path of their file. See [`Slots::create_file`] for the SIGBUS handler.
    ///
    /// # Errors
    /// As [`Slots::attach`], but for the seal.
    pub fn attach_file(
        path: impl AsRef<Path>,
        tag: u64,
        access: Access,
    ) -> Result<Self, AttachError> {
        let write = access == Access::ReadWrite;
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            .custom_flags(libc::O_NOFOLLOW)
            .open(path)
            .map_err(attach_failed("open"))?;
        Self::attached(file, tag, access, true)
    }

    fn attached(file: File, tag: u64, access: Access, named: bool) -> Result<Self, AttachError> {
        let bytes = file.metadata().map_err(attach_failed("fstat"))?.len();
        let wanted = shape::<T, R>(1, 0);
        // Whole cells only; a file that is too short for a header is refused by the check.
        let usable = usize::try_from(bytes / 8 * 8).ok().filter(|&usable| usable > 0);
        let usable = usable.ok_or(AttachError::Short { expected: 8, found: bytes })?;
        let mapping = Mapping::new(&file, usable, access).map_err(attach_failed("mmap"))?;
        let guard = named.then(|| Guard::new(mapping.range())).transpose();
        let guard = guard.map_err(attach_failed("guarding the mapping"))?;
        let layout = header::check(mapping.cells(), wanted, tag)?;
        let region = Region { guard, mapping, file: file.into(), access };
        Ok(Self::new(region, layout))
    }

    /// The region, to be passed on.
    #[must_use]
    pub const fn region(&self) -> &Region {
        &self.memory
    }
}

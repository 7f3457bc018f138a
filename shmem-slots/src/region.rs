//! A region: cells in a file that several processes map.
//!
//! Usually the file is a memfd, sealed so that nobody can shrink or grow it: it has no name, is
//! passed on by fork or over a socket, and is gone with its last user. A named file can be attached
//! by path. It cannot be sealed; that it was truncated is found out by its end mark and, where an
//! access faults, by `sys/sigbus.rs`, and every operation with an error to give says so.

use crate::cell::Cells;
use crate::error::{AttachError, CreateError};
use crate::header;
use crate::layout::{Layout, MAX_CAPACITY};
use crate::memory::{Access, Memory, Sealed};
use crate::payload::shape;
use crate::primitive::Ordering;
use crate::slots::{Options, Slots};
use crate::sys::map::Mapping;
use crate::sys::sigbus::Guard;
use crate::sys::standard_streams::StandardStreams;
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
    // Before the mapping, so that it is dropped first. None for a sealed memfd.
    guard: Option<Guard>,
    /// The cell of the end mark.
    end: usize,
    mapping: Mapping,
    file: OwnedFd,
    access: Access,
}

impl Sealed for Region {}

impl Memory for Region {
    #[inline]
    fn cells(&self) -> Cells<'_> {
        Cells(self.mapping.cells())
    }

    fn access(&self) -> Access {
        self.access
    }

    fn check(&self) -> io::Result<()> {
        let Some(guard) = &self.guard else { return Ok(()) };
        // The mark goes with any truncation, also one that ends on the page of the mark, where no
        // access faults, and one that was undone by making the file longer again. This look may
        // be the access that faults, so the guard is asked afterwards.
        let mark = self.mapping.cells().get(self.end).map(|cell| cell.load(Ordering::Relaxed));
        if mark != Some(header::END) || guard.damaged() {
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

    /// Has the kernel map the first `most` bytes for this process now, rather than page by page as each
    /// is touched first. For a process that is to be quick later; it changes nothing else.
    ///
    /// # Errors
    /// The error of `madvise`: `EINVAL` before Linux 5.14.
    pub fn populate(&self, most: usize) -> io::Result<()> {
        self.mapping.populate(most)
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

/// A new memfd of so many cells, all zero, whose size nobody can change.
fn sealed_memfd(cells: usize) -> Result<File, CreateError> {
    // Whatever the program writes to a closed standard stream must not land in the region.
    let _standard = StandardStreams::occupy().map_err(create_failed("opening /dev/null"))?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(MEMFD_NAME, flags)
        .map_err(|errno| create_failed("memfd_create")(errno.into()))?;
    let file = File::from(file);
    file.set_len(cells as u64 * 8).map_err(create_failed("ftruncate"))?;
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(&file, FcntlArg::F_ADD_SEALS(seals))
        .map_err(|errno| create_failed("sealing the memfd")(errno.into()))?;
    Ok(file)
}

/// The file, if nobody can shrink it.
fn sealed(file: OwnedFd) -> Result<File, AttachError> {
    let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|_| AttachError::Unsealed)?;
    if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
        return Err(AttachError::Unsealed);
    }
    Ok(File::from(file))
}

/// All whole cells of the file. One that is too short for a header is refused by the check of it.
fn whole(file: &File, access: Access) -> Result<Mapping, AttachError> {
    let bytes = file.metadata().map_err(attach_failed("fstat"))?.len();
    let usable = usize::try_from(bytes / 8 * 8).ok().filter(|&usable| usable > 0);
    let usable = usable.ok_or(AttachError::Short { expected: 8, found: bytes })?;
    Mapping::new(file, usable, access).map_err(attach_failed("mmap"))
}

/// Regions that hold something else than slots.
impl Region {
    /// So many cells, all zero, in a sealed memfd.
    pub(crate) fn create_sealed(cells: usize) -> Result<Self, CreateError> {
        let file = sealed_memfd(cells)?;
        let access = Access::ReadWrite;
        let mapping = Mapping::new(&file, cells * 8, access).map_err(create_failed("mmap"))?;
        // Sealed: no guard, so no end mark is looked for.
        Ok(Self { guard: None, end: 0, mapping, file: file.into(), access })
    }

    /// All cells of a sealed memfd that somebody else made; what they hold is for the caller to check.
    pub(crate) fn attach_sealed(file: OwnedFd) -> Result<Self, AttachError> {
        let file = sealed(file)?;
        let access = Access::ReadWrite;
        let mapping = whole(&file, access)?;
        Ok(Self { guard: None, end: 0, mapping, file: file.into(), access })
    }
}

impl<T: Pod, R: Pod> Slots<T, R, Region> {
    fn layout_for(options: &Options) -> Result<Layout, CreateError> {
        let size = CreateError::Size { capacity: options.capacity, limit: MAX_CAPACITY };
        shape::<T, R>(options.capacity, options.shared_cells).layout().ok_or(size)
    }

    /// Slots in a new memfd, mapped into this process and into every child that it forks. Memory is
    /// used only for slots that are used.
    ///
    /// # Errors
    /// Sizes out of range, or a failing system call.
    pub fn create(options: &Options) -> Result<Self, CreateError> {
        let layout = Self::layout_for(options)?;
        Self::made(sealed_memfd(layout.total)?, layout, options, false)
    }

    /// Slots in a new file, readable and writable by its owner only. An existing file is refused.
    ///
    /// The process gets a handler for SIGBUS that turns a file that was truncated into an error.
    ///
    /// # Errors
    /// As [`Slots::create`]; a file that exists.
    pub fn create_file(path: impl AsRef<Path>, options: &Options) -> Result<Self, CreateError> {
        let path = path.as_ref();
        let layout = Self::layout_for(options)?;
        let _standard = StandardStreams::occupy().map_err(create_failed("opening /dev/null"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(create_failed("opening a new file"))?;
        let made = file
            .set_len(layout.total as u64 * 8)
            .map_err(create_failed("ftruncate"))
            .and_then(|()| Self::made(file, layout, options, true));
        if made.is_err() {
            // It was made here, and is of no use. That it cannot be removed adds nothing to the error.
            let _ = std::fs::remove_file(path);
        }
        made
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
        let (access, end) = (Access::ReadWrite, layout.end());
        let region = Region { guard, end, mapping, file: file.into(), access };
        Ok(Self::new(region, layout))
    }

    /// Attaches slots by the descriptor of their memfd.
    ///
    /// # Errors
    /// A descriptor that is not sealed against shrinking; a header that does not fit, with the field,
    /// what was expected and what was found; a failing system call.
    pub fn attach(file: OwnedFd, tag: u64, access: Access) -> Result<Self, AttachError> {
        Self::attached(sealed(file)?, tag, access, false)
    }

    /// Attaches slots by the path of their file. See [`Slots::create_file`] for the SIGBUS handler.
    ///
    /// # Errors
    /// As [`Slots::attach`], but for the seal; something else than a regular file.
    pub fn attach_file(
        path: impl AsRef<Path>,
        tag: u64,
        access: Access,
    ) -> Result<Self, AttachError> {
        let write = access == Access::ReadWrite;
        let _standard = StandardStreams::occupy().map_err(attach_failed("opening /dev/null"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(write)
            // Not through a link, and not waiting for the other end of a pipe.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(attach_failed("opening the file"))?;
        if !file.metadata().map_err(attach_failed("fstat"))?.is_file() {
            return Err(AttachError::NotAFile);
        }
        Self::attached(file, tag, access, true)
    }

    fn attached(file: File, tag: u64, access: Access, named: bool) -> Result<Self, AttachError> {
        let wanted = shape::<T, R>(1, 0);
        let mapping = whole(&file, access)?;
        let guard = named.then(|| Guard::new(mapping.range())).transpose();
        let guard = guard.map_err(attach_failed("guarding the mapping"))?;
        let layout = header::check(mapping.cells(), wanted, tag)?;
        let end = layout.end();
        let region = Region { guard, end, mapping, file: file.into(), access };
        Ok(Self::new(region, layout))
    }

    /// The region, to be passed on.
    #[must_use]
    pub const fn region(&self) -> &Region {
        &self.memory
    }
}

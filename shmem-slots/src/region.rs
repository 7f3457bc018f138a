//! A region: cells in a file that several processes map.
//!
//! Usually the file is a memfd, sealed so that no process can shrink or grow it. It has no name, is
//! passed on by fork or over a socket, and is gone with its last user. A named file can be attached
//! by path. It cannot be sealed: a truncation is detected by the region's last cell, which holds a
//! mark, and, where an access faults, by `sys/sigbus.rs`. Every operation that can fail then fails.

use crate::cell::Cells;
use crate::error::{AttachError, CreateError};
use crate::memory::{Access, Memory, Sealed};
use crate::primitive::Ordering;
use crate::sys::map::Mapping;
use crate::sys::sigbus::Guard;
use crate::sys::standard_streams::StandardStreams;
use nix::fcntl::{FcntlArg, SealFlag, fcntl};
use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::Path;

/// The name of the memfd, as `/proc/PID/maps` shows it.
pub const MEMFD_NAME: &str = "shmem-slots";

/// Mapped cells, and the file that they lie in.
#[derive(Debug)]
pub struct Region {
    // Before the mapping, so that it is dropped first. `None` for a sealed memfd.
    guard: Option<EndMark>,
    mapping: Mapping,
    file: OwnedFd,
    access: Access,
}

/// What detects that a named file was truncated.
#[derive(Debug)]
struct EndMark {
    guard: Guard,
    /// The cell that holds the mark, and the mark, once they are known.
    cell: Option<(usize, u64)>,
}

impl Sealed for Region {}

impl Memory for Region {
    #[inline]
    fn cells(&self) -> Cells<'_> {
        Cells(self.mapping.cells())
    }

    #[inline]
    fn access(&self) -> Access {
        self.access
    }

    #[inline]
    fn check(&self) -> io::Result<()> {
        match &self.guard {
            None => Ok(()),
            Some(end) => end.check(&self.mapping),
        }
    }
}

impl EndMark {
    fn check(&self, mapping: &Mapping) -> io::Result<()> {
        // Any truncation removes the mark, also one that ends on the mark's own page, where no
        // access faults, and one that was undone by extending the file. This load may be the access
        // that faults, so the guard is asked afterwards.
        let intact = self.cell.is_none_or(|(cell, mark)| {
            mapping.cells().get(cell).is_some_and(|cell| cell.load(Ordering::Relaxed) == mark)
        });
        if !intact || self.guard.damaged() {
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

    /// Returns false: a region has at least a header.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Has the kernel map the first `most` bytes for this process now, instead of page by page at
    /// the first access to each. For a process that must be quick later. It changes nothing else.
    ///
    /// # Errors
    /// The error of `madvise`: `EINVAL` before Linux 5.14.
    pub fn populate(&self, most: usize) -> io::Result<()> {
        self.mapping.populate(most)
    }

    /// Creates `cells` cells, all zero, in a sealed memfd.
    pub(crate) fn create_sealed(cells: usize) -> Result<Self, CreateError> {
        Self::create_memfd(cells, SealFlag::empty())
    }

    /// Like [`Region::create_sealed`], writable for this process alone: the kernel refuses every
    /// other write and every other writable mapping, and a child does not get this mapping.
    pub(crate) fn create_for_one_writer(cells: usize) -> Result<Self, CreateError> {
        let region = Self::create_memfd(cells, SealFlag::F_SEAL_FUTURE_WRITE)?;
        region.mapping.hide_from_children().map_err(create_failed("madvise"))?;
        Ok(region)
    }

    /// A sealed memfd of `cells` cells, all zero, that is not mapped.
    pub(crate) fn create_unmapped(cells: u64) -> Result<OwnedFd, CreateError> {
        let file = new_memfd(cells.saturating_mul(8))?;
        seal(&file, SealFlag::empty())?;
        Ok(file.into())
    }

    fn create_memfd(cells: usize, more_seals: SealFlag) -> Result<Self, CreateError> {
        let file = new_memfd(cells as u64 * 8)?;
        // Before the seals, which may refuse further writable mappings.
        let mapping = Mapping::new(&file, cells * 8, true).map_err(create_failed("mmap"))?;
        seal(&file, more_seals)?;
        Ok(Self { guard: None, mapping, file: file.into(), access: Access::ReadWrite })
    }

    /// Creates `cells` cells, all zero, in a new file that its owner alone can read and write.
    /// Fails when the file exists.
    pub(crate) fn create_file(path: &Path, cells: usize) -> Result<Self, CreateError> {
        let _standard = StandardStreams::occupy().map_err(create_failed("opening /dev/null"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(path)
            .map_err(create_failed("opening a new file"))?;
        let created = file
            .set_len(cells as u64 * 8)
            .map_err(create_failed("ftruncate"))
            .and_then(|()| Mapping::new(&file, cells * 8, true).map_err(create_failed("mmap")))
            .and_then(|mapping| {
                let guard =
                    EndMark::new(&mapping).map_err(create_failed("guarding the mapping"))?;
                Ok((mapping, Some(guard)))
            });
        match created {
            Ok((mapping, guard)) => {
                Ok(Self { guard, mapping, file: file.into(), access: Access::ReadWrite })
            }
            Err(error) => {
                // Created here, and of no use. A failure to remove it adds nothing to the error.
                let _ = std::fs::remove_file(path);
                Err(error)
            }
        }
    }

    /// Attaches all cells of a sealed memfd that another process created. The caller checks what
    /// they hold.
    pub(crate) fn attach_sealed(file: OwnedFd, access: Access) -> Result<Self, AttachError> {
        let seals = fcntl(&file, FcntlArg::F_GET_SEALS).map_err(|_| AttachError::Unsealed)?;
        if !SealFlag::from_bits_truncate(seals).contains(SealFlag::F_SEAL_SHRINK) {
            return Err(AttachError::Unsealed);
        }
        let file = File::from(file);
        let mapping = map_whole(&file, access)?;
        Ok(Self { guard: None, mapping, file: file.into(), access })
    }

    /// Maps a sealed memfd that is to hold `cells` cells.
    pub(crate) fn for_cells(file: OwnedFd, cells: usize) -> Result<Self, CreateError> {
        let region = Self::attach_sealed(file, Access::ReadWrite).map_err(CreateError::Segment)?;
        let (found, expected) = (region.len(), cells * 8);
        if found < expected {
            return Err(CreateError::SegmentSize { found, expected });
        }
        Ok(region)
    }

    /// Attaches all cells of a regular file. The caller checks what they hold.
    pub(crate) fn attach_file(path: &Path, access: Access) -> Result<Self, AttachError> {
        let _standard = StandardStreams::occupy().map_err(attach_failed("opening /dev/null"))?;
        let file = OpenOptions::new()
            .read(true)
            .write(access == Access::ReadWrite)
            // Not through a link, and without waiting for the other end of a pipe.
            .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
            .open(path)
            .map_err(attach_failed("opening the file"))?;
        if !file.metadata().map_err(attach_failed("fstat"))?.is_file() {
            return Err(AttachError::NotAFile);
        }
        let mapping = map_whole(&file, access)?;
        let guard = EndMark::new(&mapping).map_err(attach_failed("guarding the mapping"))?;
        Ok(Self { guard: Some(guard), mapping, file: file.into(), access })
    }

    /// From now on [`Memory::check`] fails when `cell` does not hold `mark`, unless the file cannot
    /// be truncated at all.
    pub(crate) fn expect_mark(&mut self, cell: usize, mark: u64) {
        if let Some(guard) = &mut self.guard {
            guard.cell = Some((cell, mark));
        }
    }
}

impl EndMark {
    fn new(mapping: &Mapping) -> io::Result<Self> {
        Ok(Self { guard: Guard::new(mapping.range())?, cell: None })
    }
}

/// An empty memfd of this many bytes, for this user alone.
fn new_memfd(bytes: u64) -> Result<File, CreateError> {
    // Whatever the program writes to a closed standard stream must not land in the region.
    let _standard = StandardStreams::occupy().map_err(create_failed("opening /dev/null"))?;
    let flags = MFdFlags::MFD_CLOEXEC | MFdFlags::MFD_ALLOW_SEALING;
    let file = memfd_create(MEMFD_NAME, flags)
        .map_err(|errno| create_failed("memfd_create")(errno.into()))?;
    let file = File::from(file);
    // The kernel creates it for everybody: another user with a read-only descriptor could open the
    // file again through /proc, for writing.
    file.set_permissions(Permissions::from_mode(0o600)).map_err(create_failed("fchmod"))?;
    file.set_len(bytes).map_err(create_failed("ftruncate"))?;
    Ok(file)
}

fn seal(file: &File, more_seals: SealFlag) -> Result<(), CreateError> {
    let seals = SealFlag::F_SEAL_SHRINK | SealFlag::F_SEAL_GROW | SealFlag::F_SEAL_SEAL;
    fcntl(file, FcntlArg::F_ADD_SEALS(seals | more_seals))
        .map(drop)
        .map_err(|errno| create_failed("sealing the memfd")(errno.into()))
}

fn create_failed(call: &'static str) -> impl FnOnce(io::Error) -> CreateError {
    move |source| CreateError::System { call, source }
}

fn attach_failed(call: &'static str) -> impl FnOnce(io::Error) -> AttachError {
    move |source| AttachError::System { call, source }
}

/// Maps all whole cells of the file. One that is too short for a header is refused by the check of
/// the header.
fn map_whole(file: &File, access: Access) -> Result<Mapping, AttachError> {
    let bytes = file.metadata().map_err(attach_failed("fstat"))?.len();
    let usable = usize::try_from(bytes / 8 * 8).ok().filter(|&usable| usable > 0);
    let usable = usable.ok_or(AttachError::Short { expected: 8, found: bytes })?;
    Mapping::new(file, usable, access == Access::ReadWrite).map_err(attach_failed("mmap"))
}

//! Plain bytes in shared memory: a sealed memfd of any size, mapped whole.
//!
//! Nothing is ordered here. Whoever writes tells the others by something that is: a message, a
//! latch, a slot. Words are stored and loaded by atomics, so that processes that do not keep to
//! that get old words, new ones or a mix, and nothing worse.

use crate::cell::Cells;
use crate::error::{AttachError, CreateError};
use crate::memory::{Access, Memory};
use crate::primitive::AtomicU64;
use crate::region::Region;
use crate::sys::copy;
use crate::words;
use std::os::fd::OwnedFd;

/// A place outside of a segment, or one at which no word begins.
#[derive(Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{len} bytes at {at} do not lie in a segment of {size} bytes, or {at} is no multiple of 8")]
pub struct OutOfSegment {
    /// Where the bytes begin.
    pub at: usize,
    /// How many there are.
    pub len: usize,
    /// The size of the segment.
    pub size: usize,
}

crate::debug_as_chain!(OutOfSegment);

/// A segment, mapped into this process and into every child that it forks.
///
/// ```
/// use shmem_slots::Segment;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// let segment = Segment::attach(Segment::create_file(1 << 20)?)?;
/// segment.write(4096, b"hello")?;
/// let mut bytes = [0; 5];
/// segment.read(4096, &mut bytes)?;
/// assert_eq!(&bytes, b"hello");
/// assert!(segment.write((1 << 20) - 8, b"too long").is_ok());
/// assert!(segment.write((1 << 20) - 8, b"longer still").is_err());
/// # Ok(())
/// # }
/// ```
#[derive(Debug)]
#[doc(alias = "dsm_segment")]
pub struct Segment {
    region: Region,
}

impl Segment {
    /// A file for a segment of `bytes` bytes, at least 1, rounded up to a multiple of 8: a memfd
    /// that nobody can shrink or grow. Memory is used only for pages that are written to. It is not
    /// mapped here.
    ///
    /// # Errors
    /// A failing system call: `EFBIG` or `EINVAL` for a size that no file can have.
    #[doc(alias = "dsm_create")]
    pub fn create_file(bytes: u64) -> Result<OwnedFd, CreateError> {
        Region::create_unmapped(bytes.max(1).div_ceil(8))
    }

    /// Maps the segment of a file that another process may have made.
    ///
    /// # Errors
    /// A file that is not sealed against shrinking, or is empty; a failing system call.
    #[doc(alias = "dsm_attach")]
    pub fn attach(file: OwnedFd) -> Result<Self, AttachError> {
        Ok(Self { region: Region::attach_sealed(file, Access::ReadWrite)? })
    }

    /// Its size in bytes, a multiple of 8.
    #[must_use]
    pub fn len(&self) -> usize {
        self.region.len()
    }

    /// Returns false: a segment has at least a word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores `bytes` from byte `at` on, a multiple of 8. The rest of the last word is zero then.
    ///
    /// # Errors
    /// [`OutOfSegment`].
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<(), OutOfSegment> {
        let cells = self.words(at, bytes.len())?;
        let done = copy::store(cells, bytes);
        let (_, cells) = cells.split_at(done);
        let (_, bytes) = bytes.split_at(done * 8);
        words::store(cells, bytes);
        Ok(())
    }

    /// Copies bytes out, from offset `at` on, a multiple of 8. Any process may have written them.
    ///
    /// # Errors
    /// [`OutOfSegment`].
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> Result<(), OutOfSegment> {
        let cells = self.words(at, bytes.len())?;
        let done = copy::load(cells, bytes);
        let (_, cells) = cells.split_at(done);
        let (_, bytes) = bytes.split_at_mut(done * 8);
        words::load(cells, bytes);
        Ok(())
    }

    /// Its words, for a protocol of one's own.
    #[must_use]
    pub fn cells(&self) -> &[AtomicU64] {
        let Cells(cells) = self.region.cells();
        cells
    }

    /// The region, to pass on.
    #[must_use]
    pub const fn region(&self) -> &Region {
        &self.region
    }

    fn words(&self, at: usize, len: usize) -> Result<&[AtomicU64], OutOfSegment> {
        let wrong = OutOfSegment { at, len, size: self.len() };
        if at % 8 != 0 {
            return Err(wrong);
        }
        let end = (at / 8).checked_add(len.div_ceil(8));
        end.and_then(|end| self.cells().get(at / 8..end)).ok_or(wrong)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_lies_outside_is_refused_and_what_lies_inside_comes_back() {
        let file = Segment::create_file(41).unwrap();
        let segment = Segment::attach(file).unwrap();
        assert_eq!(segment.len(), 48);
        let bytes: Vec<u8> = (1..=48).collect();
        for (at, len) in [(0, 48), (40, 8), (48, 0), (8, 3), (0, 0)] {
            segment.write(at, &bytes[..len]).unwrap();
            let mut back = vec![99; len];
            segment.read(at, &mut back).unwrap();
            assert_eq!(back, bytes[..len]);
        }
        for (at, len) in [(0, 49), (8, 48), (48, 1), (56, 0), (4, 1), (usize::MAX - 7, 8)] {
            let refused = segment.write(at, &vec![0; len]).unwrap_err();
            assert_eq!(refused, OutOfSegment { at, len, size: 48 });
            assert!(segment.read(at, &mut vec![0; len]).is_err());
        }
    }

    #[test]
    fn many_bytes_come_back_and_none_around_them_changes() {
        let segment = Segment::attach(Segment::create_file(1 << 16).unwrap()).unwrap();
        for (at, len) in [(8, 4096), (16, 4099), (0, 1 << 16), (4096, (1 << 16) - 4097)] {
            let around = vec![7; 1 << 16];
            segment.write(0, &around).unwrap();
            let bytes: Vec<u8> = (0..len).map(|at| (at % 251) as u8).collect();
            segment.write(at, &bytes).unwrap();
            let mut all = vec![0; 1 << 16];
            segment.read(0, &mut all).unwrap();
            let end = at + len;
            assert_eq!(all[at..end], bytes);
            // The rest of the last word is zero.
            let whole = end.next_multiple_of(8);
            assert!(all[..at].iter().all(|&byte| byte == 7));
            assert!(all[end..whole].iter().all(|&byte| byte == 0));
            assert!(all[whole..].iter().all(|&byte| byte == 7));
            let mut part = vec![0; len];
            segment.read(at, &mut part).unwrap();
            assert_eq!(part, bytes);
        }
    }

    #[test]
    fn two_mappings_of_one_file_are_one_segment_that_cannot_shrink() {
        let file = Segment::create_file(0).unwrap();
        let (one, other) = (
            Segment::attach(file.try_clone().unwrap()),
            Segment::attach(file.try_clone().unwrap()),
        );
        let (one, other) = (one.unwrap(), other.unwrap());
        one.write(0, b"shared").unwrap();
        let mut bytes = [0; 6];
        other.read(0, &mut bytes).unwrap();
        assert_eq!(&bytes, b"shared");
        for len in [0, 4, 4096] {
            assert!(std::fs::File::from(file.try_clone().unwrap()).set_len(len).is_err());
        }
        let unsealed = std::fs::File::from(
            nix::sys::memfd::memfd_create("x", nix::sys::memfd::MFdFlags::empty()).unwrap(),
        );
        unsealed.set_len(64).unwrap();
        assert!(matches!(Segment::attach(unsealed.into()), Err(AttachError::Unsealed)));
        assert!(Segment::create_file(u64::MAX).is_err());
    }
}

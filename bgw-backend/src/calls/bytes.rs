//! Bytes in a segment as a value of a call: where they lie goes in and comes out, not they.

use crate::backend::Backend;
use crate::segment::{Segment, SegmentError};
use bgw_core::SegmentHandle;
use serde::{Deserialize, Serialize};
use shmem_slots::OutOfSegment;
use std::ops::Range;

/// Bytes that lie in a [`Segment`]: a value of a call, or a part of one, that is not copied. The
/// function maps them where they are.
///
/// ```no_run
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// use bgw_backend::{Backend, Bytes, Worker, WorkerError};
///
/// /// Runs in the worker: `.call("fill", call(fill))` in the postmaster's builder.
/// fn fill(worker: &mut Worker, image: Bytes) -> Result<(), WorkerError> {
///     let image = image.map(&worker.backend())?;
///     image.write(0, &vec![0xff; image.len()])?;
///     Ok(())
/// }
///
/// let backend = Backend::connect("/run/app")?;
/// let segment = backend.create_segment(64 << 20)?;
/// let image = Bytes::in_segment(&segment, 0..segment.len())?;
/// backend.call::<Bytes, ()>("fill", &image)?.wait()?.into_output()?;
/// // The segment holds what the worker has written.
/// # Ok(())
/// # }
/// ```
///
/// It names the segment and does not hold it: who calls keeps its [`Segment`] until the call has an
/// outcome. A function that gives back bytes of a segment of its own has the caller hold it first,
/// with [`Segment::pass_to`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Bytes {
    segment: u64,
    at: u64,
    len: u64,
}

impl Bytes {
    /// The bytes of `segment` in this range, which begins at a multiple of 8.
    ///
    /// # Errors
    /// They do not lie in the segment.
    pub fn in_segment(segment: &Segment, range: Range<usize>) -> Result<Self, OutOfSegment> {
        let (at, len) = (range.start, range.len());
        check(at, len, range.end.max(at), segment)?;
        Ok(Self { segment: segment.handle().to_bits(), at: at as u64, len: len as u64 })
    }

    /// The segment that they lie in.
    #[must_use]
    pub const fn segment(&self) -> SegmentHandle {
        SegmentHandle::from_bits(self.segment)
    }

    /// How many there are. Who made this value may have said anything: [`Bytes::map`] checks it.
    #[must_use]
    pub const fn len(&self) -> u64 {
        self.len
    }

    /// True if there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Maps their segment, and holds it until the result is dropped.
    ///
    /// What they hold may have been written by any process of the cluster: it is to be checked.
    ///
    /// # Errors
    /// [`SegmentError`]: nobody holds the segment, or they do not lie in it.
    pub fn map(&self, backend: &Backend) -> Result<MappedBytes, SegmentError> {
        let segment = backend.segment(self.segment())?;
        let number = |value: u64| usize::try_from(value).unwrap_or(usize::MAX);
        let (at, len) = (number(self.at), number(self.len));
        check(at, len, at.saturating_add(len), &segment)?;
        Ok(MappedBytes { segment, at, len })
    }
}

fn check(at: usize, len: usize, end: usize, segment: &Segment) -> Result<(), OutOfSegment> {
    let size = segment.len();
    if at % 8 == 0 && end <= size { Ok(()) } else { Err(OutOfSegment { at, len, size }) }
}

/// [`Bytes`] that this process has mapped.
#[derive(Debug)]
pub struct MappedBytes {
    segment: Segment,
    at: usize,
    len: usize,
}

impl MappedBytes {
    /// How many there are.
    #[must_use]
    pub const fn len(&self) -> usize {
        self.len
    }

    /// True if there are no bytes.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// Loads bytes from byte `at` of them on, a multiple of 8.
    ///
    /// # Errors
    /// They do not lie in them.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> Result<(), OutOfSegment> {
        self.segment.read(self.place(at, bytes.len())?, bytes)
    }

    /// Stores `bytes` from byte `at` of them on, a multiple of 8. The rest of the last word is zero
    /// then, as with [`Segment::write`].
    ///
    /// # Errors
    /// They do not lie in them.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<(), OutOfSegment> {
        self.segment.write(self.place(at, bytes.len())?, bytes)
    }

    /// Their segment.
    #[must_use]
    pub const fn segment(&self) -> &Segment {
        &self.segment
    }

    fn place(&self, at: usize, len: usize) -> Result<usize, OutOfSegment> {
        if at.checked_add(len).is_some_and(|end| end <= self.len) {
            Ok(self.at + at)
        } else {
            Err(OutOfSegment { at, len, size: self.len })
        }
    }
}

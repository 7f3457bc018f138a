//! Values that lie in segments.

use super::format;
use crate::backend::Backend;
use crate::segment::{Segment, SegmentError};
use bgw_core::SegmentHandle;
use shmem_slots::OutOfSegment;

impl Backend {
    /// Puts an encoded value into a new segment. Returns it with the reference to the value.
    pub(crate) fn put_value(&self, value: &[u8]) -> Result<(Segment, Vec<u8>), SegmentError> {
        let len = value.len() as u64;
        let segment = self.create_segment(len)?;
        // It has as many bytes.
        segment.write(0, value)?;
        let reference = format::reference(segment.handle(), len);
        Ok((segment, reference))
    }

    /// Gives up what this process holds of a segment that it has not mapped.
    pub(crate) fn give_up_segment(&self, segment: SegmentHandle) {
        drop(self.segment_once(segment));
    }
}

/// Copies an encoded value out of its segment.
pub(crate) fn read_value(segment: &Segment, len: u64) -> Result<Vec<u8>, SegmentError> {
    let size = segment.len();
    let len = usize::try_from(len).unwrap_or(usize::MAX);
    // A length that lies allocates nothing.
    if len > size {
        return Err(OutOfSegment { at: 0, len, size }.into());
    }
    let mut value = vec![0; len];
    segment.read(0, &mut value)?;
    Ok(value)
}

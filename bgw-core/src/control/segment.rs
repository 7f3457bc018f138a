//! What can be asked about segments, as bytes.

use super::reader::{CodecError, Reader};
use crate::pid::Pid;
use crate::segment::SegmentHandle;

/// A request about segments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SegmentRequest {
    /// Wants a new one, and holds it. Answered by `Segment`, with its descriptor.
    Create {
        /// Its size.
        bytes: u64,
    },
    /// Wants to hold this one, once more. Answered by `Segment`, with its descriptor.
    Map(SegmentHandle),
    /// Holds it once less. Not answered.
    Drop(SegmentHandle),
    /// Its hold counts only while the cell of this number in the worker's berth says so. Not
    /// answered.
    Cache {
        /// The segment.
        segment: SegmentHandle,
        /// The number of the cell.
        cell: u32,
    },
    /// Has another process hold it, until that maps and drops it, or is gone. Answered by `Done`.
    Pass {
        /// The segment.
        segment: SegmentHandle,
        /// An attached process.
        to: Pid,
    },
}

impl SegmentRequest {
    pub(super) fn encode(self, request: u8) -> Vec<u8> {
        let (kind, number) = match self {
            Self::Create { bytes } => (1, bytes),
            Self::Map(segment) => (2, segment.to_bits()),
            Self::Drop(segment) => (3, segment.to_bits()),
            Self::Pass { segment, .. } => (4, segment.to_bits()),
            Self::Cache { segment, .. } => (5, segment.to_bits()),
        };
        let mut bytes = vec![request, kind];
        bytes.extend(number.to_le_bytes());
        match self {
            Self::Pass { to, .. } => bytes.extend(to.get().to_le_bytes()),
            Self::Cache { cell, .. } => bytes.extend(cell.to_le_bytes()),
            _ => {}
        }
        bytes
    }

    #[inline(never)]
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let kind = reader.byte("segment request")?;
        let number = reader.long("segment")?;
        let segment = SegmentHandle::from_bits(number);
        Ok(match kind {
            1 => Self::Create { bytes: number },
            2 => Self::Map(segment),
            3 => Self::Drop(segment),
            4 => Self::Pass { segment, to: reader.pid("to")? },
            5 => Self::Cache { segment, cell: reader.word("cell")? },
            other => {
                return Err(CodecError::Unknown { field: "segment request", found: other.into() });
            }
        })
    }
}

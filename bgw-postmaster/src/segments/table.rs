//! The segments, and the answers to what members ask.

use super::holds::{Full, Holds, MOST};
use crate::gifts::Office;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::internals::{CachedCell, PostmasterCells, Reply, SegmentRequest};
use bgw_core::{Refusal, SegmentHandle};
use shmem_slots::Segment;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

/// The share of segments among the descriptors of the postmaster: one in so many.
const SHARE: u64 = 4;
/// Freeing a page takes the kernel a tenth of a microsecond or two. What is larger than this is
/// closed by a child.
const LARGE: u64 = 16 << 20;
/// Sizes count in pages of this size.
const PAGE: u64 = 4096;

/// What a session that has asked gets.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    /// This, with a descriptor if there is one.
    Reply(Reply, Option<BorrowedFd<'a>>),
    /// No reply.
    Nothing,
}

/// All segments.
#[derive(Debug)]
pub(crate) struct Segments {
    holds: Holds<OwnedFd>,
    next: u64,
    floor: DescriptorFloor,
    office: Rc<Office>,
}

impl Segments {
    /// At most `budget` bytes, for a postmaster that may have `descriptors`. `first` makes the
    /// handles differ from those of other postmasters.
    pub(crate) fn new(
        budget: u64,
        descriptors: u64,
        first: u32,
        floor: DescriptorFloor,
        office: Rc<Office>,
    ) -> Self {
        let holds = Holds::new(budget, MOST.min(descriptors / SHARE));
        Self { holds, next: u64::from(first) << 32, floor, office }
    }

    /// Answers `session`, that of a worker in `berth`, or of a program. `find` has the session of
    /// the process that a segment is passed to.
    pub(crate) fn answer(
        &mut self,
        (session, berth): (u64, Option<u32>),
        request: SegmentRequest,
        cells: &PostmasterCells,
        find: impl FnOnce(bgw_core::Pid) -> Option<u64>,
    ) -> Answer<'_> {
        match request {
            SegmentRequest::Create { bytes } => self.create(session, bytes),
            SegmentRequest::Map(segment) => {
                if self.holds.hold(segment.to_bits(), session) {
                    self.found(segment)
                } else {
                    none(segment)
                }
            }
            SegmentRequest::Drop(segment) => {
                let last = self.holds.drop_one(segment.to_bits(), session);
                self.close(last);
                self.recall(segment, cells);
                Answer::Nothing
            }
            SegmentRequest::Cache { segment, cell: number } => {
                // Who has no berth caches nothing: it holds the segment until it drops it.
                if let Some(berth) = berth {
                    self.holds.cache(segment.to_bits(), session, CachedCell { berth, number });
                    self.recall(segment, cells);
                }
                Answer::Nothing
            }
            SegmentRequest::Pass { segment, to } => match find(to) {
                None => {
                    let detail = format!("process {to} is not attached");
                    refused(Refusal::NotAttached, detail)
                }
                Some(other) => {
                    let take = |cell| cells.recall_segment(cell, segment);
                    if self.holds.pass(segment.to_bits(), other, take) {
                        Answer::Reply(Reply::Done, None)
                    } else {
                        none(segment)
                    }
                }
            },
        }
    }

    fn create(&mut self, session: u64, bytes: u64) -> Answer<'_> {
        let pages = bytes.max(1).div_ceil(PAGE).saturating_mul(PAGE);
        if let Some(full) = self.holds.limit(pages) {
            let detail = match full {
                Full::Segments(most) => format!("there are {most} segments"),
                Full::Bytes { budget, left } => format!(
                    "{left} of {budget} bytes are left; raise segment_bytes of the postmaster's builder"
                ),
            };
            return refused(Refusal::TooManySegments, detail);
        }
        let made = Segment::create_file(bytes);
        let made = made.map_err(|error| bgw_core::chain(&error).to_string());
        let made = made.and_then(|file| self.floor.move_above(file).map_err(|e| e.to_string()));
        match made {
            Ok(file) => {
                self.next += 1;
                self.holds.add(self.next, session, pages, file);
                self.found(SegmentHandle::from_bits(self.next))
            }
            Err(error) => refused(Refusal::TooManySegments, error),
        }
    }

    fn found(&self, segment: SegmentHandle) -> Answer<'_> {
        match self.holds.get(segment.to_bits()) {
            Some((file, bytes)) => {
                Answer::Reply(Reply::Segment { segment, bytes }, Some(file.as_fd()))
            }
            None => none(segment),
        }
    }

    /// A session has closed.
    pub(crate) fn close_session(&mut self, session: u64, cells: &PostmasterCells) {
        for number in self.holds.of_session(session) {
            let last = self.holds.release(number, session);
            self.close(last);
            self.recall(SegmentHandle::from_bits(number), cells);
        }
    }

    /// Somebody holds the segment less than before: workers may have it that only cache it.
    fn recall(&mut self, segment: SegmentHandle, cells: &PostmasterCells) {
        let take = |cell| cells.recall_segment(cell, segment);
        let last = self.holds.recall(segment.to_bits(), take);
        self.close(last);
    }

    fn close(&self, last: Option<(OwnedFd, u64)>) {
        if let Some((file, _)) = last.filter(|(_, bytes)| *bytes > LARGE) {
            self.office.condemn_file(file);
        }
    }
}

fn refused<'a>(reason: Refusal, detail: String) -> Answer<'a> {
    Answer::Reply(Reply::Refused { reason, detail }, None)
}

fn none<'a>(segment: SegmentHandle) -> Answer<'a> {
    refused(Refusal::NoSegment, format!("nobody holds segment {segment}"))
}

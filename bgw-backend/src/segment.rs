//! Segments: memory that members of a cluster share, made at run time.

use crate::backend::Backend;
use crate::cached;
use crate::error::NotWritable;
use crate::requests::deadline;
use bgw_core::internals::{Reply, Request, SegmentRequest};
use bgw_core::{AskError, Attachment, Pid, Refusal, SegmentHandle};
use shmem_slots::queue::{Queue, QueueOptions};
use shmem_slots::{AttachError, CreateError, OutOfSegment};
use std::fmt;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::sync::Arc;

/// Why a segment could not be made, mapped or passed on.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum SegmentError {
    /// The cluster has as many segments, or as many bytes in them, as its limits allow.
    #[error("no segment of {bytes} bytes: {detail}")]
    Full {
        /// The size that was asked for.
        bytes: u64,
        /// Which limit is reached, in words.
        detail: String,
    },
    /// Nobody holds it any more, or it never belonged to this cluster.
    #[error("segment {segment} is gone: nobody holds it, or it is of another cluster")]
    Gone {
        /// The handle that was asked for.
        segment: SegmentHandle,
    },
    /// The process that is to hold it has not attached.
    #[error("process {process} cannot hold a segment: it has not attached to the postmaster")]
    NotAttached {
        /// The process.
        process: Pid,
    },
    /// This process may not change the cluster.
    #[error(transparent)]
    NotWritable(#[from] NotWritable),
    /// The postmaster could not be asked, or refused.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The segment could not be mapped.
    #[error("mapping the segment failed")]
    Map(#[from] AttachError),
    /// What was to lie in the segment does not fit, or could not be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// What was to be read or written does not lie in the segment.
    #[error(transparent)]
    Outside(#[from] OutOfSegment),
    /// Duplicating the segment's descriptor failed.
    #[error("duplicating the segment's descriptor failed")]
    Duplicate(#[source] io::Error),
}

bgw_core::debug_as_chain!(SegmentError);

impl Backend {
    /// Makes a segment of `bytes` bytes, all zero, that any member of the cluster can map by its
    /// [handle](Segment::handle). Memory is used only where it is written to.
    ///
    /// It counts towards the cluster's budget, `segment_bytes` of the postmaster's builder, until
    /// the last of those that hold it has dropped it or is gone.
    ///
    /// ```no_run
    /// # fn example(backend: &bgw_backend::Backend) -> Result<(), Box<dyn std::error::Error>> {
    /// use bgw_backend::BackgroundWorker;
    ///
    /// let numbers = backend.create_segment(1 << 20)?;
    /// numbers.write(0, &[1; 64])?;
    /// let sum = BackgroundWorker::builder("sum").function("sum");
    /// let sum = sum.main_arg(numbers.handle().to_bits()).build()?;
    /// backend.register(&sum)?.wait_for_end()?; // it maps the segment by its handle
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SegmentError`].
    #[doc(alias = "dsm_create")]
    pub fn create_segment(&self, bytes: u64) -> Result<Segment, SegmentError> {
        NotWritable::check(&self.attachment)?;
        self.ask_for_segment(SegmentRequest::Create { bytes }).map_err(|error| match error {
            AskError::Refused { reason: Refusal::TooManySegments, detail } => {
                SegmentError::Full { bytes, detail }
            }
            other => other.into(),
        })?
    }

    /// Maps the segment of this handle, whichever process has made it. From then on this process
    /// holds it too, and keeps it when its maker ends.
    ///
    /// Any process of the cluster may have written its contents: check them.
    ///
    /// # Errors
    /// [`SegmentError`].
    #[doc(alias = "dsm_attach")]
    pub fn segment(&self, segment: SegmentHandle) -> Result<Segment, SegmentError> {
        if let Some((memory, place)) = cached::find(&self.attachment, segment) {
            let attachment = Arc::clone(&self.attachment);
            return Ok(Segment { memory, hold: Hold { attachment, segment, cached: Some(place) } });
        }
        let mut mapped = self.segment_once(segment)?;
        mapped.hold.cached = cached::cache_mapped(&self.attachment, segment, &mapped.memory);
        Ok(mapped)
    }

    /// Like [`Backend::segment`], for one that is not mapped again: no worker caches it.
    pub(crate) fn segment_once(&self, segment: SegmentHandle) -> Result<Segment, SegmentError> {
        NotWritable::check(&self.attachment)?;
        self.ask_for_segment(SegmentRequest::Map(segment)).map_err(|error| match error {
            AskError::Refused { reason: Refusal::NoSegment, .. } => SegmentError::Gone { segment },
            other => other.into(),
        })?
    }

    fn ask_for_segment(
        &self,
        request: SegmentRequest,
    ) -> Result<Result<Segment, SegmentError>, AskError> {
        let (reply, fds) = self.attachment.ask_for(&Request::Segment(request), deadline())?;
        let (Reply::Segment { segment, .. }, Some(file)) = (&reply, fds.into_iter().next()) else {
            return Err(AskError::unexpected(&reply));
        };
        let hold =
            Hold { attachment: Arc::clone(&self.attachment), segment: *segment, cached: None };
        Ok(shmem_slots::Segment::attach(file)
            .map(|memory| Segment { memory: Arc::new(memory), hold })
            .map_err(SegmentError::Map))
    }
}

/// This process holds a segment until this is dropped.
struct Hold {
    attachment: Arc<Attachment>,
    segment: SegmentHandle,
    /// Where it is cached, if it is.
    cached: Option<usize>,
}

impl Drop for Hold {
    fn drop(&mut self) {
        if let Some(place) = self.cached {
            return cached::end_use(&self.attachment, self.segment, place);
        }
        let request = Request::Segment(SegmentRequest::Drop(self.segment));
        self.attachment.tell(&request, deadline());
    }
}

/// A segment that this process has mapped and holds. Dropping it unmaps it; with the last holder in
/// the cluster its memory is gone.
///
/// A worker of a [`Pool`](crate::Pool) that maps a segment again caches it, mapped, for the jobs
/// that follow: four segments at most. What it caches and does not use it does not hold: the
/// segment is gone with the last of the others, and its memory as soon as the worker has looked, at
/// the latest after its job.
///
/// A child that this process forks has the mapping, too, and does not hold the segment.
#[doc(alias = "dsm_segment")]
pub struct Segment {
    // Before the hold: it is unmapped first.
    memory: Arc<shmem_slots::Segment>,
    hold: Hold,
}

impl Segment {
    /// Its name, by which other processes map it.
    #[doc(alias = "dsm_segment_handle")]
    #[must_use]
    pub const fn handle(&self) -> SegmentHandle {
        self.hold.segment
    }

    /// Its size in bytes: what was asked for, rounded up to a multiple of 8.
    #[must_use]
    pub fn len(&self) -> usize {
        self.memory.len()
    }

    /// Returns false: a segment has at least a word.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Stores `bytes` from byte `at` on, a multiple of 8. The rest of the last word is zero then.
    /// Others may see them in any order, unless something that is ordered comes in between: a
    /// message, a latch, a worker's end.
    ///
    /// # Errors
    /// They do not lie in the segment.
    pub fn write(&self, at: usize, bytes: &[u8]) -> Result<(), OutOfSegment> {
        self.memory.write(at, bytes)
    }

    /// Loads bytes from byte `at` on, a multiple of 8.
    ///
    /// # Errors
    /// They do not lie in the segment.
    pub fn read(&self, at: usize, bytes: &mut [u8]) -> Result<(), OutOfSegment> {
        self.memory.read(at, bytes)
    }

    /// Its memory, by words.
    #[must_use]
    pub fn memory(&self) -> &shmem_slots::Segment {
        &self.memory
    }

    /// Makes this segment, which nobody else uses yet and nothing was written to, a queue of
    /// messages. It needs [`QueueOptions::bytes`] bytes. Keep the segment as long as others need to
    /// find it.
    ///
    /// ```no_run
    /// # fn example(backend: &bgw_backend::Backend) -> Result<(), Box<dyn std::error::Error>> {
    /// use shmem_slots::queue::QueueOptions;
    ///
    /// let options = QueueOptions { buffer: 1 << 16, max_message: 1 << 20, tag: 1 };
    /// let bytes = options.bytes().ok_or("too large")?;
    /// let segment = backend.create_segment(bytes as u64)?;
    /// let queue = segment.create_queue(&options)?; // others: backend.segment(handle)?.queue(1)?
    /// let mut sender = queue.sender(backend.pid().get())?;
    /// sender.send(b"hello", &[], None)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`SegmentError`].
    #[doc(alias = "shm_mq_create")]
    pub fn create_queue(&self, options: &QueueOptions) -> Result<Queue, SegmentError> {
        Ok(Queue::create_in(self.duplicate()?, options)?)
    }

    /// The queue that another process has made of this segment.
    ///
    /// # Errors
    /// [`SegmentError`]: it is not a queue with this tag.
    #[doc(alias = "shm_mq_attach")]
    pub fn queue(&self, tag: u64) -> Result<Queue, SegmentError> {
        Ok(Queue::attach(self.duplicate()?, tag)?)
    }

    /// Has `process`, which is attached, hold the segment, too: until it has mapped and dropped it,
    /// or is gone. So this process may drop the segment, or end, before the other one has looked.
    ///
    /// # Errors
    /// [`SegmentError`].
    pub fn pass_to(&self, process: Pid) -> Result<(), SegmentError> {
        let segment = self.handle();
        let request = Request::Segment(SegmentRequest::Pass { segment, to: process });
        match self.hold.attachment.ask(&request, deadline()) {
            Ok(Reply::Done) => Ok(()),
            Ok(other) => Err(AskError::unexpected(&other).into()),
            Err(AskError::Refused { reason: Refusal::NotAttached, .. }) => {
                Err(SegmentError::NotAttached { process })
            }
            Err(AskError::Refused { reason: Refusal::NoSegment, .. }) => {
                Err(SegmentError::Gone { segment })
            }
            Err(other) => Err(other.into()),
        }
    }

    fn duplicate(&self) -> Result<OwnedFd, SegmentError> {
        self.as_fd().try_clone_to_owned().map_err(SegmentError::Duplicate)
    }
}

/// Its descriptor: for slots or another layout of one's own, and to be given to a worker.
impl AsFd for Segment {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.memory.region().as_fd()
    }
}

impl fmt::Debug for Segment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut shown = f.debug_struct("Segment");
        shown.field("handle", &format_args!("{}", self.handle())).field("len", &self.len());
        shown.finish()
    }
}

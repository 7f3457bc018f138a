//! A pool's face: create, open, submit, drain.

use super::answer::LEAST_ROOM;
use super::cells::{self, FREED, GIVEN_UP, WAIT_FOR_ROOM};
use super::clock::now;
use super::error::{PoolError, SubmitError};
use super::job::PoolJob;
use super::members::Members;
use super::options::{PoolOptions, SUBMITTERS};
use super::place::registered;
use super::shared::Shared;
use super::stats::PoolStats;
use super::types::call_type;
use crate::backend::Backend;
use crate::calls::{CallError, CallValue, format, types};
use crate::error::{RegisterError, WaitError};
use crate::fault;
use crate::segment::{Segment, SegmentError};
use bgw_core::SegmentHandle;
use bgw_core::internals::process;
use shmem_slots::futex::{self, Half, Watch, Woken};
use shmem_slots::jobs::{self, JobKey, Jobs, JobsOptions};
use std::fmt;
use std::marker::PhantomData;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};

/// Workers that take many jobs in their life, each with a value in and a value out. See the
/// [module](crate::pool).
///
/// Cheap to clone. When the last clone and the last job in this process are dropped, what it has
/// submitted and nobody has taken is given up; jobs of other processes go on. The workers end when
/// no process has the pool open any more.
pub struct Pool<I, O> {
    pub(super) shared: Arc<Shared>,
    types: PhantomData<fn(I) -> O>,
}

impl Backend {
    /// Creates a pool, and starts its minimum of workers.
    ///
    /// # Errors
    /// [`PoolError`]. A function is refused here if its types are others, or if it is not
    /// [`pooled`](crate::pooled).
    pub fn create_pool<I: CallValue, O: CallValue>(
        &self,
        options: &PoolOptions,
    ) -> Result<Pool<I, O>, PoolError> {
        let checked = options.check()?;
        let name = &checked.settings.function;
        let tag = tag_of::<I, O>(self, name)?;
        let layout = JobsOptions {
            classes: u32::try_from(checked.settings.classes.len()).unwrap_or(1),
            jobs: checked.queue,
            room: checked.room.max(LEAST_ROOM),
            takers: checked.settings.max,
            submitters: SUBMITTERS,
            shared_cells: cells::needed(checked.settings.max),
            tag,
        };
        let bytes = layout.bytes().unwrap_or(0) as u64;
        let segment = self.create_segment(bytes)?;
        let jobs = Jobs::create_in(duplicate(&segment)?, &layout).map_err(SegmentError::Create)?;
        cells::PoolCells(&jobs).write(&checked.settings);
        let pool = Pool::join(self, segment, jobs, tag)?;
        pool.shared.launch_least()?;
        Ok(pool)
    }

    /// Opens a pool that another process has made, by its [handle](Pool::handle).
    ///
    /// # Errors
    /// [`PoolError`]: nobody has it open any more, it is of other types, or none at all.
    pub fn open_pool<I: CallValue, O: CallValue>(
        &self,
        pool: SegmentHandle,
    ) -> Result<Pool<I, O>, PoolError> {
        let segment = self.segment(pool)?;
        let tag = call_type::<I, O>().tag;
        let jobs = Jobs::attach(duplicate(&segment)?, tag).map_err(SegmentError::Map)?;
        Pool::join(self, segment, jobs, tag)
    }
}

fn duplicate(segment: &Segment) -> Result<std::os::fd::OwnedFd, SegmentError> {
    segment.as_fd().try_clone_to_owned().map_err(SegmentError::Duplicate)
}

/// The tag of a pool of these types, if the function is one.
fn tag_of<I: CallValue, O: CallValue>(backend: &Backend, name: &str) -> Result<u64, CallError> {
    types::tag::<I, O>().map_err(|types::Unsupported(unsupported)| CallError::Unsupported {
        function: name.to_owned(),
        name: unsupported,
    })?;
    let (takes, wanted) = (backend.function(name)?.call.as_ref(), call_type::<I, O>());
    if takes.map(|takes| takes.tag) != Some(wanted.tag) {
        let error = RegisterError::call_type(name, takes, Some(wanted.tag));
        return Err(error.called_as(&wanted.signature).into());
    }
    Ok(wanted.tag)
}

impl<I: CallValue, O: CallValue> Pool<I, O> {
    fn join(
        backend: &Backend,
        segment: Segment,
        jobs: Jobs<shmem_slots::Region>,
        tag: u64,
    ) -> Result<Self, PoolError> {
        let limit = jobs.options().submitters;
        let members = Members::open(&segment, limit).map_err(PoolError::Members)?;
        let sweep = |number| {
            jobs.sweep(number);
        };
        let number = members.join(sweep).ok_or(PoolError::TooManySubmitters { limit })?;
        let shared = Shared::new(backend.clone(), (segment, jobs), (members, number), tag);
        Ok(Self { shared: Arc::new(shared), types: PhantomData })
    }

    /// Submits a job, after all that wait in class 0, and returns at once.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit(&self, input: &I) -> Result<PoolJob<O>, SubmitError> {
        self.submit_to(0, input, None)
    }

    /// Like [`Pool::submit`], in this class; while the class has as many jobs as it can have, waits
    /// for room, for at most `wait`; without `wait` a full class is an error at once.
    ///
    /// # Errors
    /// [`SubmitError`].
    pub fn submit_to(
        &self,
        class: u32,
        input: &I,
        wait: Option<Duration>,
    ) -> Result<PoolJob<O>, SubmitError> {
        let deadline = wait.map(|wait| Instant::now().checked_add(wait));
        let shared = &self.shared;
        if !shared.is_mine() {
            return Err(SubmitError::ForkedChild);
        }
        let bytes = format::encode(input).map_err(|source| {
            let function = shared.settings.function.clone();
            SubmitError::Encode { function, source }
        })?;
        if bytes.len() <= shared.jobs.room() {
            let key = shared.submit(class, &bytes, deadline)?;
            return Ok(PoolJob::new(Arc::clone(shared), key, None));
        }
        let (segment, reference) = shared.backend.put_value(&bytes)?;
        let key = shared.submit(class, &reference, deadline)?;
        Ok(PoolJob::new(Arc::clone(shared), key, Some(segment)))
    }

    /// Takes no more jobs, from any process, and waits until all that were submitted are over and
    /// the workers have ended, for at most `timeout`.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`], and the pool still takes no more; [`WaitError::Interrupted`].
    pub fn drain(&self, timeout: Option<Duration>) -> Result<(), WaitError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        self.shared.stop_taking();
        for worker in 0..self.shared.settings.max {
            let Some(id) = self.shared.cells().place(worker).and_then(registered) else {
                continue;
            };
            let handle = self.shared.backend.handle(id);
            handle.wait(crate::until::Until::Ended, deadline)?;
        }
        Ok(())
    }

    /// The state of the pool, and what it has done.
    #[must_use]
    pub fn stats(&self) -> PoolStats {
        PoolStats::of(&self.shared)
    }
}

impl<I, O> Pool<I, O> {
    /// Its name, by which other processes open it while any process has it open.
    #[must_use]
    pub fn handle(&self) -> SegmentHandle {
        self.shared.segment.handle()
    }
}

impl Shared {
    /// Without a deadline a full class is an error at once.
    fn submit(
        &self,
        class: u32,
        input: &[u8],
        deadline: Option<Option<Instant>>,
    ) -> Result<JobKey, SubmitError> {
        let mut swept = false;
        loop {
            if self.cells().is_draining() {
                return Err(SubmitError::Draining);
            }
            if self.cells().load(GIVEN_UP) != 0 {
                if let Some(report) = self.given_up() {
                    return Err(SubmitError::GivenUp { report: Box::new(report) });
                }
            }
            let freed = self.cells().load(FREED) as u32;
            fault::point("order:before_submit");
            match self.jobs.submit(class, self.number, self.near(), input, &[now(), 0, 0, 0, 0]) {
                Ok(key) => {
                    fault::point("order:submitted");
                    self.after_submission(class, key)?;
                    return Ok(key);
                }
                Err(jobs::SubmitError::Full { .. }) if !swept => {
                    // Dead submitters have no place in the queue.
                    swept = true;
                    self.sweep();
                }
                Err(jobs::SubmitError::Full { .. }) => {
                    let deadline = deadline.ok_or(SubmitError::Full { class })?;
                    self.wait_for_room(class, freed, deadline)?;
                    swept = false;
                }
                Err(jobs::SubmitError::Unknown { .. }) => {
                    return Err(SubmitError::UnknownClass { class });
                }
                Err(_) => return Err(SubmitError::Corrupt),
            }
        }
    }

    /// Another worker may be needed, or there may be none any more.
    fn after_submission(&self, class: u32, key: JobKey) -> Result<(), SubmitError> {
        if !self.jobs.nobody_sleeps() {
            return Ok(());
        }
        self.launch_if_needed(class);
        if self.cells().load(cells::WORKERS) > u64::from(self.settings.max) {
            return Ok(());
        }
        let refuse = |error| {
            // A worker may have been quicker.
            match self.jobs.cancel(key) {
                jobs::Cancel::Cancelled => {
                    self.freed(key);
                    Err(error)
                }
                _ => Ok(()),
            }
        };
        if !self.backend.postmaster_is_alive() {
            return refuse(SubmitError::PostmasterDied);
        }
        Ok(())
    }

    fn wait_for_room(
        &self,
        class: u32,
        freed: u32,
        deadline: Option<Instant>,
    ) -> Result<(), SubmitError> {
        let interrupts = process::interrupts().count();
        let (Some(cell), Some(waiters)) =
            (self.cells().watch(FREED), self.cells().get(WAIT_FOR_ROOM))
        else {
            return Err(SubmitError::Corrupt);
        };
        if process::interrupts().waits_are_interrupted() {
            return Err(SubmitError::Interrupted);
        }
        if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(SubmitError::Full { class });
        }
        let attachment = &self.backend.attachment;
        let postmaster = attachment.watch_postmaster().ok_or(SubmitError::PostmasterDied)?;
        let changes = attachment.cells().watch_changes();
        // One that dies here is counted for ever: then each free cell costs a system call.
        waiters.fetch_add(1, Ordering::AcqRel);
        fence(Ordering::SeqCst);
        let mut watches = vec![Watch { cell, half: Half::Low, seen: freed }, postmaster];
        watches.push(process::interrupts().watch(interrupts));
        watches.extend(changes);
        let woken = futex::wait_any(&watches, deadline);
        let less = |count: u64| Some(count.saturating_sub(1));
        let _ = waiters.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less);
        match woken.map_err(SubmitError::Wait)? {
            Woken::TimedOut => Err(SubmitError::Full { class }),
            Woken::Changed | Woken::Interrupted => Ok(()),
        }
    }
}

impl<I, O> Clone for Pool<I, O> {
    fn clone(&self) -> Self {
        Self { shared: Arc::clone(&self.shared), types: PhantomData }
    }
}

impl<I, O> fmt::Debug for Pool<I, O> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Pool").field(&self.shared.settings.function).finish()
    }
}

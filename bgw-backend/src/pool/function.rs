//! The worker's side: takes jobs of its pool until it is told to end, or nobody needs it.

use super::answer::{DIED, Death, ENDED_AT, FAILED, Failure, OUTPUT, QUEUED_AT, RUN_PID};
use super::answer::{SEGMENT, TAKEN_AT};
use super::cells::{Count, DRAINING, PoolCells, Settings, WORKERS};
use super::clock::now;
use super::launch::Start;
use super::members::Members;
use super::place::{self, PlaceState, PlaceWord, Run};
use super::shared::{run_is_over, tell_of_room, vacate};
use super::turns::Turns;
use super::types::call_type;
use crate::backend::Backend;
use crate::cached::Caching;
use crate::calls::CallValue;
use crate::calls::format::{self, Carried};
use crate::calls::segments::read_value;
use crate::fault;
use crate::segment::{Segment, SegmentError};
use crate::worker::{Worker, WorkerError};
use bgw_core::{CallEntry, WorkerProcess, WorkerResult};
use shmem_slots::Region;
use shmem_slots::futex::{Half, Watch, Woken};
use shmem_slots::jobs::{JobKey, JobState, Jobs};
use std::cell::{Cell, RefCell};
use std::error::Error;
use std::os::fd::AsFd;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;

/// So long a submitter that was seen alive is not looked at again.
const ALIVE_FOR: u64 = 1_000_000;

/// Makes a function for the workers of a [`Pool`](crate::Pool), for the `call` of the postmaster's
/// builder, out of one that takes a value and returns one.
///
/// Each submitter gets what it returns for its job, or its error with its sources. A panic ends the
/// worker, and its job alone: the submitter gets message and place, and another worker follows.
///
/// ```
/// use bgw_backend::{Worker, WorkerError, pooled};
///
/// fn shout(_: &mut Worker, text: String) -> Result<String, WorkerError> {
///     Ok(text.to_uppercase())
/// }
///
/// // Postmaster::builder().call("shout", pooled(shout))
/// # let _ = pooled(shout);
/// ```
pub fn pooled<F, I, O, E>(function: F) -> CallEntry
where
    F: Fn(&mut Worker, I) -> Result<O, E> + 'static,
    I: CallValue,
    O: CallValue,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let load = |_: &mut Worker| Ok::<(), WorkerError>(());
    pooled_with(load, move |(), worker, input| function(worker, input))
}

/// Like [`pooled`], and each worker calls `load` once, before its first job: for what all its jobs
/// need, a connection or a model. A worker whose `load` fails is started again, and given up when
/// that fails as often as [`PoolOptions::start_attempts`](crate::PoolOptions::start_attempts) says.
pub fn pooled_with<L, S, X, F, I, O, E>(load: L, function: F) -> CallEntry
where
    L: Fn(&mut Worker) -> Result<S, X> + 'static,
    S: 'static,
    X: Into<Box<dyn Error + Send + Sync>>,
    F: Fn(&mut S, &mut Worker, I) -> Result<O, E> + 'static,
    I: CallValue,
    O: CallValue,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let call = call_type::<I, O>();
    let tag = call.tag;
    let main = move |me: &'static WorkerProcess| -> WorkerResult {
        let mut worker = Worker::new(me);
        let Some(mut serving) = Serving::begin(me, tag)? else { return Ok(()) };
        let mut state = load(&mut worker).map_err(Into::into)?;
        worker.unblock_signals()?;
        worker.ready();
        serving.serve(&mut worker, &mut |worker, input, into| {
            let input: I = serving_input(me, input)?;
            let output = function(&mut state, worker, input).map_err(Into::into)?;
            Ok(format::encode_into(&output, into)?)
        })
    };
    CallEntry { main: Box::new(main), call }
}

fn serving_input<I: CallValue>(
    me: &'static WorkerProcess,
    input: &[u8],
) -> Result<I, Box<dyn Error + Send + Sync>> {
    let Carried::InSegment { segment, len } = Carried::of(input) else {
        return Ok(format::decode(input)?);
    };
    let segment = backend(me).segment_once(segment)?;
    Ok(format::decode(&read_value(&segment, len)?)?)
}

fn backend(me: &'static WorkerProcess) -> Backend {
    Backend::from_attachment(Arc::clone(&me.attachment))
}

/// A worker in its place.
struct Serving {
    jobs: Jobs<Region>,
    /// Held, so that the region is there for workers that start.
    _segment: Segment,
    backend: Backend,
    caching: Caching,
    members: Members,
    settings: Settings,
    place: u32,
    pid: u32,
    turns: Turns,
    /// The count of workers does not have it any more.
    counted_out: bool,
    /// When each submitter was seen alive.
    alive: RefCell<Vec<u64>>,
}

type Answer = Result<Vec<u8>, Box<dyn Error + Send + Sync>>;

/// Does a job: its input, and memory for its output.
type Work<'a> = dyn FnMut(&mut Worker, &[u8], Vec<u8>) -> Answer + 'a;

impl Serving {
    /// `None` if nobody needs this worker any more.
    fn begin(me: &'static WorkerProcess, tag: u64) -> Result<Option<Self>, WorkerError> {
        let call = me.worker.call().filter(|call| call.tag == tag && tag != 0);
        let Some(start) = call.and_then(|call| format::decode::<Start>(&call.input).ok()) else {
            return Err("the worker was not registered by a pool of its types".into());
        };
        let backend = backend(me);
        let segment = match backend.segment_once(start.segment()) {
            Ok(segment) => segment,
            // Nobody has it open any more.
            Err(SegmentError::Gone { .. }) => return Ok(None),
            Err(error) => return Err(boxed(error)),
        };
        let file = segment.as_fd().try_clone_to_owned().map_err(boxed)?;
        let jobs = Jobs::attach(file, tag).map_err(boxed)?;
        let cells = PoolCells(&jobs);
        let Some(place) = cells.place(start.place) else { return Ok(None) };
        let word = PlaceWord::read(place);
        let mine = matches!(word.state, PlaceState::Launching { .. } | PlaceState::Launched);
        if !mine || word.launch != start.launch || !place::join(place, word, me.handle) {
            return Ok(None);
        }
        let members = Members::open(&segment, jobs.options().submitters).map_err(boxed)?;
        let settings = cells.settings();
        let turns = Turns::new(start.place, &settings.classes);
        let alive = RefCell::new(vec![0; jobs.options().submitters as usize]);
        let run = Run { handle: me.handle, pid: me.attachment.owner() };
        let serving = Self {
            jobs,
            _segment: segment,
            backend,
            caching: Caching::begin(me),
            members,
            settings,
            place: start.place,
            pid: run.pid.get(),
            turns,
            counted_out: false,
            alive,
        };
        serving.follow(run);
        Ok(Some(serving))
    }

    const fn cells(&self) -> PoolCells<'_> {
        PoolCells(&self.jobs)
    }

    /// Closes the jobs of the run before, and takes its place.
    fn follow(&self, run: Run) {
        let cells = self.cells();
        self.jobs.is_awake(self.place);
        cells.set_busy(self.place, false);
        let before = cells.run(self.place).filter(|&before| before != run);
        let keys: Vec<JobKey> = self.jobs.taken_by(self.place).collect();
        if !keys.is_empty() {
            let report = before.and_then(|before| {
                let handle = self.backend.handle(before.handle);
                let over = before.handle == run.handle || run_is_over(&handle, before);
                handle.exit_report().filter(|report| over && report.pid == Some(before.pid))
            });
            let death = Death::encoded(report.as_ref());
            for key in keys {
                if self.jobs.close(key, self.place, DIED, &death).is_ok_and(|end| !end.wanted) {
                    tell_of_room(cells);
                }
            }
        }
        fault::point("pool:before_join");
        if let Some(place) = cells.place(self.place) {
            run.write(place);
        }
        fault::point("pool:joined");
    }

    /// Takes jobs until there is a reason to end.
    fn serve(&mut self, worker: &mut Worker, work: &mut Work<'_>) -> WorkerResult {
        let mut buffers = [Vec::new(), Vec::new()];
        // The end of one job is when the next is taken: the clock takes as long as the queue does.
        let mut time = now();
        while !worker.should_stop() {
            let Some(key) = self.take(time) else {
                let next = self.sleep(worker)?;
                time = now();
                match next {
                    Next::Look => continue,
                    Next::Leave => break,
                }
            };
            let (ended, is_last) = self.run(worker, key, time, &mut buffers, work);
            if is_last {
                break;
            }
            time = ended;
        }
        self.leave();
        Ok(())
    }

    fn take(&mut self, time: u64) -> Option<JobKey> {
        let jobs = &self.jobs;
        let first = self.turns.next(|class| jobs.queued(class) > 0)?;
        let gave_up = Cell::new(false);
        let is_gone = |submitter| {
            let gone = self.is_gone(submitter, time);
            gave_up.set(gave_up.get() || gone);
            gone
        };
        let rest = self.turns.classes().filter(|&class| class != first);
        let classes = std::iter::once(first).chain(rest);
        // Corrupt cells hold no job.
        let take = |class| jobs.take(class, self.place, is_gone).ok().flatten();
        let taken = { classes }.find_map(take);
        if gave_up.get() {
            tell_of_room(self.cells());
        }
        taken
    }

    /// True if the submitter of a job is gone, which is given up then.
    fn is_gone(&self, submitter: u32, time: u64) -> bool {
        let mut alive = self.alive.borrow_mut();
        let seen = alive.get_mut(submitter as usize);
        if seen.as_ref().is_some_and(|seen| time.saturating_sub(**seen) < ALIVE_FOR) {
            return false;
        }
        let gone = self.members.is_gone(submitter);
        match seen {
            Some(seen) if !gone => *seen = time,
            _ => self.cells().job_given_up(self.place),
        }
        gone
    }

    /// Runs one job. Returns when it ended, and true if this worker takes no other.
    fn run(
        &self,
        worker: &mut Worker,
        key: JobKey,
        begun: u64,
        [input, output]: &mut [Vec<u8>; 2],
        work: &mut Work<'_>,
    ) -> (u64, bool) {
        fault::point("pool:taken");
        self.note(key, TAKEN_AT, begun);
        self.note(key, RUN_PID, u64::from(self.pid));
        self.note(key, SEGMENT, 0);
        self.cells().set_busy(self.place, true);
        self.jobs.read(key, input);
        fault::point("pool:begun");
        let into = std::mem::take(output);
        let answer = work(worker, input, into).and_then(|output| self.carry(key, output));
        let (code, what, bytes) = match answer {
            Ok(output) => (OUTPUT, Count::Output, output),
            Err(error) => (FAILED, Count::Failed, Failure::of(&*error).encoded()),
        };
        fault::point("pool:answered");
        let ended = now();
        self.note(key, ENDED_AT, ended);
        let queued = self.jobs.note(key, QUEUED_AT).map_or(0, |at| at.load(Ordering::Relaxed));
        let (waited, ran) = (begun.saturating_sub(queued), ended.saturating_sub(begun));
        self.cells().job_ended(self.place, what, waited, ran);
        let end = self.jobs.end(key, self.place, code, &bytes);
        fault::point("pool:ended");
        self.cells().set_busy(self.place, false);
        if end.is_ok_and(|end| !end.wanted) {
            tell_of_room(self.cells());
        }
        // What has grown large is given back.
        if bytes.capacity() <= self.jobs.room() {
            *output = bytes;
        }
        (ended, end.is_ok_and(|end| end.cancelled))
    }

    fn note(&self, key: JobKey, number: usize, value: u64) {
        if let Some(cell) = self.jobs.note(key, number) {
            cell.store(value, Ordering::Relaxed);
        }
    }

    /// An output as it lies in the room: itself, or a reference to the segment that it lies in. The
    /// job names that before its submitter holds it.
    fn carry(&self, key: JobKey, output: Vec<u8>) -> Answer {
        if output.len() <= self.jobs.room() {
            return Ok(output);
        }
        let (segment, reference) = self.backend.put_value(&output)?;
        let wanted = self.jobs.look(key).is_some_and(|word| word.state() == JobState::Taken);
        let submitter = self.cells().pid(self.jobs.submitter_of(key));
        if let (true, Some(submitter)) = (wanted, submitter) {
            self.note(key, SEGMENT, segment.handle().to_bits());
            segment.pass_to(submitter)?;
        }
        Ok(reference)
    }

    fn sleep(&mut self, worker: &Worker) -> Result<Next, WorkerError> {
        let cells = self.cells();
        let Ok(watches) = worker.watches() else { return Ok(Next::Leave) };
        let (Some(cell), true) = (cells.watch(DRAINING), !worker.should_stop()) else {
            return Ok(Next::Leave);
        };
        let draining = Watch { cell, half: Half::Low, seen: 0 };
        let [interrupts, postmaster] = watches;
        let idle = Instant::now().checked_add(self.settings.idle);
        let mut also = vec![draining, interrupts, postmaster];
        also.extend(self.caching.look());
        let classes: Vec<u32> = self.turns.classes().collect();
        let woken = self.jobs.wait_for_job(&classes, self.place, &also, idle).map_err(boxed)?;
        let waits = classes.iter().any(|&class| self.jobs.queued(class) > 0);
        if waits {
            return Ok(Next::Look);
        }
        let leaves = self.cells().is_draining()
            || woken == Woken::TimedOut && (self.members.is_nobody() || self.counts_itself_out());
        Ok(if leaves { Next::Leave } else { Next::Look })
    }

    /// Counts this worker out if there are more than the least: of several that would, as many do
    /// as there are above it.
    fn counts_itself_out(&mut self) -> bool {
        let reserved = self.turns.classes().len() == 1 && self.settings.classes.len() > 1;
        let least = u64::from(self.settings.min);
        let Some(cell) = self.cells().get(WORKERS).filter(|_| !reserved) else { return false };
        let less = |workers: u64| (workers > least).then(|| workers - 1);
        let counted = cell.fetch_update(Ordering::AcqRel, Ordering::Relaxed, less).is_ok();
        self.counted_out |= counted;
        counted
    }

    /// A wake-up that was meant for this worker goes to another one.
    fn leave(&self) {
        fault::point("pool:leaving");
        if let Some(place) = self.cells().place(self.place) {
            let word = PlaceWord::read(place);
            if matches!(word.state, PlaceState::Launching { .. } | PlaceState::Launched) {
                if self.counted_out {
                    word.swap(place, word.turned(PlaceState::Vacant));
                } else {
                    vacate(self.cells(), self.place, word);
                }
            }
        }
        for class in self.turns.classes() {
            if self.jobs.queued(class) > 0 {
                self.jobs.wake_taker(class);
            }
        }
    }
}

enum Next {
    Look,
    Leave,
}

fn boxed(error: impl Error + Send + Sync + 'static) -> WorkerError {
    WorkerError::from(Box::<dyn Error + Send + Sync>::from(error))
}

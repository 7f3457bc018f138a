//! The rules as tables: a cluster, a row of events, the actions that must follow.

mod after;
mod asked_by;
mod culprit;
mod exit;
mod grace;
mod group;
mod heartbeat;
mod intensity;
mod lateness;
mod overlap;
mod overlap_roll;
mod patience;
mod recycle;
mod reload;
mod reset;
mod roll;
mod shutdown;
mod start;
mod streak;
mod supervision;
mod terminate;
mod verdict;

use super::action::Action;
use super::cluster::{Cluster, Policy};
use super::ending::{Culprit, Ending, Exit, ProcessEnd};
use super::event::Event;
use super::registry::NotifyTarget;
use bgw_core::{AskedBy, BackgroundWorker, ExitCause, Pid, RestartPolicy, StartTime, WorkerFlags};
use shmem_slots::Key;
use std::time::{Duration, Instant};

const SHARED: WorkerFlags = WorkerFlags::SHMEM_ACCESS;
const ISOLATED: WorkerFlags = WorkerFlags::empty();
const CRASH: ExitCause = ExitCause::Signaled { signal: 11, core_dumped: false };

/// A cluster with a clock of its own.
struct TestCluster {
    state: Cluster,
    now: Instant,
}

fn key(index: u32) -> Key {
    Key { index, generation: 1 }
}

fn pid(index: u32) -> Pid {
    Pid::new(1000 + index).unwrap()
}

fn worker(flags: WorkerFlags, restart: RestartPolicy) -> Box<BackgroundWorker> {
    Box::new(
        BackgroundWorker::builder("w").function("f").flags(flags).restart(restart).build().unwrap(),
    )
}

fn process_end(index: u32, cause: ExitCause) -> ProcessEnd {
    ProcessEnd {
        pid: pid(index),
        cause,
        ran_for: seconds(7),
        user_time: seconds(2),
        system_time: seconds(1),
        max_rss_kib: 64,
        copied_kib: None,
    }
}

/// The process of worker `index` ended.
fn ended(index: u32, cause: ExitCause, restarts: u32, asked_by: Option<AskedBy>) -> Ending {
    Ending { process: Some(process_end(index, cause)), ..never_ran(cause, restarts, asked_by) }
}

/// It ended with the reset that the crash of worker `culprit` led to.
fn by_reset(culprit: u32, ending: Ending) -> Ending {
    Ending { reset: Some(crash_of(culprit)), ..ending }
}

fn crash_of(index: u32) -> Culprit {
    Culprit { key: key(index), pid: pid(index), cause: CRASH }
}

/// It was the first failure in a row, and a pause follows or not.
fn first_failure(pause: Option<Duration>, ending: Ending) -> Ending {
    Ending { streak: 1, pause, ..ending }
}

/// A worker ended without a process.
fn never_ran(cause: ExitCause, restarts: u32, asked_by: Option<AskedBy>) -> Ending {
    let (streak, pause, given_up, killed, recycled) = (0, None, None, false, None);
    let (reset, process) = (None, None);
    Ending { cause, restarts, asked_by, killed, streak, pause, given_up, recycled, reset, process }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

impl TestCluster {
    fn with(policy: Policy) -> Self {
        Self { state: Cluster::new(policy), now: Instant::now() }
    }

    fn new() -> Self {
        Self::with(Policy::default())
    }

    fn is_empty(&self) -> bool {
        self.state.registry().iter().next().is_none()
    }

    /// The actions that follow from `event`, without log lines.
    fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.state.step(event, self.now, &mut actions);
        actions.retain(|action| !matches!(action, Action::Log(_)));
        actions
    }

    fn register(&mut self, index: u32, worker: Box<BackgroundWorker>) -> Vec<Action> {
        let notify = Some(NotifyTarget::Session(u64::from(index)));
        let registered_at = u64::from(index);
        let (key, terminate) = (key(index), false);
        self.step(Event::Registered { key, worker, notify, terminate, registered_at })
    }

    /// Registers and starts a worker.
    fn running(&mut self, index: u32, flags: WorkerFlags, restart: RestartPolicy) {
        self.register(index, worker(flags, restart));
        self.starts(index);
    }

    /// Registers and starts a worker that may start in the first phase.
    fn running_at_start(&mut self, index: u32) {
        let worker = BackgroundWorker::builder("early")
            .function("f")
            .start_time(StartTime::PostmasterStart)
            .build();
        self.register(index, Box::new(worker.unwrap()));
        self.starts(index);
    }

    fn starts(&mut self, index: u32) {
        assert_eq!(self.state.next_to_start(), Some(key(index)));
        self.step(Event::Forked { key: key(index), pid: pid(index), random: 0 });
    }

    fn exits(&mut self, index: u32, cause: ExitCause) -> Vec<Action> {
        self.exits_after(index, cause, seconds(7))
    }

    /// The process of worker `index` ended after a run of this length.
    fn exits_after(&mut self, index: u32, cause: ExitCause, ran_for: Duration) -> Vec<Action> {
        let end = ProcessEnd { ran_for, ..process_end(index, cause) };
        let exit = Exit { end, dirty: false, group_left: false, random: 0 };
        self.step(Event::ChildExited { key: key(index), exit })
    }

    fn later(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.step(Event::Tick)
    }
}

//! What must hold when all is quiet, and after the end of a cluster.

use crate::actor::{HUNG, with_sources};
use crate::job::{QUICK, UNTIL_TOLD};
use crate::journal::{Journal, Kind};
use crate::seen::Seen;
use crate::{job::Job, processes, report};
use bgw_backend::{Backend, ExitCause, RegisterError, WorkerStatus};
use bgw_postmaster::Launched;
use nix::sys::wait::{WaitPidFlag, waitpid};
use std::time::{Duration, Instant};

/// How many guardians a postmaster has, as a child.
pub(crate) const GUARDIAN: usize = 1;
/// How many templates the postmaster of a round has.
const TEMPLATES: usize = 1;

/// What the postmaster had before anything happened.
pub(crate) struct Baseline {
    postmaster: u32,
    /// Spares, the guardian and the template.
    spares: usize,
    /// How many may sleep beside them.
    used: usize,
    descriptors: usize,
}

impl Baseline {
    /// Of a postmaster that has just begun: waits until its spares are there.
    /// Later up to `used` processes may sleep beside them whose workers have ended.
    pub(crate) fn take(backend: &Backend, spares: usize, used: usize) -> Result<Self, String> {
        let (postmaster, spares) = (backend.postmaster().get(), spares + GUARDIAN + TEMPLATES);
        until("the spares, the guardian and the template are forked", || {
            let found = processes::children(postmaster).len();
            if found == spares { Ok(()) } else { Err(format!("{found} of {spares}")) }
        })?;
        // What it had open for a fork is closed in the same pass.
        backend.ping().map_err(|error| with_sources(&error))?;
        Ok(Self { postmaster, spares, used, descriptors: processes::descriptors(postmaster) })
    }

    /// No process but the spares, the guardian and the template, no zombie, no descriptor more than
    /// in the beginning.
    pub(crate) fn holds(&self) -> Result<(), String> {
        until("the postmaster has its spares and no other child", || {
            let children = processes::children(self.postmaster);
            let zombies = children.iter().filter(|child| child.state == 'Z').count();
            let complete = self.spares..=self.spares + self.used;
            if complete.contains(&children.len()) && zombies == 0 {
                return Ok(());
            }
            Err(format!("{} children, {zombies} zombies: {children:?}", children.len()))
        })?;
        self.descriptors_hold()
    }

    /// Whoever has ended is reaped.
    pub(crate) fn no_zombies(&self) -> Result<(), String> {
        until("the postmaster has reaped its children", || {
            let children = processes::children(self.postmaster);
            let zombies = children.iter().filter(|child| child.state == 'Z').count();
            if zombies == 0 { Ok(()) } else { Err(format!("{zombies} zombies: {children:?}")) }
        })
    }

    /// No descriptor more than in the beginning, but for those of children that run. Slots may hide
    /// a worker, so they are not asked who runs.
    pub(crate) fn descriptors_hold(&self) -> Result<(), String> {
        until("the postmaster has closed what it opened", || {
            let now = processes::descriptors(self.postmaster);
            let children = processes::children(self.postmaster).len();
            let more = children.saturating_sub(self.spares);
            if now == self.descriptors || more > 0 && now <= self.descriptors + more {
                return Ok(());
            }
            let then = self.descriptors;
            Err(format!("{now} descriptors, {then} in the beginning; {more} children more"))
        })
    }
}

/// Whoever a worker has started in its group has ended with it: orphans would be our children now.
pub(crate) fn no_orphans(postmaster: u32) -> Result<(), String> {
    until("what workers have started has ended with them", || {
        reap(postmaster);
        let left = processes::children(std::process::id());
        let left: Vec<_> = left.iter().filter(|child| child.pid != postmaster).collect();
        if left.is_empty() { Ok(()) } else { Err(format!("{left:?}")) }
    })
}

/// Reaps the children that have ended, but for `except`.
fn reap(except: u32) {
    for child in processes::children(std::process::id()) {
        if child.state == 'Z' && child.pid != except {
            // Nobody else reaps it: this process has one thread.
            let _ =
                waitpid(nix::unistd::Pid::from_raw(child.pid as i32), Some(WaitPidFlag::WNOHANG));
        }
    }
}

/// Waits for a condition; says at last why it does not hold.
pub(crate) fn until(
    what: &str,
    mut condition: impl FnMut() -> Result<(), String>,
) -> Result<(), String> {
    let limit = Instant::now() + HUNG / 2;
    loop {
        let Err(why) = condition() else { return Ok(()) };
        if Instant::now() > limit {
            return Err(format!("never: {what}: {why}"));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

/// Each slot of a class takes a worker, and there is not one more. With `faults` a worker may be
/// killed at its start.
pub(crate) fn every_slot_is_free(
    backend: &Backend,
    journal: Journal,
    who: u32,
    slots: u32,
    parallel: bool,
    faults: bool,
) -> Result<(), String> {
    let job = Job { parallel, ..UNTIL_TOLD };
    let worker = job.describe(None).map_err(|error| error.to_string())?;
    let mut handles = Vec::new();
    for place in 0..slots {
        let begin = journal.ticket();
        let handle = backend.register(&worker).map_err(|error| {
            format!("slot {place} of {slots} is lost: {}", with_sources(&error))
        })?;
        journal.note(begin, who, Kind::Registered, handle.id(), [job.encode(), 0, 0]);
        handles.push(handle);
    }
    match backend.register(&worker) {
        Err(RegisterError::NoFreeSlot { .. } | RegisterError::NoParallelSlot { .. }) => {}
        // One of them was killed and has freed its slot.
        Ok(handle) if faults => handles.push(handle),
        other => return Err(format!("slot {slots} of {slots}: {other:?}")),
    }
    for handle in &handles {
        let status = handle.wait_for_startup_timeout(HUNG).map_err(|error| error.to_string())?;
        if !faults && !matches!(Seen::of(&status), Seen::Started { .. }) {
            return Err(format!("{handle} should run and is {status:?}"));
        }
    }
    for handle in &handles {
        let begin = journal.ticket();
        handle.terminate().map_err(|error| with_sources(&error))?;
        journal.note(begin, who, Kind::Terminated, handle.id(), [0; 3]);
    }
    for handle in &handles {
        let status = handle.wait_for_shutdown_timeout(HUNG).map_err(|error| error.to_string())?;
        if !Seen::of(&status).is_final() {
            return Err(format!("{handle} should have ended and is {status:?}"));
        }
    }
    Ok(())
}

/// Registers workers of the template, until one has run to its end: it may have died a moment ago.
pub(crate) fn template_serves(backend: &Backend, journal: Journal, who: u32) -> Result<(), String> {
    let job = Job { template: true, ..QUICK };
    let worker = job.describe(None).map_err(|error| error.to_string())?;
    until("a worker of the template runs", || {
        let begin = journal.ticket();
        let handle = backend.register(&worker).map_err(|error| with_sources(&error))?;
        journal.note(begin, who, Kind::Registered, handle.id(), [job.encode(), 0, 0]);
        let status = handle.wait_for_end_timeout(HUNG).map_err(|error| error.to_string())?;
        match &status {
            WorkerStatus::Stopped(Some(report)) if report.cause == ExitCause::Exited(0) => Ok(()),
            _ => Err(format!("{handle} is {status:?}")),
        }
    })
}

/// The postmaster has ended as it should.
pub(crate) fn ends(launched: &Launched, way: &str, killed: bool) -> Result<(), String> {
    let began = Instant::now();
    while processes::read(launched.pid().get()).is_some_and(|process| process.state != 'Z') {
        if began.elapsed() > HUNG {
            let tree = report::hang(launched.pid().get());
            return Err(format!("{way}: the postmaster does not end\n{tree}"));
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    let cause = launched.wait().map_err(|error| error.to_string())?;
    match cause {
        ExitCause::Signaled { signal: 9, .. } if killed => Ok(()),
        ExitCause::Exited(0) if !killed => Ok(()),
        // A crash reset was under way.
        ExitCause::Exited(1) if !killed => Ok(()),
        cause => Err(format!("{way}: the postmaster {cause}")),
    }
}

/// The postmaster has ended as it should, or was killed: true then.
#[cfg(feature = "fault")]
pub(crate) fn ends_or_was_killed(launched: &Launched) -> Result<bool, String> {
    until("the postmaster has ended", || {
        let process = processes::read(launched.pid().get());
        let ended = process.is_none_or(|process| process.state == 'Z');
        if ended { Ok(()) } else { Err(report::hang(launched.pid().get())) }
    })?;
    match launched.wait().map_err(|error| error.to_string())? {
        ExitCause::Signaled { signal: 9, .. } => Ok(true),
        ExitCause::Exited(0 | 1) => Ok(false),
        cause => Err(format!("the postmaster {cause}")),
    }
}

/// Every process of the cluster is gone: those that outlived their parent are ours now.
pub(crate) fn nothing_is_left(way: &str) -> Result<(), String> {
    let began = Instant::now();
    loop {
        reap(0);
        let left = processes::children(std::process::id());
        if left.is_empty() {
            return Ok(());
        }
        // D05 says 6 s.
        if began.elapsed() > Duration::from_secs(15) {
            return Err(format!(
                "{way}: {} processes are left\n{}",
                left.len(),
                report::hang(std::process::id())
            ));
        }
        std::thread::sleep(Duration::from_millis(2));
    }
}

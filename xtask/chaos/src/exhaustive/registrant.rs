//! The program that registers: each step of a scenario, with its excuse when the postmaster has
//! died.

use crate::job::{Job, QUICK, TEMPLATE, Terminate, Way};
use crate::journal::{Journal, Kind};
use crate::seen::{Seen, by};
use bgw_backend::{
    AnswerError, AskError, Backend, BackgroundWorker, Handle, ReforkError, RegisterError,
    WaitError, WorkerStatus,
};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// A wait that takes longer hangs.
pub(super) const LONG: Duration = Duration::from_secs(40);

/// A program that is executed.
pub(super) const COMMAND: Job = Job { command: true, terminate: Terminate::Default, ..QUICK };

/// A worker that shares memory and crashes.
pub(super) const CRASHES: Job = Job { way: Way::Raise(6), after: Some(5), shares: true, ..QUICK };

/// The postmaster is gone: nothing more to do.
pub(crate) struct Gone;

/// The program that registers. What it sees goes into the journal; what must not be is printed.
pub(crate) struct Registrant {
    pub(crate) backend: Backend,
    pub(crate) journal: Journal,
    /// Somebody is killed or stopped in this run.
    pub(crate) faulty: bool,
    /// The runtime folder.
    pub(crate) folder: PathBuf,
}

impl Registrant {
    pub(super) fn register(&self, job: Job, notify: bool) -> Result<Handle, Gone> {
        let worker = job.describe(notify.then(|| self.backend.pid()));
        let worker = worker.map_err(|error| self.broken(&error.to_string()))?;
        self.register_as(&worker, job)
    }

    /// Registers a worker of which the others know `job`.
    pub(super) fn register_as(&self, worker: &BackgroundWorker, job: Job) -> Result<Handle, Gone> {
        let until = Instant::now() + LONG;
        loop {
            let begin = self.journal.ticket();
            match self.backend.register(worker) {
                Ok(handle) => {
                    let about = [job.encode(), 0, 0];
                    self.journal.note(begin, 1, Kind::Registered, handle.id(), about);
                    return Ok(handle);
                }
                Err(RegisterError::NoFreeSlot { .. } | RegisterError::NoParallelSlot { .. })
                    if Instant::now() < until =>
                {
                    std::thread::sleep(Duration::from_millis(1));
                }
                Err(RegisterError::ClaimLost(_)) => {}
                Err(error) => self.excuse(&format!("registering failed: {error}"))?,
            }
        }
    }

    /// Waits for a slot for a worker; `None` when the time is over.
    pub(super) fn queue(&self, job: Job, timeout: Duration) -> Result<Option<Handle>, Gone> {
        let worker = job.describe(None).map_err(|error| self.broken(&error.to_string()))?;
        let begin = self.journal.ticket();
        match self.backend.register_timeout(&worker, timeout) {
            Ok(handle) => {
                let about = [job.encode(), 0, 0];
                self.journal.note(begin, 1, Kind::Registered, handle.id(), about);
                Ok(Some(handle))
            }
            Err(RegisterError::TimedOut) => Ok(None),
            Err(error) => {
                self.excuse(&format!("waiting for a slot failed: {error}")).map(|()| None)
            }
        }
    }

    /// Asks for the last lines of a worker. All are `line`; whatever became of the collector, there
    /// is an answer.
    pub(super) fn last_lines_are(&self, handle: &Handle, line: &str) -> Result<(), Gone> {
        match handle.last_lines() {
            Ok(lines) if lines.iter().all(|said| said == line) => Ok(()),
            Ok(lines) => Err(self.broken(&format!("{handle} has said {lines:?}"))),
            Err(error) => self.excuse(&format!("asking for last lines failed: {error}")),
        }
    }

    /// There is one slot left: two workers do not fit, unless another one was killed.
    pub(super) fn batch_is_too_large(&self) -> Result<(), Gone> {
        let worker = QUICK.describe(None).map_err(|error| self.broken(&error.to_string()))?;
        match self.backend.register_all(&[worker.clone(), worker]) {
            Err(RegisterError::NoFreeSlot { .. } | RegisterError::ClaimLost(_)) => Ok(()),
            Err(error) => self.excuse(&format!("registering two failed: {error}")),
            Ok(handles) => {
                let begin = self.journal.ticket();
                for handle in &handles {
                    let about = [QUICK.encode(), 0, 0];
                    self.journal.note(begin, 1, Kind::Registered, handle.id(), about);
                }
                Ok(())
            }
        }
    }

    /// There is no slot left; but a worker may have been killed.
    pub(super) fn is_full(&self) -> Result<(), Gone> {
        let worker = QUICK.describe(None).map_err(|error| self.broken(&error.to_string()))?;
        match self.backend.register(&worker) {
            Err(RegisterError::NoFreeSlot { .. } | RegisterError::ClaimLost(_)) => Ok(()),
            Err(error) => self.excuse(&format!("registering failed: {error}")),
            Ok(handle) => {
                let about = [QUICK.encode(), 0, 0];
                let begin = self.journal.ticket();
                self.journal.note(begin, 1, Kind::Registered, handle.id(), about);
                Ok(())
            }
        }
    }

    pub(super) fn terminate(&self, handle: &Handle) -> Result<(), Gone> {
        let begin = self.journal.ticket();
        if let Err(error) = handle.terminate() {
            self.excuse(&format!("terminating {handle} failed: {error}"))?;
        }
        self.journal.note(begin, 1, Kind::Terminated, handle.id(), [0; 3]);
        Ok(())
    }

    /// Signals the worker's process, if it runs; gives that process.
    pub(super) fn signal(&self, handle: &Handle, signal: Signal) -> Option<Pid> {
        let WorkerStatus::Started(pid) = handle.status() else { return None };
        let begin = self.journal.ticket();
        let about = [u64::from(pid.get()), signal as u64, 0];
        // Before it happens: who looks for stopped processes leaves this one alone.
        self.journal.note(begin, 1, Kind::Signalled, handle.id(), about);
        let pid = crate::round::raw(pid);
        nix::sys::signal::kill(pid, signal).ok().map(|()| pid)
    }

    pub(super) fn terminate_after_crash(&self, handle: &Handle) -> Result<(), Gone> {
        let crashing = self.register(CRASHES, false)?;
        self.wait_for_end(&crashing)?;
        self.terminate(handle)
    }

    pub(super) fn see(&self, handle: &Handle) {
        let begin = self.journal.ticket();
        self.saw(begin, handle, &handle.status(), 0);
    }

    pub(super) fn saw(&self, begin: u64, handle: &Handle, status: &WorkerStatus, how: u64) {
        let [a, b] = Seen::of(status).encode();
        self.journal.note(begin, 1, Kind::Saw, handle.id(), [a, b, by::REGISTRANT | how]);
    }

    pub(super) fn wait_for_start(&self, handle: &Handle) -> Result<(), Gone> {
        let begin = self.journal.ticket();
        let status = self.answer(handle, handle.wait_for_startup_timeout(LONG))?;
        self.saw(begin, handle, &status, by::WAIT);
        Ok(())
    }

    /// Until it has been started again, or has ended for good.
    pub(super) fn wait_for_restart(&self, handle: &Handle) -> Result<(), Gone> {
        let until = Instant::now() + LONG;
        loop {
            let begin = self.journal.ticket();
            let status = self.answer(handle, handle.wait_for_shutdown_timeout(LONG))?;
            self.saw(begin, handle, &status, by::WAIT);
            let seen = Seen::of(&status);
            let again = matches!(seen, Seen::Stopped(Some(report)) if report.restarts > 0);
            if seen.is_final() || again {
                return Ok(());
            }
            // This wait tells what the slot says, also after the postmaster's death.
            if !self.backend.postmaster_is_alive() {
                return Err(Gone);
            }
            if Instant::now() > until {
                return Err(self.broken(&format!("{handle} is not restarted: {seen:?}")));
            }
            std::thread::sleep(Duration::from_micros(200));
        }
    }

    pub(super) fn wait_for_end(&self, handle: &Handle) -> Result<(), Gone> {
        wait_for_end(self.journal, handle, by::REGISTRANT).map_err(|why| self.broken(&why))?;
        if self.backend.postmaster_is_alive() { Ok(()) } else { Err(Gone) }
    }

    /// Terminates all that are registered, until none is.
    pub(super) fn end_all(&self) -> Result<(), Gone> {
        let until = Instant::now() + LONG;
        loop {
            let all = self.backend.workers();
            if all.is_empty() {
                return Ok(());
            }
            if !self.backend.postmaster_is_alive() {
                return Err(Gone);
            }
            for info in &all {
                self.terminate(&self.backend.handle(info.handle))?;
            }
            if Instant::now() > until {
                return Err(self.broken(&format!("workers stay: {all:?}")));
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }

    pub(super) fn answer(
        &self,
        handle: &Handle,
        answer: Result<WorkerStatus, WaitError>,
    ) -> Result<WorkerStatus, Gone> {
        match answer {
            Ok(WorkerStatus::PostmasterDied) => Err(Gone),
            Ok(status) => Ok(status),
            Err(error) => Err(self.broken(&format!("waiting for {handle}: {error}"))),
        }
    }

    /// An error is excused when the postmaster has died.
    pub(super) fn excuse(&self, what: &str) -> Result<(), Gone> {
        // A request may fail a moment before the death is marked.
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            if !self.backend.postmaster_is_alive() {
                return Err(Gone);
            }
            std::thread::sleep(Duration::from_millis(1));
        }
        Err(self.broken(what))
    }

    /// Has the template loaded anew, as far as it can be.
    pub(super) fn refork(&self) -> Result<(), Gone> {
        match self.backend.refork(TEMPLATE) {
            // It was killed, or it is being loaded already.
            Ok(()) | Err(ReforkError::Answer(AnswerError::Ask(AskError::Refused { .. }))) => Ok(()),
            Err(error) => self.excuse(&format!("loading the template anew failed: {error}")),
        }
    }

    pub(super) fn broken(&self, what: &str) -> Gone {
        println!("BROKEN: {what}");
        self.journal.broke(1, crate::journal::NOBODY);
        Gone
    }
}

/// Waits until the worker has ended for good, or the postmaster has died.
pub(crate) fn wait_for_end(journal: Journal, handle: &Handle, how: u64) -> Result<(), String> {
    loop {
        let begin = journal.ticket();
        let status = match handle.wait_for_end_timeout(LONG) {
            Ok(status) => status,
            Err(WaitError::Interrupted) => continue,
            Err(error) => return Err(format!("waiting for the end of {handle}: {error}")),
        };
        let seen = Seen::of(&status);
        let [a, b] = seen.encode();
        journal.note(begin, 1, Kind::Saw, handle.id(), [a, b, how | by::WAIT | by::END]);
        return Ok(());
    }
}

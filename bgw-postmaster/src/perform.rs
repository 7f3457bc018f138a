//! Actions to system calls and stores.
//!
//! The order of the rules is kept: the fact first, then whoever is told. Each action costs what it
//! concerns, a slot or a process; none walks a list, but those that are for everybody.

use crate::child::{ChildContext, Launch, run_worker};
use crate::error::RunError;
use crate::event_loop::Token;
use crate::fault;
use crate::rules::{Action, Ending, Event, News, Note, NotifyTarget, StopSignal};
use crate::server::{Child, Server};
use crate::sys::fork::{Forked, SingleThreaded};
use bgw_core::shared::ClusterCells;
use bgw_core::shared::{ReportRecord, WorkerRecord, flag};
use bgw_core::sys::pidfd;
use bgw_core::{EntryPoint, ExitCause, ExitReport, NotStarted, Pid, WorkerHandle};
use rustix::process::Signal;
use shmem_slots::{Key, Snapshot};
use std::collections::{HashMap, HashSet};
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

/// How many workers are forked before other events are looked at.
const STARTS_IN_A_ROW: usize = 100;

/// What came of a fork.
enum Forking {
    /// A child whose end will be heard of.
    Watched(Pid),
    /// A child whose end would not: there was no descriptor for it, say.
    Unwatched { pid: Pid, started: Instant, errno: i32 },
}

fn errno_of(error: &io::Error) -> i32 {
    error.raw_os_error().unwrap_or(libc::EIO)
}

impl Server {
    pub(crate) fn perform(&mut self, action: Action) {
        match action {
            Action::ReportStarted(key, pid) => self.report_started(key, pid),
            Action::ReportUnstarted(key) => {
                self.publish(key, 0, 0);
            }
            Action::ReportStopped(key, ending) => {
                self.write_report(key, ending, false);
                fault::point("exit:before_word");
                self.publish(key, 0, flag::STOPPED);
            }
            Action::Unregister(key, ending) => {
                self.write_report(key, ending, true);
                fault::point("free:before");
                if let Err(error) = self.slots.free(key) {
                    self.say_corrupt(key.index, &error.to_string());
                }
                fault::point("free:after");
                ClusterCells::new(&self.slots).count_change();
            }
            Action::Notify(target, news) => self.notify(target, news),
            Action::Stop(key, signal) => self.stop(key, signal),
            Action::ForwardReload => self.signal_all(Signal::HUP),
            Action::ResetSlots => self.reset_shared(),
            Action::PublishPhase(phase) => ClusterCells::new(&self.slots).set_phase(phase),
            Action::Log(note) => self.say(&note),
        }
    }

    /// Forks the workers that are due, a bounded number of them.
    pub(crate) fn start_workers(&mut self) -> Result<(), RunError> {
        for _ in 0..STARTS_IN_A_ROW {
            let Some(key) = self.cluster.next_to_start() else { return Ok(()) };
            let started = match self.hand_to_spare(key) {
                Some(pid) => Ok(Forking::Watched(pid)),
                None => self.fork_worker(key),
            };
            match started {
                Ok(Forking::Watched(pid)) => self.step(Event::Forked { key, pid }),
                Ok(Forking::Unwatched { pid, started, errno }) => {
                    self.end_unwatched(key, pid, started, errno);
                }
                Err(error) => self.step(Event::ForkFailed { key, errno: errno_of(&error) }),
            }
        }
        Ok(())
    }

    fn fork_worker(&mut self, key: Key) -> io::Result<Forking> {
        let Some(entry) = self.cluster.registry().get(key) else {
            return Err(io::ErrorKind::NotFound.into());
        };
        let incarnation = ClusterCells::new(&self.slots).incarnation();
        let handle = WorkerHandle::new(key.index, key.generation, incarnation);
        let main = self.functions.index_of(&entry.worker);
        // The child does not have the registry.
        let (worker, restarts) = (Arc::new(entry.worker.clone()), entry.next_restarts());
        let proof = self.prove_single_threaded()?;
        // The mark of a life before, which a crash has left behind, is not this one's.
        ClusterCells::new(&self.slots).mark_cleanup_needed(key.index, false);
        let started = Instant::now();
        fault::step("start:before_fork")?;
        let forked = match (entry.worker.entry(), &mut self.commands) {
            (EntryPoint::Command { program, args }, Some(commands)) => {
                let command = (program.as_str(), args.as_slice());
                commands.start(&proof, self.floor, entry.worker.name(), command).map(Forked::Parent)
            }
            _ => self.forker.fork(&proof),
        };
        let pid = match forked? {
            Forked::Child => {
                let (attachment, functions) = (&self.for_children, &self.functions);
                let (floor, title) = (self.floor, &mut self.title);
                let context = ChildContext { attachment, floor, functions, title };
                run_worker(context, Launch { worker, main, handle, restarts })
            }
            Forked::Parent(pid) => pid,
        };
        let watched = fault::step("start:forked").and_then(|()| {
            let pidfd = self.floor.move_above(pidfd::open(pid)?)?;
            self.listen_to(&pidfd, Token::Child(key.index))?;
            Ok(pidfd)
        });
        match watched {
            Ok(pidfd) => {
                self.keep_child(Child { key, pid, pidfd, started, mailbox: None });
                fault::point("start:watched");
                Ok(Forking::Watched(pid))
            }
            Err(error) => Ok(Forking::Unwatched { pid, started, errno: errno_of(&error) }),
        }
    }

    pub(crate) fn prove_single_threaded(&self) -> io::Result<SingleThreaded> {
        self.threads.prove()?.map_err(|threads| {
            tracing::error!("the postmaster has {threads} threads and does not fork");
            io::Error::from_raw_os_error(libc::EBUSY)
        })
    }

    /// From now on its end is heard of.
    pub(crate) fn keep_child(&mut self, child: Child) {
        self.by_pid.insert(child.pid, child.key);
        self.children.put(child.key.index as usize, child);
    }

    fn report_started(&mut self, key: Key, pid: Pid) {
        fault::point("report:before_word");
        ClusterCells::new(&self.slots).set_started_at(key.index, SystemTime::now());
        if let Some(before) = self.publish(key, pid.get(), flag::STARTED) {
            // The child may have said that it is ready before we said that it runs.
            if before.flags() & flag::READY != 0 {
                self.publish(key, pid.get(), flag::STARTED | flag::READY);
            }
        }
        fault::point("report:after_word");
    }

    /// Publishes a word and wakes the waiters. A terminate request that came in the meantime is not
    /// lost: it stands in the word that ours replaced.
    fn publish(&mut self, key: Key, pid: u32, flags: u8) -> Option<Snapshot> {
        match self.slots.update(key, pid, flags) {
            Ok(before) => {
                if before.flags() & flag::TERMINATE != 0 {
                    self.pending.push_back(Event::TerminateRequested(key));
                }
                ClusterCells::new(&self.slots).count_change();
                Some(before)
            }
            Err(error) => {
                self.say_corrupt(key.index, &error.to_string());
                None
            }
        }
    }

    fn write_report(&mut self, key: Key, ending: Ending, unregistered: bool) {
        let process = ending.process;
        let report = ExitReport {
            cause: ending.cause,
            pid: process.map(|process| process.pid),
            restarts: ending.restarts,
            requested: ending.requested,
            unregistered,
            ended_at: SystemTime::now(),
            ran_for: process.map_or(Duration::ZERO, |process| process.ran_for),
            user_time: process.map_or(Duration::ZERO, |process| process.user_time),
            system_time: process.map_or(Duration::ZERO, |process| process.system_time),
            max_rss_kib: process.map_or(0, |process| process.max_rss_kib),
        };
        let report = self.last_report(key, ending).map_or(report, |last| ExitReport {
            requested: ending.requested,
            unregistered,
            ..last
        });
        fault::point("exit:before_report");
        if let Err(error) = self.slots.write_report(key, &ReportRecord::encode(&report)) {
            self.say_corrupt(key.index, &error.to_string());
        }
    }

    /// How the worker ended last, if it is to be taken off the list between two lives: that it will not
    /// run again says nothing of how it ran.
    fn last_report(&self, key: Key, ending: Ending) -> Option<ExitReport> {
        let taken_off = matches!(
            ending.cause,
            ExitCause::NotStarted(NotStarted::Terminated | NotStarted::ShuttingDown)
        );
        let last = self.slots.read_report(key).filter(|_| taken_off)?;
        last.decode().ok().filter(|last| last.pid.is_some())
    }

    fn notify(&self, target: NotifyTarget, news: News) {
        let ending = news == News::Ended;
        fault::point(if ending { "exit:before_notify" } else { "report:before_notify" });
        match target {
            NotifyTarget::Session(number) => self.sessions.notify(number),
            NotifyTarget::Child { key, pid } => {
                let child = self.child(key).filter(|child| child.pid == pid);
                if let Some(child) = child {
                    self.signal(child, Signal::USR1);
                }
            }
        }
        fault::point(if ending { "exit:after_notify" } else { "report:after_notify" });
    }

    fn stop(&self, key: Key, signal: StopSignal) {
        let signal = match signal {
            StopSignal::Terminate => Signal::TERM,
            StopSignal::Quit => Signal::QUIT,
            StopSignal::Kill => Signal::KILL,
        };
        if let Some(child) = self.child(key) {
            fault::point("tell:before_signal");
            self.signal(child, signal);
            fault::point("tell:after_signal");
        }
    }

    fn signal_all(&self, signal: Signal) {
        for child in self.children.iter() {
            self.signal(child, signal);
        }
    }

    fn signal(&self, child: &Child, signal: Signal) {
        // ESRCH: it has ended, and its pidfd says so to the loop.
        if let Err(error) = pidfd::send(&child.pidfd, signal) {
            tracing::debug!("signalling worker process {} failed: {error}", child.pid);
        }
    }

    fn child(&self, key: Key) -> Option<&Child> {
        self.children.get(key.index as usize).filter(|child| child.key == key)
    }

    /// All worker processes are gone, and what lies in the slots is in doubt: every slot is freed
    /// with a new generation, and the workers that come again are placed anew.
    fn reset_shared(&mut self) {
        fault::point("reset:before");
        let cells = ClusterCells::new(&self.slots);
        cells.set_incarnation(cells.incarnation().wrapping_add(2) | 1);
        fault::point("reset:new_life");
        // The slots of workers that come again are never free: nobody else is to get them.
        let comes_again = |index| self.cluster.registry().at(index).is_some();
        // Workers whose end was asked for when this had begun already do not come again.
        let mut ended: HashSet<Key> = HashSet::new();
        let slots = Arc::clone(&self.slots);
        let kept = slots.reset_all_but(self.pid.get(), comes_again, |key, word| {
            if word.flags() & flag::TERMINATE != 0 {
                ended.insert(key);
            }
        });
        let kept = kept.unwrap_or_else(|error| {
            tracing::error!("resetting the slots failed: {error}");
            Vec::new()
        });
        fault::point("reset:freed");
        cells.set_general_slots(self.general_slots);
        cells.set_phase(self.cluster.phase());
        cells.count_change();
        let mut kept: HashMap<u32, _> =
            kept.into_iter().map(|claim| (claim.key().index, claim)).collect();
        let (owner, general) = (self.pid, self.general_slots);
        let mut new_keys = HashMap::new();
        for entry in self.cluster.registry().iter() {
            let claim = kept.remove(&entry.key.index);
            if ended.contains(&entry.key) {
                continue;
            }
            fault::point("reset:before_place");
            // Its own slot, unless that one's generations are used up. Workers of the parallel class
            // never restart, so none is among them.
            let claim = claim.or_else(|| slots.claim_in(0..general, owner.get()).ok());
            let placed = claim.and_then(|mut claim| {
                claim.write(&WorkerRecord::encode(&entry.worker, owner)).ok()?;
                claim.publish(0).ok()
            });
            new_keys.extend(placed.map(|key| (entry.key, key)));
        }
        self.pending.push_back(Event::SlotsReset { new_keys });
        fault::point("reset:rebuilt");
    }

    fn say(&self, note: &Note) {
        match note {
            Note::Registering(name) => {
                tracing::debug!("registering background worker \"{name}\"");
            }
            Note::Unregistering(name) => {
                tracing::debug!("unregistering background worker \"{name}\"");
            }
            Note::Exited(kind, pid, cause) => {
                if cause.is_clean() {
                    tracing::debug!("background worker \"{kind}\" (PID {pid}) {cause}");
                } else {
                    tracing::info!("background worker \"{kind}\" (PID {pid}) {cause}");
                }
            }
            Note::TerminatingOthers(kind) => tracing::warn!(
                "terminating all other workers because background worker \"{kind}\" crashed"
            ),
            Note::Reinitialising => tracing::info!("all workers have ended; making the slots anew"),
            Note::ForkFailed(name, errno) => {
                let error = io::Error::from_raw_os_error(*errno);
                tracing::error!("could not fork worker process \"{name}\": {error}");
            }
            Note::ShuttingDown(mode) => tracing::info!("received {mode} shutdown request"),
            Note::KillingAll(count) => {
                tracing::warn!("killing {count} workers that did not quit in time");
            }
            Note::Killing(name) => {
                tracing::warn!("killing background worker \"{name}\": its grace time is over");
            }
        }
    }
}

//! What each token means.
//!
//! | token | owner | events |
//! |---|---|---|
//! | signals | poller; children (`children/groups.rs`) | `ShutdownRequested`, `ReloadRequested`, `GroupEnded` |
//! | orphan | children | `GroupEnded` |
//! | doorbell | slot table (`slot_table/intake.rs`) | `Registered`, `TerminateRequested`, `Ready`, `JobsDone` |
//! | alarm | slot table, as the doorbell | the same |
//! | child | children (`children/reap.rs`) | `ChildExited`, `StartLost` |
//! | notify | notices (`server/notify.rs`) | `Ready`, `StillStarts`, `Hangs` |
//! | spare | spares | none |
//! | closer | closers | none |
//! | template | templates (`server/templates.rs`) | `Forked`, `ForkFailed`, `TemplateFailed` |
//! | listener, session | sessions | `SessionOpened`, `SessionClosed`, what a peer requests |
//! | ticket | slot table (`slot_table/tickets.rs`) | `Registered` |
//! | guardian | guardian | none |
//! | collector, outputs | outputs (`server/outputs.rs`) | none |
//! | peer | sessions (`sessions/peers.rs`) | `SessionClosed` for each session that its process had |

use super::log;
use super::poller::Token;
use super::state::Server;
use crate::fault;
use crate::rules::{Event, Exit, ProcessEnd};
use crate::sessions::{Kind, PeerRequest};
use bgw_core::internals::ClusterCells;
use bgw_core::{ControlSocket, ExitCause, NotStarted, Pid, ShutdownMode, WorkerHandle};
use nix::sys::signal::Signal;
use shmem_slots::Key;
use std::io;

/// How many connections are accepted before other events are handled. The rest waits in the queue.
const CONNECTIONS_IN_A_ROW: usize = 16;
/// How many signals are read before other events are handled.
const SIGNALS_IN_A_ROW: usize = 8;

impl Server {
    pub(super) fn ready(&mut self, token: Token) {
        match token {
            Token::Signals => self.signals_arrived(),
            Token::Doorbell => self.rung(),
            Token::FullDoorbell => {
                if let Err(error) = self.poller.take_rings() {
                    tracing::error!("reading the doorbell failed: {error}");
                }
                self.rung();
            }
            Token::Alarm => {
                self.poller.alarm_rang();
                self.rung();
            }
            Token::Listener => self.connections_arrived(),
            Token::Session(number) => self.peer_wrote(number),
            Token::Ticket(number) => self.ticket_spoke(number),
            Token::Notify(berth) => self.notified(berth),
            Token::Child(berth) => self.child_ended(berth),
            Token::Template(number) => self.template_ended(number),
            Token::TemplateSays(number) => self.template_says(number),
            Token::Spare(number) => {
                self.taker_ended(number);
                if !self.sleeper_ended(number) {
                    self.spares.ended(number);
                }
                self.orphans_behind_ended();
            }
            Token::Closer(number) => {
                self.closers.ended(number);
                self.go_on_hearing();
                self.orphans_behind_ended();
            }
            Token::Peer(number) => self.peer_ended(number),
            Token::Guardian => {
                self.guardian.ended();
                self.orphans_behind_ended();
            }
            Token::Collector => {
                self.collector_ended();
                self.orphans_behind_ended();
            }
            Token::Orphan => self.orphans_ended(),
            Token::Outputs => self.collector_reported(),
        }
    }

    /// A backend has changed slots. It may also have given claims back.
    fn rung(&mut self) {
        self.take_in_changes();
        self.serve_tickets();
    }

    #[cold]
    #[inline(never)]
    fn signals_arrived(&mut self) {
        // The kernel keeps one of each; whoever sends faster than we read waits for the next pass.
        for _ in 0..SIGNALS_IN_A_ROW {
            let Some(signal) = self.poller.next_signal() else { return };
            let event = match signal {
                Signal::SIGTERM => Event::ShutdownRequested(ShutdownMode::Smart),
                Signal::SIGINT => Event::ShutdownRequested(ShutdownMode::Fast),
                Signal::SIGQUIT => Event::ShutdownRequested(ShutdownMode::Immediate),
                Signal::SIGHUP => Event::ReloadRequested,
                Signal::SIGCHLD => {
                    self.orphans_ended();
                    continue;
                }
                _ => continue,
            };
            self.step(event);
        }
    }

    /// A child has ended. Its end is published before it is reaped, because until then the slot
    /// says that its pid runs.
    #[inline(never)]
    fn child_ended(&mut self, berth: u32) {
        let ended = match self.children.ended(berth) {
            Ok(Some(ended)) => ended,
            // Somebody who traces it holds its end back. The poller reports when that is over.
            Ok(None) => return,
            Err(_) => return self.look_again(berth),
        };
        fault::point("exit:seen");
        self.last_words_of(berth);
        let key = ended.key;
        let end = self.with_exec_failure(key, ended.end);
        let dirty = self.slot_table.cleanup_needed(berth);
        self.process_gone(end.pid);
        self.outputs.run_ended(berth);
        self.notices.run_ended(berth);
        fault::point("exit:swept");
        let group_left = self.children.leaves_group(berth);
        self.sleeper_taken(key, ended.start_lost);
        let random = self.random.next();
        self.step(if ended.start_lost {
            Event::StartLost { key, pid: end.pid }
        } else {
            Event::ChildExited { key, exit: Exit { end, dirty, group_left, random } }
        });
        self.children.reap(berth);
        if group_left || self.children.orphan_may_wait() {
            self.orphans_ended();
        }
    }

    /// The child of berth `berth` could not be looked at.
    #[cold]
    #[inline(never)]
    fn look_again(&self, berth: u32) {
        let Some(pidfd) = self.children.pidfd(berth) else { return };
        if let Err(error) = self.poller.watch_end_anew(pidfd, Token::Child(berth)) {
            tracing::error!("watching the worker process of berth {berth} failed: {error}");
        }
    }

    /// A process that the postmaster did not start has ended: it belonged to a worker and outlived
    /// its parent. Workers that are functions do not send SIGCHLD; programs do, and are left to
    /// their pidfds.
    #[cold]
    #[inline(never)]
    fn orphans_ended(&mut self) {
        // Before the look at those that have ended: no silent end comes in between.
        let poller = &self.poller;
        self.children.watch_silent(|pidfd| poller.watch_end(pidfd, Token::Orphan));
        for leader in self.children.ended_groups() {
            self.step(Event::GroupEnded { leader });
        }
        let (spares, guardian, outputs) = (&self.spares, &self.guardian, &self.outputs);
        let (closers, templates) = (&self.closers, &self.templates);
        let is_ours = |pid| {
            spares.contains(pid)
                || guardian.is(pid)
                || outputs.is(pid)
                || closers.contains(pid)
                || templates.contains(pid)
        };
        self.children.reap_orphans(is_ours);
    }

    /// A child has been reaped. An orphan may have waited behind it.
    pub(super) fn orphans_behind_ended(&mut self) {
        if self.children.orphan_may_wait() {
            self.orphans_ended();
        }
    }

    /// A process that may have claimed slots has ended.
    pub(super) fn process_gone(&mut self, pid: Pid) {
        self.slot_table.sweep(pid);
        // What it had published without ringing.
        self.take_in_changes();
        self.serve_tickets();
        self.submitter_gone(pid);
    }

    /// The jobs of a process that nobody can reach any more end, unless they are to go on.
    fn submitter_gone(&mut self, pid: Pid) {
        for key in self.slot_table.orphaned_by(pid) {
            self.step(Event::Orphaned(key));
        }
    }

    /// The end of a child, which is another one if it never became its program. Such a child cannot
    /// log that itself.
    #[inline(never)]
    pub(super) fn with_exec_failure(&mut self, key: Key, end: ProcessEnd) -> ProcessEnd {
        let Some(failure) = self.spawner.exec_failure(end.pid) else { return end };
        let entry = self.cluster.registry().get(key);
        if let (Some(entry), Some(text)) = (entry, &failure.text) {
            log::exec_failure(&entry.worker, self.slot_table.handle(key), end.pid, text);
        }
        if failure.errno == 0 {
            return end;
        }
        let cause = ExitCause::NotStarted(NotStarted::ExecFailed { errno: failure.errno });
        ProcessEnd { cause, ..end }
    }

    #[cold]
    #[inline(never)]
    fn connections_arrived(&mut self) {
        // A worker that has begun by itself is one.
        self.look_at_takers();
        // Who attaches reads them first, and cannot ring until it has.
        self.slot_table.check_cells(self.cluster.registry());
        for _ in 0..CONNECTIONS_IN_A_ROW {
            let Some(socket) = self.sessions.accept() else { return };
            if let Some(silent) = self.sessions.silent_one() {
                self.close_session(silent);
            }
            let others = if self.runtime_dir.is_some() { Kind::Program } else { Kind::Stranger };
            if let Err(error) = self.open_session(socket, others) {
                self.sessions.not_opened(&error);
            }
        }
    }

    /// Returns the session's number, or `None` if the peer was refused. A peer that is not a worker
    /// is one of the `others`.
    pub(super) fn open_session(
        &mut self,
        socket: ControlSocket,
        others: Kind,
    ) -> io::Result<Option<u64>> {
        let is_worker = |pid| self.children.target(pid).is_some();
        let kind = |pid| if is_worker(pid) { Kind::Worker } else { others };
        let Some(number) = self.sessions.open(socket, kind)? else { return Ok(None) };
        // Whoever attaches sees a living postmaster, whatever was scribbled over its word.
        self.liveness.restore_one(ClusterCells::liveness_of_session(number));
        let watched = self.watch_session(number);
        if let Err(error) = watched {
            self.sessions.close(number);
            return Err(error);
        }
        Ok(Some(number))
    }

    fn watch_session(&self, number: u64) -> io::Result<()> {
        if let Some(fd) = self.sessions.descriptor(number) {
            self.poller.watch(fd, Token::Session(number))?;
        }
        match self.sessions.peer(number) {
            Some((peer, pidfd)) => self.poller.watch_once(pidfd, Token::Peer(peer)),
            None => Ok(()),
        }
    }

    #[inline(never)]
    fn peer_wrote(&mut self, number: u64) {
        match self.sessions.read(number, self.cluster.accepts_sessions()) {
            PeerRequest::Nothing => return,
            PeerRequest::Attached => return self.step(Event::SessionOpened),
            PeerRequest::Closed => return self.close_session(number),
            PeerRequest::Left(from) => {
                if !self.say_who_is_left(number, from) {
                    self.close_session(number);
                }
                return;
            }
            PeerRequest::Segment(request) => {
                if !self.about_segment(number, request) {
                    self.close_session(number);
                }
                return;
            }
            PeerRequest::Queue { waits, gifts } => {
                if !self.queue_up(number, waits, gifts) {
                    self.close_session(number);
                }
                return;
            }
            PeerRequest::Ping => self.take_in_changes(),
            PeerRequest::Shutdown(mode) => self.step(Event::ShutdownRequested(mode)),
            PeerRequest::Phase(phase) => self.step(Event::PhaseReached(phase)),
            PeerRequest::Reload => self.step(Event::ReloadRequested),
            PeerRequest::RestartNow(worker) => self.about(worker, Event::RestartRequested),
            PeerRequest::Kill(worker) => self.about(worker, Event::KillRequested),
            PeerRequest::ToRoll(part) => self.keep_for_roll(number, part),
            PeerRequest::Roll(request) => return self.roll(number, request),
            PeerRequest::Refork(name) => return self.refork(number, &name),
            PeerRequest::LastLines(worker) => return self.ask_for_last_lines(number, worker),
        }
        // The fact before the reply.
        if !self.sessions.acknowledge(number) {
            self.close_session(number);
        }
    }

    /// A request about one worker.
    fn about(&mut self, worker: WorkerHandle, event: fn(Key) -> Event) {
        // What the peer has asked for before.
        self.take_in_changes();
        let key = Key { index: worker.slot(), generation: worker.generation() };
        // Otherwise it is of an earlier life of the slots, and names no worker now.
        if self.slot_table.handle(key) == worker {
            self.step(event(key));
        }
    }

    pub(super) fn close_session(&mut self, number: u64) {
        self.outputs.forget_session(number);
        let pid = self.sessions.pid(number);
        let closed = self.sessions.close(number);
        self.segments.close_session(number, self.slot_table.cells());
        self.rolls.lists.close_session(number);
        self.slot_table.tickets.close_session(number);
        let is_here =
            |pid| self.children.target(pid).or_else(|| self.sessions.target(pid)).is_some();
        if let Some(pid) = pid.filter(|&pid| closed.attached && !is_here(pid)) {
            // What it had registered before.
            self.take_in_changes();
            self.submitter_gone(pid);
        }
        if closed.attached {
            self.step(Event::SessionClosed);
        }
        if closed.launcher {
            self.step(Event::LauncherGone);
        }
    }

    /// An attached process has ended. A fork of it may still hold its connections.
    #[cold]
    #[inline(never)]
    fn peer_ended(&mut self, number: u64) {
        let Some(gone) = self.sessions.peer_ended(number) else { return };
        self.process_gone(gone.pid);
        for session in gone.sessions {
            self.close_session(session);
        }
    }
}

//! The running postmaster: one thread, one epoll.
//!
//! The loop turns readiness into [`Event`]s, the rules turn those into [`Action`]s, and
//! `perform.rs` carries the actions out. Nothing in here decides.
//!
//! | readable | event |
//! |---|---|
//! | signalfd | `ShutdownAsked`, `ReloadAsked` |
//! | doorbell | the changed slots: `Registered`, `TerminateAsked` |
//! | a child's pidfd | `ChildExited` |
//! | listener, session | `SessionOpened`, `SessionClosed`, what a peer asks |
//! | nothing until the next deadline | `Tick` |
//!
//! The work for an event is proportional to what changed: a child is found by its slot, changed
//! slots by their hints; no list of workers or slots is walked. At most [`STARTS_IN_A_ROW`] workers
//! are forked before the loop looks at other events again.

use crate::error::RunError;
use crate::functions::Functions;
use crate::intake::{Refused, take_in};
use crate::postmaster::Postmaster;
use crate::registry::NotifyTarget;
use crate::rules::{Action, Cluster, Event, Stage};
use crate::sessions::{Gifts, Heard, Sessions};
use crate::sys::close::Fence;
use crate::sys::end::{self, Ended};
use crate::sys::fork::ThreadCounter;
use crate::sys::signals;
use crate::sys::title::Title;
use bgw_core::control::{ControlSocket, ShutdownMode};
use bgw_core::shared::area::Area;
use bgw_core::shared::{WorkerRecord, WorkerSlots, flag};
use bgw_core::sys::{eventfd, pidfd, robust};
use bgw_core::{BackgroundWorker, Pid};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use shmem_slots::{Key, Snapshot, State};
use std::collections::HashMap;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many workers are forked before other events are looked at.
pub(crate) const STARTS_IN_A_ROW: usize = 100;

/// A running worker process.
#[derive(Debug)]
pub(crate) struct Child {
    pub(crate) key: Key,
    pub(crate) pid: Pid,
    pub(crate) pidfd: OwnedFd,
    pub(crate) started: Instant,
}

/// What is known of the child whose end is being dealt with.
#[derive(Clone, Copy, Debug)]
pub(crate) struct EndedChild {
    pub(crate) key: Key,
    pub(crate) pid: Pid,
    pub(crate) ended: Ended,
    pub(crate) ran_for: Duration,
}

/// The running postmaster.
#[derive(Debug)]
pub(crate) struct Server {
    pub(crate) slots: Arc<WorkerSlots>,
    pub(crate) doorbell: Arc<OwnedFd>,
    pub(crate) pidfd: Arc<OwnedFd>,
    pub(crate) pid: Pid,
    pub(crate) functions: Functions,
    pub(crate) descriptors: Arc<Vec<(String, OwnedFd)>>,
    pub(crate) folder: Option<crate::folder::Folder>,
    pub(crate) cluster: Cluster,
    pub(crate) sessions: Sessions,
    pub(crate) children: Vec<Option<Child>>,
    pub(crate) by_pid: HashMap<Pid, Key>,
    pub(crate) threads: ThreadCounter,
    pub(crate) fence: Fence,
    pub(crate) title: Title,
    pub(crate) epoll: Epoll,
    pub(crate) pending: Vec<Event>,
    pub(crate) ending: Option<EndedChild>,
    signals: SignalFd,
    region_read_only: OwnedFd,
    launcher: Option<u64>,
    corrupt_slots_seen: u64,
}

/// What an epoll entry stands for: the kind in the high byte, a number below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Token {
    Signals,
    Doorbell,
    Listener,
    Session(u64),
    Child(u32),
}

const NUMBER: u64 = (1 << 56) - 1;

impl Token {
    const fn pack(self) -> u64 {
        match self {
            Self::Signals => 1 << 56,
            Self::Doorbell => 2 << 56,
            Self::Listener => 3 << 56,
            Self::Session(number) => (4 << 56) | (number & NUMBER),
            Self::Child(index) => (5 << 56) | index as u64,
        }
    }

    const fn unpack(packed: u64) -> Option<Self> {
        match packed >> 56 {
            1 => Some(Self::Signals),
            2 => Some(Self::Doorbell),
            3 => Some(Self::Listener),
            4 => Some(Self::Session(packed & NUMBER)),
            5 => Some(Self::Child(packed as u32)),
            _ => None,
        }
    }
}

impl Server {
    /// Makes this process the postmaster. All signals are blocked.
    pub(crate) fn start(
        postmaster: Postmaster,
        launcher: Option<ControlSocket>,
    ) -> Result<Self, RunError> {
        let threads = ThreadCounter::new().map_err(RunError::system("opening /proc/self/task"))?;
        threads
            .prove()
            .map_err(RunError::system("counting the threads"))?
            .map_err(|threads| RunError::Threads { threads })?;
        signals::keep_ended_children().map_err(RunError::system("resetting SIGCHLD"))?;
        let pid = Pid::this();
        // The children's, too: it stays below the fence.
        let pidfd = pidfd::open(pid).map_err(RunError::system("pidfd_open"))?;
        let fence = Fence::above_all_open().map_err(RunError::system("reading /proc/self/fd"))?;
        let threads = threads.raised(fence).map_err(RunError::system("fcntl"))?;
        let folder = postmaster.folder.map(|folder| folder.raised(fence)).transpose();
        let folder = folder.map_err(RunError::system("fcntl"))?;
        let signals = signals::listen(fence).map_err(RunError::system("signalfd"))?;
        let epoll = new_epoll(fence).map_err(RunError::system("epoll_create1"))?;
        let region_read_only = reopen_read_only(&postmaster.slots, fence)
            .map_err(RunError::system("opening the region read-only"))?;
        hold_liveness(&postmaster.slots).map_err(RunError::system("set_robust_list"))?;
        let mut server = Self {
            slots: postmaster.slots,
            doorbell: postmaster.doorbell,
            pidfd: Arc::new(pidfd),
            pid,
            functions: postmaster.functions,
            descriptors: postmaster.descriptors,
            folder,
            fence,
            cluster: Cluster::new(postmaster.policy),
            sessions: Sessions::new(postmaster.max_sessions),
            children: Vec::new(),
            by_pid: HashMap::new(),
            threads,
            title: Title::new(),
            epoll,
            pending: Vec::new(),
            ending: None,
            signals,
            region_read_only,
            launcher: None,
            corrupt_slots_seen: 0,
        };
        server.publish_ourselves();
        server.listen_to_all().map_err(RunError::system("epoll_ctl"))?;
        for worker in postmaster.static_workers {
            server.register_static(worker);
        }
        if let Some(socket) = launcher {
            let session = server.open_session(socket);
            let session = session.map_err(RunError::system("taking the launcher's connection"))?;
            server.launcher = session.filter(|_| postmaster.stop_with_launcher);
        }
        Ok(server)
    }

    fn publish_ourselves(&self) {
        let area = Area::new(&self.slots);
        area.set_postmaster_pid(self.pid.get());
        area.set_phase(self.cluster.phase());
        area.set_incarnation(first_incarnation(self.pid));
        if let Some(folder) = &self.folder {
            if let Err(error) = folder.write_pid() {
                tracing::warn!("writing the pid file failed: {error}");
            }
        }
    }

    fn listen_to_all(&self) -> io::Result<()> {
        self.listen_to(self.signals.as_fd(), Token::Signals)?;
        self.listen_to(self.doorbell.as_fd(), Token::Doorbell)?;
        if let Some(folder) = &self.folder {
            self.listen_to(folder.listener.as_fd(), Token::Listener)?;
        }
        Ok(())
    }

    fn listen_to(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))?)
    }

    pub(crate) fn listen_to_child(&self, fd: impl AsFd, index: u32) -> io::Result<()> {
        self.listen_to(fd, Token::Child(index))
    }

    fn register_static(&mut self, worker: BackgroundWorker) {
        let name = worker.name().to_owned();
        let record = WorkerRecord::encode(&worker, self.pid);
        let published =
            self.slots.claim(self.pid.get()).map_err(|error| error.to_string()).and_then(
                |mut claim| {
                    claim.write(&record).map_err(|error| error.to_string())?;
                    claim.publish(0).map_err(|error| error.to_string())
                },
            );
        match published {
            Ok(key) => {
                let worker = Arc::new(worker);
                self.step(Event::Registered { key, worker, notify: None, terminate: false });
            }
            Err(error) => tracing::error!("registering static worker \"{name}\" failed: {error}"),
        }
    }

    /// The loop. Returns the exit code, in the postmaster only.
    pub(crate) fn serve(mut self) -> Result<u8, RunError> {
        let mut ready = [EpollEvent::empty(); 64];
        loop {
            self.start_workers()?;
            if let Stage::Over(code) = self.cluster.stage() {
                return Ok(self.end(code));
            }
            let timeout = self.timeout();
            let count = match self.epoll.wait(&mut ready, timeout) {
                Ok(count) => count,
                Err(nix::errno::Errno::EINTR) => 0,
                Err(errno) => return Err(RunError::system("epoll_wait")(errno.into())),
            };
            for event in ready.iter().take(count) {
                if let Some(token) = Token::unpack(event.data()) {
                    self.readable(token);
                }
            }
            if self.cluster.next_deadline().is_some_and(|at| at <= Instant::now()) {
                self.step(Event::Tick);
            }
        }
    }

    fn end(&self, code: u8) -> u8 {
        if let Some(folder) = &self.folder {
            folder.clear();
        }
        tracing::info!(code, "postmaster {} ends", self.pid);
        code
    }

    fn timeout(&self) -> EpollTimeout {
        if self.cluster.has_more_to_start() {
            return EpollTimeout::ZERO;
        }
        match self.cluster.next_deadline() {
            None => EpollTimeout::NONE,
            Some(at) => {
                // Rounded up, so that the deadline has passed when the wait is over.
                let left =
                    at.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
                EpollTimeout::try_from(left).unwrap_or(EpollTimeout::MAX)
            }
        }
    }

    fn readable(&mut self, token: Token) {
        match token {
            Token::Signals => self.signals_came(),
            Token::Doorbell => {
                if let Err(error) = eventfd::take_rings(&*self.doorbell) {
                    tracing::error!("reading the doorbell failed: {error}");
                }
                self.look_at_changes();
            }
            Token::Listener => self.connections_came(),
            Token::Session(number) => self.peer_spoke(number),
            Token::Child(index) => self.child_ended(index),
        }
    }

    fn signals_came(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            let event = match Signal::try_from(signal) {
                Ok(Signal::SIGTERM) => Event::ShutdownAsked(ShutdownMode::Smart),
                Ok(Signal::SIGINT) => Event::ShutdownAsked(ShutdownMode::Fast),
                Ok(Signal::SIGQUIT) => Event::ShutdownAsked(ShutdownMode::Immediate),
                Ok(Signal::SIGHUP) => Event::ReloadAsked,
                _ => continue,
            };
            self.step(event);
        }
    }

    /// The slots that changed: new ones are taken in, terminate requests passed on.
    pub(crate) fn look_at_changes(&mut self) {
        let mut changed: Vec<(u32, Snapshot)> = Vec::new();
        self.slots.drain_changes(|index, word| changed.push((index, word)));
        for (index, word) in changed {
            self.slot_changed(index, word);
        }
    }

    fn slot_changed(&mut self, index: u32, word: Snapshot) {
        if word.state() != State::Published {
            return;
        }
        let key = Key { index, generation: word.generation() };
        if self.cluster.registry.get(key).is_some() {
            if word.flags() & flag::TERMINATE != 0 {
                self.step(Event::TerminateAsked(key));
            }
            return;
        }
        if self.cluster.registry.at(index).is_some() {
            // Our worker's slot says another generation: somebody scribbled. Our list is the truth.
            self.say_corrupt(index, "the generation of a registered worker was overwritten");
            return;
        }
        let sessions = &self.sessions;
        let by_pid = &self.by_pid;
        let resolve = |pid| {
            let child = by_pid.get(&pid).map(|&key| NotifyTarget::Child { key, pid });
            child.or_else(|| sessions.target(pid))
        };
        match take_in(&self.slots, index, word, resolve) {
            Ok(found) => self.step(Event::Registered {
                key: found.key,
                worker: found.worker,
                notify: found.notify,
                terminate: found.terminate,
            }),
            Err(Refused::Changing) => {}
            Err(refused @ Refused::Corrupt(_)) => {
                self.say_corrupt(index, &refused.to_string());
                if let Err(error) = self.slots.free(key) {
                    tracing::debug!("freeing slot {index} failed: {error}");
                }
            }
        }
    }

    /// Once, and then at each power of two: a hostile backend must not fill the log.
    pub(crate) fn say_corrupt(&mut self, index: u32, what: &str) {
        self.corrupt_slots_seen += 1;
        if self.corrupt_slots_seen.is_power_of_two() {
            tracing::error!(count = self.corrupt_slots_seen, "slot {index} is corrupt: {what}");
        }
    }

    fn connections_came(&mut self) {
        loop {
            let Some(folder) = &self.folder else { return };
            match folder.listener.accept_nonblocking() {
                Ok(Some(socket)) => {
                    if let Err(error) = self.open_session(socket) {
                        tracing::warn!("a connection could not be taken: {error}");
                    }
                }
                Ok(None) => return,
                Err(error) => {
                    tracing::warn!("accepting a connection failed: {error}");
                    return;
                }
            }
        }
    }

    fn open_session(&mut self, socket: ControlSocket) -> io::Result<Option<u64>> {
        let Some(number) = self.sessions.open(socket, self.fence)? else { return Ok(None) };
        let listening = match self.sessions.descriptor(number) {
            Some(fd) => self.listen_to(fd, Token::Session(number)),
            None => Ok(()),
        };
        if let Err(error) = listening {
            self.sessions.close(number);
            return Err(error);
        }
        Ok(Some(number))
    }

    fn peer_spoke(&mut self, number: u64) {
        let gifts = Gifts {
            region: self.slots.region().as_fd(),
            region_read_only: self.region_read_only.as_fd(),
            postmaster_pidfd: self.pidfd.as_fd(),
            doorbell: self.doorbell.as_fd(),
            postmaster: self.pid,
            accepting: self.cluster.takes_sessions(),
        };
        match self.sessions.hear(number, &gifts) {
            Heard::Nothing => {}
            Heard::Attached => self.step(Event::SessionOpened),
            Heard::Shutdown(mode) => self.step(Event::ShutdownAsked(mode)),
            Heard::Phase(phase) => self.step(Event::PhaseReached(phase)),
            Heard::Reload => self.step(Event::ReloadAsked),
            Heard::Gone => self.session_gone(number),
        }
    }

    fn session_gone(&mut self, number: u64) {
        // Closing the descriptor takes it out of the epoll set.
        let (last_of, attached) = self.sessions.close(number);
        if let Some(pid) = last_of {
            self.sweep(pid);
        }
        if attached {
            self.step(Event::SessionClosed);
        }
        if self.launcher == Some(number) {
            self.launcher = None;
            self.step(Event::ShutdownAsked(ShutdownMode::Fast));
        }
    }

    /// Gives back what a process that has gone had half done, and takes in what it had published
    /// without ringing.
    pub(crate) fn sweep(&mut self, gone: Pid) {
        let swept = self.slots.sweep(|owner| owner == gone.get());
        if swept > 0 {
            tracing::debug!("swept {swept} slots that process {gone} had claimed");
        }
        self.look_at_changes();
    }

    fn child_ended(&mut self, index: u32) {
        let Some(Some(child)) = self.children.get(index as usize) else { return };
        let ended = match end::peek(&child.pidfd) {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                tracing::error!("waitid for worker process {} failed: {error}", child.pid);
                return;
            }
        };
        let (key, pid, started) = (child.key, child.pid, child.started);
        self.ending = Some(EndedChild { key, pid, ended, ran_for: started.elapsed() });
        self.by_pid.remove(&pid);
        let dirty = Area::new(&self.slots).cleanup_needed(index);
        self.sweep(pid);
        self.step(Event::ChildExited { key, cause: ended.cause, dirty });
        self.ending = None;
        // Only now: while the slot said that this pid runs, the number was not free to be reused.
        if let Some(child) = self.children.get_mut(index as usize).and_then(Option::take) {
            if let Err(error) = end::reap(&child.pidfd) {
                tracing::error!("reaping worker process {} failed: {error}", child.pid);
            }
        }
    }

    /// One event, and whatever follows from it.
    pub(crate) fn step(&mut self, event: Event) {
        self.pending.push(event);
        while let Some(event) = self.pending.pop() {
            let mut actions: Vec<Action> = Vec::new();
            self.cluster.step(event, Instant::now(), &mut actions);
            for action in actions {
                self.perform(action);
            }
        }
    }
}

fn new_epoll(fence: Fence) -> io::Result<Epoll> {
    Ok(Epoll(fence.raise(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0)?))
}

fn reopen_read_only(slots: &WorkerSlots, fence: Fence) -> io::Result<OwnedFd> {
    let path = format!("/proc/self/fd/{}", slots.region().as_fd().as_raw_fd());
    fence.raise(std::fs::File::open(path)?)
}

fn hold_liveness(slots: &Arc<WorkerSlots>) -> io::Result<()> {
    // The kernel looks at the words when this process ends: the region stays mapped until then.
    let slots: &'static Arc<WorkerSlots> = Box::leak(Box::new(Arc::clone(slots)));
    robust::hold(Area::new(slots).liveness_words())
}

/// Differs between postmasters (and is never 0), so that a handle kept from another one is stale.
fn first_incarnation(pid: Pid) -> u32 {
    let mut bytes = [0u8; 4];
    let random = rustix::rand::getrandom(&mut bytes[..], rustix::rand::GetRandomFlags::NONBLOCK);
    let seed = if random == Ok(4) { u32::from_ne_bytes(bytes) } else { pid.get() };
    seed | 1
}

//! One actor: a thread that registers workers, asks, waits, terminates, signals and drops, as its
//! random numbers have it, and writes down what it saw.

mod ask;
mod harm;
mod pool;

use crate::job::{Job, QUICK, pick};
use crate::journal::{Journal, Kind, NOBODY};
use bgw_backend::{AskError, AttachError, Backend, Handle, Pool, Refusal, RegisterError};
use rand::Rng;
use rand::rngs::StdRng;
use std::path::PathBuf;
use std::time::Duration;

/// After so long a wait that must end has hung. The machine may be busy.
pub(crate) const HUNG: Duration = Duration::from_secs(40);

/// How many handles an actor keeps.
const KEEPS: usize = 4;

/// An actor.
pub(crate) struct Actor {
    pub(crate) journal: Journal,
    pub(crate) folder: PathBuf,
    pub(crate) random: StdRng,
    pub(crate) who: u32,
    /// It is the only thread of its process, so it may fork.
    pub(crate) alone: bool,
    backend: Option<Backend>,
    own: Vec<Own>,
    forked: Vec<process_test::Child>,
    /// The pool of the round, once it was opened.
    pool: Option<Pool<u64, u64>>,
}

struct Own {
    handle: Handle,
    job: Job,
    terminated: bool,
    seen_final: bool,
}

#[derive(Clone, Copy)]
enum Deed {
    Register,
    Queue,
    AskOwn,
    AskOther,
    WaitForStart,
    WaitShortly,
    WaitForEnd,
    WaitForAny,
    TerminateOwn,
    TerminateOther,
    SignalOwn,
    SetLatch,
    Drop,
    View,
    Observe,
    Reconnect,
    Fork,
    UsePool,
    Rest,
}

const DEEDS: [(u32, Deed); 19] = [
    (26, Deed::Register),
    (4, Deed::Queue),
    (10, Deed::AskOwn),
    (10, Deed::AskOther),
    (8, Deed::WaitForStart),
    (8, Deed::WaitShortly),
    (16, Deed::WaitForEnd),
    (4, Deed::WaitForAny),
    (8, Deed::TerminateOwn),
    (2, Deed::TerminateOther),
    (4, Deed::SignalOwn),
    (2, Deed::SetLatch),
    (3, Deed::Drop),
    (1, Deed::View),
    (1, Deed::Observe),
    (1, Deed::Reconnect),
    (2, Deed::Fork),
    (6, Deed::UsePool),
    (12, Deed::Rest),
];

impl Actor {
    pub(crate) fn new(
        journal: Journal,
        folder: PathBuf,
        random: StdRng,
        who: u32,
        alone: bool,
    ) -> Self {
        let (own, forked) = (Vec::new(), Vec::new());
        Self { journal, folder, random, who, alone, backend: None, own, forked, pool: None }
    }

    /// Acts until the journal says to stop, then brings its own workers to their end.
    pub(crate) fn live(&mut self) {
        while !self.journal.is_stopped() {
            let deed = pick(&mut self.random, &DEEDS);
            self.act(deed);
        }
        while !self.own.is_empty() {
            self.terminate_own(0);
            self.wait_for_end(0);
            self.own.swap_remove(0);
        }
        for child in &mut self.forked {
            child.wait();
        }
    }

    fn act(&mut self, deed: Deed) {
        let place = (!self.own.is_empty()).then(|| self.random.random_range(0..self.own.len()));
        match (deed, place) {
            (Deed::Register, _) => self.register(None),
            (Deed::Queue, _) => {
                let timeout = Duration::from_micros(self.random.random_range(0..20_000));
                self.register(Some(timeout));
            }
            (Deed::AskOther, _) => self.ask_other(),
            (Deed::TerminateOther, _) => self.terminate_other(),
            (Deed::View, _) => self.view(),
            (Deed::Observe, _) => self.observe(),
            (Deed::Reconnect, _) => self.reconnect(),
            (Deed::Fork, _) => self.fork(),
            (Deed::UsePool, _) => self.use_pool(),
            (Deed::WaitForAny, Some(_)) => self.wait_for_any(),
            (Deed::AskOwn, Some(place)) => {
                let begin = self.journal.ticket();
                let status = self.own[place].handle.status();
                self.saw_own(begin, place, &status, 0);
            }
            (Deed::WaitForStart, Some(place)) => self.wait_for_start(place),
            (Deed::WaitShortly, Some(place)) => self.wait_shortly(place),
            (Deed::WaitForEnd, Some(place)) => {
                if self.own[place].job.ends_by_itself() || self.own[place].terminated {
                    self.wait_for_end(place);
                    self.own.swap_remove(place);
                }
            }
            (Deed::TerminateOwn, Some(place)) => self.terminate_own(place),
            (Deed::SignalOwn, Some(place)) => self.signal_own(place),
            (Deed::SetLatch, Some(place)) => {
                if let Err(error) = self.own[place].handle.set_latch() {
                    self.broken(place, &format!("setting its latch failed: {error}"));
                }
            }
            (Deed::Drop, Some(place)) => self.drop_own(place),
            _ => {
                let pause = self.random.random_range(0..8);
                std::thread::sleep(Duration::from_millis(pause));
            }
        }
    }

    /// The connection of this actor, made when it is first needed.
    fn backend(&mut self) -> Option<Backend> {
        if self.backend.is_none() {
            match Backend::connect(&self.folder) {
                Ok(backend) => {
                    if self.alone
                        && let Err(error) = backend.enable_notifications()
                    {
                        self.broken_at(NOBODY, &format!("notifications failed: {error}"));
                    }
                    self.backend = Some(backend);
                }
                // All sessions may be taken for a moment.
                Err(AttachError::Ask(AskError::Refused { .. })) => {
                    std::thread::sleep(Duration::from_millis(5))
                }
                Err(error) => {
                    self.broken_at(NOBODY, &format!("connecting failed: {}", with_sources(&error)));
                }
            }
        }
        self.backend.clone()
    }

    /// With a time, it waits so long for a slot.
    fn register(&mut self, timeout: Option<Duration>) {
        if self.own.len() >= KEEPS {
            return;
        }
        let Some(backend) = self.backend() else { return };
        let job = if self.random.random_ratio(1, 4) { QUICK } else { Job::draw(&mut self.random) };
        let notify = (self.alone && self.random.random_ratio(1, 3)).then(|| backend.pid());
        let description = match job.describe(notify) {
            Ok(description) => description,
            Err(error) => return self.broken_at(NOBODY, &format!("describing failed: {error}")),
        };
        let begin = self.journal.ticket();
        let registered = match timeout {
            Some(timeout) => backend.register_timeout(&description, timeout),
            None => backend.register(&description),
        };
        match registered {
            Ok(handle) => {
                let about = [job.encode(), 0, 0];
                self.journal.note(begin, self.who, Kind::Registered, handle.id(), about);
                self.own.push(Own { handle, job, terminated: false, seen_final: false });
            }
            Err(RegisterError::NoFreeSlot { .. } | RegisterError::NoParallelSlot { .. }) => {
                self.journal.count_refused();
                std::thread::sleep(Duration::from_millis(2));
            }
            Err(RegisterError::ClaimLost(_) | RegisterError::Interrupted) => {}
            // A reset ends the waits for a slot, and so many may wait at a time.
            Err(
                RegisterError::TimedOut
                | RegisterError::Ask(AskError::Refused {
                    reason: Refusal::ClusterReset | Refusal::QueueFull,
                    ..
                }),
            ) => self.journal.count_refused(),
            Err(error) => {
                self.broken_at(NOBODY, &format!("registering failed: {}", with_sources(&error)));
            }
        }
    }

    fn broken(&self, place: usize, what: &str) {
        let own = &self.own[place];
        self.broken_at(own.handle.id(), &format!("{what} ({:?})", own.job));
    }

    fn broken_at(&self, id: bgw_backend::WorkerHandle, what: &str) {
        if self.journal.is_hostile() {
            return std::thread::sleep(Duration::from_millis(20));
        }
        eprintln!("BROKEN: {id} for actor {:x}: {what}", self.who);
        self.journal.broke(self.who, id);
    }
}

/// An error and its causes, in a line.
pub(crate) fn with_sources(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut next = error.source();
    while let Some(source) = next {
        text = format!("{text}: {source}");
        next = source.source();
    }
    text
}

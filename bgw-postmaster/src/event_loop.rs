//! The loop: one thread, one epoll.
//!
//! It turns readiness into [`Event`]s, the rules turn those into actions, and `perform.rs` carries
//! the actions out. Nothing in here decides.
//!
//! | readable | event | file |
//! |---|---|---|
//! | signalfd | `ShutdownRequested`, `ReloadRequested` | this one |
//! | doorbell | the changed slots: `Registered`, `TerminateRequested` | `intake.rs` |
//! | a child's pidfd | `ChildExited` | `reap.rs` |
//! | listener, session | `SessionOpened`, `SessionClosed`, what a peer asks | `peers.rs` |
//! | nothing until the next deadline | `Tick` | this one |
//!
//! The work for an event is proportional to what changed: a child is found by its slot, changed
//! slots by their hints; no list of workers or slots is walked. A bounded number of workers is forked
//! before the loop looks at other events again.

use crate::error::RunError;
use crate::fault;
use crate::rules::{Event, Stage};
use crate::server::Server;
use bgw_core::control::ShutdownMode;
use bgw_core::sys::eventfd;
use nix::sys::epoll::{EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

/// What an epoll entry stands for: the kind in the high byte, a number below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Token {
    Signals,
    Doorbell,
    Listener,
    Session(u64),
    Child(u32),
    Spare(u64),
}

const NUMBER: u64 = (1 << 56) - 1;

impl Token {
    pub(crate) const fn pack(self) -> u64 {
        match self {
            Self::Signals => 1 << 56,
            Self::Doorbell => 2 << 56,
            Self::Listener => 3 << 56,
            Self::Session(number) => (4 << 56) | (number & NUMBER),
            Self::Child(index) => (5 << 56) | index as u64,
            Self::Spare(number) => (6 << 56) | (number & NUMBER),
        }
    }

    const fn unpack(packed: u64) -> Option<Self> {
        match packed >> 56 {
            1 => Some(Self::Signals),
            2 => Some(Self::Doorbell),
            3 => Some(Self::Listener),
            4 => Some(Self::Session(packed & NUMBER)),
            5 => Some(Self::Child(packed as u32)),
            6 => Some(Self::Spare(packed & NUMBER)),
            _ => None,
        }
    }
}

impl Server {
    /// The loop. Returns the exit code, in the postmaster only.
    pub(crate) fn serve(mut self) -> Result<u8, RunError> {
        let mut ready = [EpollEvent::empty(); 64];
        loop {
            self.start_workers()?;
            self.fill_up_spares();
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

    fn end(&mut self, code: u8) -> u8 {
        self.end_spares();
        fault::point("end:before_clear");
        if let Some(folder) = &self.folder {
            folder.clear();
        }
        fault::point("end:cleared");
        tracing::info!(code, "postmaster {} ends", self.pid);
        code
    }

    fn timeout(&self) -> EpollTimeout {
        if self.cluster.has_more_to_start() {
            return EpollTimeout::ZERO;
        }
        match [self.cluster.next_deadline(), self.spares.due()].into_iter().flatten().min() {
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
            Token::Spare(number) => self.spare_died(number),
        }
    }

    fn signals_came(&mut self) {
        while let Ok(Some(info)) = self.signals.read_signal() {
            let signal = i32::try_from(info.ssi_signo).unwrap_or(0);
            let event = match Signal::try_from(signal) {
                Ok(Signal::SIGTERM) => Event::ShutdownRequested(ShutdownMode::Smart),
                Ok(Signal::SIGINT) => Event::ShutdownRequested(ShutdownMode::Fast),
                Ok(Signal::SIGQUIT) => Event::ShutdownRequested(ShutdownMode::Immediate),
                Ok(Signal::SIGHUP) => Event::ReloadRequested,
                _ => continue,
            };
            self.step(event);
        }
    }

    pub(crate) fn listen_to(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))?)
    }

    /// One event, and whatever follows from it.
    pub(crate) fn step(&mut self, event: Event) {
        self.pending.push_back(event);
        let mut actions = std::mem::take(&mut self.actions);
        while let Some(event) = self.pending.pop_front() {
            self.cluster.step(event, Instant::now(), &mut actions);
            for action in actions.drain(..) {
                self.perform(action);
            }
        }
        self.actions = actions;
    }
}

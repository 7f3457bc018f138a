//! What the loop waits for: epoll, signalfd, doorbell, and the tokens of everything else.

use crate::sys::descriptors::DescriptorFloor;
use crate::sys::signals;
use bgw_core::internals::eventfd;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::sync::Arc;

/// How many descriptors one wait reports.
const BATCH: usize = 64;

/// What an epoll entry stands for: the kind in the high byte, a number below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Signals,
    Doorbell,
    Listener,
    /// The number of a session.
    Session(u64),
    /// The slot of a child.
    Child(u32),
    /// The number of a spare.
    Spare(u64),
    /// The number of an attached process.
    Peer(u64),
    Guardian,
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
            Self::Spare(number) => (6 << 56) | (number & NUMBER),
            Self::Peer(number) => (7 << 56) | (number & NUMBER),
            Self::Guardian => 8 << 56,
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
            7 => Some(Self::Peer(packed & NUMBER)),
            8 => Some(Self::Guardian),
            _ => None,
        }
    }
}

/// The tokens of one wait.
#[derive(Debug)]
pub(super) struct Ready {
    events: [EpollEvent; BATCH],
    count: usize,
}

impl Ready {
    pub(super) fn new() -> Self {
        Self { events: [EpollEvent::empty(); BATCH], count: 0 }
    }

    pub(super) fn tokens(&self) -> impl Iterator<Item = Token> + '_ {
        self.events.iter().take(self.count).filter_map(|event| Token::unpack(event.data()))
    }
}

/// Everything that the loop waits for.
#[derive(Debug)]
pub(super) struct Poller {
    epoll: Epoll,
    signals: SignalFd,
    doorbell: Arc<OwnedFd>,
}

impl Poller {
    /// The signals that the postmaster handles must be blocked.
    pub(super) fn new(doorbell: Arc<OwnedFd>, floor: DescriptorFloor) -> io::Result<Self> {
        let signals = signals::listen(floor)?;
        let epoll = floor.move_above(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0)?;
        Ok(Self { epoll: Epoll(epoll), signals, doorbell })
    }

    /// Begins to report signals and rings.
    pub(super) fn watch_signals_and_doorbell(&self) -> io::Result<()> {
        self.watch(self.signals.as_fd(), Token::Signals)?;
        self.watch(self.doorbell.as_fd(), Token::Doorbell)
    }

    /// Reports `fd` under `token` whenever it is readable, until it is closed.
    pub(super) fn watch(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))?)
    }

    /// As [`Poller::watch`], for an `fd` that may be watched already.
    pub(super) fn watch_once(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        match self.watch(fd, token) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            done => done,
        }
    }

    /// Reports a watched `fd` under another token.
    pub(super) fn rename(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let event = &mut EpollEvent::new(EpollFlags::EPOLLIN, token.pack());
        Ok(self.epoll.modify(fd, event)?)
    }

    /// Waits until something is ready, or the time is over.
    pub(super) fn wait(&self, ready: &mut Ready, timeout: EpollTimeout) -> io::Result<()> {
        ready.count = match self.epoll.wait(&mut ready.events, timeout) {
            Ok(count) => count,
            Err(Errno::EINTR) => 0,
            Err(errno) => return Err(errno.into()),
        };
        Ok(())
    }

    /// The next signal that has arrived.
    pub(super) fn next_signal(&self) -> Option<Signal> {
        loop {
            let info = self.signals.read_signal().ok()??;
            let number = i32::try_from(info.ssi_signo).unwrap_or(0);
            if let Ok(signal) = Signal::try_from(number) {
                return Some(signal);
            }
        }
    }

    /// The doorbell that backends ring.
    pub(super) const fn doorbell(&self) -> &Arc<OwnedFd> {
        &self.doorbell
    }

    /// Clears the doorbell.
    pub(super) fn take_rings(&self) -> io::Result<()> {
        eventfd::take_rings(&*self.doorbell).map(drop)
    }
}

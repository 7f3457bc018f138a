//! What the loop waits for: epoll, signalfd, doorbell, and the tokens of everything else.

use crate::sys::descriptors::DescriptorFloor;
use crate::sys::signals;
use bgw_core::internals::{alarm, eventfd};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::signal::Signal;
use nix::sys::signalfd::SignalFd;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How many descriptors one wait reports.
const BATCH: usize = 64;

/// What an epoll entry stands for: the kind in the high byte, a number below.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Token {
    Signals,
    Doorbell,
    /// Somebody has had the postmaster look a moment later.
    Alarm,
    /// The doorbell, which cannot be rung any more before its rings are taken.
    FullDoorbell,
    Listener,
    /// The slot of a command that reports its state.
    Notify(u32),
    /// The number of a session.
    Session(u64),
    /// The slot of a child.
    Child(u32),
    /// The number of a spare.
    Spare(u64),
    /// The number of an attached process.
    Peer(u64),
    Guardian,
    /// A process that a worker has left, whose end sends no signal.
    Orphan,
    /// The number of a ticket.
    Ticket(u64),
    /// The end of an output collector.
    Collector,
    /// What the output collector says.
    Outputs,
    /// The number of a closer.
    Closer(u64),
    /// The end of the template process of this number.
    Template(u64),
    /// What it says.
    TemplateSays(u64),
}

const NUMBER: u64 = (1 << 56) - 1;

impl Token {
    const fn pack(self) -> u64 {
        match self {
            Self::Signals => 1 << 56,
            Self::Doorbell | Self::FullDoorbell => 2 << 56,
            Self::Alarm => 17 << 56,
            Self::Listener => 3 << 56,
            Self::Session(number) => (4 << 56) | (number & NUMBER),
            Self::Notify(index) => (12 << 56) | index as u64,
            Self::Child(index) => (5 << 56) | index as u64,
            Self::Spare(number) => (6 << 56) | (number & NUMBER),
            Self::Peer(number) => (7 << 56) | (number & NUMBER),
            Self::Guardian => 8 << 56,
            Self::Collector => 9 << 56,
            Self::Outputs => 10 << 56,
            Self::Ticket(number) => (11 << 56) | (number & NUMBER),
            Self::Orphan => 13 << 56,
            Self::Closer(number) => (14 << 56) | (number & NUMBER),
            Self::Template(number) => (15 << 56) | (number & NUMBER),
            Self::TemplateSays(number) => (16 << 56) | (number & NUMBER),
        }
    }

    fn of(event: &EpollEvent) -> Option<Self> {
        let packed = event.data();
        match packed >> 56 {
            1 => Some(Self::Signals),
            2 if event.events().contains(EpollFlags::EPOLLOUT) => Some(Self::Doorbell),
            2 => Some(Self::FullDoorbell),
            17 => Some(Self::Alarm),
            3 => Some(Self::Listener),
            4 => Some(Self::Session(packed & NUMBER)),
            12 => Some(Self::Notify(packed as u32)),
            5 => Some(Self::Child(packed as u32)),
            6 => Some(Self::Spare(packed & NUMBER)),
            7 => Some(Self::Peer(packed & NUMBER)),
            8 => Some(Self::Guardian),
            9 => Some(Self::Collector),
            10 => Some(Self::Outputs),
            11 => Some(Self::Ticket(packed & NUMBER)),
            13 => Some(Self::Orphan),
            14 => Some(Self::Closer(packed & NUMBER)),
            15 => Some(Self::Template(packed & NUMBER)),
            16 => Some(Self::TemplateSays(packed & NUMBER)),
            _ => None,
        }
    }
}

/// Edge-triggered: the kernel wakes the waiters of a pidfd when its process ends, and again when a
/// tracer lets go of it.
const fn end_of(token: Token) -> EpollEvent {
    EpollEvent::new(EpollFlags::EPOLLIN.union(EpollFlags::EPOLLET), token.pack())
}

/// Everything that the loop waits for.
#[derive(Debug)]
pub(super) struct Poller {
    /// Also of who closes what is watched while others have it open.
    pub(super) epoll: Rc<Epoll>,
    signals: SignalFd,
    doorbell: Arc<OwnedFd>,
    alarm: Arc<OwnedFd>,
    /// What the last wait has reported.
    ready: [EpollEvent; BATCH],
}

impl Poller {
    /// The signals that the postmaster handles must be blocked.
    pub(super) fn new(
        doorbell: Arc<OwnedFd>,
        alarm: Arc<OwnedFd>,
        floor: DescriptorFloor,
    ) -> io::Result<Self> {
        let signals = signals::listen(floor)?;
        let epoll = floor.move_above(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?.0)?;
        let ready = [EpollEvent::empty(); BATCH];
        Ok(Self { epoll: Rc::new(Epoll(epoll)), signals, doorbell, alarm, ready })
    }

    /// Begins to report signals and rings, before anything else is watched.
    pub(super) fn watch_signals_and_doorbell(&mut self) -> io::Result<()> {
        self.watch(self.signals.as_fd(), Token::Signals)?;
        // Whoever can ring can also read, and so take the rings of others. Edge-triggered, each
        // write to the doorbell is reported, and each read that takes rings is, too: it makes the
        // doorbell writable, which nobody can undo. Rings are not taken, unless the doorbell is
        // full.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT | EpollFlags::EPOLLET;
        self.epoll.add(&*self.doorbell, EpollEvent::new(flags, Token::Doorbell.pack()))?;
        // Nobody reads it: edge-triggered, each time that it rings is reported.
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLET;
        self.epoll.add(&*self.alarm, EpollEvent::new(flags, Token::Alarm.pack()))?;
        // Takes the first report of the doorbell, which is no ring: nobody else has it yet. Signals
        // are reported again.
        self.wait(EpollTimeout::ZERO).map(drop)
    }

    /// Reports `fd` under `token` whenever it is readable, until it is closed.
    pub(super) fn watch(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(fd, EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))?)
    }

    /// Like [`Poller::watch`], for an `fd` that may be watched already.
    pub(super) fn watch_once(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        match self.watch(fd, token) {
            Err(error) if error.raw_os_error() == Some(libc::EEXIST) => Ok(()),
            done => done,
        }
    }

    /// Reports a watched `fd` under `token` when it is readable, and when it can be written to.
    pub(super) fn watch_room(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        let flags = EpollFlags::EPOLLIN | EpollFlags::EPOLLOUT;
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(flags, token.pack()))?)
    }

    /// Like [`Poller::watch`], for an `fd` that is watched already.
    pub(super) fn watch_anew(&self, fd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.modify(fd, &mut EpollEvent::new(EpollFlags::EPOLLIN, token.pack()))?)
    }

    /// Reports a watched `fd` no more.
    pub(super) fn forget(&self, fd: impl AsFd) -> io::Result<()> {
        Ok(self.epoll.delete(fd)?)
    }

    /// Reports the end of the child of `pidfd` under `token`: once when it has ended, and once more
    /// if its tracer held the end back until then. In between the pidfd is readable, but `waitid`
    /// reports nothing.
    pub(super) fn watch_end(&self, pidfd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.add(pidfd, end_of(token))?)
    }

    /// Reports the end of a child that is watched already, under this token, and at once if it has
    /// ended.
    pub(super) fn watch_end_anew(&self, pidfd: impl AsFd, token: Token) -> io::Result<()> {
        Ok(self.epoll.modify(pidfd, &mut end_of(token))?)
    }

    /// Waits until something is ready, or the time is over. Returns how much is ready.
    pub(super) fn wait(&mut self, timeout: EpollTimeout) -> io::Result<usize> {
        match self.epoll.wait(&mut self.ready, timeout) {
            Ok(count) => Ok(count),
            Err(Errno::EINTR) => Ok(0),
            Err(errno) => Err(errno.into()),
        }
    }

    /// Number `at` of what the last wait has reported.
    pub(super) fn ready(&self, at: usize) -> Option<Token> {
        self.ready.get(at).and_then(Token::of)
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

    /// Waits for a signal, SIGCHLD or another, and takes it. False if the deadline passed first.
    pub(super) fn signal_arrives(&self, deadline: Instant) -> bool {
        // Rounded up, so that the deadline has passed when the wait is over.
        let left = deadline.saturating_duration_since(Instant::now()) + Duration::from_micros(999);
        let timeout = PollTimeout::try_from(left).unwrap_or(PollTimeout::MAX);
        let arrived = poll(&mut [PollFd::new(self.signals.as_fd(), PollFlags::POLLIN)], timeout);
        arrived == Ok(1) && self.signals.read_signal().is_ok()
    }

    /// The doorbell that backends ring.
    pub(super) const fn doorbell(&self) -> &Arc<OwnedFd> {
        &self.doorbell
    }

    /// The alarm that backends set.
    pub(super) const fn alarm(&self) -> &Arc<OwnedFd> {
        &self.alarm
    }

    /// The alarm has rung: it does not ring again before somebody sets it.
    pub(super) fn alarm_rang(&self) {
        if let Err(error) = alarm::stop_repeating(&*self.alarm) {
            tracing::error!("looking at the alarm failed: {error}");
        }
    }

    /// Empties the doorbell. It is reported once more for that.
    pub(super) fn take_rings(&self) -> io::Result<()> {
        eventfd::take_rings(&*self.doorbell).map(drop)
    }
}

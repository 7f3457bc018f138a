//! One template process, from the postmaster's side.

use crate::child::{Mailbox, RunSetup, SAID_LIMIT, Said, send_descriptors};
use crate::children::Spare;
use crate::fault;
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::roster::Place;
use crate::sys::{signals, wait};
use bgw_core::internals::{pidfd, scm};
use bgw_core::{ControlSocket, ExitCause, Pid};
use rustix::process::Signal;
use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Instant;

/// A template process that is not reaped.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) number: u64,
    pub(super) pid: Pid,
    pub(super) place: Place,
    pub(super) pidfd: OwnedFd,
    /// Our end; it is not blocking. `None`: it is not listened to any more.
    pub(super) socket: Option<OwnedFd>,
    /// What it has been told to fork, and has not reported; the oldest first.
    pub(super) orders: VecDeque<Order>,
    /// Why it ends, as it says itself, or as it is ended.
    pub(super) why: Option<String>,
}

/// What comes of listening to one.
#[derive(Debug)]
pub(super) enum Hearing {
    Said(Said),
    /// There is no message now.
    Nothing,
    /// What makes no sense.
    Nonsense,
    /// It has closed its end: it has ended, or does not listen any more.
    Closed,
}

/// A child that a template was told to fork.
#[derive(Debug)]
pub(crate) struct Order {
    pub(crate) mailbox: Mailbox,
    /// Our end of the line to it.
    pub(crate) line: OwnedFd,
    /// Its place in the roster, taken before it can exist.
    pub(crate) place: Place,
    /// When the template is late.
    pub(super) deadline: Instant,
}

/// A child of a template that sleeps until it is given a worker.
#[derive(Debug)]
pub(crate) struct Sleeper {
    pub(crate) spare: Spare,
    line: OwnedFd,
}

impl Sleeper {
    pub(crate) const fn new(spare: Spare, line: OwnedFd) -> Self {
        Self { spare, line }
    }

    /// As any spare. Its line is closed: what was sent is there.
    pub(crate) fn into_spare(self) -> Spare {
        self.spare
    }

    /// Sends what the run gets besides what the template has. The worker is still to be given.
    pub(crate) fn send(&self, setup: &RunSetup) -> io::Result<()> {
        let packets = send_descriptors(&self.line, setup)?;
        self.spare.mailbox.announce_packets(packets);
        Ok(())
    }
}

impl Process {
    /// Has it fork a child.
    pub(super) fn order(
        &mut self,
        place: Place,
        deadline: Instant,
        floor: DescriptorFloor,
    ) -> io::Result<()> {
        fault::step("order:before")?;
        let (mailbox, file) = Mailbox::in_file()?;
        let (ours, theirs) = ControlSocket::pair()?;
        let _ = ours.refuse_descriptors();
        let line = floor.move_above(ours)?;
        let socket = self.socket.as_ref().ok_or(io::ErrorKind::NotConnected)?;
        scm::send(socket, &[1], &[file.as_fd(), theirs.as_fd()])?;
        self.orders.push_back(Order { mailbox, line, place, deadline });
        fault::point("order:sent");
        Ok(())
    }

    /// The next thing that it says.
    pub(super) fn hear(&self) -> Hearing {
        let Some(socket) = &self.socket else { return Hearing::Nothing };
        match scm::receive(socket, SAID_LIMIT) {
            Ok(packet) if packet.bytes.is_empty() => Hearing::Closed,
            Ok(packet) if packet.truncated || !packet.fds.is_empty() => Hearing::Nonsense,
            Ok(packet) => Said::decode(&packet.bytes).map_or(Hearing::Nonsense, Hearing::Said),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Hearing::Nothing,
            Err(_) => Hearing::Closed,
        }
    }

    /// The order that it answers, and why it was not carried out. `None`: there is none, or that is
    /// no answer.
    pub(super) fn answered(&mut self, said: Said) -> Option<(Order, Option<String>)> {
        let why = match said {
            Said::Forked => None,
            Said::Refused(errno) => {
                let error = io::Error::from_raw_os_error(errno);
                Some(format!("it could not fork: {error}"))
            }
            Said::Threads(count) => Some(format!("it has {count} threads, and does not fork")),
            Said::Loaded | Said::Failed(_) => return None,
        };
        Some((self.orders.pop_front()?, why))
    }

    /// It has said what makes no sense. Returns its socket: it is not heard any more.
    pub(super) fn nonsense(&mut self, name: &str) -> Option<OwnedFd> {
        let pid = self.pid;
        tracing::error!("template \"{name}\" (PID {pid}) says what makes no sense; killing it");
        self.why = Some("it said what makes no sense".to_owned());
        self.kill();
        self.socket.take()
    }

    pub(super) fn kill(&self) {
        // ESRCH: it is dead already.
        let _ = pidfd::send(&self.pidfd, Signal::KILL);
    }

    /// How it has ended, with all that it has started; it is reaped. `None`: it has not, or its
    /// tracer holds its end back.
    pub(super) fn reap(&self, release: impl FnOnce(Place)) -> Option<ExitCause> {
        let ended = match wait::peek(&self.pidfd) {
            Ok(None) => return None,
            Ok(Some(ended)) => Some(ended.cause),
            Err(_) => None,
        };
        // It is not reaped: the number is its group's. What it has forked is in groups of its own.
        signals::signal_group(self.pid, Signal::KILL);
        release(self.place);
        if let Err(error) = wait::reap(&self.pidfd) {
            tracing::error!("reaping template process {} failed: {error}", self.pid);
        }
        // Nobody else can have reaped it.
        Some(ended.unwrap_or(ExitCause::Exited(u8::MAX)))
    }
}

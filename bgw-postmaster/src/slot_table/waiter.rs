//! One that waits for a slot, at the other end of a socket pair.

use super::queue::Queue;
use crate::gifts::{Envelope, PeerSocket};
use bgw_core::internals::{Reply, SURROUNDINGS_LIMIT, WorkerRecord, scm};
use bgw_core::{BackgroundWorker, Pid, Refusal};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use std::io;
use std::os::fd::AsFd;

/// What somebody waits for: the description as it came, and checked, and who it is. Boxed, so that
/// whoever asks whether somebody waits needs no more stack: each page of it that is written to
/// between two forks costs a copy.
#[derive(Debug)]
pub(crate) struct Wanted {
    pub(super) record: Box<WorkerRecord>,
    pub(super) worker: Box<BackgroundWorker>,
    pub(super) pid: Pid,
}

/// Those that wait for a slot, each at the other end of a socket pair.
pub(crate) type Tickets = Queue<Waiter, Wanted>;

/// The way to one that waits.
#[derive(Debug)]
pub(crate) struct Waiter {
    pub(crate) socket: PeerSocket,
    pub(crate) pid: Pid,
    /// False: it wants a slot now or not at all.
    pub(crate) waits: bool,
    /// For what the worker is given.
    pub(crate) envelopes: Vec<Envelope>,
}

impl Waiter {
    /// Seals the envelopes. Which of the gifts of `worker` did not arrive, if any.
    pub(super) fn missing_gift<'a>(&self, worker: &'a BackgroundWorker) -> Option<&'a str> {
        let mut names = worker.given();
        let mut arrived = self.envelopes.iter().map(|envelope| envelope.seal().unwrap_or(false));
        // Envelopes that nothing was put into are closed with the others.
        names.find(|_| !arrived.next().unwrap_or(false))
    }

    /// False once it has given up, or is dead.
    pub(super) fn still_waits(&self) -> bool {
        poll(&mut [PollFd::new(self.socket.as_fd(), PollFlags::POLLIN)], PollTimeout::ZERO) == Ok(0)
    }

    pub(super) fn refuse(mut self, reason: Refusal, detail: &str) {
        // An error: it has given up.
        let _ = self.socket.send_reply(&Reply::Refused { reason, detail: detail.to_owned() }, &[]);
    }
}

/// A description as it came.
#[derive(Debug)]
pub(super) struct Said {
    pub(super) record: Box<WorkerRecord>,
    /// What a command finds when it starts.
    pub(super) rest: Vec<u8>,
}

/// A description, or `None` if nothing has come.
pub(super) fn said_by(waiter: &Waiter) -> io::Result<Option<Said>> {
    let size = size_of::<WorkerRecord>();
    if waiter.socket.brings_descriptors() {
        return Err(io::ErrorKind::InvalidData.into());
    }
    match scm::receive(&*waiter.socket, size + SURROUNDINGS_LIMIT) {
        Ok(packet) if !packet.truncated => {
            let split = packet.bytes.split_at_checked(size);
            let (record, rest) = split.ok_or(io::ErrorKind::InvalidData)?;
            let record = Box::new(bytemuck::pod_read_unaligned(record));
            Ok(Some(Said { record, rest: rest.to_vec() }))
        }
        Ok(_) => Err(io::ErrorKind::InvalidData.into()),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(None),
        Err(error) => Err(error),
    }
}

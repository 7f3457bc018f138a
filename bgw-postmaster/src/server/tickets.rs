//! Sessions that wait for a slot (`slot_table/tickets.rs`).

use super::poller::Token;
use super::state::Server;
use crate::fault;
use crate::gifts::{Envelope, PeerSocket};
use crate::slot_table::Waiter;
use bgw_core::internals::{GIFTS_LIMIT, Reply, envelope};
use bgw_core::{ControlSocket, Refusal};
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::rc::Rc;

impl Server {
    /// A session wants a ticket. False when it does not take the reply.
    pub(super) fn queue_up(&mut self, session: u64, waits: bool, gifts: u8) -> bool {
        let gifts = usize::from(gifts);
        if gifts > GIFTS_LIMIT {
            let detail = format!("a worker is given {GIFTS_LIMIT} descriptors at most");
            return self.turn_away(session, Refusal::Malformed, detail);
        }
        if let Some(limit) = self.slot_table.tickets.limit(session) {
            let detail = format!("{limit} wait for a slot already");
            return self.turn_away(session, Refusal::QueueFull, detail);
        }
        if let Some(limit) = self.slot_table.gifts.office.limit(session, gifts) {
            let detail = format!("at most {limit} are kept for workers");
            return self.turn_away(session, Refusal::TooManyDescriptors, detail);
        }
        match self.open_ticket(session, waits, gifts) {
            Ok(theirs) => {
                let theirs: Vec<BorrowedFd<'_>> = theirs.iter().map(AsFd::as_fd).collect();
                self.sessions.reply(session, &Reply::Queue, &theirs)
            }
            Err(error) => self.turn_away(session, Refusal::QueueFull, error.to_string()),
        }
    }

    fn turn_away(&mut self, session: u64, reason: Refusal, detail: String) -> bool {
        self.sessions.reply(session, &Reply::Refused { reason, detail }, &[])
    }

    /// Returns the ends of the peer: that of the place, then those of the envelopes.
    fn open_ticket(&mut self, session: u64, waits: bool, gifts: usize) -> io::Result<Vec<OwnedFd>> {
        let pid = self.sessions.pid(session).ok_or(io::ErrorKind::NotFound)?;
        let floor = self.sessions.floor();
        let (ours, theirs) = ControlSocket::pair()?;
        let socket = ControlSocket::from(floor.move_above(ours)?);
        socket.set_nonblocking(true)?;
        let office = &self.slot_table.gifts.office;
        let socket = PeerSocket::new(socket, office);
        let mut ends = vec![theirs.into()];
        let mut envelopes = Vec::new();
        for _ in 0..gifts {
            let (ours, theirs) = envelope::pair()?;
            envelopes.push(Envelope::new(floor.move_clear(ours)?, session, Rc::clone(office)));
            ends.push(theirs);
        }
        let waiter = Waiter { socket, pid, waits, envelopes };
        let number = self.slot_table.tickets.open(session, waiter);
        let opened = self.slot_table.tickets.get(number);
        if let Some((waiter, _)) = opened {
            if let Err(error) = self.poller.watch(&*waiter.socket, Token::Ticket(number)) {
                self.slot_table.tickets.give_up(number);
                return Err(error);
            }
        }
        fault::point("ticket:opened");
        Ok(ends)
    }

    /// One that has a ticket has said something, or has given up.
    #[cold]
    #[inline(never)]
    pub(super) fn ticket_spoke(&mut self, number: u64) {
        let (children, sessions) = (&self.children, &self.sessions);
        let resolve = |pid| children.target(pid).or_else(|| sessions.target(pid));
        let registry = self.cluster.registry();
        self.queue.extend(self.slot_table.ticket_spoke(number, registry, resolve));
        self.refuse_tickets();
        self.run_queue();
    }

    /// Slots that a process had half done may be free now.
    pub(super) fn serve_tickets(&mut self) {
        if self.slot_table.tickets.is_empty() {
            return self.slot_table.say_whether_somebody_waits(false);
        }
        loop {
            let (children, sessions) = (&self.children, &self.sessions);
            let resolve = |pid| children.target(pid).or_else(|| sessions.target(pid));
            let next = self.slot_table.serve_from_free(self.cluster.registry(), resolve);
            let Some(next) = next else { return };
            self.step(next);
        }
    }

    /// When no more workers are registered, all waiters are turned away.
    pub(super) fn refuse_tickets(&mut self) {
        if !self.slot_table.tickets.is_empty() && !self.cluster.accepts_workers() {
            self.refuse_all_tickets();
        }
    }

    #[cold]
    #[inline(never)]
    fn refuse_all_tickets(&mut self) {
        let (reason, detail) = if self.cluster.starts_workers() {
            (Refusal::ClusterReset, "register it again")
        } else {
            (Refusal::ShuttingDown, "the worker was not registered")
        };
        self.slot_table.refuse_all(reason, detail);
    }
}

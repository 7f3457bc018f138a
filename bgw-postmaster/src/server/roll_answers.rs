//! Who waits for the answer of which roll.

use super::roll_lists::RollLists;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::internals::Reply;
use bgw_core::{ControlSocket, RollOutcome};
use std::collections::HashMap;
use std::io;
use std::os::fd::AsFd;

/// The connections on which answers go out, by the number of the roll, and what is to be rolled.
#[derive(Debug)]
pub(super) struct RollAnswers {
    floor: DescriptorFloor,
    next: u64,
    waiting: HashMap<u64, ControlSocket>,
    pub(super) lists: RollLists,
}

impl RollAnswers {
    pub(super) fn new(floor: DescriptorFloor, slots: u32) -> Self {
        Self { floor, next: 0, waiting: HashMap::new(), lists: RollLists::new(slots) }
    }

    /// Our end of a connection, which children close, and that of whoever asks.
    pub(super) fn pair(&self) -> io::Result<(ControlSocket, ControlSocket)> {
        let (ours, theirs) = ControlSocket::pair()?;
        // What nobody receives brings no descriptors.
        ours.only_send();
        Ok((ControlSocket::from(self.floor.move_above(ours)?), theirs))
    }

    /// Returns the number of the roll.
    pub(super) fn add(&mut self, ours: ControlSocket) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, ours);
        number
    }

    /// Tells whoever asked, if it is still there.
    pub(super) fn answer(&mut self, number: u64, outcomes: Vec<RollOutcome>) {
        let Some(mut socket) = self.waiting.remove(&number) else { return };
        // An error of a reply: the caller is gone. Without a reply it sees the closed connection.
        let _ = match u32::try_from(outcomes.len()) {
            Ok(count) if outcomes.len() > RollOutcome::IN_A_PACKET => {
                RollOutcome::to_file(&outcomes)
                    .and_then(|file| socket.send_reply(&Reply::RolledIn { count }, &[file.as_fd()]))
            }
            _ => socket.send_reply(&Reply::Rolled(outcomes), &[]),
        };
    }
}

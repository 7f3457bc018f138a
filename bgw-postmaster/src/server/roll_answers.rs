//! Who waits for the answer of which roll.

use crate::sys::descriptors::DescriptorFloor;
use bgw_core::ControlSocket;
use std::collections::HashMap;
use std::io;

/// The connections on which answers go out, by the number of the roll.
#[derive(Debug)]
pub(super) struct RollAnswers {
    floor: DescriptorFloor,
    next: u64,
    waiting: HashMap<u64, ControlSocket>,
}

impl RollAnswers {
    pub(super) fn new(floor: DescriptorFloor) -> Self {
        Self { floor, next: 0, waiting: HashMap::new() }
    }

    /// Our end of a connection, which children close, and that of whoever asks.
    pub(super) fn pair(&self) -> io::Result<(ControlSocket, ControlSocket)> {
        let (ours, theirs) = ControlSocket::pair()?;
        ours.refuse_descriptors();
        Ok((ControlSocket::from(self.floor.move_above(ours)?), theirs))
    }

    /// Returns the number of the roll.
    pub(super) fn add(&mut self, ours: ControlSocket) -> u64 {
        let number = self.next;
        self.next += 1;
        self.waiting.insert(number, ours);
        number
    }

    pub(super) fn take(&mut self, number: u64) -> Option<ControlSocket> {
        self.waiting.remove(&number)
    }
}

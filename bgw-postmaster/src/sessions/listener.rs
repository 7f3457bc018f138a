//! Accepts connections on the control socket.

use crate::failure_log::Occasional;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::ControlSocket;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

/// The control socket of a runtime folder.
#[derive(Debug)]
pub(crate) struct Listener {
    socket: ControlSocket,
    floor: DescriptorFloor,
    /// A descriptor to give up when there is none left for a connection.
    reserve: Option<OwnedFd>,
    failures: Occasional,
}

impl Listener {
    /// Sets the reserve aside.
    pub(crate) fn new(socket: ControlSocket, floor: DescriptorFloor) -> Self {
        // Inherited by each connection, so that none can hand descriptors over before it is
        // accepted.
        let _ = socket.refuse_descriptors();
        Self { socket, floor, reserve: floor.reserve().ok(), failures: Occasional::default() }
    }

    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }

    /// The next connection; `None` when no more wait.
    ///
    /// Without a descriptor left, a connection is accepted with the reserve, only to close it: in
    /// the queue it would wake the loop for ever.
    pub(crate) fn accept(&mut self) -> Option<ControlSocket> {
        loop {
            match self.socket.accept_nonblocking() {
                Ok(socket) => return socket,
                Err(error) => {
                    if let Some(count) = self.failures.count() {
                        tracing::warn!(count, "accepting a connection failed: {error}");
                    }
                    if !self.turn_one_away() {
                        return None;
                    }
                }
            }
        }
    }

    /// False when there is no connection to turn away, or no descriptor for that.
    fn turn_one_away(&mut self) -> bool {
        if self.reserve.take().is_none() {
            return false;
        }
        let turned_away = self.socket.accept_nonblocking();
        let any = matches!(&turned_away, Ok(Some(_)));
        // Closed before the reserve is opened again: it may have the only number.
        drop(turned_away);
        self.reserve = self.floor.reserve().ok();
        any
    }
}

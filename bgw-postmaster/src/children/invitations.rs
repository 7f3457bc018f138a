//! What a command is told of itself: its handle, where the cluster is, and, if its description asks
//! for it, how to attach (`bgw-core/src/invitation`).

use crate::child::RunSetup;
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::internals::ATTACH_VARIABLE;
use bgw_core::{Attachment, BackgroundWorker, Berth, ControlSocket, EntryPoint, WorkerHandle};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// What all commands are told alike.
#[derive(Debug)]
pub(super) struct Invitations {
    floor: DescriptorFloor,
    /// The runtime folder, as an absolute path.
    runtime_dir: Option<String>,
    /// The names that invitations pass on, once there was one.
    names: Option<OwnedFd>,
}

impl Invitations {
    pub(super) const fn new(floor: DescriptorFloor, runtime_dir: Option<String>) -> Self {
        Self { floor, runtime_dir, names: None }
    }

    /// Puts what a command is told into `setup`. Returns its invitation.
    pub(super) fn tell(
        &mut self,
        attachment: &Attachment,
        worker: &BackgroundWorker,
        (handle, berth): (WorkerHandle, Berth),
        restarts: u32,
        setup: &mut RunSetup,
    ) -> io::Result<Option<OwnedFd>> {
        if !matches!(worker.entry(), EntryPoint::Command { .. }) {
            return Ok(None);
        }
        setup.environment.push(("BGW_HANDLE", handle.to_string()));
        let runtime_dir = self.runtime_dir.clone();
        setup.environment.extend(runtime_dir.map(|folder| ("BGW_RUNTIME_DIR", folder)));
        if !worker.is_attached() {
            return Ok(None);
        }
        let names = match self.names.take() {
            Some(names) => names,
            None => self.floor.move_above(attachment.names()?)?,
        };
        let names = self.names.insert(names);
        let (ours, theirs) = ControlSocket::pair()?;
        let theirs = self.floor.move_clear(theirs)?;
        attachment.invite(ours, names.as_fd(), worker, (handle, berth), restarts)?;
        let number = theirs.as_raw_fd();
        setup.placements.add(number, number);
        setup.environment.push((ATTACH_VARIABLE, number.to_string()));
        Ok(Some(theirs))
    }
}

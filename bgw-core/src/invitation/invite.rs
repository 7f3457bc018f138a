//! The postmaster's side: puts an invitation into a socket.

use super::packet::{Header, encode_names};
use crate::attachment::Attachment;
use crate::berth::Berth;
use crate::function::Function;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::shared::WorkerRecord;
use crate::sys::scm::{self, MAX_FDS};
use crate::worker::BackgroundWorker;
use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, memfd_create};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

impl Attachment {
    /// A sealed file with the names that an invitation passes on.
    ///
    /// # Errors
    /// The error of `memfd_create`, `write` or `fcntl`.
    pub fn names(&self) -> io::Result<OwnedFd> {
        let functions: Vec<String> = self.functions().iter().map(Function::line).collect();
        let functions = functions.iter().map(String::as_str);
        let descriptors = self.descriptors().iter().map(|(name, _)| name.as_str());
        let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
        let mut file = File::from(memfd_create(c"bgw names", flags)?);
        file.write_all(&encode_names(functions, descriptors))?;
        let seals = SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
        fcntl_add_seals(&file, seals)?;
        Ok(file.into())
    }

    /// Invites the command that will inherit the other end of `socket`. Never blocks.
    ///
    /// # Errors
    /// The error of `sendmsg`: there is no room for so many descriptors.
    pub fn invite(
        &self,
        socket: impl AsFd,
        names: BorrowedFd<'_>,
        worker: &BackgroundWorker,
        (handle, berth): (WorkerHandle, Berth),
        restarts: u32,
    ) -> io::Result<()> {
        let doorbell = self.doorbell().ok_or(io::ErrorKind::PermissionDenied)?;
        let region = self.slots().region().as_fd();
        let mut descriptors = vec![region, self.postmaster_pidfd(), doorbell, names];
        let events = self.events.as_ref().map(|events| events.region().as_fd());
        let (has_events, has_door) = (events.is_some(), self.door().is_some());
        descriptors.extend(events.into_iter().chain(self.door()));
        let header = Header {
            handle,
            berth,
            restarts,
            postmaster: Pid::this(),
            has_events,
            has_door,
            record: Box::new(WorkerRecord::encode(worker, Pid::this())),
        };
        scm::send(&socket, &header.encode(), &descriptors)?;
        let own: Vec<BorrowedFd<'_>> =
            self.descriptors().iter().map(|(_, fd)| fd.as_fd()).collect();
        own.chunks(MAX_FDS).try_for_each(|some| scm::send(&socket, &[0], some))
    }
}

//! The socket by which one run of a command says how it is.
//!
//! Trust. Who can reach a socket can send anything, as fast as it likes. A pass hears a bounded
//! number of messages of each socket, longer ones are dropped, and descriptors in them are closed
//! at once.

use super::message::{LONGEST, Said, parse};
use crate::child::RunSetup;
use crate::sys::credential_socket::{Message, receive, with_credentials};
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::{BackgroundWorker, NotifyFrom, Pid};
use shmem_slots::Key;
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;

/// How many messages of one socket are heard before other events are handled.
const MESSAGES_IN_A_ROW: usize = 16;

/// The socket of one run.
#[derive(Debug)]
pub(super) struct NotifySocket {
    pub(super) key: Key,
    pub(super) socket: OwnedFd,
    path: PathBuf,
    from: NotifyFrom,
    /// The command's process, once it is started.
    pub(super) leader: Option<Pid>,
    is_ready: bool,
    /// How many beats were heard.
    pub(super) beats: u64,
}

impl NotifySocket {
    /// The socket of a run that begins, at `path`, which is free.
    pub(super) fn open(
        key: Key,
        worker: &BackgroundWorker,
        path: PathBuf,
        floor: DescriptorFloor,
        setup: &mut RunSetup,
    ) -> io::Result<Self> {
        let socket = UnixDatagram::bind(&path)?;
        let made = with_credentials(socket.into())
            .and_then(|socket| floor.move_above(socket))
            .and_then(|socket| {
                fs::set_permissions(&path, fs::Permissions::from_mode(0o600))?;
                Ok(socket)
            });
        let socket = made.inspect_err(|_| drop(fs::remove_file(&path)))?;
        setup.environment.push(("NOTIFY_SOCKET", path.to_string_lossy().into_owned()));
        if let Some(every) = worker.heartbeat() {
            setup.environment.push(("WATCHDOG_USEC", every.as_micros().to_string()));
        }
        let from = worker.notify_from();
        Ok(Self { key, socket, path, from, leader: None, is_ready: false, beats: 0 })
    }

    /// Hears what the run says, a bounded number of messages. Beats are counted.
    pub(super) fn hear(&mut self) -> Vec<Said> {
        let mut all = Vec::new();
        for _ in 0..MESSAGES_IN_A_ROW {
            // Nothing more to hear, or nothing that could be.
            let Ok(Message { bytes, sender }) = receive(&self.socket, LONGEST + 1) else { break };
            if self.is_from_its_own(sender) {
                all.extend(parse(&bytes));
            }
        }
        all.retain(|said| match said {
            Said::Ready => !std::mem::replace(&mut self.is_ready, true),
            Said::Beat => {
                self.beats = self.beats.wrapping_add(1);
                false
            }
            Said::Status(_) | Said::Hangs | Said::MoreTime(_) => true,
        });
        all
    }

    /// The leader is our child and not reaped, so its number is nobody else's.
    fn is_from_its_own(&self, sender: Option<Pid>) -> bool {
        let (Some(sender), Some(leader)) = (sender, self.leader) else { return false };
        let of_group = || {
            let group = nix::unistd::getpgid(Some(nix::unistd::Pid::from_raw(sender.as_raw())));
            group.is_ok_and(|group| group.as_raw() == leader.as_raw())
        };
        sender == leader || self.from == NotifyFrom::ProcessGroup && of_group()
    }
}

/// Its path goes with it. A child never drops one.
impl Drop for NotifySocket {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

//! The socket by which one run of a command reports its state.
//!
//! Trust. Who can reach a socket can send anything, as fast as it likes. A pass hears a bounded
//! number of messages of each socket, and longer ones are dropped. A message may bring descriptors,
//! and none of them is ever the postmaster's: closing one can take as long as its sender likes.
//! Such a message is heard while it lies there, and a child takes it out and closes what it brings
//! (`gifts/closers.rs`). Until that has ended the run is not heard any further, and nobody else
//! notices. When the run has ended, all that still lies there is heard, and closed in the same way.

use super::message::{LONGEST, Said, parse};
use crate::child::RunSetup;
use crate::gifts::{Office, Run};
use crate::sys::credential_socket::{drop_next, peek, remember_looks, with_credentials};
use crate::sys::descriptors::DescriptorFloor;
use bgw_core::{BackgroundWorker, NotifyFrom, Pid};
use shmem_slots::Key;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::UnixDatagram;
use std::path::PathBuf;
use std::rc::Rc;

/// How many messages of one socket are heard before other events are handled.
const MESSAGES_IN_A_ROW: usize = 16;
/// And how many of a run that has ended: as many as wait in a socket, unless somebody has raised
/// `net.unix.max_dgram_qlen` above what systemd sets.
const LAST_MESSAGES: usize = 1 + 512;
/// How much of a message that is too long is looked at by one call.
const PART: usize = 64 << 10;

/// The socket of one run.
#[derive(Debug)]
pub(super) struct NotifySocket {
    pub(super) key: Key,
    pub(super) run: Run,
    /// `None` once it is dropped.
    socket: Option<Rc<OwnedFd>>,
    office: Rc<Office>,
    path: PathBuf,
    from: NotifyFrom,
    /// The command's process, once it is started.
    pub(super) leader: Option<Pid>,
    is_ready: bool,
    /// The first message was heard and brings descriptors: a child is to take it out.
    held_up: bool,
    /// How many beats were heard.
    pub(super) beats: u64,
}

impl NotifySocket {
    /// The socket of `run`, which begins, at `path`, which is free.
    pub(super) fn open(
        key: Key,
        run: Run,
        worker: &BackgroundWorker,
        path: PathBuf,
        floor: DescriptorFloor,
        office: Rc<Office>,
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
        let socket = Some(Rc::new(socket));
        let (leader, is_ready, held_up, beats) = (None, false, false, 0);
        Ok(Self { key, run, socket, office, path, from, leader, is_ready, held_up, beats })
    }

    /// What is to be watched.
    pub(super) fn watched(&self) -> Option<BorrowedFd<'_>> {
        self.socket.as_ref().map(|socket| socket.as_fd())
    }

    /// True if nothing more is heard before a child has taken out the first message.
    pub(super) const fn is_held_up(&self) -> bool {
        self.held_up
    }

    /// A child was to take out the first message, and has ended. One that has died before is
    /// followed by another one.
    pub(super) fn go_on(&mut self, taken_out: bool) {
        let Some(socket) = self.socket.as_ref().filter(|_| self.held_up) else { return };
        if taken_out {
            self.held_up = false;
        } else {
            self.office.condemn_first(self.run, socket);
        }
    }

    /// Hears what the run says, a bounded number of messages. Beats are counted.
    pub(super) fn hear(&mut self) -> Vec<Said> {
        self.hear_some(MESSAGES_IN_A_ROW, false)
    }

    /// Hears all that the run has said, whose process has ended: also what lies behind a message
    /// that nobody has taken out yet.
    pub(super) fn hear_last(&mut self) -> Vec<Said> {
        self.hear_some(LAST_MESSAGES, true)
    }

    fn hear_some(&mut self, most: usize, behind: bool) -> Vec<Said> {
        let mut all = Vec::new();
        for _ in 0..most {
            let held_up = self.held_up;
            let Some(socket) = self.socket.as_ref().filter(|_| behind || !held_up) else { break };
            // Nothing more to hear, or nothing that could be.
            let Ok(message) = peek(socket, LONGEST + 1) else { break };
            if self.is_from_its_own(message.sender) {
                all.extend(parse(&message.bytes));
            }
            if !self.held_up && !message.descriptors {
                if drop_next(socket).is_err() {
                    break;
                }
                continue;
            }
            // It stays where it is. One that is too long is not to be taken for two.
            let mut is_cut = message.cut;
            while is_cut {
                is_cut = peek(socket, PART).is_ok_and(|part| part.cut);
            }
            if !self.held_up {
                self.office.condemn_first(self.run, socket);
                self.held_up = true;
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
        // Otherwise a child has it, or will have it, and closes it.
        let Some(socket) = self.socket.take().and_then(Rc::into_inner) else { return };
        match remember_looks(&socket, false) {
            // What was looked at is still in it.
            Ok(()) => self.office.close_socket(socket),
            Err(_) => self.office.condemn_file(socket),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::credential_socket::take_out;
    use bgw_core::internals::scm;

    fn status(text: &str) -> Said {
        Said::Status(text.to_owned())
    }

    /// The socket of a run of this process, its other end, and a descriptor to be sent.
    fn opened(name: &str, office: &Rc<Office>) -> (NotifySocket, UnixDatagram, OwnedFd) {
        let path = std::env::temp_dir().join(format!("bgw-{name}-{}", std::process::id()));
        let key = Key { index: 3, generation: 1 };
        let worker = BackgroundWorker::builder("command").command("/bin/true", [""; 0]);
        let worker = worker.build().unwrap();
        let run = Run { berth: 3, number: 7 };
        let floor = DescriptorFloor::above_all_open().unwrap();
        let (office, mut setup) = (Rc::clone(office), RunSetup::default());
        let opened = NotifySocket::open(key, run, &worker, path.clone(), floor, office, &mut setup);
        let mut ours = opened.unwrap();
        ours.leader = Some(Pid::this());
        let theirs = UnixDatagram::unbound().unwrap();
        theirs.connect(&path).unwrap();
        let (_, lent) = std::io::pipe().unwrap();
        (ours, theirs, lent.into())
    }

    /// Fails if a message with descriptors is heard twice, is lost with the child that was to take
    /// it out, or if those behind it are.
    #[test]
    fn a_message_with_descriptors_is_heard_once_and_those_behind_it_when_it_is_taken_out() {
        let office = Office::new(64);
        let (mut ours, theirs, lent) = opened("notify", &office);
        theirs.send(b"STATUS=first").unwrap();
        scm::send(&theirs, b"STATUS=second\nWATCHDOG=1", &[lent.as_fd()]).unwrap();
        theirs.send(b"STATUS=third").unwrap();
        assert_eq!(ours.hear(), [status("first"), status("second")]);
        for taken_out in [false, false, true] {
            assert!(ours.is_held_up());
            assert_eq!((ours.hear(), ours.beats), (vec![], 1), "nothing behind it yet");
            let condemned = office.take_condemned();
            assert_eq!(condemned.len(), 1);
            if taken_out {
                take_out(ours.socket.as_ref().unwrap()).unwrap();
            }
            ours.go_on(taken_out);
            let said = ours.hear();
            assert_eq!(said, if taken_out { vec![status("third")] } else { vec![] });
        }
        let path = ours.path.clone();
        assert!(!ours.is_held_up() && !office.has_condemned());
        drop(ours);
        assert!(!office.has_condemned() && !path.exists());
    }

    /// Fails if something is lost that lies behind a message with descriptors when the process has
    /// ended, is heard twice, or if a part of a long message counts.
    #[test]
    fn all_that_was_said_is_heard_once_when_the_process_has_ended() {
        let office = Office::new(64);
        let (mut ours, theirs, lent) = opened("notify-last", &office);
        let long = [b"x".repeat(LONGEST + 1), b"STATUS=rest".to_vec()].concat();
        scm::send(&theirs, &long, &[lent.as_fd()]).unwrap();
        theirs.send(b"STATUS=behind").unwrap();
        scm::send(&theirs, b"WATCHDOG=1", &[lent.as_fd()]).unwrap();
        theirs.send(&long).unwrap();
        theirs.send(b"").unwrap();
        theirs.send(b"STATUS=last\nREADY=1").unwrap();
        assert_eq!((ours.hear(), ours.is_held_up()), (vec![], true));
        // Either way: a child may take out the first one meanwhile.
        let condemned = office.take_condemned();
        assert_eq!(condemned.len(), 1);
        take_out(ours.socket.as_ref().unwrap()).unwrap();
        assert_eq!(ours.hear_last(), [status("behind"), status("last"), Said::Ready]);
        assert_eq!((ours.hear_last(), ours.beats), (vec![], 1), "each once");
        drop(condemned);
        drop(ours);
        assert_eq!(office.take_condemned().len(), 1, "the socket, with what is in it");
    }
}

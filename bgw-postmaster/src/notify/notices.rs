//! The sockets and pipes by which running commands report their state, by berth.

use super::message::Said;
use super::newline::{Heard, NewlinePipe};
use super::socket::NotifySocket;
use crate::child::RunSetup;
use crate::gifts::{Office, Run};
use crate::sys::descriptors::DescriptorFloor;
use crate::sys::private_table::PrivateTable;
use bgw_core::{BackgroundWorker, Pid, Ready};
use shmem_slots::Key;
use std::fs;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Path, PathBuf};
use std::rc::Rc;

const PREFIX: &str = "notify.";

/// What one run has.
#[derive(Debug)]
enum Channel {
    Socket(NotifySocket),
    Newline(NewlinePipe),
}

/// The sockets and pipes of all runs.
#[derive(Debug)]
pub(crate) struct Notices {
    by_berth: PrivateTable<Channel>,
    /// The runtime folder, as an absolute path.
    folder: Option<PathBuf>,
    floor: DescriptorFloor,
    /// The number of the next run: it makes the path of each run another one.
    next: u64,
    office: Rc<Office>,
}

impl Notices {
    pub(crate) fn new(folder: Option<&Path>, floor: DescriptorFloor, office: Rc<Office>) -> Self {
        let folder = folder.and_then(|folder| fs::canonicalize(folder).ok());
        // What a postmaster that was killed has left. The folder is locked, so it is nobody's.
        for entry in folder.iter().filter_map(|folder| fs::read_dir(folder).ok()).flatten() {
            let Ok(entry) = entry else { continue };
            if entry.file_name().to_string_lossy().starts_with(PREFIX) {
                let _ = fs::remove_file(entry.path());
            }
        }
        Self { by_berth: PrivateTable::default(), folder, floor, next: 0, office }
    }

    /// Makes what a run that begins is to have, and puts the command's side into `setup`.
    pub(crate) fn begin_run(
        &mut self,
        (key, berth): (Key, u32),
        worker: &BackgroundWorker,
        setup: &mut RunSetup,
    ) -> io::Result<()> {
        let channel = match worker.ready() {
            Some(Ready::Notify) => {
                let (run, path) = self.next_run(berth)?;
                let (floor, office) = (self.floor, Rc::clone(&self.office));
                let opened = NotifySocket::open(key, run, worker, path, floor, office, setup)?;
                Channel::Socket(opened)
            }
            Some(Ready::Newline(number)) => {
                Channel::Newline(NewlinePipe::open(key, number, self.floor, setup)?)
            }
            _ => return Ok(()),
        };
        self.by_berth.put(berth as usize, channel);
        Ok(())
    }

    fn next_run(&mut self, berth: u32) -> io::Result<(Run, PathBuf)> {
        let Some(folder) = &self.folder else {
            let text = "a command with ready Notify needs a postmaster with a runtime folder";
            tracing::error!("{text}");
            return Err(io::Error::from_raw_os_error(libc::ENOTDIR));
        };
        let run = Run { berth, number: self.next };
        self.next = self.next.wrapping_add(1);
        Ok((run, folder.join(format!("{PREFIX}{}.{}", run.berth, run.number))))
    }

    /// The process of the run in berth `berth` is there. Returns what is to be watched.
    pub(crate) fn started(&mut self, berth: u32, leader: Pid) -> Option<BorrowedFd<'_>> {
        match self.by_berth.get_mut(berth as usize)? {
            Channel::Socket(notify) => {
                notify.leader = Some(leader);
                notify.watched()
            }
            Channel::Newline(newline) => Some(newline.pipe.as_fd()),
        }
    }

    /// The run in berth `berth` is over.
    pub(crate) fn run_ended(&mut self, berth: u32) {
        self.by_berth.clear(berth as usize);
    }

    /// Hears what the run in berth `berth` says, a bounded part of it. Beats are counted.
    pub(crate) fn hear(&mut self, berth: u32) -> Option<(Key, Vec<Said>)> {
        self.hear_by(berth, NotifySocket::hear)
    }

    /// Hears all that the run in berth `berth` has said, whose process has ended.
    pub(crate) fn hear_last(&mut self, berth: u32) -> Option<(Key, Vec<Said>)> {
        self.hear_by(berth, NotifySocket::hear_last)
    }

    fn hear_by(
        &mut self,
        berth: u32,
        hear: impl FnOnce(&mut NotifySocket) -> Vec<Said>,
    ) -> Option<(Key, Vec<Said>)> {
        match self.by_berth.get_mut(berth as usize)? {
            Channel::Socket(notify) => Some((notify.key, hear(notify))),
            Channel::Newline(newline) => {
                let key = newline.key;
                let said = match newline.hear() {
                    Heard::Nothing => return None,
                    Heard::Ready => vec![Said::Ready],
                    Heard::Never => Vec::new(),
                };
                self.by_berth.clear(berth as usize);
                Some((key, said))
            }
        }
    }

    /// The socket of the run in berth `berth`, if nothing more is heard before a child has taken
    /// out its first message.
    pub(crate) fn held_up(&self, berth: u32) -> Option<BorrowedFd<'_>> {
        match self.by_berth.get(berth as usize)? {
            Channel::Socket(notify) if notify.is_held_up() => notify.watched(),
            _ => None,
        }
    }

    /// A child was to take out the first message of `run`, and has ended. Returns what is to be
    /// watched again, if the run is heard further.
    pub(crate) fn go_on(&mut self, run: Run, taken_out: bool) -> Option<BorrowedFd<'_>> {
        match self.by_berth.get_mut(run.berth as usize)? {
            Channel::Socket(notify) if notify.run == run => {
                notify.go_on(taken_out);
                if notify.is_held_up() { None } else { notify.watched() }
            }
            _ => None,
        }
    }

    /// How many beats of this run were heard; `None` if it says them another way.
    pub(crate) fn beats(&self, key: Key, berth: u32) -> Option<u64> {
        match self.by_berth.get(berth as usize)? {
            Channel::Socket(notify) => (notify.key == key).then_some(notify.beats),
            Channel::Newline(_) => None,
        }
    }
}

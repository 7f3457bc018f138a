//! The pipe by which one run of a command says that it is ready: with a newline.
//!
//! Trust. Who has the pipe can write anything, as fast as it likes. No more than [`MOST`] bytes are
//! ever read, and none of them is kept.

use crate::child::RunSetup;
use crate::sys::descriptors::DescriptorFloor;
use nix::errno::Errno;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use shmem_slots::Key;
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// In how many bytes the newline must come.
const MOST: usize = 4096;

/// What has come so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Heard {
    /// No newline, and more may come.
    Nothing,
    /// The newline.
    Ready,
    /// No newline, and none that counts can come.
    Never,
}

/// The pipe of one run.
#[derive(Debug)]
pub(super) struct NewlinePipe {
    pub(super) key: Key,
    pub(super) pipe: OwnedFd,
    /// The child of a start shares it until it has descriptors of its own, which it has once it
    /// writes.
    writer: Option<OwnedFd>,
    /// How many bytes were read.
    read: usize,
}

impl NewlinePipe {
    /// The pipe of a run that begins: its command gets it as descriptor `number`.
    pub(super) fn open(
        key: Key,
        number: u8,
        floor: DescriptorFloor,
        setup: &mut RunSetup,
    ) -> io::Result<Self> {
        let (pipe, writer) = nix::unistd::pipe2(OFlag::O_CLOEXEC)?;
        let (pipe, writer) = (floor.move_above(pipe)?, floor.move_clear(writer)?);
        // Of this end alone.
        fcntl(&pipe, FcntlArg::F_SETFL(OFlag::O_NONBLOCK))?;
        setup.placements.add(writer.as_raw_fd(), number.into());
        Ok(Self { key, pipe, writer: Some(writer), read: 0 })
    }

    /// Reads what has come.
    pub(super) fn hear(&mut self) -> Heard {
        let mut bytes = vec![0; MOST - self.read];
        match nix::unistd::read(&self.pipe, &mut bytes) {
            Ok(len) => {
                self.writer = None;
                bytes.truncate(len);
                self.take(&bytes)
            }
            Err(Errno::EAGAIN | Errno::EINTR) => Heard::Nothing,
            Err(_) => Heard::Never,
        }
    }

    /// `bytes` have come; none means end of file.
    fn take(&mut self, bytes: &[u8]) -> Heard {
        self.read = MOST.min(self.read + bytes.len());
        if bytes.contains(&b'\n') {
            Heard::Ready
        } else if bytes.is_empty() || self.read >= MOST {
            Heard::Never
        } else {
            Heard::Nothing
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    /// Breaks if a newline behind the limit counts, one at the limit does not, or text spoils it.
    #[test]
    fn a_newline_counts_within_the_first_4096_bytes() {
        let floor = DescriptorFloor::above_all_open().unwrap();
        let key = Key { index: 1, generation: 2 };
        let x = |len: usize| "x".repeat(len);
        for (parts, expected) in [
            (vec!["\n".to_owned()], Heard::Ready),
            (vec!["starting, \0 ".to_owned(), "listening\nserving".to_owned()], Heard::Ready),
            (vec![x(4095), "\n".to_owned()], Heard::Ready),
            (vec![format!("{}\n", x(4095))], Heard::Ready),
            (vec![x(4095)], Heard::Nothing),
            (vec![x(4096), "\n".to_owned()], Heard::Never),
            (vec![format!("{}\n", x(4096))], Heard::Never),
            (vec![], Heard::Nothing),
        ] {
            let mut setup = RunSetup::default();
            let mut ours = NewlinePipe::open(key, 3, floor, &mut setup).unwrap();
            let mut theirs =
                std::fs::File::from(ours.writer.as_ref().unwrap().try_clone().unwrap());
            assert_eq!(ours.hear(), Heard::Nothing);
            let mut heard = Heard::Nothing;
            for part in &parts {
                // Whoever has heard enough reads no more.
                assert_eq!(heard, Heard::Nothing, "{part:?}");
                theirs.write_all(part.as_bytes()).unwrap();
                heard = ours.hear();
                if heard == Heard::Never {
                    break;
                }
            }
            assert_eq!(heard, expected, "{parts:?}");
            if heard == Heard::Nothing && !parts.is_empty() {
                drop(theirs);
                assert_eq!(ours.hear(), Heard::Never, "end of file");
            }
        }
    }
}

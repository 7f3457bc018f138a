//! How many connections each worker has, in a file in memory that all of them share.
//!
//! Each worker writes its own cell and reads those of the others before it accepts: a worker with
//! more connections than another leaves it a moment to be faster. Kept connections stay where they
//! were accepted, so without this the worker that wakes first has most of the load for good.

use nix::sys::memfd::{MFdFlags, memfd_create};
use std::fs::File;
use std::io;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::os::unix::fs::FileExt;
use std::time::Duration;

const CELL: usize = size_of::<u32>();
/// The place of the word that is not 0 once the server closes.
const CLOSING: u64 = 0;

/// The shared file: a word that says whether the server closes, then a cell for each worker.
pub(crate) struct Board {
    file: File,
    workers: usize,
}

impl Board {
    pub(crate) fn create(workers: u32) -> io::Result<Self> {
        let file = File::from(memfd_create("prefork-board", MFdFlags::MFD_CLOEXEC)?);
        let workers = workers as usize;
        file.set_len((CELL * (1 + workers)) as u64)?;
        Ok(Self { file, workers })
    }

    /// The board that a worker was passed.
    pub(crate) fn open(descriptor: BorrowedFd<'_>) -> io::Result<Self> {
        let file = File::from(descriptor.try_clone_to_owned()?);
        let cells = usize::try_from(file.metadata()?.len()).unwrap_or(0) / CELL;
        Ok(Self { file, workers: cells.saturating_sub(1) })
    }

    pub(crate) fn descriptor(&self) -> io::Result<OwnedFd> {
        Ok(self.file.try_clone()?.into())
    }

    /// Tells the workers that the whole server closes, not just one of them.
    pub(crate) fn close(&self) -> io::Result<()> {
        self.file.write_all_at(&1u32.to_ne_bytes(), CLOSING)
    }

    pub(crate) fn is_closing(&self) -> bool {
        let mut word = [0; CELL];
        self.file.read_exact_at(&mut word, CLOSING).is_ok() && word != [0; CELL]
    }

    /// Says that worker `worker` has `connections`.
    pub(crate) fn publish(&self, worker: usize, connections: u32) -> io::Result<()> {
        let place = (CELL * (1 + worker)) as u64;
        self.file.write_all_at(&connections.to_ne_bytes(), place)
    }

    pub(crate) fn loads(&self) -> io::Result<Vec<u32>> {
        let mut bytes = vec![0; CELL * self.workers];
        self.file.read_exact_at(&mut bytes, CELL as u64)?;
        let words = bytes.as_chunks::<CELL>().0;
        Ok(words.iter().map(|word| u32::from_ne_bytes(*word)).collect())
    }
}

/// How long worker `me` leaves a new connection to the others: not at all if nobody has less to do,
/// else the longer the more workers have less. Whoever it waits for may hang, so it is short.
pub(crate) fn courtesy(me: usize, loads: &[u32]) -> Duration {
    let mine = loads.get(me).copied().unwrap_or(0);
    let with_less = loads.iter().filter(|other| **other < mine).count();
    Duration::from_micros(400) * u32::try_from(with_less.min(8)).unwrap_or(8)
}

/// Whether worker `me` has so many connections more than its share that it should end one. One that
/// was killed comes back with none; as clients come anew, it gets its share again.
pub(crate) fn has_too_many(me: usize, loads: &[u32]) -> bool {
    let mine = loads.get(me).copied().unwrap_or(0) as usize;
    let sum: usize = loads.iter().map(|load| *load as usize).sum();
    // More than 5/4 of the mean, and by more than one.
    mine * loads.len() * 4 > sum * 5 && mine * loads.len() > sum + loads.len()
}

#[cfg(test)]
mod tests {
    use super::{Board, courtesy, has_too_many};
    use std::os::fd::AsFd;
    use std::time::Duration;

    #[test]
    fn what_one_worker_publishes_the_others_read() {
        let board = Board::create(3).unwrap();
        let theirs = Board::open(board.descriptor().unwrap().as_fd()).unwrap();
        theirs.publish(2, 7).unwrap();
        assert_eq!(board.loads().unwrap(), [0, 0, 7]);
        assert!(!theirs.is_closing());
        board.close().unwrap();
        assert!(theirs.is_closing());
        assert_eq!(theirs.loads().unwrap(), [0, 0, 7], "closing touches no load");
    }

    #[test]
    fn who_has_least_is_first() {
        let unit = courtesy(1, &[0, 1]);
        assert!(unit > Duration::ZERO);
        for (loads, waits) in [
            ([0, 0, 0, 0], [0, 0, 0, 0]),
            ([3, 1, 2, 2], [3, 0, 1, 1]),
            ([9, 9, 9, 0], [1, 1, 1, 0]),
        ] {
            for (me, waits) in waits.into_iter().enumerate() {
                assert_eq!(courtesy(me, &loads), unit * waits, "{me} of {loads:?}");
            }
        }
        assert_eq!(courtesy(9, &[1]), Duration::ZERO, "no such worker");
    }

    #[test]
    fn only_who_has_clearly_more_than_its_share_ends_connections() {
        for (loads, too_many) in [
            ([8, 8, 8, 8], false),
            ([10, 8, 7, 7], false),
            ([11, 7, 7, 7], true),
            ([11, 11, 10, 0], true),
            ([8, 11, 11, 2], false),
            ([1, 0, 0, 0], false),
            ([2, 0, 0, 0], true),
            ([0, 0, 0, 0], false),
        ] {
            assert_eq!(has_too_many(0, &loads), too_many, "{loads:?}");
        }
    }
}

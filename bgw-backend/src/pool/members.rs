//! Who submits: a number in the pool, and a lock that says that its process lives.
//!
//! Each submitter has the pool's file open once more, and through that a lock on the byte of its
//! number. The kernel releases it when the process has ended, however it ends, and whatever became
//! of its pid. So whoever can have the lock knows that the last one with that number is gone. The
//! locks lie far behind the pool's bytes.
//!
//! What the dead have left is given up by anybody, and must be before the number is given to
//! another process: one that is slow at it would give up the jobs of that one. So a second lock of
//! each number is held by whoever gives up, and by whoever takes the number, while they do.
//!
//! A child that the process forks holds the lock, too, until it executes another program or ends.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::sync::{Mutex, PoisonError};

/// Of the locks of those who live.
const ALIVE: i64 = 1 << 40;
/// Of the locks of those who give up what the dead have left.
const SWEEP: i64 = 1 << 41;

/// The pool's file, opened by this process alone.
#[derive(Debug)]
pub(super) struct Members {
    file: File,
    count: u32,
    /// The threads of this process have each lock in common, so one of them sweeps at a time.
    sweeps: Mutex<()>,
}

fn lock(kind: i32, range: i64, first: u32, count: u32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: range + i64::from(first),
        l_len: i64::from(count),
        l_pid: 0,
    }
}

impl Members {
    /// # Errors
    /// The file cannot be opened: there is no `/proc`, or there are too many open files.
    pub(super) fn open(file: &impl AsFd, count: u32) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        let file = OpenOptions::new().read(true).write(true).open(path)?;
        Ok(Self { file, count, sweeps: Mutex::default() })
    }

    /// Takes a number that no living process has, and that nobody sweeps; `None` if there is none.
    /// `sweep` gives up what the last process with that number has left, while it still counts as
    /// gone: so nobody takes its jobs for those of one that lives.
    pub(super) fn join(&self, sweep: impl Fn(u32)) -> Option<u32> {
        (0..self.count).find(|&number| {
            let mut taken = false;
            self.sweep_if_gone(number, || {
                sweep(number);
                taken = self.take(ALIVE, number);
            });
            taken
        })
    }

    /// Gives up by `sweep` what the process with this number has left, if it is gone. Returns true
    /// if it was. Meanwhile nobody gets the number.
    pub(super) fn sweep_if_gone(&self, number: u32, sweep: impl FnOnce()) -> bool {
        let _one = self.sweeps.lock().unwrap_or_else(PoisonError::into_inner);
        // Looked at before, since most live; and after, since one may have come in between.
        if !self.is_gone(number) || !self.take(SWEEP, number) {
            return false;
        }
        let gone = self.is_gone(number);
        if gone {
            sweep();
        }
        self.release(SWEEP, number);
        gone
    }

    fn take(&self, range: i64, number: u32) -> bool {
        let asked = lock(libc::F_WRLCK, range, number, 1);
        fcntl(&self.file, FcntlArg::F_OFD_SETLK(&asked)).is_ok()
    }

    fn release(&self, range: i64, number: u32) {
        let asked = lock(libc::F_UNLCK, range, number, 1);
        // Fails for want of memory in the kernel alone: then it is released with the file.
        let _ = fcntl(&self.file, FcntlArg::F_OFD_SETLK(&asked));
    }

    /// True if the process that had this number is gone, or nobody ever had it. One system call.
    pub(super) fn is_gone(&self, number: u32) -> bool {
        number >= self.count || self.are_free(number, 1)
    }

    /// True if nobody but this process, if it has joined, can submit.
    pub(super) fn is_nobody(&self) -> bool {
        self.are_free(0, self.count)
    }

    fn are_free(&self, first: u32, count: u32) -> bool {
        let mut asked = lock(libc::F_WRLCK, ALIVE, first, count);
        // An error says nothing: then they live.
        fcntl(&self.file, FcntlArg::F_OFD_GETLK(&mut asked)).is_ok()
            && i32::from(asked.l_type) == libc::F_UNLCK
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use shmem_slots::Segment;

    #[test]
    fn a_number_is_had_by_one_until_its_file_is_closed() {
        let segment = Segment::create_file(64).unwrap();
        let members = || Members::open(&segment, 2).unwrap();
        let (one, other, third) = (members(), members(), members());
        assert!(third.is_nobody());
        let join = |members: &Members| members.join(|_| {});
        assert_eq!((join(&one), join(&other), join(&third)), (Some(0), Some(1), None));
        assert!(!third.is_gone(0) && !third.is_gone(1) && third.is_gone(2));
        drop(one);
        assert!(third.is_gone(0) && !third.is_nobody() && other.is_nobody());
        assert_eq!(join(&third), Some(0));
    }

    #[test]
    fn a_number_is_given_to_nobody_while_somebody_sweeps() {
        let segment = Segment::create_file(64).unwrap();
        let members = || Members::open(&segment, 2).unwrap();
        let (dead, sweeper, next) = (members(), members(), members());
        assert_eq!(dead.join(|_| {}), Some(0));
        assert!(!sweeper.sweep_if_gone(0, || panic!("it lives")));
        drop(dead);
        assert!(sweeper.sweep_if_gone(0, || {
            assert!(!members().sweep_if_gone(0, || panic!("another one sweeps")));
            assert_eq!(next.join(|number| assert_eq!(number, 1)), Some(1));
        }));
        let checked = |_| {
            assert!(!sweeper.sweep_if_gone(0, || ()));
            assert!(sweeper.is_gone(0), "its jobs are those of the dead until they are given up");
        };
        assert_eq!(members().join(checked), Some(0));
    }
}

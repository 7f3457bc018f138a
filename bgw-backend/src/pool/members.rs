//! Who submits: a number in the pool, and a lock that says that its process lives.
//!
//! Each submitter has the pool's file open once more, and through that a lock on the byte of its
//! number. The kernel releases it when the process has ended, however it ends, and whatever became
//! of its pid. So whoever can have the lock knows that the last one with that number is gone. The
//! locks lie far behind the pool's bytes.
//!
//! A child that the process forks holds the lock, too, until it executes another program or ends.

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::fd::{AsFd, AsRawFd};

const FIRST_BYTE: i64 = 1 << 40;

/// The pool's file, opened by this process alone.
#[derive(Debug)]
pub(super) struct Members {
    file: File,
    count: u32,
}

fn lock(kind: i32, first: u32, count: u32) -> libc::flock {
    libc::flock {
        l_type: kind as i16,
        l_whence: libc::SEEK_SET as i16,
        l_start: FIRST_BYTE + i64::from(first),
        l_len: i64::from(count),
        l_pid: 0,
    }
}

impl Members {
    /// # Errors
    /// The file cannot be opened: there is no `/proc`, or there are too many open files.
    pub(super) fn open(file: &impl AsFd, count: u32) -> io::Result<Self> {
        let path = format!("/proc/self/fd/{}", file.as_fd().as_raw_fd());
        Ok(Self { file: OpenOptions::new().read(true).write(true).open(path)?, count })
    }

    /// Takes a number that no living process has; `None` if there is none.
    pub(super) fn join(&self) -> Option<u32> {
        (0..self.count).find(|&number| {
            fcntl(&self.file, FcntlArg::F_OFD_SETLK(&lock(libc::F_WRLCK, number, 1))).is_ok()
        })
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
        let mut asked = lock(libc::F_WRLCK, first, count);
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
        assert_eq!((one.join(), other.join(), third.join()), (Some(0), Some(1), None));
        assert!(!third.is_gone(0) && !third.is_gone(1) && third.is_gone(2));
        drop(one);
        assert!(third.is_gone(0) && !third.is_nobody() && other.is_nobody());
        assert_eq!(third.join(), Some(0));
    }
}

//! A process that has nothing to do with the tested cluster, and must never be signalled by it.
//!
//! That a signal came is not seen at once: it may be on its way when the sender has long gone on.
//! So the stranger is asked to answer: a signal that was sent before the question ends it first.

use crate::child::{Child, fork_child};
use nix::unistd::Pid;
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;

/// A child of the test that handles no signal, and answers as long as it lives.
#[derive(Debug)]
pub struct Stranger {
    child: Child,
    line: UnixStream,
}

impl Stranger {
    /// Forks one.
    ///
    /// # Panics
    /// When there is no socket pair.
    #[allow(clippy::expect_used, reason = "a panic is how a test fails")]
    #[must_use]
    pub fn new() -> Self {
        let (line, theirs) = UnixStream::pair().expect("a socket pair for a stranger");
        let child = fork_child(|| {
            let mut line = theirs;
            let mut question = [0];
            while line.read_exact(&mut question).is_ok() {
                if line.write_all(&question).is_err() {
                    return;
                }
            }
        });
        Self { child, line }
    }

    /// Its process.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.child.pid()
    }

    /// Asks it. False when a signal has ended it.
    #[must_use]
    pub fn answers(&mut self) -> bool {
        self.line.write_all(&[1]).is_ok() && self.line.read_exact(&mut [0]).is_ok()
    }
}

impl Default for Stranger {
    fn default() -> Self {
        Self::new()
    }
}

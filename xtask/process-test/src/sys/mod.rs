//! The unsafe part: fork, and exit without handlers.

use nix::sys::signal::{SigHandler, Signal, signal};
use nix::unistd::{ForkResult, Pid, fork};
use std::fs;
use std::io::{self, Write};

/// Which process returned from fork.
pub(crate) enum Side {
    /// The caller, with the child's pid.
    Parent(Pid),
    /// The new process.
    Child,
}

/// Forks, and refuses in a process with several threads: the child would hold a copy of locks
/// whose owners do not exist in it.
pub(crate) fn fork_single_threaded() -> io::Result<Side> {
    let threads = fs::read_dir("/proc/self/task")?.count();
    if threads != 1 {
        return Err(io::Error::other(format!(
            "the process has {threads} threads; fork before starting a thread"
        )));
    }
    // What is buffered now would be written by both.
    flush();
    // SAFETY: the process has one thread, as just counted by the kernel and not changed since by
    // that one thread, so the child may run any code.
    match unsafe { fork() }? {
        ForkResult::Parent { child } => Ok(Side::Parent(child)),
        ForkResult::Child => Ok(Side::Child),
    }
}

/// Ends the process at once: no destructors, no exit handlers. Buffered output is written.
pub(crate) fn exit_now(code: i32) -> ! {
    flush();
    // SAFETY: _exit takes any integer, touches no memory of ours and does not return.
    unsafe { libc::_exit(code) }
}

fn flush() {
    // A closed output is no reason to fail a test.
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
}

/// Gives SIGINT and SIGQUIT their default again: a shell has the programs that it runs in the
/// background ignore both, and so would all that they start.
pub(crate) fn default_interrupts() {
    for number in [Signal::SIGINT, Signal::SIGQUIT] {
        // SAFETY: the default has no handler. It cannot fail for these two.
        let _ = unsafe { signal(number, SigHandler::SigDfl) };
    }
}

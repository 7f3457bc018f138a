//! How the bits of a published slot read.

use crate::pid::Pid;
use shmem_slots::{Snapshot, State};

/// The four flag bits of a published slot.
pub mod flag {
    /// Somebody asked for the end of the worker; it is never restarted.
    #[doc(alias = "terminate")]
    pub const TERMINATE: u8 = 1;
    /// The worker says that it does its work now.
    pub const READY: u8 = 2;
    /// The worker runs; the pid of the slot is its pid.
    pub const STARTED: u8 = 4;
    /// The worker has ended and will be started again.
    pub const STOPPED: u8 = 8;
}

/// How a worker is, as one look at its slot's word tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunState {
    /// Registered; the postmaster has not tried to start it yet.
    NotYetStarted,
    /// A process was started for it.
    Started(Pid),
    /// It does not run: it ended, will be restarted, or never ran.
    Stopped,
}

/// Reads the run state of the tenant out of its word. The caller has compared the generation.
///
/// Total over all bit patterns: a word that no postmaster writes reads as `Stopped`.
#[inline]
#[must_use]
pub fn run_state(word: Snapshot) -> RunState {
    // Asked first and alone, so that the usual case has no jump table.
    if word.is_published_with(flag::STARTED) {
        return Pid::new(word.pid()).map_or(RunState::Stopped, RunState::Started);
    }
    match word.state() {
        State::Published if word.flags() & flag::STOPPED != 0 => RunState::Stopped,
        State::Published | State::Reserved => RunState::NotYetStarted,
        State::Free | State::Ended | State::Revoked | State::Retired => RunState::Stopped,
    }
}

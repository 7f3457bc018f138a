//! What a wait for a worker waits for, and when it is over.

use crate::handle::Handle;
use bgw_core::WorkerStatus;
use bgw_core::internals::{RunState, flag, run_state};
use shmem_slots::{Snapshot, State};

/// What a wait waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Until {
    Started,
    Running,
    Ready,
    Stopped,
    Ended,
}

impl Until {
    /// True if this wait is over when the slot's word is `word`.
    pub(crate) fn is_over(self, word: Snapshot) -> bool {
        match (self, run_state(word)) {
            (Self::Ended, _) => has_ended(word),
            (Self::Running, RunState::Started(_)) => true,
            (Self::Running, _) => has_ended(word),
            (Self::Ready, RunState::Started(_)) => word.flags() & flag::READY != 0,
            (Self::Started, RunState::Started(_)) | (_, RunState::Stopped) => true,
            (_, RunState::NotYetStarted) | (Self::Stopped, RunState::Started(_)) => false,
        }
    }

    /// The wait's answer, or the word that holds none yet.
    pub(crate) fn look(self, handle: &Handle) -> Look {
        match handle.word() {
            Some(word) if !self.is_over(word) => Look::NotYet(word),
            word => Look::Answer(handle.status_of(word)),
        }
    }
}

/// True if the registration is over.
pub(crate) fn has_ended(word: Snapshot) -> bool {
    !matches!(word.state(), State::Reserved | State::Published)
}

/// What a wait finds when it looks at a worker.
pub(crate) enum Look {
    Answer(WorkerStatus),
    NotYet(Snapshot),
}

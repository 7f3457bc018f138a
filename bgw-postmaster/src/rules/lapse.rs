//! A worker that was too slow for one of its clocks.

use bgw_core::ExitCause;
use std::time::{Duration, Instant};

/// Why the postmaster stopped a worker.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lapse {
    /// It was not ready in time.
    Late,
    /// It had not beaten for so long.
    Silent { silent_for: Duration },
}

/// What a report says of a process that ended like this.
pub(super) const fn reported(cause: ExitCause, lapse: Option<Lapse>) -> ExitCause {
    match (lapse, cause) {
        // It never became its program, and says why.
        (None, _) | (_, ExitCause::NotStarted(_)) => cause,
        (Some(Lapse::Late), _) => ExitCause::StartTimedOut,
        (Some(Lapse::Silent { silent_for }), _) => ExitCause::Hung { silent_for },
    }
}

/// The clock of a start.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct StartClock {
    /// When the worker is to be ready.
    pub(super) due: Instant,
    /// It gets no more time from then on.
    pub(super) end: Instant,
}

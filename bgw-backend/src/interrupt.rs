//! Why a worker's wait, check or statement ended early: a signal, or the postmaster's death.
//!
//! Signal handlers only record what came (`bgw_core`'s pending interrupts). The functions here turn
//! that record into an error, outside of signal context. A cancel is reported once; a terminate
//! request and the postmaster's death are reported each time.

use bgw_core::internals::{Pending, process};

/// Why a wait, a check or a statement of a worker ended early.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
pub enum Interrupt {
    /// SIGTERM came, and the worker has not called [`crate::Worker::handle_terminate`].
    #[error("terminating background worker \"{kind}\" due to administrator command")]
    Terminated {
        /// The worker's type.
        kind: String,
    },
    /// SIGINT cancelled the statement.
    #[error("canceling statement due to user request")]
    Canceled,
    /// The postmaster has died.
    #[error("the postmaster has died")]
    PostmasterDied,
}

bgw_core::debug_as_chain!(Interrupt);

/// Fails if a signal or the postmaster's death interrupts the worker. SIGTERM counts if
/// `by_terminate`. A cancel is consumed.
pub(crate) fn check(by_terminate: bool) -> Result<(), Interrupt> {
    check_terminate(by_terminate)?;
    if process::interrupts().take(Pending::CANCEL) {
        return Err(Interrupt::Canceled);
    }
    if process::interrupts().pending().contains(Pending::POSTMASTER_DIED) {
        return Err(Interrupt::PostmasterDied);
    }
    Ok(())
}

/// Like [`check`], for SIGTERM alone.
pub(crate) fn check_terminate(by_terminate: bool) -> Result<(), Interrupt> {
    if by_terminate && process::interrupts().pending().contains(Pending::TERMINATE) {
        let worker = process::current().map(|me| me.worker.worker_type());
        return Err(Interrupt::Terminated { kind: worker.unwrap_or_default().to_owned() });
    }
    Ok(())
}

/// True if [`check`] would fail. Consumes nothing: a driver asks again and again while it waits.
#[cfg(any(feature = "sqlite", feature = "postgres"))]
pub(crate) fn is_pending(by_terminate: bool) -> bool {
    let pending = process::interrupts().pending();
    pending.intersects(Pending::CANCEL | Pending::POSTMASTER_DIED)
        || (by_terminate && pending.contains(Pending::TERMINATE))
}

//! Notifications: SIGUSR1 from the postmaster when a worker that names this process starts or ends.

use crate::backend::Backend;
use crate::error::{SignalsError, WaitError};
use bgw_core::WaitEvents;
use bgw_core::internals::{Pending, process, wait_for_events};
use std::time::{Duration, Instant};

impl Backend {
    /// Installs a handler that records SIGUSR1. Workers may then be registered with
    /// `notify(backend.pid())`, and [`Backend::wait_for_notification`] returns when one starts or
    /// ends.
    ///
    /// # Errors
    /// The handler could not be installed.
    pub fn enable_notifications(&self) -> Result<(), SignalsError> {
        process::handle_notify().map_err(SignalsError::at("installing the handler of SIGUSR1"))
    }

    /// Sleeps until a notification arrives: a worker that names this process as its notify target
    /// has started or ended. Ask the handles which one; several notifications may arrive as one.
    ///
    /// Returns true for a notification, false if the postmaster has died.
    ///
    /// # Errors
    /// [`WaitError::TimedOut`]; [`WaitError::Interrupted`].
    pub fn wait_for_notification(&self, timeout: Option<Duration>) -> Result<bool, WaitError> {
        let deadline = timeout.and_then(|timeout| Instant::now().checked_add(timeout));
        loop {
            let interrupts = process::interrupts().count();
            if process::interrupts().take(Pending::NOTIFIED) {
                return Ok(true);
            }
            if process::interrupts().waits_are_interrupted() {
                return Err(WaitError::Interrupted);
            }
            let events = WaitEvents::POSTMASTER_DEATH | WaitEvents::TIMEOUT;
            let ready = wait_for_events(&self.attachment, events, &mut [], deadline, interrupts)?;
            if ready.contains(WaitEvents::POSTMASTER_DEATH) {
                return Ok(false);
            }
            if ready == WaitEvents::TIMEOUT {
                return Err(WaitError::TimedOut);
            }
        }
    }
}

//! Requests to the postmaster over the control socket.

use crate::backend::{Backend, ConnectOptions};
use bgw_core::internals::{Reply, Request};
use bgw_core::{AskError, ShutdownMode, StartTime};
use std::time::Instant;

impl Backend {
    /// Requests a shutdown. Returns once the postmaster has accepted it.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn shutdown(&self, mode: ShutdownMode) -> Result<(), AskError> {
        self.ask(&Request::Shutdown(mode))
    }

    /// Reports to the postmaster that the cluster has reached `phase`.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn advance(&self, phase: StartTime) -> Result<(), AskError> {
        self.ask(&Request::Advance(phase))
    }

    /// Requests a reload: the postmaster sends SIGHUP to the workers.
    ///
    /// # Errors
    /// [`AskError`].
    #[doc(alias = "pg_reload_conf")]
    pub fn reload(&self) -> Result<(), AskError> {
        self.ask(&Request::Reload)
    }

    /// Returns once the postmaster has answered. By then it has processed all earlier doorbell
    /// rings.
    ///
    /// # Errors
    /// [`AskError`].
    pub fn ping(&self) -> Result<(), AskError> {
        self.ask(&Request::Ping)
    }

    fn ask(&self, request: &Request) -> Result<(), AskError> {
        let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
        match self.attachment.ask(request, deadline)? {
            Reply::Done => Ok(()),
            other => Err(AskError::unexpected(&other)),
        }
    }
}

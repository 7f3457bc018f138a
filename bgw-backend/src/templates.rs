//! Loads templates anew.

use crate::answer::{Answer, NoAnswer};
use crate::backend::{Backend, ConnectOptions};
use bgw_core::internals::{Reply, Request};
use bgw_core::{AskError, Pid, Refusal};
use std::time::Instant;

/// Why a template was not loaded anew.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum ReforkError {
    /// It could not be loaded. If there was one before, that one goes on.
    #[error("{why}")]
    Failed {
        /// The template by name, and why.
        why: String,
    },
    /// The postmaster has begun nothing, or cannot be asked. Refused: it has no template of this
    /// name, or loads it already.
    #[error(transparent)]
    Ask(#[from] AskError),
    /// The postmaster has died.
    #[error("postmaster {pid} has died while it loaded a template")]
    PostmasterDied {
        /// The postmaster.
        pid: Pid,
    },
    /// As [`WaitError::Interrupted`](crate::WaitError::Interrupted). The load goes on.
    #[error("a signal interrupted the wait for a template, which is loaded all the same")]
    Interrupted,
    /// The system call failed. The load goes on.
    #[error("waiting for a template failed")]
    Wait(#[from] bgw_core::WaitError),
}

bgw_core::debug_as_chain!(ReforkError);

impl From<NoAnswer> for ReforkError {
    fn from(why: NoAnswer) -> Self {
        match why {
            NoAnswer::Ask(error) => Self::Ask(error),
            NoAnswer::PostmasterDied { pid } => Self::PostmasterDied { pid },
            NoAnswer::Interrupted => Self::Interrupted,
            NoAnswer::Wait(error) => Self::Wait(error),
        }
    }
}

impl Backend {
    /// Loads the template `name` anew, and returns when the new one has taken the place of the one
    /// before: workers that start from then on have what it has loaded. Until then workers start
    /// from the one before, so there is no gap. Running workers stay as they are. If the load
    /// fails, the one before stays, too.
    ///
    /// It ends the pause after a failed load. The postmaster does the work, so it goes on when the
    /// caller ends.
    ///
    /// ```no_run
    /// # fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # let backend = bgw_backend::Backend::connect("/run/user/1000/jobs")?;
    /// // The files have changed.
    /// backend.refork("models")?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// [`ReforkError`].
    pub fn refork(&self, name: &str) -> Result<(), ReforkError> {
        let deadline = Instant::now().checked_add(ConnectOptions::default().timeout);
        let (reply, sockets) =
            self.attachment.ask_for(&Request::Refork(name.to_owned()), deadline)?;
        match Answer::of(&reply, sockets)?.wait(self)? {
            Reply::Done => Ok(()),
            Reply::Refused { reason: Refusal::TemplateFailed, detail } => {
                Err(ReforkError::Failed { why: detail })
            }
            other => Err(AskError::unexpected(&other).into()),
        }
    }
}

//! Loads templates anew.

use crate::answer::{Answer, AnswerError};
use crate::backend::Backend;
use bgw_core::internals::{Reply, Request};
use bgw_core::{AskError, Refusal};

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
    /// The postmaster has begun nothing, or its answer did not come. Refused: it has no template of
    /// this name, or loads it already.
    #[error(transparent)]
    Answer(#[from] AnswerError),
}

bgw_core::debug_as_chain!(ReforkError);

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
        let answer = Answer::to(&Request::Refork(name.to_owned()), self);
        match answer.map_err(AnswerError::Ask)?.wait(self)?.0 {
            Reply::Done => Ok(()),
            Reply::Refused { reason: Refusal::TemplateFailed, detail } => {
                Err(ReforkError::Failed { why: detail })
            }
            other => Err(AnswerError::Ask(AskError::unexpected(&other)).into()),
        }
    }
}

//! Workers whose next run starts beside the present one, and takes its place once it is ready.

use super::registrant::{COMMAND, Gone, LONG, Registrant};
use crate::job::{Job, Restart};
use bgw_backend::{
    AnswerError, AskError, BackgroundWorker, Handle, InvalidWorker, Ready, RestartPolicy, Roll,
    RollError,
};
use std::time::Duration;

/// What the others know of it.
const SERVES: Job = Job { after: None, restart: Restart::AtOnce, ..COMMAND };

impl Registrant {
    /// Rolls two workers, one after the other, and terminates them.
    pub(super) fn roll(&self) -> Result<(), Gone> {
        let worker = serves().map_err(|error| self.broken(&error.to_string()))?;
        let all = (0..2).map(|_| self.register_as(&worker, SERVES));
        let all: Vec<Handle> = all.collect::<Result<_, _>>()?;
        for handle in &all {
            self.wait_for_start(handle)?;
        }
        match self.backend.roll(&all, Roll::new(1, LONG)) {
            Ok(report) if report.is_complete() || self.faulty => {}
            Ok(report) => return Err(self.broken(&format!("a roll: {report:?}"))),
            // A worker that was killed may be between two runs, or gone for good.
            Err(RollError::Answer(AnswerError::Ask(AskError::Refused { .. }))) if self.faulty => {}
            Err(error) => self.excuse(&format!("rolling failed: {error}"))?,
        }
        for handle in &all {
            self.terminate(handle)?;
            self.wait_for_end(handle)?;
        }
        Ok(())
    }
}

/// A command, which says that it is ready and then sleeps: it writes into no journal, so that two
/// runs at a time are no news to others.
fn serves() -> Result<BackgroundWorker, InvalidWorker> {
    BackgroundWorker::builder("chaos")
        .main_arg(SERVES.encode())
        .command("sh", ["-c", "echo >&3; exec sleep 1000"])
        .ready(Ready::Newline(3))
        .restart(RestartPolicy::Fixed(Duration::ZERO))
        .unbraked()
        .build()
}

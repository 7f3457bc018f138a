//! Commands whose output is collected.

use super::registrant::{COMMAND, Gone, Registrant};
use bgw_backend::{BackgroundWorker, InvalidWorker, OutputFile};

impl Registrant {
    /// Runs two of them, one after the other, and reads their last lines.
    pub(super) fn read_lines(&self) -> Result<(), Gone> {
        let worker = says_lines().map_err(|error| self.broken(&error.to_string()))?;
        for _ in 0..2 {
            let handle = self.register_as(&worker, COMMAND)?;
            self.last_lines_are(&handle, "line")?;
            self.wait_for_end(&handle)?;
            self.last_lines_are(&handle, "line")?;
        }
        Ok(())
    }
}

/// A command whose lines are collected; a [`COMMAND`] to all others.
pub(super) fn says_lines() -> Result<BackgroundWorker, InvalidWorker> {
    let worker = BackgroundWorker::builder("chaos").main_arg(COMMAND.encode());
    let worker = worker.command("sh", ["-c", "echo line; echo line; sleep 0.01"]);
    worker.output(OutputFile::new("lines")).last_lines(3).build()
}

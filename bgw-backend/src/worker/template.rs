//! What the template of a worker has loaded.

use super::Worker;
use std::any::Any;

impl Worker {
    /// What the worker's [template](bgw_core::BackgroundWorkerBuilder::template) has loaded.
    /// `None`: it has no template, or what it has loaded is no `T`.
    ///
    /// The value lies in the worker's own memory: what a worker changes by interior mutability,
    /// nobody else sees.
    ///
    /// ```no_run
    /// use bgw_backend::{Worker, WorkerError};
    ///
    /// fn spell(worker: &mut Worker) -> Result<(), WorkerError> {
    ///     worker.unblock_signals()?;
    ///     let words: &String = worker.template_data().ok_or("no words")?;
    ///     println!("{} lines", words.lines().count());
    ///     Ok(())
    /// }
    /// # let _ = bgw_backend::entry(spell);
    /// ```
    #[must_use]
    pub fn template_data<T: Any>(&self) -> Option<&'static T> {
        self.me.template_data()
    }
}

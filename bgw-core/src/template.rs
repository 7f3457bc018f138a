//! What the template of this process has loaded.
//!
//! A template is a child of the postmaster that loads a value once and then forks workers, each of
//! which has the value in its copy of the memory.

use crate::process::{self, WorkerProcess};
use crate::sys::signals;
use std::any::Any;
use std::io;
use std::sync::OnceLock;

static LOADED: OnceLock<Box<dyn Any + Send + Sync>> = OnceLock::new();

/// In a template: what it has loaded, for the workers that it will fork. Once in a process.
pub fn keep_loaded(value: Box<dyn Any + Send + Sync>) {
    // A second value would be that of another template: no process is two.
    let _ = LOADED.set(value);
}

/// In the child of a template, before it becomes a worker: all signals are blocked, and a worker's
/// handlers will be installed anew, whatever the program has set in the template.
///
/// # Errors
/// The error of `pthread_sigmask`.
pub fn leave_template() -> io::Result<()> {
    signals::block_all()?;
    process::forget_handlers();
    Ok(())
}

impl WorkerProcess {
    /// What the template of this worker has loaded. `None`: it has no template, or what it has
    /// loaded is no `T`.
    #[must_use]
    pub fn template_data<T: Any>(&self) -> Option<&'static T> {
        LOADED.get()?.downcast_ref()
    }
}

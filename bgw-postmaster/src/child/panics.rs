//! Logs how a worker fails: its panics and its errors, with its name, handle and process.

use crate::failure_log::log_failure;
use bgw_core::internals::process;
use bgw_core::{BackgroundWorker, WorkerHandle, chain};
use std::error::Error;
use std::panic::PanicHookInfo;
use std::sync::Once;

/// A panic that the hook has logged.
#[derive(Debug, thiserror::Error)]
#[error("panicked")]
pub(super) struct Panicked;

/// Installs a panic hook that logs a worker's panic. Called once, in the postmaster; in any process
/// but a worker the previous hook runs.
pub(crate) fn log_panics_of_workers() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match process::current() {
            Some(me) => log_panic(&me.worker, me.handle, panic),
            None => before(panic),
        }));
    });
}

fn log_panic(worker: &BackgroundWorker, handle: WorkerHandle, panic: &PanicHookInfo<'_>) {
    let message = panic
        .payload()
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.payload().downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned());
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    log_failure(&format!("{} panicked at {place}: {message}", this_worker(worker, handle)));
}

/// Logs the error that a worker returned, with its sources.
pub(super) fn log_error(
    worker: &BackgroundWorker,
    handle: WorkerHandle,
    error: &(dyn Error + Send + Sync + 'static),
) {
    if error.is::<Panicked>() {
        return;
    }
    log_failure(&format!("{} ends: {}", this_worker(worker, handle), chain(error)));
}

fn this_worker(worker: &BackgroundWorker, handle: WorkerHandle) -> String {
    worker_label(worker, handle, std::process::id())
}

/// How log lines name a worker: by its name, its handle and its process.
pub(crate) fn worker_label(worker: &BackgroundWorker, handle: WorkerHandle, pid: u32) -> String {
    format!("background worker \"{}\" (handle {handle}, PID {pid})", worker.name())
}

//! Logs how a worker fails: its panics and its errors.

use bgw_core::{BackgroundWorker, process};
use std::error::Error;
use std::panic::PanicHookInfo;
use std::sync::Once;

/// A panic that the hook has logged.
#[derive(Debug, thiserror::Error)]
#[error("panicked")]
pub(super) struct Panicked;

/// Installs a panic hook that logs a worker's panic with its type. Called once, in the postmaster;
/// in any process but a worker the previous hook runs.
pub(crate) fn log_panics_of_workers() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match process::current() {
            Some(me) => log_panic(&me.worker, panic),
            None => before(panic),
        }));
    });
}

fn log_panic(worker: &BackgroundWorker, panic: &PanicHookInfo<'_>) {
    let message = panic
        .payload()
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.payload().downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned());
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        pid = std::process::id(),
        "background worker \"{}\" panicked at {place}: {message}",
        worker.worker_type()
    );
}

/// Logs the error that a worker returned, with its sources.
pub(super) fn log_error(worker: &BackgroundWorker, error: &(dyn Error + Send + Sync + 'static)) {
    if error.is::<Panicked>() {
        return;
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    tracing::error!(
        pid = std::process::id(),
        "background worker \"{}\" ends: {text}",
        worker.worker_type()
    );
}

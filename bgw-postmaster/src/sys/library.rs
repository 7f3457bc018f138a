//! Loads a library in the child, and calls the worker's main in it.
//!
//! Never before the fork: the postmaster stays small, and what a library's constructors do
//! (threads, signal handlers) affects its worker alone. Never unloaded: destructors of
//! thread-locals and `atexit` handlers that it left behind would point into nothing.

use bgw_core::internals::{LibraryMain, LogLevel, call_library};
use bgw_core::{WorkerProcess, WorkerResult};
use libloading::Library;

/// Runs `function` of the library at `path`, as `dlopen` finds it.
pub(crate) fn run(path: &str, function: &str, me: &'static WorkerProcess) -> WorkerResult {
    // SAFETY: loading runs the library's constructors. Whoever registered the worker may run code
    // in this process anyway; the process is the worker's own.
    let library = unsafe { Library::new(path) }
        .map_err(|error| format!("loading library \"{path}\" failed: {error}"))?;
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: a library of workers exports functions of this type, by contract.
    let main = unsafe { library.get::<LibraryMain>(function.as_bytes()) }
        .map_err(|error| format!("library \"{path}\" has no function \"{function}\": {error}"))?;
    // SAFETY: `main` has this type (above), and the library is leaked, so it is never unloaded.
    let code = unsafe { call_library(*main, me, log) };
    if code == 0 {
        return Ok(());
    }
    Err(format!("\"{function}\" of library \"{path}\" returned {code}").into())
}

fn log(level: LogLevel, text: &str) {
    let pid = std::process::id();
    match level {
        LogLevel::Error => tracing::error!(pid, "{text}"),
        LogLevel::Warning => tracing::warn!(pid, "{text}"),
        LogLevel::Info => tracing::info!(pid, "{text}"),
        LogLevel::Debug => tracing::debug!(pid, "{text}"),
    }
}

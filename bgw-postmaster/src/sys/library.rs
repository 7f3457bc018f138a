//! Loads a library in the child, and calls the worker's function in it.
//!
//! Never before the fork: the postmaster stays small, and what a library's constructors do (threads,
//! signal handlers) concerns its worker alone. Never closed again: what it left behind (thread-local
//! destructors, `atexit` handlers) would point into nothing.

use bgw_core::sys::library::{Hosted, LibraryMain, logged_text};
use bgw_core::{WorkerProcess, WorkerResult};
use libloading::Library;
use std::ffi::{c_char, c_int};

/// Runs `function` of the library at `path`, as `dlopen` finds it.
pub(crate) fn run(path: &str, function: &str, me: &'static WorkerProcess) -> WorkerResult {
    // SAFETY: loading runs the library's constructors. Whoever registered the worker may run code in
    // this process anyway; the process is the worker's own.
    let library = unsafe { Library::new(path) }
        .map_err(|error| format!("loading library \"{path}\" failed: {error}"))?;
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: that the function has this type is the contract of a library of workers.
    let main = unsafe { library.get::<LibraryMain>(function.as_bytes()) }
        .map_err(|error| format!("library \"{path}\" has no function \"{function}\": {error}"))?;
    let hosted = Hosted::new(me, log);
    // SAFETY: the context is whole and lives until the function returns.
    let code = unsafe { main(std::ptr::from_ref(hosted.context())) };
    if code == 0 {
        return Ok(());
    }
    Err(format!("\"{function}\" of library \"{path}\" returned {code}").into())
}

extern "C" fn log(level: c_int, text: *const c_char) {
    // SAFETY: the contract of `LibraryContext::log`.
    let text = unsafe { logged_text(text) };
    let pid = std::process::id();
    match level {
        1 => tracing::error!(pid, "{text}"),
        2 => tracing::warn!(pid, "{text}"),
        3 => tracing::info!(pid, "{text}"),
        _ => tracing::debug!(pid, "{text}"),
    }
}

//! Loads a library in the child and calls the worker's function in it.
//!
//! The library is loaded after the fork: the postmaster stays small, and what the library's
//! constructors do (threads, signal handlers) affects its worker only. It is never unloaded:
//! thread-local destructors and `atexit` handlers that it registered would dangle.

use bgw_core::sys::library::{Hosted, LibraryMain, logged_text};
use bgw_core::{WorkerProcess, WorkerResult};
use libloading::Library;
use std::ffi::{c_char, c_int};

/// Runs `function` of the library that `dlopen` finds as `path`.
pub(crate) fn run(path: &str, function: &str, me: &'static WorkerProcess) -> WorkerResult {
    // SAFETY: loading runs the library's constructors. The registrant chose the code that this process
    // runs; the process is the worker's own.
    let library = unsafe { Library::new(path) }
        .map_err(|error| format!("loading library \"{path}\" failed: {error}"))?;
    let library: &'static Library = Box::leak(Box::new(library));
    // SAFETY: the contract of a library of workers: its entry points have this type.
    let main = unsafe { library.get::<LibraryMain>(function.as_bytes()) }
        .map_err(|error| format!("library \"{path}\" has no function \"{function}\": {error}"))?;
    let hosted = Hosted::new(me, log);
    // SAFETY: the context is initialized and lives until the function returns.
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

//! The entry of a worker that lies in a shared library. Called by [`crate::export_worker`].
//!
//! The library has its own copy of this crate and needs the postmaster's version of `bgw-core`.
//! Another layout is refused with an error that the postmaster logs.

use bgw_core::sys::library::{LibraryContext, enter, log};
use bgw_core::{WorkerProcess, WorkerResult, chain};
use std::ffi::c_int;
use std::panic::AssertUnwindSafe;

const ERROR: c_int = 1;

/// Runs `main` as the worker of `context`. Returns 0 if it returns `Ok`, else 1: it failed or
/// panicked, or the library does not fit its host. The host logs the reason.
///
/// # Safety
/// `context` is what the host passed to the library's function, and that call has not returned.
pub unsafe fn run_in_library(
    context: *const LibraryContext,
    main: impl Fn(&'static WorkerProcess) -> WorkerResult,
) -> c_int {
    // SAFETY: the caller upholds this function's contract, which is that of `enter`.
    let me = match unsafe { enter(context) } {
        Ok(me) => me,
        Err(error) => {
            // SAFETY: as above, for `log`.
            unsafe { log(context, ERROR, &format!("the library cannot be a worker: {error}")) };
            return 1;
        }
    };
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| main(me)));
    let outcome = match ended {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => format!("ends: {}", chain(error.as_ref())),
        // The library's own panic hook has printed the place to standard error.
        Err(panic) => format!("panicked: {}", message(panic.as_ref())),
    };
    let text = format!("background worker \"{}\" {outcome}", me.worker.worker_type());
    // SAFETY: as above, for `log`.
    unsafe { log(context, ERROR, &text) };
    1
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

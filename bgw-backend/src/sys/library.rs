//! Workers in a shared library: how a library offers one, and what happens when it is called.
//!
//! ```
//! use bgw_backend::{Worker, WorkerError};
//!
//! fn sweep(worker: &mut Worker) -> Result<(), WorkerError> {
//!     worker.unblock_signals()?;
//!     // ... work ...
//!     Ok(())
//! }
//!
//! // A crate of type cdylib; registered with `.library("/path/libsweep.so", "sweep_main")`.
//! bgw_backend::export_worker!(sweep_main, sweep);
//! ```
//!
//! The library has its own copy of this crate, and needs the postmaster's version of `bgw-core`; another
//! layout is refused with an error that the postmaster logs.

use crate::worker::Worker;
use bgw_core::sys::library::{LibraryContext, enter, log};
use std::error::Error;
use std::ffi::c_int;
use std::panic::AssertUnwindSafe;

const ERROR: c_int = 1;

/// Runs `main` as the worker of `context`: 0 when it returns `Ok`; 1 when it fails or panics, or the
/// library does not fit its host, which is logged by the host. Called by [`crate::export_worker`].
///
/// # Safety
/// `context` is what the host passed to the library's function, which has not returned.
pub unsafe fn run_in_library<F, E>(context: *const LibraryContext, main: F) -> c_int
where
    F: Fn(&mut Worker) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    // SAFETY: as of this function.
    let me = match unsafe { enter(context) } {
        Ok(me) => me,
        Err(error) => {
            // SAFETY: as of this function.
            unsafe { log(context, ERROR, &format!("the library cannot be a worker: {error}")) };
            return 1;
        }
    };
    let ended = std::panic::catch_unwind(AssertUnwindSafe(|| main(&mut Worker::new(me))));
    let said = match ended {
        Ok(Ok(())) => return 0,
        Ok(Err(error)) => format!("ends: {}", error.into()),
        // What and where went to standard error, by the library's own panic hook.
        Err(panic) => format!("panicked: {}", message(panic.as_ref())),
    };
    let text = format!("background worker \"{}\" {said}", me.worker.worker_type());
    // SAFETY: as of this function.
    unsafe { log(context, ERROR, &text) };
    1
}

fn message(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// Exports a worker's main from a library (a crate of type `cdylib`) under a name that workers may be
/// registered with: `export_worker!(name, function)`, where `function` is a
/// `fn(&mut Worker) -> Result<(), E>`.
#[macro_export]
macro_rules! export_worker {
    ($name:ident, $main:expr) => {
        /// A background worker's main, for the host that loads this library.
        ///
        /// # Safety
        /// Called by the host alone, with its context.
        #[unsafe(no_mangle)]
        pub unsafe extern "C" fn $name(
            context: *const $crate::sys::library::Context,
        ) -> ::std::ffi::c_int {
            // SAFETY: the host passed it to this function, which has not returned.
            unsafe { $crate::sys::library::run_in_library(context, $main) }
        }
    };
}

/// What the host passes; see [`bgw_core::sys::library`].
pub type Context = LibraryContext;

//! The process in which the test's function runs: single-threaded, leader of its own session,
//! standard input empty, core dumps off.
//!
//! It leaves one file in the folder of the test, written by it alone and read by the guard after
//! its end: `said`, the reason of a skip or the message of the last panic on its main thread.

use crate::registry::Test;
use nix::sys::prctl::set_pdeathsig;
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::Signal;
use nix::unistd::{dup2_stdin, setsid};
use std::fs::{self, File};
use std::panic::{self, AssertUnwindSafe, PanicHookInfo};
use std::path::{Path, PathBuf};
use std::process;

/// Exit code of a body that panicked.
pub(crate) const PANICKED: i32 = 101;
/// Exit code of a body that was skipped.
pub(crate) const SKIPPED: i32 = 77;

/// What [`skip`] throws. It is no panic: no hook runs and nothing is printed.
struct Skip(String);

/// Ends the test as skipped, with the reason that the report shows. Values on the stack are
/// dropped, so children made by `fork_child` are killed and reaped.
///
/// To be called by the body of a test, not by a child of it.
pub fn skip(reason: impl Into<String>) -> ! {
    panic::resume_unwind(Box::new(Skip(reason.into())))
}

/// Runs the test and ends the process.
pub(crate) fn run(test: &Test, folder: &Path) -> ! {
    if let Err(error) = prepare() {
        eprintln!("preparing the process of the test failed: {error}");
        process::exit(1);
    }
    record_panics(folder.join("said"));
    let code = match panic::catch_unwind(AssertUnwindSafe(test.run)) {
        Ok(()) => 0,
        Err(thrown) => match thrown.downcast::<Skip>() {
            Ok(skip) => match fs::write(folder.join("said"), &skip.0) {
                Ok(()) => SKIPPED,
                Err(_) => PANICKED,
            },
            Err(_) => PANICKED,
        },
    };
    process::exit(code)
}

/// What the body said last, if anything.
pub(crate) fn said(folder: &Path) -> String {
    fs::read(folder.join("said"))
        .map(|bytes| String::from_utf8_lossy(&bytes).trim_end().to_owned())
        .unwrap_or_default()
}

fn prepare() -> nix::Result<()> {
    setsid()?;
    // The guard lives as long as the test, unless somebody kills it.
    set_pdeathsig(Signal::SIGKILL)?;
    // Not the hard limit: a test may want a core.
    let (_, hard) = getrlimit(Resource::RLIMIT_CORE)?;
    setrlimit(Resource::RLIMIT_CORE, 0, hard)?;
    // Standard input is the pipe by which the guard notices the end of the runner.
    let null = File::open("/dev/null").map_err(|_| nix::Error::ENODEV)?;
    dup2_stdin(&null)
}

fn record_panics(path: PathBuf) {
    let print = panic::take_hook();
    let body = process::id();
    panic::set_hook(Box::new(move |info| {
        // Children of the body inherit the hook and must not speak for it.
        if process::id() == body {
            let _ = fs::write(&path, describe(info));
        }
        print(info);
    }));
}

fn describe(info: &PanicHookInfo<'_>) -> String {
    let payload = info.payload();
    let message = match (payload.downcast_ref::<&str>(), payload.downcast_ref::<String>()) {
        (Some(text), _) => text,
        (None, Some(text)) => text.as_str(),
        (None, None) => "(the panic carries no text)",
    };
    match info.location() {
        Some(location) => format!("panicked at {location}:\n{message}"),
        None => format!("panicked: {message}"),
    }
}

//! The top and the bottom of every child: where it begins, and how it exits.
//!
//! A forked worker goes straight through. A spare does the first half ahead of time, sleeps on its
//! mailbox, and does the second half when the postmaster gives it a worker.

use super::launch::{ChildContext, Launch};
use super::mailbox::Mailbox;
use super::panics::log_error;
use super::settle::{end_with_postmaster, rehearse, settle};
use super::work::work;
use crate::fault;
use bgw_core::internals::exit::{UnwindBarrier, exit_now};
use bgw_core::internals::signals::POSTMASTER_DEATH;
use bgw_core::{BackgroundWorker, WorkerHandle, WorkerResult};
use nix::sys::signal::Signal;
use std::error::Error;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// The life of a worker process. Called in the child, never returns.
///
/// Out of line, as is all code that only a child runs: it keeps the postmaster's frame small.
#[inline(never)]
pub(crate) fn run_worker(context: ChildContext<'_>, launch: Launch) -> ! {
    let _barrier = UnwindBarrier;
    let (worker, handle) = (Arc::clone(&launch.worker), launch.handle);
    fault::this_is(worker.name());
    exit(exit_code(&worker, handle, || {
        fault::step("child:forked")?;
        settle(&context, POSTMASTER_DEATH)?;
        work(context, launch)
    }))
}

/// The life of a spare: it sleeps until it is given a worker. Called in the child, never returns.
#[inline(never)]
pub(crate) fn run_spare(mut context: ChildContext<'_>, mailbox: Mailbox) -> ! {
    let _barrier = UnwindBarrier;
    let launch = match sleep_as_spare(&mut context, &mailbox) {
        Ok(launch) => launch,
        // It is no worker yet: the postmaster forks another spare.
        Err(error) => {
            tracing::error!(pid = std::process::id(), "a spare ends: {error}");
            exit_now(1)
        }
    };
    let (worker, handle) = (Arc::clone(&launch.worker), launch.handle);
    fault::this_is(worker.name());
    exit(exit_code(&worker, handle, || {
        fault::step("waking:before_death_signal")?;
        // From here on the postmaster treats this process as the worker.
        end_with_postmaster(&context, POSTMASTER_DEATH)?;
        // Unmapping the page costs more than it frees; no other child has it.
        std::mem::forget(mailbox);
        work(context, launch)
    }))
}

fn sleep_as_spare(
    context: &mut ChildContext<'_>,
    mailbox: &Mailbox,
) -> Result<Launch, Box<dyn Error + Send + Sync>> {
    // A sleeping spare has nothing to clean up: SIGKILL will do.
    settle(context, Signal::SIGKILL)?;
    context.title.show(&["bgworker: spare"]);
    rehearse(context)?;
    Ok(mailbox.sleep()?)
}

fn exit_code(
    worker: &BackgroundWorker,
    handle: WorkerHandle,
    life: impl FnOnce() -> WorkerResult,
) -> i32 {
    let code = catch_unwind(AssertUnwindSafe(|| match life() {
        Ok(()) => 0,
        Err(error) => {
            log_error(worker, handle, error.as_ref());
            1
        }
    }));
    // The panic hook has logged a panic.
    code.unwrap_or(1)
}

fn exit(code: i32) -> ! {
    // Flushes the worker's own output. If its reader is gone, nothing else can be done.
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    fault::point("child:before_exit");
    exit_now(code)
}

//! From a settled child to its worker's main, and back.
//!
//! The clean-up mark of a worker with shared state is set before its main and cleared after it. A
//! worker that exits in between, even by `exit(0)`, has crashed.

use super::command_gifts::place_gifts;
use super::exec::become_command;
use super::functions::Functions;
use super::launch::{ChildContext, Launch};
use super::panics::Panicked;
use crate::fault;
use crate::sys::descriptors::inherited;
use bgw_core::internals::{Gifts, process};
use bgw_core::{BackgroundWorker, EntryPoint, WorkerFlags, WorkerProcess, WorkerResult};
use std::io;
use std::os::fd::RawFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Becomes the worker and runs its main.
pub(super) fn work(context: &mut ChildContext<'_>, launch: &mut Launch) -> WorkerResult {
    fault::point("child:before_title");
    context.title.show_worker(launch.worker.name());

    if let EntryPoint::Command { program, args } = launch.worker.entry() {
        let mut own = launch.setup.environment.clone();
        if !launch.setup.envelopes.is_empty() {
            own.extend(place_gifts(&launch.worker, &launch.setup.envelopes)?);
        }
        let postmaster = context.attachment.postmaster();
        return become_command(program, args, launch, &own, postmaster).map(|never| match never {});
    }
    let shared = launch.worker.flags().contains(WorkerFlags::SHMEM_ACCESS);
    fault::step("child:before_signals")?;
    let gifts = gifts(&launch.worker, &launch.setup.envelopes)?;
    let me = process::enter(WorkerProcess {
        worker: launch.share.take().unwrap_or_else(|| Arc::clone(&launch.worker)),
        handle: launch.handle,
        berth: launch.berth,
        restarts: launch.restarts,
        attachment: process::handed_down(context.attachment),
        gifts,
    })?;
    fault::point("child:before_mark");
    me.mark_cleanup_needed(shared);
    let result = catch_unwind(AssertUnwindSafe(|| run_main(context.functions, launch.main, me)))
        .unwrap_or_else(|panic| Err(Box::new(Panicked::caught(panic.as_ref()))));
    fault::point("child:after_main");
    // An error or a panic unwound in order and left nothing shared half done.
    me.mark_cleanup_needed(false);
    fault::point("child:mark_cleared");
    result
}

/// What a function was given, in its envelopes.
fn gifts(worker: &BackgroundWorker, envelopes: &[RawFd]) -> io::Result<Gifts> {
    if envelopes.is_empty() {
        return Ok(Gifts::default());
    }
    let named = worker.own_gifts().map(|gift| gift.name.clone()).zip(envelopes);
    let named = named.map(|(name, &number)| Ok((name, inherited(number)?)));
    Ok(Gifts::new(named.collect::<io::Result<_>>()?))
}

fn run_main(
    functions: &Functions,
    index: Option<usize>,
    me: &'static WorkerProcess,
) -> WorkerResult {
    fault::step("child:before_entry")?;
    match me.worker.entry() {
        EntryPoint::Function(name) => {
            let main = index.and_then(|index| functions.at(index)).ok_or_else(|| {
                format!(
                    "no function \"{name}\" is registered with this postmaster; it has {}",
                    functions.names().join(", ")
                )
            })?;
            main(me)
        }
        #[cfg(feature = "dylib")]
        EntryPoint::Library { path, function } => crate::sys::library::run(path, function, me),
        #[cfg(not(feature = "dylib"))]
        EntryPoint::Library { path, function } => Err(format!(
            "\"{function}\" of library \"{path}\" cannot be loaded: this postmaster was built without the feature dylib"
        )
        .into()),
        EntryPoint::Command { .. } => Err("a command has no function".into()),
    }
}

//! From a settled child to its worker's main, and back.
//!
//! The clean-up mark of a worker with shared state is set before its main and cleared after it. A
//! worker that exits in between, even by `exit(0)`, has crashed.

use super::exec::become_command;
use super::functions::Functions;
use super::launch::{ChildContext, Launch};
use super::panics::Panicked;
use crate::fault;
use bgw_core::internals::process;
use bgw_core::{EntryPoint, WorkerFlags, WorkerProcess, WorkerResult};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

/// Becomes the worker and runs its main.
pub(super) fn work(context: ChildContext<'_>, launch: Launch) -> WorkerResult {
    fault::point("child:before_title");
    context.title.show(&["bgworker: ", launch.worker.name()]);

    if let EntryPoint::Command { program, args } = launch.worker.entry() {
        let (postmaster, errno) = (context.attachment.postmaster(), launch.exec_errno.as_ref());
        return become_command(program, args, postmaster, errno).map(|never| match never {});
    }
    let shared = launch.worker.flags().contains(WorkerFlags::SHMEM_ACCESS);
    fault::step("child:before_signals")?;
    let me = process::enter(WorkerProcess {
        worker: launch.worker,
        handle: launch.handle,
        restarts: launch.restarts,
        attachment: Arc::clone(context.attachment),
    })?;
    fault::point("child:before_mark");
    me.mark_cleanup_needed(shared);
    let result = catch_unwind(AssertUnwindSafe(|| run_main(context.functions, launch.main, me)))
        .unwrap_or_else(|_| Err(Box::new(Panicked)));
    fault::point("child:after_main");
    // An error or a panic unwound in order and left nothing shared half done.
    me.mark_cleanup_needed(false);
    fault::point("child:mark_cleared");
    result
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

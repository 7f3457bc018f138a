//! The top and the bottom of every child: where it begins, and how it exits.
//!
//! A forked worker goes straight through. A spare does the first half ahead of time, sleeps on its
//! mailbox, and does the second half when the postmaster gives it a worker. After a worker that is
//! reusable it may sleep again (`rest.rs`).

use super::launch::{ChildContext, Launch};
use super::line;
use super::mailbox::Mailbox;
use super::panics::{Panicked, report_error};
use super::rest::{Fresh, TITLE};
use super::settle::{end_with_postmaster, rehearse, settle};
use super::work::work;
use crate::fault;
use crate::sys::descriptors::close_number;
use crate::sys::placements::Placements;
use crate::sys::process_memory;
use crate::sys::unwind_barrier::UnwindBarrier;
use bgw_core::internals::{exit_now, leave_template, signals};
use bgw_core::{Attachment, WorkerResult};
use rustix::process::Signal;
use std::error::Error;
use std::io::{self, Write};
use std::os::fd::{AsRawFd, OwnedFd};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::thread;

/// The signal that a worker gets when the postmaster dies.
const POSTMASTER_DEATH: Signal = Signal::POWER;
const _: () = assert!(POSTMASTER_DEATH.as_raw() == signals::POSTMASTER_DEATH as i32);

/// The life of a worker process. Called in the child, never returns.
///
/// Out of line, as is all code that only a child runs: it keeps the postmaster's frame small.
#[inline(never)]
pub(crate) fn run_worker(mut context: ChildContext<'_>, mut launch: Launch) -> ! {
    let _barrier = UnwindBarrier;
    fault::this_is(launch.worker.name());
    let lived = lived(|| {
        fault::step("child:forked")?;
        settle(&context, POSTMASTER_DEATH, &launch.setup.placements)?;
        work(&mut context, &mut launch)
    });
    exit(exit_code(context.attachment, &launch, lived))
}

/// The life of a spare: it sleeps until it is given a worker, and again if it may serve another
/// one. Called in the child, never returns.
#[inline(never)]
pub(crate) fn run_spare(mut context: ChildContext<'_>, mailbox: &Mailbox) -> ! {
    let _barrier = UnwindBarrier;
    // It is not a worker yet: the postmaster forks another spare.
    let mut fresh = settle_as_spare(&mut context).unwrap_or_else(|error| end_spare(&*error));
    let mut used = false;
    loop {
        let mut launch = mailbox.sleep(&context, used).unwrap_or_else(|error| end_spare(&error));
        fault::this_is(launch.worker.name());
        let reuse = launch.main.and_then(|main| context.functions.reuse(main));
        let lived = lived(|| {
            fault::step("waking:before_death_signal")?;
            // From here on the postmaster treats this process as the worker.
            end_with_postmaster(&context, POSTMASTER_DEATH)?;
            if let (Some(fresh), Some(_)) = (&mut fresh, reuse) {
                fresh.adopt_orphans()?;
            }
            work(&mut context, &mut launch)
        });
        let code = exit_code(context.attachment, &launch, lived);
        let (Some(fresh), Some(reuse), 0) = (&mut fresh, reuse, code) else { exit(code) };
        flush();
        fault::point("rest:before_look");
        if let Some(objection) = fresh.objection(&context, &reuse) {
            tracing::debug!("{} ends with its process: {objection}", launch.worker.name());
            exit(code)
        }
        if let Err(error) = fresh.rest(&mut context, mailbox, launch.handle) {
            tracing::warn!("{} ends with its process: {error}", launch.worker.name());
            // If the postmaster has not seen that the worker has ended, this is how.
            exit_now(code)
        }
        used = true;
    }
}

/// The life of what a template has forked: it sleeps until it is given a worker. Called in the
/// child, never returns. `socket` is the template's, which may want its memory measured.
#[inline(never)]
pub(crate) fn run_from_template(
    context: &mut ChildContext<'_>,
    mailbox: Mailbox,
    line: OwnedFd,
    (socket, measures): (&OwnedFd, bool),
) -> ! {
    let _barrier = UnwindBarrier;
    if let Err(error) = settle_beside(context, socket) {
        end_spare(&*error);
    }
    fault::point("sleeper:settled");
    let mut launch = mailbox.sleep(context, false).unwrap_or_else(|error| end_spare(&error));
    fault::this_is(launch.worker.name());
    let lived = lived(|| {
        fault::step("waking:before_death_signal")?;
        end_with_postmaster(context, POSTMASTER_DEATH)?;
        launch.setup = line::receive(line, mailbox.packets())?;
        work(context, &mut launch)
    });
    let code = exit_code(context.attachment, &launch, lived);
    if let Some(kib) = measures.then(process_memory::own_kib).flatten() {
        mailbox.set_copied_kib(kib);
    }
    exit(code)
}

/// A process of its own beside its template.
fn settle_beside(context: &mut ChildContext<'_>, socket: &OwnedFd) -> WorkerResult {
    fault::step("sleeper:forked")?;
    leave_template()?;
    // Its owner is the template's, and is not dropped here.
    close_number(socket.as_raw_fd())?;
    rustix::process::setsid()?;
    // A sleeping process has nothing to clean up: SIGKILL will do.
    end_with_postmaster(context, Signal::KILL)?;
    context.title.show(&["bgworker: of a template"]);
    Ok(())
}

fn settle_as_spare(
    context: &mut ChildContext<'_>,
) -> Result<Option<Fresh>, Box<dyn Error + Send + Sync>> {
    // A sleeping spare has nothing to clean up: SIGKILL will do.
    settle(context, Signal::KILL, &Placements::default())?;
    context.title.show(&[TITLE]);
    rehearse(context)?;
    Ok(if context.functions.any_reusable() { Some(Fresh::read()?) } else { None })
}

/// Ends a process that has no worker.
#[cold]
fn end_spare(error: &(dyn Error + 'static)) -> ! {
    tracing::error!(pid = std::process::id(), "a spare ends: {error}");
    exit_now(1)
}

fn lived(life: impl FnOnce() -> WorkerResult) -> thread::Result<WorkerResult> {
    catch_unwind(AssertUnwindSafe(life))
}

fn exit_code(attachment: &Attachment, launch: &Launch, lived: thread::Result<WorkerResult>) -> i32 {
    match lived {
        Ok(Ok(())) => 0,
        failed => {
            report(attachment, launch, failed);
            1
        }
    }
}

#[cold]
#[inline(never)]
fn report(attachment: &Attachment, launch: &Launch, failed: thread::Result<WorkerResult>) {
    let report = |error: &(dyn Error + Send + Sync + 'static)| {
        report_error(attachment, &launch.worker, (launch.handle, launch.berth), error);
    };
    // An error's own code may panic, too, and the panic hook has logged each panic.
    let reported = failed.and_then(|lived| {
        catch_unwind(AssertUnwindSafe(|| lived.unwrap_or_else(|error| report(&*error))))
    });
    if let Err(panic) = reported {
        report(&Panicked::caught(panic.as_ref()));
    }
}

/// Flushes the worker's own output. If its reader is gone, nothing else can be done.
fn flush() {
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
}

fn exit(code: i32) -> ! {
    flush();
    fault::point("child:before_exit");
    exit_now(code)
}

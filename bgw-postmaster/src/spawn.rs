//! What a forked child does until it is a worker, and how it ends.
//!
//! ```text
//!  postmaster: signals blocked ── fork ──▶ child: own session, parent-death signal, close, title,
//!                                          handlers, entry looked up, main, exit
//! ```
//!
//! All signals stay blocked until the worker unblocks them, but SIGQUIT and the postmaster's death,
//! which are heard from the moment their handlers stand. Nothing of the postmaster is dropped in the
//! child: it leaves by `_exit`, and the postmaster's own descriptors are closed by number.
//!
//! A command is started in another way (`sys/command.rs`), unless the C library is to fork.
//!
//! A spare does the first half ahead of time, sleeps, and does the second half when it is woken for a
//! worker (`spares.rs`).
//!
//! The clean-up mark of a worker with shared state is set before its main and cleared after it: a
//! worker that leaves in between, even by `exit(0)`, has crashed.

use crate::fault;
use crate::functions::Functions;
use crate::spares::{Bed, Job};
use crate::sys::close::Fence;
use crate::sys::title::Title;
use crate::sys::{end, signals};
use bgw_core::process::{self, WorkerProcess};
use bgw_core::shared::WorkerRecord;
use bgw_core::sys::signals::POSTMASTER_DEATH;
use bgw_core::{Attachment, BackgroundWorker, EntryPoint, WorkerFlags, WorkerHandle, WorkerResult};
use nix::sys::signal::Signal;
use std::convert::Infallible;
use std::error::Error;
use std::ffi::CString;
use std::io::{self, Write};
use std::panic::{AssertUnwindSafe, PanicHookInfo};
use std::sync::{Arc, Once};
use std::time::Instant;

/// What every child has by the fork.
#[derive(Debug)]
pub(crate) struct Home<'a> {
    pub(crate) attachment: &'a Arc<Attachment>,
    pub(crate) fence: Fence,
    pub(crate) functions: &'a Functions,
    pub(crate) title: &'a mut Title,
}

/// What a child is to be.
#[derive(Debug)]
pub(crate) struct Birth {
    pub(crate) worker: Arc<BackgroundWorker>,
    /// Where its function stands.
    pub(crate) main: Option<usize>,
    pub(crate) handle: WorkerHandle,
    pub(crate) restarts: u32,
}

type Done<T = ()> = Result<T, Box<dyn Error + Send + Sync>>;

/// The life of a worker process. Called in the child, never returns. Not inlined, as all that only a child
/// needs: the postmaster's own frames lie close together.
#[inline(never)]
pub(crate) fn live(home: Home<'_>, birth: Birth) -> ! {
    let worker = Arc::clone(&birth.worker);
    fault::this_is(worker.name());
    leave(exit_code(&worker, || {
        fault::step("child:forked")?;
        settle(&home, POSTMASTER_DEATH)?;
        work(home, birth)
    }))
}

/// The life of a process that sleeps until there is a worker for it. Called in the child, never returns.
#[inline(never)]
pub(crate) fn live_as_spare(home: Home<'_>, bed: Bed) -> ! {
    let awake = std::panic::catch_unwind(AssertUnwindSafe(|| -> Done<Job> {
        // Asleep, it has nothing to tidy up.
        settle(&home, Signal::SIGKILL)?;
        home.title.show(&["bgworker: spare"]);
        rehearse(&home)?;
        Ok(bed.sleep()?)
    }));
    let job = match awake {
        Ok(Ok(job)) => job,
        // Nobody's worker yet: the postmaster forks another one.
        Ok(Err(error)) => {
            tracing::error!(pid = std::process::id(), "a spare ends: {error}");
            end::exit_now(1)
        }
        Err(_) => end::exit_now(1),
    };
    let worker = Arc::new(job.worker);
    fault::this_is(worker.name());
    let Job { main, handle, restarts, .. } = job;
    let birth = Birth { worker: Arc::clone(&worker), main, handle, restarts };
    leave(exit_code(&worker, || {
        fault::step("waking:before_death_signal")?;
        // The postmaster takes this process for the worker from here on.
        die_with_postmaster(&home, POSTMASTER_DEATH)?;
        // Unmapping it costs more than it is worth; nobody else has it.
        std::mem::forget(bed);
        work(home, birth)
    }))
}

fn exit_code(worker: &BackgroundWorker, life: impl FnOnce() -> Done) -> i32 {
    match std::panic::catch_unwind(AssertUnwindSafe(life)) {
        Ok(Ok(())) => 0,
        Ok(Err(error)) => {
            tell_error(worker, error.as_ref());
            1
        }
        // The hook has said what and where.
        Err(_) => 1,
    }
}

fn leave(code: i32) -> ! {
    // What is still buffered is the worker's own output; a reader that is gone is not our matter.
    let _ = io::stdout().flush();
    let _ = io::stderr().flush();
    fault::point("child:before_exit");
    end::exit_now(code)
}

/// A process of its own: descriptors, session, what happens when the postmaster dies.
fn settle(home: &Home<'_>, death: Signal) -> Done {
    // First of all: until then the table of descriptors is the postmaster's, too.
    home.fence.close_above()?;
    fault::step("child:closed")?;
    nix::unistd::setsid()?;
    fault::step("child:before_death_signal")?;
    die_with_postmaster(home, death)
}

fn die_with_postmaster(home: &Home<'_>, death: Signal) -> Done {
    if signals::die_with(home.attachment.postmaster(), death)? {
        return Ok(());
    }
    Err("the postmaster died during the start".into())
}

/// How much of the region a spare has mapped: all of a small one, the first slots of a large one.
const REHEARSED_REGION: usize = 256 << 10;

/// Has the kernel copy, ahead of time, the pages that a worker's start touches, by going through as much
/// of it as leaves no trace.
#[inline(never)]
fn rehearse(home: &Home<'_>) -> Done {
    let mut stack = [0u8; 16 << 10];
    std::hint::black_box(&mut stack).fill(1);
    let mut heap = vec![0u8; 16 << 10];
    std::hint::black_box(&mut heap).fill(1);
    let worker = BackgroundWorker::builder("spare").function("spare").build()?;
    let record = WorkerRecord::encode(&worker, home.attachment.postmaster());
    std::hint::black_box(record.decode()?);
    // Most workers ask for the time soon; the page of the kernel's clock is not mapped by the fork.
    std::hint::black_box(Instant::now());
    // A kernel that cannot does it page by page, later.
    let _ = home.attachment.slots().region().populate(REHEARSED_REGION);
    process::rehearse(home.attachment)?;
    Ok(())
}

fn work(home: Home<'_>, birth: Birth) -> Done {
    fault::point("child:before_title");
    home.title.show(&["bgworker: ", birth.worker.name()]);

    if let EntryPoint::Command { program, args } = birth.worker.entry() {
        return become_command(program, args, home.attachment.postmaster())
            .map(|never| match never {});
    }
    let shared = birth.worker.flags().contains(WorkerFlags::SHMEM_ACCESS);
    let slot = birth.handle.slot();
    fault::step("child:before_signals")?;
    let me = process::enter(WorkerProcess {
        worker: birth.worker,
        handle: birth.handle,
        restarts: birth.restarts,
        attachment: Arc::clone(home.attachment),
    })?;
    let cells = me.attachment.cells();
    fault::point("child:before_mark");
    cells.mark_cleanup_needed(slot, shared);
    let result =
        std::panic::catch_unwind(AssertUnwindSafe(|| run_main(home.functions, birth.main, me)))
            .unwrap_or_else(|_| Err(Box::new(Panicked)));
    fault::point("child:after_main");
    // An error or a panic unwound in order, so nothing shared is left half done.
    cells.mark_cleanup_needed(slot, false);
    fault::point("child:mark_cleared");
    result
}

/// Finds the worker's main and runs it.
fn run_main(
    functions: &Functions,
    place: Option<usize>,
    me: &'static WorkerProcess,
) -> WorkerResult {
    fault::step("child:before_entry")?;
    match me.worker.entry() {
        EntryPoint::Function(name) => {
            let main = place.and_then(|place| functions.at(place)).ok_or_else(|| {
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

/// A panic that was said already.
#[derive(Debug, thiserror::Error)]
#[error("panicked")]
struct Panicked;

/// Has a panic in a worker logged with the worker's type. Done once, in the postmaster; in any process but
/// a worker the hook that was there before goes on.
pub(crate) fn log_panics_of_workers() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match process::current() {
            Some(me) => log_panic(&me.worker, panic),
            None => before(panic),
        }));
    });
}

fn log_panic(worker: &BackgroundWorker, panic: &PanicHookInfo<'_>) {
    let message = panic
        .payload()
        .downcast_ref::<&str>()
        .map(|text| (*text).to_owned())
        .or_else(|| panic.payload().downcast_ref::<String>().cloned())
        .unwrap_or_else(|| "(no message)".to_owned());
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    tracing::error!(
        pid = std::process::id(),
        "background worker \"{}\" panicked at {place}: {message}",
        worker.worker_type()
    );
}

fn tell_error(worker: &BackgroundWorker, error: &(dyn Error + Send + Sync + 'static)) {
    if error.is::<Panicked>() {
        return;
    }
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    tracing::error!(
        pid = std::process::id(),
        "background worker \"{}\" ends: {text}",
        worker.worker_type()
    );
}

/// Turns this process into the command. It gets default signals, none blocked, and SIGTERM when the
/// postmaster dies.
fn become_command(
    program: &str,
    args: &[String],
    postmaster: bgw_core::Pid,
) -> Result<Infallible, Box<dyn Error + Send + Sync>> {
    let mut argv = vec![CString::new(program)?];
    for arg in args {
        argv.push(CString::new(arg.as_str())?);
    }
    let program = CString::new(program)?;
    if !signals::die_with(postmaster, Signal::SIGTERM)? {
        return Err("the postmaster died during the start".into());
    }
    fault::step("child:before_exec")?;
    signals::all_default()?;
    nix::unistd::execvp(&program, &argv)
        .map_err(|errno| format!("running {program:?} failed: {errno}").into())
}

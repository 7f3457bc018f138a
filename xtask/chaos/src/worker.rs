//! What runs in a worker: it does its job and writes into the journal when it begins and when it
//! leaves.

use crate::actor::with_sources;
use crate::job::{Job, QUICK, TEMPLATE, Terminate, Way};
use crate::journal::{Journal, Kind};
use crate::{processes, seen::Seen};
use bgw_backend::{Worker, WorkerError};
use bgw_postmaster::{PostmasterBuilder, Reuse, Template};
use std::time::{Duration, Instant};

/// What the template loads.
const LOADED: u64 = 0x7465_6d70_6c61_7465;

/// A postmaster with the template, kept so.
pub(crate) fn template(builder: PostmasterBuilder, settings: Template) -> PostmasterBuilder {
    builder.template_with(TEMPLATE, settings, || Ok::<_, WorkerError>(LOADED))
}

/// Names the functions to a postmaster. If they are reusable, a process serves one worker after
/// another, where there are spares.
pub(crate) fn functions(
    builder: PostmasterBuilder,
    journal: Journal,
    reusable: bool,
) -> PostmasterBuilder {
    let main = move |worker: &mut Worker| {
        let done = act(journal, worker);
        if reusable {
            // The process may live on, and the slot may be another worker's.
            journal.move_out(worker.handle().slot());
        }
        if let Err(error) = &done {
            eprintln!("worker {} fails: {}", worker.handle(), with_sources(error));
        }
        done
    };
    let (builder, main) = (builder.allow_commands(true), bgw_backend::entry(main));
    if reusable {
        // Few enough that processes reach the limit, too.
        builder.reusable_function("act", Reuse::new().lives(20), main)
    } else {
        builder.function("act", main)
    }
}

/// Who writes: workers have numbers of their own.
pub(crate) const WORKER: u32 = 1 << 23;

fn act(journal: Journal, worker: &mut Worker) -> Result<(), WorkerError> {
    let begin = journal.ticket();
    let job = Job::decode(worker.main_arg());
    let handle = worker.handle();
    let pid = std::process::id();
    let before = journal.move_in(handle.slot(), processes::identity(pid));
    if processes::is_alive(before) && !journal.is_hostile() {
        eprintln!("BROKEN: {handle} runs as {pid} while process {} of its slot lives", before.pid);
        journal.broke(WORKER, handle);
    }
    journal.note(begin, WORKER, Kind::Began, handle, [u64::from(pid), 0, 0]);
    let loaded = worker.template_data::<u64>().copied();
    if loaded != job.template.then_some(LOADED) && !journal.is_hostile() {
        eprintln!("BROKEN: {handle} begins with {loaded:?} of the template");
        journal.broke(WORKER, handle);
    }
    if job.terminate != Terminate::Default {
        worker.handle_terminate();
    }
    worker.unblock_signals()?;
    worker.ready();
    if job.nests {
        nest(journal, worker)?;
    }
    // Whoever reads another worker's finds it out.
    worker.set_result(handle.to_string().as_bytes()).map_err(|error| error.to_string())?;
    let told = wait(worker, job)?;
    journal.note(begin, WORKER, Kind::Left, handle, [u64::from(pid), u64::from(told), 0]);
    if told {
        return Ok(());
    }
    match job.way {
        Way::Return => Ok(()),
        Way::Fail => Err("this worker fails on purpose".into()),
        #[allow(clippy::panic, reason = "it is the job")]
        Way::Panic => panic!("this worker panics on purpose"),
        Way::Exit(code) => std::process::exit(code.into()),
        Way::Raise(signal) => {
            if let Ok(signal) = nix::sys::signal::Signal::try_from(i32::from(signal)) {
                let _ = nix::sys::signal::raise(signal);
            }
            Ok(())
        }
    }
}

/// True when its end was requested and it heeds that.
fn wait(worker: &Worker, job: Job) -> Result<bool, WorkerError> {
    let until = job.after.map(|after| Instant::now() + Duration::from_millis(after.into()));
    loop {
        // Asked in either case: one that does not ask is woken again and again.
        let told = job.terminate != Terminate::Default && worker.should_stop();
        if told && job.terminate == Terminate::Heeds {
            return Ok(true);
        }
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        if left == Some(Duration::ZERO) {
            return Ok(false);
        }
        worker.sleep(left)?;
    }
}

/// Registers a worker of its own, and waits for it. A full cluster, a reset and a shutdown are no
/// news.
fn nest(journal: Journal, worker: &Worker) -> Result<(), WorkerError> {
    let begin = journal.ticket();
    let backend = worker.backend();
    let description = QUICK.describe(None).map_err(|error| error.to_string())?;
    let Ok(inner) = backend.register(&description) else { return Ok(()) };
    journal.note(begin, WORKER, Kind::Registered, inner.id(), [QUICK.encode(), 0, 0]);
    let begin = journal.ticket();
    let Ok(status) = inner.wait_for_shutdown_timeout(Duration::from_secs(5)) else { return Ok(()) };
    let [a, b] = Seen::of(&status).encode();
    journal.note(begin, WORKER, Kind::Saw, inner.id(), [a, b, 0]);
    Ok(())
}

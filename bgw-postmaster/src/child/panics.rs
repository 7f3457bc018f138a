//! How a worker fails: its panics and its errors go to the log, with its name, handle and process,
//! and into its exit report.
//!
//! A panic is said to the report at once, since it ends the process where panics do not unwind. It
//! counts there only if it does, or once it has unwound the main.

use crate::failure_log::log_failure;
use crate::fault;
use bgw_core::internals::process;
use bgw_core::{
    Attachment, BackgroundWorker, Berth, LastWords, WorkerHandle, WorkerProcess, chain,
};
use std::any::Any;
use std::cell::RefCell;
use std::error::Error;
use std::panic::PanicHookInfo;
use std::sync::{Mutex, Once, PoisonError};

/// A panic that the hook has logged, and what it said.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub(super) struct Panicked(LastWords);

thread_local! {
    /// The last panic of this thread, as the hook saw it.
    static LAST: RefCell<Option<LastWords>> = const { RefCell::new(None) };
}

/// What the standard library says when a panic may not unwind any further, and aborts. The panic
/// itself says why.
const CONSEQUENCES: [&str; 2] =
    ["panic in a destructor during cleanup", "panic in a function that cannot unwind"];

/// One thread of a worker says its last words at a time.
static SPEAKING: Mutex<()> = Mutex::new(());

impl Panicked {
    /// The panic that has just unwound this thread with `payload`. Its place is known if the hook
    /// has seen it: a worker may install one of its own.
    pub(super) fn caught(payload: &(dyn Any + Send)) -> Self {
        let message = message(payload);
        let seen = LAST.try_with(RefCell::take).ok().flatten();
        let is_it = |words: &LastWords| {
            matches!((words, LastWords::of_panic(message, "")),
            (LastWords::Panic { message: a, .. }, LastWords::Panic { message: b, .. }) if *a == b)
        };
        Self(seen.filter(is_it).unwrap_or_else(|| LastWords::of_panic(message, "")))
    }
}

/// Installs a panic hook that logs a worker's panic. Called once, in the postmaster; in any process
/// but a worker the previous hook runs.
pub(crate) fn log_panics_of_workers() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        let before = std::panic::take_hook();
        std::panic::set_hook(Box::new(move |panic| match process::current() {
            Some(me) => report_panic(me, panic),
            None => before(panic),
        }));
    });
}

fn report_panic(me: &WorkerProcess, panic: &PanicHookInfo<'_>) {
    let message = message(panic.payload());
    let place = panic.location().map(ToString::to_string).unwrap_or_default();
    let who = this_worker(&me.worker, me.handle);
    log_failure(&format!("{who} panicked at {place}: {message}"));
    if CONSEQUENCES.contains(&message) {
        return;
    }
    let words = LastWords::of_panic(message, &place);
    // A forked child of the worker has the worker's slot in its memory. And if another thread is
    // speaking, its panic ends the process as well as this one.
    if me.attachment.is_mine()
        && let Ok(_speaking) = SPEAKING.try_lock()
    {
        say(&me.attachment, me.berth, &words, false);
    }
    let _ = LAST.try_with(|last| last.replace(Some(words)));
}

fn message(payload: &(dyn Any + Send)) -> &str {
    let text = payload.downcast_ref::<&str>().copied();
    text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

/// Logs the error that a worker returned, with its sources, and says it to its report.
pub(super) fn report_error(
    attachment: &Attachment,
    worker: &BackgroundWorker,
    (handle, berth): (WorkerHandle, Berth),
    error: &(dyn Error + Send + Sync + 'static),
) {
    let panicked = error.downcast_ref::<Panicked>().map(|Panicked(words)| words.clone());
    if panicked.is_none() {
        log_failure(&format!("{} ends: {}", this_worker(worker, handle), chain(error)));
    }
    let words = panicked.unwrap_or_else(|| LastWords::of_error(error));
    let _speaking = SPEAKING.lock().unwrap_or_else(PoisonError::into_inner);
    say(attachment, berth, &words, true);
}

fn say(attachment: &Attachment, berth: Berth, words: &LastWords, has_ended: bool) {
    fault::point("words:before_write");
    let written = || fault::point("words:written");
    attachment.cells().set_last_words(berth.index, words, has_ended, written);
    fault::point("words:said");
}

fn this_worker(worker: &BackgroundWorker, handle: WorkerHandle) -> String {
    worker_label(worker, handle, std::process::id())
}

/// How log lines name a worker: by its name, its handle and its process.
pub(crate) fn worker_label(worker: &BackgroundWorker, handle: WorkerHandle, pid: u32) -> String {
    format!("background worker \"{}\" (handle {handle}, PID {pid})", worker.name())
}

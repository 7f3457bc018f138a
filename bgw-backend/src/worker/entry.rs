//! From a function that takes a [`Worker`] to what the postmaster's builder takes.

use super::Worker;
use crate::error::SignalsError;
use crate::worker::WorkerError;
use bgw_core::internals::{early_code, signals};
use bgw_core::{WaitEvents, WorkerProcess, WorkerResult};
use std::error::Error;
use std::io;
use std::time::Duration;

/// Makes the main that the postmaster's builder takes out of a function that takes a [`Worker`].
#[doc(alias = "proc_exit")]
pub fn entry<F, E>(main: F) -> impl Fn(&'static WorkerProcess) -> WorkerResult + 'static
where
    F: Fn(&mut Worker) -> Result<(), E> + 'static,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    let run: fn(&F, &'static WorkerProcess) -> WorkerResult = run;
    early_code::called_early(run as *const ());
    name_first_calls();
    move |me| run(&main, me)
}

/// Out of line, so that it has an address to name. The main lies in it, or close to it.
#[inline(never)]
fn run<F, E>(main: &F, me: &'static WorkerProcess) -> WorkerResult
where
    F: Fn(&mut Worker) -> Result<(), E>,
    E: Into<Box<dyn Error + Send + Sync>>,
{
    main(&mut Worker::new(me)).map_err(Into::into)
}

/// What most mains call first: a warm spare has the kernel map it before it is given a worker.
fn name_first_calls() {
    let unblock: fn(&Worker) -> Result<(), SignalsError> = Worker::unblock_signals;
    let unblock_all: fn() -> io::Result<()> = signals::unblock_all;
    let ready: fn(&Worker) = Worker::ready;
    let sleep: fn(&Worker, Option<Duration>) -> Result<WaitEvents, WorkerError> = Worker::sleep;
    let calls = [unblock as *const (), unblock_all as _, ready as _, sleep as _];
    calls.into_iter().for_each(early_code::called_early);
}

//! The main of each worker: one thread, which serves, beats and waits for the order to stop.

use super::board::Board;
use super::connections::{Shared, serve};
use super::misbehave;
use bgw_backend::{Worker, WorkerError};
use std::io;
use std::net::TcpListener;
use std::path::PathBuf;
use std::rc::Rc;
use std::time::Duration;
use tokio::runtime;
use tokio::task::LocalSet;
use tokio::time::sleep;

/// What a worker inherits from the program.
pub(crate) const LISTENER: &str = "listener";
pub(crate) const BOARD: &str = "board";

/// How workers are run.
#[derive(Clone, Debug)]
pub(crate) struct Orders {
    /// How often a worker says that it is alive.
    pub(crate) beat: Duration,
    /// The folder of `cargo xtask fire`: with one, it misbehaves on request.
    pub(crate) fire: Option<PathBuf>,
}

/// Serves until the worker is told to stop.
pub(crate) fn main(worker: &mut Worker, orders: &Orders) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.handle_reload()?;
    worker.unblock_signals()?;
    if let Some(folder) = &orders.fire {
        misbehave::begin(folder)?;
    }
    let socket = worker.descriptor(LISTENER).ok_or("no listening socket was passed")?;
    let listener = TcpListener::from(socket.try_clone_to_owned()?);
    let board = Board::open(worker.descriptor(BOARD).ok_or("no board was passed")?)?;
    let number = usize::try_from(worker.main_arg()).map_err(|_| "no such worker")?;
    let shared = Rc::new(Shared::new(board, number, orders.fire.is_some()));
    let worker = &*worker;
    let runtime = runtime::Builder::new_current_thread().enable_all().build()?;
    LocalSet::new().block_on(&runtime, async {
        worker.ready();
        tokio::select! {
            served = serve(listener, Rc::clone(&shared), worker.terminated()) => served,
            never = beat(worker, &shared, orders.beat) => never,
        }
    })?;
    Ok(())
}

/// Says that the worker is alive for as long as its one thread goes on, and how much it has to do,
/// and looks for an order to reload.
async fn beat(worker: &Worker, shared: &Shared, every: Duration) -> io::Result<()> {
    loop {
        worker.beat();
        shared.publish();
        if worker.reload_requested() {
            tracing::info!("{} was told to reload", worker.name());
        }
        sleep(every).await;
    }
}

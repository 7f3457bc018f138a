//! Plug-ins for `plugin_host`: one that works, one that crashes, one that hangs, one that leaks.
//! Build them with `cargo build -p bgw-examples --examples`.

use bgw_backend::{Worker, WorkerError, export_worker};
use std::time::Duration;

const NAP: Duration = Duration::from_millis(20);

/// Works until it is asked to stop; `at_each_turn` does its harm.
fn turns(worker: &mut Worker, mut at_each_turn: impl FnMut(u32)) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    for turn in 0.. {
        if worker.should_stop() {
            break;
        }
        worker.beat();
        at_each_turn(turn);
        worker.sleep(Some(NAP))?;
    }
    Ok(())
}

fn works(worker: &mut Worker) -> Result<(), WorkerError> {
    turns(worker, |_| ())
}

fn crashes(worker: &mut Worker) -> Result<(), WorkerError> {
    turns(worker, |turn| {
        if turn == 10 {
            std::process::abort();
        }
    })
}

fn hangs(worker: &mut Worker) -> Result<(), WorkerError> {
    turns(worker, |turn| {
        if turn == 10 {
            loop {
                std::hint::spin_loop();
            }
        }
    })
}

fn leaks(worker: &mut Worker) -> Result<(), WorkerError> {
    turns(worker, |_| {
        // Written to, so that it is memory indeed.
        std::mem::forget(vec![1_u8; 4 << 20]);
    })
}

export_worker!(plugin_works, works);
export_worker!(plugin_crashes, crashes);
export_worker!(plugin_hangs, hangs);
export_worker!(plugin_leaks, leaks);

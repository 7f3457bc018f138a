//! The promise: a worker gets the signals that it asked for, and those that must always reach it.
//!
//! Would catch: a SIGHUP that kills a command, a fault that hangs because its signal is blocked, a
//! SIGQUIT that a worker can block.

use crate::support::{Cluster, kill, read_note, ready, started, stopped, worker};
use bgw_backend::{
    BackgroundWorker, ExitCause, ShutdownMode, Worker, WorkerError, WorkerStatus, entry,
};
use process_test::{Signal, Test, tests};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        sighup_reaches_only_the_workers_that_handle_it => [D09],
        a_stack_overflow_ends_a_worker_that_blocks_its_signals => [D11],
        a_wild_read_ends_a_worker_that_blocks_its_signals => [D11],
        an_abort_ends_a_worker_that_blocks_its_signals => [D11],
        sigquit_reaches_a_worker_that_blocks_its_signals => [D11],
        the_postmaster_blocks_no_fault_signal => [D11],
    ]
}

/// Would fail if SIGHUP went to all: it kills a command.
fn sighup_reaches_only_the_workers_that_handle_it() {
    for by_signal in [true, false] {
        let cluster = Cluster::new();
        let command = BackgroundWorker::builder("c").command("sleep", ["1000"]).build().unwrap();
        let (command, pid) = cluster.start(&command);
        let (plain, _) = cluster.start(&worker("sleep").build().unwrap());
        ready(&plain);
        let reloads = cluster.backend.register(&worker("reloads").build().unwrap()).unwrap();
        ready(&reloads);
        if by_signal {
            kill(cluster.launched.pid(), Signal::SIGHUP);
        } else {
            cluster.backend.reload().unwrap();
        }
        read_note("reload-0");
        std::fs::remove_file(crate::support::note_path("reload-0")).unwrap();
        cluster.backend.ping().unwrap();
        assert_eq!(command.status(), WorkerStatus::Started(pid), "by signal: {by_signal}");
        started(&plain);
        let folder = cluster.folder.clone();
        cluster.end();
        std::fs::remove_dir_all(folder).unwrap();
    }
}

/// The main argument: whether the worker blocks its signals by itself, or never unblocks them.
fn block(worker: &Worker) -> Result<(), WorkerError> {
    if worker.main_arg() == 1 {
        worker.unblock_signals()?;
        worker.block_signals()?;
    }
    worker.ready();
    Ok(())
}

#[inline(never)]
fn overflow(depth: u64) -> u64 {
    let page = std::hint::black_box([depth; 512]);
    if depth == u64::MAX { 0 } else { overflow(depth + 1) + page[depth as usize % 512] }
}

fn overflows(worker: &mut Worker) -> Result<(), WorkerError> {
    block(worker)?;
    std::hint::black_box(overflow(0));
    Ok(())
}

fn reads_wildly(worker: &mut Worker) -> Result<(), WorkerError> {
    block(worker)?;
    // SAFETY: none. Nothing is mapped there, and the worker ends by it, as the test wants.
    let byte = unsafe { std::ptr::read_volatile(std::ptr::without_provenance::<u8>(64)) };
    Err(format!("read {byte}").into())
}

fn aborts(worker: &mut Worker) -> Result<(), WorkerError> {
    block(worker)?;
    // Not `abort`, which unblocks its signal first.
    nix::sys::signal::raise(Signal::SIGABRT).map_err(std::io::Error::from)?;
    Err("SIGABRT is blocked".into())
}

#[track_caller]
fn ends_by(main: fn(&mut Worker) -> Result<(), WorkerError>, expected: &[u8]) {
    let cluster = Cluster::with(|builder| builder.function("faults", entry(main)));
    for way in 0..2 {
        let description = worker("faults").main_arg(way).build().unwrap();
        let report = stopped(&cluster.backend.register(&description).unwrap());
        let ExitCause::Signaled { signal, .. } = report.cause else { panic!("{report}") };
        assert!(expected.contains(&signal), "{report}");
    }
    cluster.end();
}

/// Would fail if the fault killed without the message of Rust's handler (SIGABRT), which runs only
/// when SIGSEGV is not blocked.
fn a_stack_overflow_ends_a_worker_that_blocks_its_signals() {
    ends_by(overflows, &[Signal::SIGABRT as u8]);
}

/// Would hang if the kernel did not end it, and fail if it went on.
fn a_wild_read_ends_a_worker_that_blocks_its_signals() {
    ends_by(reads_wildly, &[Signal::SIGSEGV as u8]);
}

/// Would fail if the signal stayed pending.
fn an_abort_ends_a_worker_that_blocks_its_signals() {
    ends_by(aborts, &[Signal::SIGABRT as u8]);
}

fn blocks_and_sleeps(worker: &mut Worker) -> Result<(), WorkerError> {
    block(worker)?;
    loop {
        std::thread::park();
    }
}

/// Would fail if the worker did not get SIGQUIT: after the grace time SIGKILL would end it.
fn sigquit_reaches_a_worker_that_blocks_its_signals() {
    let cluster = Cluster::with(|builder| builder.function("blocks", entry(blocks_and_sleeps)));
    let handles = [0, 1].map(|way| {
        let description = worker("blocks").main_arg(way).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        ready(&handle);
        handle
    });
    cluster.backend.shutdown(ShutdownMode::Immediate).unwrap();
    for handle in &handles {
        assert_eq!(stopped(handle).cause, ExitCause::Exited(2));
    }
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

/// Would fail if the guard against a truncated region could not run in the postmaster.
fn the_postmaster_blocks_no_fault_signal() {
    use Signal::{SIGABRT, SIGBUS, SIGFPE, SIGILL, SIGSEGV, SIGSYS, SIGTRAP};
    let cluster = Cluster::new();
    let status = std::fs::read_to_string(format!("/proc/{}/status", cluster.launched.pid()));
    let status = status.unwrap();
    let blocked = status.lines().find_map(|line| line.strip_prefix("SigBlk:")).unwrap();
    let blocked = u64::from_str_radix(blocked.trim(), 16).unwrap();
    for signal in [SIGSEGV, SIGBUS, SIGILL, SIGFPE, SIGABRT, SIGTRAP, SIGSYS] {
        assert_eq!(blocked >> (signal as u32 - 1) & 1, 0, "{signal} is blocked");
    }
    cluster.end();
}

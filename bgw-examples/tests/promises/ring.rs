//! The promise: messages of every size go round a ring of workers and come back as they were sent.
//! When a worker cannot start or dies, the ring ends with an error that names it and leaves nothing
//! behind.
//!
//! Would catch: a message changed, lost or doubled between two workers, a ring that hangs when a
//! member is gone, an error that blames another worker, a worker that outlives its ring.

use crate::support::{Cluster, PATIENCE, simple, stopped};
use bgw_backend::{ExitCause, Worker, WorkerError, entry};
use bgw_examples::ring;
use bgw_examples::ring::Ring;
use nix::sys::signal::kill;
use process_test::{Pid, Signal, Test, tests, wait_until};
use shmem_slots::queue::ReceiveError;
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Stdio};

pub(crate) fn tests() -> Vec<Test> {
    process_test::watchdog(
        std::time::Duration::from_secs(120),
        tests![
            messages_of_every_size_go_round => [B84, S07],
            many_rounds_are_pipelined => [B84, S07],
            set_up_fails_clearly_when_a_worker_cannot_be_registered => [B84, S07],
            set_up_fails_clearly_when_a_worker_ends_before_it_is_ready => [B84, S07],
            a_killed_worker_ends_the_ring_and_is_named => [B84, S07],
            a_terminated_worker_ends_the_ring_and_is_named => [B84, S07],
            a_signal_between_check_and_wait_ends_the_wait => [B84, S07],
            the_postmasters_death_ends_the_ring => [B84, S07],
        ],
    )
}

fn ring(workers: u32, messages: u64, buffer: usize) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_ring"));
    let arguments = [("workers", u64::from(workers)), ("messages", messages)];
    for (name, value) in arguments.into_iter().chain([("buffer", buffer as u64)]) {
        command.args([format!("--{name}"), value.to_string()]);
    }
    command
}

/// Passes the messages round a ring, and checks its last line.
#[track_caller]
fn goes_round(workers: u32, messages: u64, buffer: usize) {
    let output = ring(workers, messages, buffer).output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let expected = format!("ring: ok, {messages} messages");
    assert!(text.lines().last().unwrap().starts_with(&expected), "{text}");
    assert_eq!(errors, "", "no error is printed");
}

/// Would fail if some size went wrong at some place of a buffer, or if a ring missed its end.
fn messages_of_every_size_go_round() {
    for (workers, buffer) in [(1, 1), (2, 8), (3, 64), (5, 100), (8, 4096), (2, 1 << 20)] {
        // Each size comes several times.
        goes_round(workers, 60, buffer);
    }
    goes_round(3, 0, 64);
}

/// Would hang if one wake-up of many were lost.
fn many_rounds_are_pipelined() {
    goes_round(4, 20_000, 256);
    for _ in 0..5 {
        goes_round(3, 2000, 16);
    }
}

/// Would hang if the program waited for all workers before it checked one, and fail if it left
/// those that run.
fn set_up_fails_clearly_when_a_worker_cannot_be_registered() {
    let output = ring(4, 1000, 64).args(["--max-workers", "3"]).output().unwrap();
    let errors = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{errors}");
    let last = errors.lines().last().unwrap();
    assert!(
        last.starts_with(
            "ring: worker 4 of 4 could not be registered: no free worker slot: 3 of 3"
        ),
        "{errors}"
    );
    assert_eq!(output.stdout, b"", "no worker is reported ready");
}

/// Would hang if the end of a worker in its set-up went unnoticed, and fail if the others went on.
fn set_up_fails_clearly_when_a_worker_ends_before_it_is_ready() {
    let ring = Ring::create(3, 64).unwrap();
    // Another process holds what worker 2 needs.
    let taken = ring.queues()[1].receiver(1).unwrap();
    let cluster = Cluster::with(|builder| builder.function(ring::FUNCTION, ring.function()));
    let failed = ring.start(&cluster.backend).unwrap_err();
    assert_eq!(failed.number, 2);
    let text = failed.to_string();
    assert_eq!(text, "worker 2 of 3 did not get ready: stopped: exited with exit code 1");
    let left = cluster.backend.workers();
    assert!(left.is_empty(), "the others have ended: {left:?}");
    drop(taken);
    cluster.end();
}

/// Does something to a ring that works for ever, and returns its exit code and its last line.
fn disturbed(workers: u32, disturb: impl FnOnce(&[Pid], Pid)) -> (Option<i32>, String) {
    let mut program =
        ring(workers, u64::MAX, 256).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(program.stdout.take().unwrap()).lines();
    let pids: Vec<Pid> = (1..=workers)
        .map(|number| {
            let line = lines.next().unwrap().unwrap();
            let pid = line.strip_prefix(&format!("worker {number}: started (pid ")).unwrap();
            Pid::from_raw(pid.strip_suffix(')').unwrap().parse().unwrap())
        })
        .collect();
    let stat = std::fs::read_to_string(format!("/proc/{}/stat", pids[0])).unwrap();
    let postmaster = stat.rsplit_once(')').unwrap().1.split_whitespace().nth(1).unwrap();
    disturb(&pids, Pid::from_raw(postmaster.parse().unwrap()));
    let mut errors = String::new();
    program.stderr.take().unwrap().read_to_string(&mut errors).unwrap();
    let code = program.wait().unwrap().code();
    // Workers that outlive the postmaster may print more afterwards.
    let own = errors.lines().rfind(|line| line.starts_with("ring: ")).unwrap_or(&errors).to_owned();
    for pid in pids {
        wait_until(&format!("worker {pid} has ended"), PATIENCE, || !process_test::alive(pid));
    }
    (code, own)
}

/// Would hang if its neighbours did not notice, or if the program waited for a message that cannot
/// come, and fail if the error named a neighbour.
fn a_killed_worker_ends_the_ring_and_is_named() {
    for workers in [1, 2, 5] {
        for victim in 0..workers as usize {
            let mut pid = None;
            let (code, last) = disturbed(workers, |pids, _| {
                pid = Some(pids[victim]);
                kill(pids[victim], Signal::SIGKILL).unwrap();
            });
            let (number, pid) = (victim + 1, pid.unwrap());
            let expected = format!(
                "ring: worker {number} of {workers} (pid {pid}) was terminated by signal 9: SIGKILL"
            );
            assert_eq!((code, last), (Some(1), expected));
        }
    }
}

/// Would hang if SIGTERM did not end a wait on a queue, and fail if such an end read as a regular
/// one.
fn a_terminated_worker_ends_the_ring_and_is_named() {
    for victim in 0..3 {
        let mut pid = None;
        let (code, last) = disturbed(3, |pids, _| {
            pid = Some(pids[victim]);
            kill(pids[victim], Signal::SIGTERM).unwrap();
        });
        let (number, pid) = (victim + 1, pid.unwrap());
        let expected = format!("ring: worker {number} of 3 (pid {pid}) exited with exit code 1");
        assert_eq!((code, last), (Some(1), expected));
    }
}

/// Would hang if the wait did not watch the worker's signals, or if it read them too late.
fn a_signal_between_check_and_wait_ends_the_wait() {
    let ring = Ring::create(1, 64).unwrap();
    let queue = &ring.queues()[0];
    let wait = move |worker: &mut Worker| -> Result<(), WorkerError> {
        worker.handle_terminate();
        worker.unblock_signals()?;
        let mut receiver = queue.receiver(1).map_err(|error| error.to_string())?;
        let also = worker.watches()?;
        assert!(!worker.should_stop());
        nix::sys::signal::raise(Signal::SIGTERM).map_err(std::io::Error::from)?;
        let end = receiver.receive(&mut Vec::new(), &also, None);
        assert!(matches!(end, Err(ReceiveError::Interrupted)), "{end:?}");
        assert!(worker.should_stop());
        Ok(())
    };
    let cluster = Cluster::with(|builder| builder.function("wait", entry(wait)));
    let handle = cluster.backend.register(&simple("wait")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would hang if a wait on a queue did not watch the postmaster.
fn the_postmasters_death_ends_the_ring() {
    let (code, last) = disturbed(3, |_, postmaster| kill(postmaster, Signal::SIGKILL).unwrap());
    assert_eq!((code, last), (Some(1), "ring: the postmaster died".to_owned()));
}

//! The promise: how a worker ended can be read until its slot is reused: exit code, signal, core
//! flag, restarts, memory and CPU time.
//!
//! Would catch: a report of another end, a truncated number, a report that is lost with the slot's
//! word.

use crate::support::{
    Cluster, PATIENCE, kill, read_note, ready, restarting, simple, stopped, worker, write_note,
};
use bgw_backend::{ExitCause, Handle, Worker, WorkerError, entry};
use nix::sys::resource::{Resource, UsageWho, getrlimit, getrusage, setrlimit};
use process_test::{Signal, Test, tests, wait_until};
use std::time::{Duration, Instant};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_report_names_the_cause_and_whether_the_end_is_final => [X01],
        every_exit_code_is_reported_until_the_slot_is_reused => [X01],
        the_signal_and_the_core_flag_are_reported => [X02],
        the_number_of_restarts_is_reported => [X03],
        memory_and_cpu_time_are_reported => [X04],
    ]
}

/// Would fail if the report came after the slot's word, or with another code.
fn the_report_names_the_cause_and_whether_the_end_is_final() {
    let cluster = Cluster::new();
    let cases = [
        ("quick", 0, ExitCause::Exited(0)),
        ("fail", 0, ExitCause::Exited(1)),
        ("panic", 0, ExitCause::Exited(1)),
        ("exit", 7, ExitCause::Exited(7)),
    ];
    for (function, argument, cause) in cases {
        let description = worker(function).main_arg(argument).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let report = stopped(&handle);
        assert_eq!(report.cause, cause, "{function}");
        assert!(report.pid.is_some() && report.unregistered, "{function}: {report:?}");
        assert!(report.max_rss_kib > 0, "{function}: {report:?}");
    }
    cluster.end();
}

/// Would fail if a code were truncated, or if the report were lost before the second report after
/// it.
fn every_exit_code_is_reported_until_the_slot_is_reused() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let mut ended = Vec::new();
    for code in [0, 1, 2, 7, 77, 255] {
        let description = worker("exit").main_arg(code).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        let report = stopped(&handle);
        assert_eq!(report.cause, ExitCause::Exited(code as u8));
        assert!(report.pid.is_some() && report.unregistered && !report.requested());
        assert_eq!(handle.exit_report().as_ref(), Some(&report), "it stays readable");
        // By the name alone: the registrant's own handle has kept the report.
        let stranger = cluster.backend.handle(handle.id());
        ended.push((handle, stranger, report));
        let mut before = ended.iter().rev().skip(1);
        if let Some((_, stranger, report)) = before.next() {
            assert_eq!(stranger.exit_report().as_ref(), Some(report), "one later report leaves it");
        }
        assert!(
            before.all(|(_, stranger, _)| stranger.exit_report().is_none()),
            "two overwrite it"
        );
        let own =
            |(handle, _, report): &(Handle, _, _)| handle.exit_report().as_ref() == Some(report);
        assert!(ended.iter().all(own));
    }
    cluster.end();
}

/// Aborts, with its argument as the limit on core dumps.
fn aborts(worker: &mut Worker) -> Result<(), WorkerError> {
    let limit = worker.main_arg();
    setrlimit(Resource::RLIMIT_CORE, limit, limit).map_err(std::io::Error::from)?;
    std::env::set_current_dir(std::env::temp_dir())?;
    std::process::abort();
}

/// The core flag of a child of this process that does the same.
fn core_flag_of_a_child(limit: u64) -> bool {
    use std::os::unix::process::{CommandExt, ExitStatusExt};
    let mut command = std::process::Command::new("sh");
    command.args(["-c", "kill -ABRT $$"]).current_dir(std::env::temp_dir());
    // SAFETY: `setrlimit` is a plain system call.
    unsafe {
        command.pre_exec(move || Ok(setrlimit(Resource::RLIMIT_CORE, limit, limit)?));
    }
    command.status().unwrap().core_dumped()
}

/// Would fail if the report had no core flag or always the same: a child of this process shows what
/// it must be. Both are false where the machine writes no core dumps.
fn the_signal_and_the_core_flag_are_reported() {
    let cluster = Cluster::with(|builder| builder.function("aborts", entry(aborts)));
    let (_, most) = getrlimit(Resource::RLIMIT_CORE).unwrap();
    for limit in [0, most] {
        let description = worker("aborts").main_arg(limit).build().unwrap();
        let report = stopped(&cluster.backend.register(&description).unwrap());
        let core_dumped = core_flag_of_a_child(limit);
        assert_eq!(report.cause, ExitCause::Signaled { signal: 6, core_dumped }, "{limit}");
    }
    for signal in [Signal::SIGKILL, Signal::SIGUSR1, Signal::SIGALRM] {
        let command = bgw_backend::BackgroundWorker::builder("c").command("sleep", ["1000"]);
        let (handle, pid) = cluster.start(&command.build().unwrap());
        wait_until("it has become the command", PATIENCE, || {
            let name = std::fs::read_to_string(format!("/proc/{pid}/comm")).unwrap();
            name == "sleep\n"
        });
        kill(pid, signal);
        let cause = ExitCause::Signaled { signal: signal as u8, core_dumped: false };
        assert_eq!(stopped(&handle).cause, cause);
    }
    cluster.end();
}

/// Would fail if a restart were not counted, or counted twice.
fn the_number_of_restarts_is_reported() {
    let cluster = Cluster::new();
    let handle = cluster.backend.register(&restarting("sleep", Duration::ZERO)).unwrap();
    let mut last = None;
    for life in 0..4 {
        // The report of a run is there a moment before its worker has stopped.
        wait_until("its next run has begun", PATIENCE, || {
            handle.is_ready() && handle.pid() != last
        });
        let pid = ready(&handle);
        last = Some(pid);
        if life < 3 {
            kill(pid, Signal::SIGKILL);
            wait_until("that run has ended", PATIENCE, || {
                handle.exit_report().is_some_and(|report| report.pid == Some(pid))
            });
            assert_eq!(handle.exit_report().unwrap().restarts, life);
        }
    }
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).restarts, 3);
    cluster.end();
}

fn burns(_: &mut Worker) -> Result<(), WorkerError> {
    let memory = vec![1u8; 64 << 20];
    let until = Instant::now() + Duration::from_millis(30);
    let mut sum = 0u64;
    while Instant::now() < until {
        sum = sum.wrapping_add(memory.iter().step_by(4096).map(|&byte| u64::from(byte)).sum());
    }
    let usage = getrusage(UsageWho::RUSAGE_SELF).map_err(std::io::Error::from)?;
    let micros = |time: nix::sys::time::TimeVal| time.tv_sec() * 1_000_000 + time.tv_usec();
    let text = format!(
        "{} {} {} {sum}",
        micros(usage.user_time()),
        micros(usage.system_time()),
        usage.max_rss()
    );
    write_note("usage", &text)?;
    Ok(())
}

/// Would fail if the report had less than the worker itself measured just before its end.
fn memory_and_cpu_time_are_reported() {
    let cluster = Cluster::with(|builder| builder.function("burns", entry(burns)));
    let report = stopped(&cluster.backend.register(&simple("burns")).unwrap());
    let usage = read_note("usage");
    let known: Vec<u64> = usage.split(' ').take(3).map(|number| number.parse().unwrap()).collect();
    let told = report.user_time + report.system_time;
    // The kernel splits the time into user and system by ticks; their sum is exact.
    let wanted =
        Duration::from_micros(known[0] + known[1]).saturating_sub(Duration::from_millis(8));
    assert!(told >= wanted, "{told:?} of {known:?}");
    assert!(report.max_rss_kib >= known[2] && known[2] > 64 << 10, "{report:?}, {known:?}");
    assert!(report.ran_for >= Duration::from_millis(30), "{report:?}");
    cluster.end();
}

//! The promise: what a worker has printed last can be read while it runs and after its end, whoever
//! still holds its pipe, and also if the collector has just died.
//!
//! Would catch: lines that come only with the last writer of the pipe, a question that is lost.

use super::output::{cluster, collector};
use crate::support::waiter::waiting_thread;
use crate::support::{
    Cluster, PATIENCE, kill, note_path, read_note, ready, simple, stopped, worker,
};
use bgw_backend::{BackgroundWorker, ExitCause, Output, OutputFile, Pid, RestartPolicy};
use process_test::{Signal, Test, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_last_lines_of_a_worker_can_be_read_after_its_end => [P64],
        the_last_lines_of_a_worker_outlive_the_next_one_in_its_slot => [P64],
        a_new_collector_answers_what_the_last_one_was_asked => [P64, P65],
        last_lines_that_cannot_be_are_refused_by_name => [P01],
    ]
}

/// Would fail if what is in the pipe at the end were missing, or came only with its last writer.
fn the_last_lines_of_a_worker_can_be_read_after_its_end() {
    let cluster = Cluster::new();
    let mut daemons = Vec::new();
    for number in 0..10 {
        let name = format!("daemon-{number}");
        let note = note_path(&name).display().to_string();
        let daemon = format!("echo $$ > {note}.part; mv {note}.part {note}; exec sleep 1000");
        let text = format!(
            "seq 3; setsid sh -c '{daemon}' & until [ -e {note} ]; do sleep 0.01; done; seq 4 9; printf 'the end'"
        );
        let builder = BackgroundWorker::builder("talks").command("/bin/sh", ["-c", &text]);
        let builder = builder.output(Output::Null).last_lines(4);
        let handle = cluster.backend.register(&builder.build().unwrap()).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
        assert_eq!(handle.last_lines().unwrap(), ["7", "8", "9", "the end"]);
        daemons.push(Pid::new(read_note(&name).trim().parse().unwrap()).unwrap());
    }
    // Over restarts, and of a worker that runs.
    let again = BackgroundWorker::builder("again")
        .command("/bin/sh", ["-c", "echo run $$; [ $(($$ % 2)) = 0 ] && exec sleep 1000; exit 1"])
        .restart(RestartPolicy::after_secs(0))
        .unbraked()
        .output(Output::Null)
        .last_lines(100);
    let again = cluster.backend.register(&again.build().unwrap()).unwrap();
    let last = || again.last_lines().unwrap().pop().unwrap_or_default();
    let runs_on = || last().rsplit(' ').next().unwrap().parse().is_ok_and(|pid: u32| pid & 1 == 0);
    wait_until("it has said that it stays", PATIENCE, runs_on);
    again.terminate().unwrap();
    stopped(&again);
    // Nobody remembers any of these.
    let (sleeps, _) = cluster.start(&simple("sleep"));
    assert!(sleeps.last_lines().unwrap().is_empty());
    for &daemon in &daemons {
        kill(daemon, Signal::SIGKILL);
    }
    cluster.end();
}

/// Would fail if a job runner with few slots lost what a job had said to the next job.
fn the_last_lines_of_a_worker_outlive_the_next_one_in_its_slot() {
    let cluster = Cluster::with(|builder| builder.max_workers(1));
    let handles: Vec<_> = (0..5)
        .map(|number| {
            let text = format!("echo job {number}");
            let builder = BackgroundWorker::builder("job").command("/bin/sh", ["-c", &text]);
            let builder = builder.output(Output::Null).last_lines(1);
            let handle = cluster.backend.register(&builder.build().unwrap()).unwrap();
            stopped(&handle);
            handle
        })
        .collect();
    for (number, handle) in handles.iter().enumerate() {
        assert_eq!(handle.id().slot(), 0);
        assert_eq!(handle.last_lines().unwrap(), [format!("job {number}")]);
    }
    cluster.end();
}

/// Would fail if a question were lost with the collector that it was passed to.
fn a_new_collector_answers_what_the_last_one_was_asked() {
    let cluster = cluster();
    let chatter = worker("chatter").output(OutputFile::new("c")).last_lines(3).build().unwrap();
    let (chatter, _) = cluster.start(&chatter);
    ready(&chatter);
    let collector = collector(cluster.launched.pid());
    kill(collector, Signal::SIGSTOP);
    let asks = {
        let chatter = chatter.clone();
        waiting_thread(move || chatter.last_lines())
    };
    kill(collector, Signal::SIGKILL);
    let lines = asks.join().unwrap().unwrap();
    assert!(lines.len() <= 3 && lines.iter().all(|line| line.starts_with("line ")), "{lines:?}");
    wait_until("it has lines again", PATIENCE, || chatter.last_lines().unwrap().len() == 3);
    chatter.terminate().unwrap();
    stopped(&chatter);
    assert_eq!(chatter.last_lines().unwrap()[2], "the last");
    cluster.end();
}

fn last_lines_that_cannot_be_are_refused_by_name() {
    let error = worker("sleep").last_lines(1).build().unwrap_err();
    assert_eq!(
        error.to_string(),
        "last_lines is 1, which needs an output of its own: a file, a descriptor, or Output::Null"
    );
    let error = worker("sleep").output(Output::Null).last_lines(101).build().unwrap_err();
    assert_eq!(error.to_string(), "last_lines is 101, the limit is 100 lines");
}

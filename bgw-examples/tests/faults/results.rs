//! The promise: a worker that is killed at any step around what it gives back leaves a whole result
//! or last words, or none; and its next run begins without any. A job has one outcome, whoever is
//! killed or stopped at whatever step.

use crate::support::fault::{
    AT_ONCE, a_new_postmaster_takes_over, cluster_with, descriptors, giving_back, in_postmaster,
    in_spares, in_workers, nothing_leaked, unregistered,
};
use crate::support::{
    Cluster, PATIENCE, kill, ready, shared, stopped, wait_for_spares, wait_for_state, worker,
};
use bgw_backend::{ExitCause, Handle, Orphaned, Outcome, Worker, WorkerError, call, entry};
use process_test::{Signal, Test, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_killed_around_what_it_gives_back_gives_back_all_or_nothing => [J06, J16],
        a_job_that_is_killed_at_any_step_has_died_whatever_it_had_given_back => [J01, J02],
        a_call_that_is_killed_around_its_output_has_died_and_leaves_no_bytes => [J01, J13],
        a_postmaster_killed_at_any_step_of_an_end_leaves_one_outcome => [J01],
        a_postmaster_stopped_at_any_step_of_a_reset_changes_no_outcome => [J01],
    ]
}

const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };

/// Sets two results; its first run, or its only one, fails then.
fn gives(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.set_result(&[7; 128])?;
    worker.set_result(&[8; 128])?;
    if worker.restarts() == 0 {
        return Err("x".repeat(1024).into());
    }
    Ok(())
}

/// Would fail if half a text were read, or one that the worker had not finished; or if something of
/// the killed run showed in the report of the next one.
fn a_worker_killed_around_what_it_gives_back_gives_back_all_or_nothing() {
    let points = giving_back();
    assert_eq!(points.len(), 7, "{points:?}");
    // Only a call passes a segment on.
    for point in points.into_iter().filter(|&point| point != "result:passed") {
        // The second result, since the first is there then.
        let at = if point.starts_with("result:") { 2 } else { 1 };
        for (restarts, spares) in [(false, 0), (true, 0), (true, 2)] {
            let cluster = cluster_with(&format!("{point}=kill@{at}"), |builder| {
                builder.warm_spares(spares).function("gives", entry(gives))
            });
            let descriptors = descriptors(cluster.launched.pid());
            let mut description = worker("gives");
            if restarts {
                description = description.restart(AT_ONCE);
            }
            let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
            let report = unregistered(&handle, point);
            if restarts {
                assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 1), "{point}");
                assert_eq!(report.result(), Some(&[8; 128][..]), "{point}");
                assert_eq!(report.last_words(), None, "{point}");
            } else {
                assert_eq!(report.cause, KILLED, "{point} was not reached");
                assert_eq!(report.result(), None, "{point}");
                let words = report.last_words().map(ToString::to_string);
                let expected = (point == "words:said").then(|| "x".repeat(1024));
                assert_eq!(words, expected, "{point}");
            }
            if spares == 0 {
                nothing_leaked(&cluster, descriptors, point);
            }
            cluster.end();
        }
    }
}

/// Gives back a value.
fn answers(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    worker.ready();
    worker.set_result(&[6; 100])?;
    worker.set_result(&[7; 100])?;
    Ok(())
}

fn submitted(cluster: &Cluster, function: &str) -> Handle {
    let job = worker(function).job(Orphaned::Terminate).build().unwrap();
    cluster.backend.register(&job).unwrap()
}

/// Would fail if a value counted without its good end, or if the job ran again.
fn a_job_that_is_killed_at_any_step_has_died_whatever_it_had_given_back() {
    let is_passed = |point: &&str| point.starts_with("result:") && *point != "result:passed";
    let results = giving_back().into_iter().filter(is_passed);
    let points = in_workers().into_iter().filter(|&point| point != "child:before_exec");
    for point in points.chain(results) {
        let cluster = cluster_with(&format!("{point}=kill"), |builder| {
            builder.function("answers", entry(answers))
        });
        let descriptors = descriptors(cluster.launched.pid());
        let handle = submitted(&cluster, "answers");
        let outcome = handle.wait_for_outcome_timeout(PATIENCE).unwrap();
        assert!(matches!(&outcome, Outcome::Died(report) if report.cause == KILLED), "{point}");
        assert_eq!(outcome.runs(), Some(1), "{point}");
        assert_eq!(handle.outcome(), Some(outcome), "{point}");
        nothing_leaked(&cluster, descriptors, point);
        cluster.end();
    }
    for point in in_spares() {
        let cluster = cluster_with(&format!("{point}=kill"), |builder| {
            builder.warm_spares(1).function("answers", entry(answers))
        });
        wait_for_spares(&cluster, 1);
        let outcome = submitted(&cluster, "answers").wait_for_outcome_timeout(PATIENCE).unwrap();
        // Before it has taken the job, another process does it.
        let answered = matches!(&outcome, Outcome::Output { value, .. } if *value == [7; 100]);
        let died = matches!(&outcome, Outcome::Died(report) if report.cause == KILLED);
        assert!(answered || died, "{point}: {outcome}");
        assert_eq!(outcome.runs(), Some(1), "{point}");
        cluster.end();
    }
}

fn long(_: &mut Worker, len: usize) -> Result<Vec<u8>, WorkerError> {
    Ok(vec![7; len])
}

/// Would fail if a value counted without its good end, or if the segment of an output that does not
/// count stayed on the budget.
fn a_call_that_is_killed_around_its_output_has_died_and_leaves_no_bytes() {
    const BUDGET: u64 = 1 << 20;
    let results = giving_back().into_iter().filter(|point| point.starts_with("result:"));
    for point in results.chain(["child:after_main", "child:before_exit"]) {
        for len in [10, 600_000] {
            if len == 10 && point == "result:passed" {
                continue;
            }
            let cluster = cluster_with(&format!("{point}=kill"), |builder| {
                builder.segment_bytes(BUDGET).call("long", call(long))
            });
            let call = cluster.backend.call::<usize, Vec<u8>>("long", &len).unwrap();
            let outcome = call.wait_timeout(PATIENCE).unwrap();
            assert!(matches!(&outcome, Outcome::Died(report) if report.cause == KILLED), "{point}");
            assert_eq!(call.outcome().unwrap(), Some(outcome), "{point}");
            drop(call);
            wait_until(&format!("{point}: the budget is free"), PATIENCE, || {
                cluster.backend.create_segment(BUDGET).is_ok()
            });
            cluster.end();
        }
    }
}

/// Would time out if a wait outlived the postmaster, and fail if two looks differed.
fn a_postmaster_killed_at_any_step_of_an_end_leaves_one_outcome() {
    let points = in_postmaster(&["intake:", "start:", "report:", "exit:", "free:"]);
    // Only an end before a restart is published in the slot's word.
    for point in points.into_iter().filter(|&point| point != "exit:before_word") {
        let cluster = cluster_with(&format!("{point}=kill"), |builder| {
            builder.function("answers", entry(answers))
        });
        cluster.backend.enable_notifications().unwrap();
        let job = worker("answers").job(Orphaned::Terminate).notify(cluster.backend.pid());
        let handle = cluster.backend.register(&job.build().unwrap()).unwrap();
        let outcome = handle.wait_for_outcome_timeout(PATIENCE).unwrap();
        match &outcome {
            Outcome::Output { value, .. } => assert_eq!(value, &[7; 100], "{point}"),
            Outcome::PostmasterDied => {}
            other => panic!("{point}: {other}"),
        }
        if point.starts_with("intake:") {
            assert_eq!(outcome, Outcome::PostmasterDied, "{point}");
        }
        assert_eq!(cluster.launched.wait().unwrap(), KILLED, "{point}");
        for _ in 0..3 {
            assert_eq!(handle.outcome().as_ref(), Some(&outcome), "{point}");
            assert_eq!(handle.clone().wait_for_outcome().unwrap(), outcome, "{point}");
        }
        a_new_postmaster_takes_over(point);
    }
}

/// Would fail if a job had one outcome while the slots are made anew, and another one afterwards.
fn a_postmaster_stopped_at_any_step_of_a_reset_changes_no_outcome() {
    for point in in_postmaster(&["reset:"]) {
        let cluster = cluster_with(&format!("{point}=stop"), |builder| {
            builder.function("answers", entry(answers))
        });
        let postmaster = cluster.launched.pid();
        let restarting = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
        let done = submitted(&cluster, "answers");
        stopped(&cluster.backend.handle(done.id()));
        let running = submitted(&cluster, "sleep");
        ready(&running);
        let pid = ready(&restarting);
        kill(pid, Signal::SIGABRT);
        wait_for_state(postmaster, 'T', point);
        let first = [done.clone(), running.clone()].map(|handle| handle.outcome());
        let others = [&done, &running].map(|handle| cluster.backend.handle(handle.id()).outcome());
        kill(postmaster, Signal::SIGCONT);
        let handles = [&done, &running];
        for ((handle, first), other) in handles.into_iter().zip(first).zip(others) {
            let last = handle.wait_for_outcome_timeout(PATIENCE).unwrap();
            assert!(first.is_none_or(|first| first == last), "{point}: {last}");
            let same_kind =
                |other: Outcome| std::mem::discriminant(&other) == std::mem::discriminant(&last);
            assert!(other.is_none_or(same_kind), "{point}: {last}");
            assert_eq!(handle.outcome(), Some(last), "{point}");
        }
        let output = done.outcome().unwrap().into_output();
        assert_eq!(output.unwrap(), [7; 100], "{point}");
        let died = running.outcome().unwrap();
        assert!(matches!(&died, Outcome::Died(report) if report.reset), "{point}: {died}");
        cluster.end();
    }
}

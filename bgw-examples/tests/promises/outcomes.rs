//! The promise: each job has one outcome, whatever dies, and each look of its submitter gives the
//! same one, however late.
//!
//! Would catch: an outcome that changes or is overwritten, a job that runs twice, a wait that is
//! not over at its deadline.

use crate::support::waiter::queued_program;
use crate::support::{
    Cluster, PATIENCE, alive, connect, kill, read_note, ready, shared, simple, stopped,
    wait_for_spares, worker, write_note,
};
use bgw_backend::{
    AskedBy, BackgroundWorker, BackgroundWorkerBuilder, EventKind, EventsFrom, ExitCause, Handle,
    NotStarted, Orphaned, Outcome, RegisterError, RestartPolicy, Worker, WorkerError, entry,
};
use bgw_postmaster::PostmasterBuilder;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::thread;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        each_job_has_one_outcome_and_each_look_gives_the_same => [J01],
        a_job_that_did_not_start_says_why_and_a_cancelled_one_that_it_was => [J01],
        eight_threads_get_the_outcome_of_each_of_their_jobs => [J01, J05],
        an_outcome_is_unknown_for_ever_once_the_postmaster_has_died => [J01],
        a_job_runs_once_and_with_a_restart_policy_its_last_run_answers => [J02],
        a_crash_reset_ends_jobs_also_those_that_restart => [J01, J02],
        a_deadline_ends_the_wait_or_the_job => [J03],
        outcomes_that_nobody_has_looked_at_give_way_to_nobody => [J05],
        a_slot_that_a_look_at_an_outcome_gives_back_goes_to_one_that_waits => [J05, P56],
        the_outcome_of_a_job_that_ends_while_others_wait_for_a_slot_is_kept => [J05],
    ]
}

/// A job that runs `function`.
fn job(function: &str) -> BackgroundWorkerBuilder {
    worker(function).job(Orphaned::Terminate)
}

fn functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder
        .function("gives", entry(gives))
        .function("notes", entry(notes))
        .function("third", entry(third))
        .function("told", entry(told))
}

fn cluster(slots: u32) -> Cluster {
    Cluster::with(|builder| functions(builder.max_workers(slots)))
}

fn submitted(cluster: &Cluster, job: BackgroundWorkerBuilder) -> Handle {
    cluster.backend.register(&job.build().unwrap()).unwrap()
}

#[track_caller]
fn outcome(handle: &Handle) -> Outcome {
    handle.wait_for_outcome_timeout(PATIENCE).unwrap()
}

/// Gives back its argument, and ends as that says.
fn gives(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.set_result(&worker.main_arg().to_le_bytes())?;
    match worker.main_arg() {
        1 => Err("it fails".into()),
        2 => panic!("it panics"),
        3 => std::process::exit(3),
        4 => {
            nix::sys::signal::raise(Signal::SIGKILL).map_err(std::io::Error::from)?;
            Ok(())
        }
        _ => Ok(()),
    }
}

/// Would fail if an end had two outcomes, or none, or if the kind of an end were lost.
fn each_job_has_one_outcome_and_each_look_gives_the_same() {
    for spares in [0, 2] {
        let cluster =
            Cluster::with(|builder| functions(builder.max_workers(8)).warm_spares(spares));
        wait_for_spares(&cluster, spares);
        for argument in 0..5 {
            let handle = submitted(&cluster, job("gives").main_arg(argument));
            let (first, clone) = (outcome(&handle), handle.clone());
            match &first {
                Outcome::Output { value, .. } => assert_eq!(value, &0_u64.to_le_bytes()),
                Outcome::Failed { text, .. } => assert_eq!(text, "it fails"),
                Outcome::Panicked { message, .. } => assert_eq!(message, "it panics"),
                Outcome::Died(report) => assert!(report.result().is_none(), "{report}"),
                other => panic!("{argument}: {other}"),
            }
            let expected = ["ended well", "failed", "panicked", "exit code 3", "SIGKILL"];
            let text = first.to_string();
            assert!(text.contains(expected[argument as usize]), "{argument}: {text}");
            assert_eq!(first.runs(), Some(1));
            // Whatever becomes of the slot, and whoever is asked to end.
            for _ in 0..10 {
                outcome(&submitted(&cluster, job("gives")));
                handle.cancel().unwrap();
                assert_eq!(clone.outcome().as_ref(), Some(&first));
                assert_eq!(outcome(&handle), first);
            }
        }
        cluster.end();
    }
}

/// Would fail if a job that never ran seemed to have died, or a cancelled one to have failed.
fn a_job_that_did_not_start_says_why_and_a_cancelled_one_that_it_was() {
    let cluster = cluster(8);
    let postmaster = cluster.launched.pid();
    kill(postmaster, Signal::SIGSTOP);
    let [terminated, cancelled] = [(); 2].map(|()| submitted(&cluster, job("sleep")));
    let stranger = cluster.backend.handle(cancelled.id());
    assert_eq!(terminated.outcome(), None);
    terminated.terminate().unwrap();
    cancelled.cancel().unwrap();
    kill(postmaster, Signal::SIGCONT);
    let why = outcome(&terminated);
    let reason = NotStarted::Terminated;
    assert!(matches!(why, Outcome::NotStarted { reason: r, .. } if r == reason), "{why}");
    assert_eq!(why.runs(), Some(0));
    assert!(matches!(outcome(&cancelled), Outcome::Cancelled(_)));
    assert!(stranger.exit_report().is_none_or(|report| report.requested()));
    for (function, cause) in [
        ("sleep", ExitCause::Exited(0)),
        ("default", ExitCause::Exited(1)),
        ("busy", ExitCause::Exited(1)),
    ] {
        let handle = submitted(&cluster, job(function));
        ready(&handle);
        assert_eq!(handle.outcome(), None, "it runs");
        handle.cancel().unwrap();
        let outcome = outcome(&handle);
        let Outcome::Cancelled(report) = &outcome else { panic!("{function}: {outcome}") };
        assert_eq!((report.cause, report.asked_by), (cause, Some(AskedBy::Terminate)));
    }
    let unknown = BackgroundWorker::builder("c").command("/no/such/program", [""; 0]);
    let missing = outcome(&submitted(&cluster, unknown.job(Orphaned::Terminate)));
    let is_missing = matches!(
        missing,
        Outcome::NotStarted { reason: NotStarted::ExecFailed { errno: libc::ENOENT }, .. }
    );
    assert!(is_missing, "{missing}");
    cluster.end();
}

/// Would fail if a thread got the outcome of another's job, or none.
fn eight_threads_get_the_outcome_of_each_of_their_jobs() {
    let cluster = cluster(6);
    thread::scope(|scope| {
        for thread in 0..8_u64 {
            let backend = &cluster.backend;
            scope.spawn(move || {
                for round in 0..20 {
                    let number = 100 + thread * 1000 + round;
                    let job = job("gives").main_arg(number).build().unwrap();
                    let handle = backend.register_timeout(&job, PATIENCE).unwrap();
                    let other = handle.clone();
                    let looks = [outcome(&handle), other.outcome().unwrap(), outcome(&other)];
                    for look in looks {
                        assert_eq!(look.into_output().unwrap(), number.to_le_bytes());
                    }
                }
            });
        }
    });
    cluster.end();
}

/// Would fail if the outcome came back to life, or if one that was published before were lost.
fn an_outcome_is_unknown_for_ever_once_the_postmaster_has_died() {
    let cluster = cluster(8);
    let done = submitted(&cluster, job("gives"));
    stopped(&cluster.backend.handle(done.id()));
    let running = submitted(&cluster, job("sleep"));
    let pid = ready(&running);
    let waiting = thread::spawn({
        let running = running.clone();
        move || running.wait_for_outcome().unwrap()
    });
    kill(cluster.launched.pid(), Signal::SIGKILL);
    assert_eq!(waiting.join().unwrap(), Outcome::PostmasterDied);
    wait_until("its worker is gone", PATIENCE, || !alive(pid));
    for _ in 0..3 {
        assert_eq!(running.outcome(), Some(Outcome::PostmasterDied));
        assert_eq!(outcome(&running), Outcome::PostmasterDied);
        assert_eq!(outcome(&done).into_output().unwrap(), 0_u64.to_le_bytes());
    }
    assert_eq!(
        cluster.launched.wait().unwrap(),
        ExitCause::Signaled { signal: 9, core_dumped: false }
    );
}

/// Leaves a note of each run, and dies.
fn notes(worker: &mut Worker) -> Result<(), WorkerError> {
    write_note(&format!("run-{}", worker.restarts()), "")?;
    std::process::abort()
}

/// Ends when it is told to.
fn told(worker: &mut Worker) -> Result<(), WorkerError> {
    read_note("go");
    worker.set_result(b"told")?;
    Ok(())
}

/// Fails twice, and then gives back how often it was restarted.
fn third(worker: &mut Worker) -> Result<(), WorkerError> {
    if worker.restarts() < 2 {
        return Err(format!("failure {}", worker.restarts()).into());
    }
    worker.set_result(&worker.restarts().to_le_bytes())?;
    Ok(())
}

/// Would fail if a job ran again, or if an earlier run of one that may had the last word.
fn a_job_runs_once_and_with_a_restart_policy_its_last_run_answers() {
    let cluster = cluster(4);
    let once = submitted(&cluster, job("notes"));
    let died = outcome(&once);
    assert!(matches!(died, Outcome::Died(_)) && died.runs() == Some(1), "{died}");
    let hour = RestartPolicy::Fixed(Duration::from_secs(3600));
    let handle = submitted(&cluster, job("third").restart(hour));
    for run in 0..2 {
        wait_until("that run has ended", PATIENCE, || {
            handle.exit_report().is_some_and(|report| report.restarts == run)
        });
        assert_eq!(handle.outcome(), None, "not in a pause");
        handle.restart_now().unwrap();
    }
    let last = outcome(&handle);
    assert_eq!(last.runs(), Some(3));
    assert_eq!(last.into_output().unwrap(), 2_u32.to_le_bytes());
    let given_up = job("third").restart(hour);
    let handle = submitted(&cluster, given_up);
    stopped(&handle);
    handle.cancel().unwrap();
    let cancelled = outcome(&handle);
    let Outcome::Cancelled(report) = &cancelled else { panic!("{cancelled}") };
    assert_eq!(report.last_words().unwrap().to_string(), "failure 0", "its last run");
    assert_eq!(cancelled.runs(), Some(1));
    assert!(!crate::support::note_path("run-1").exists());
    cluster.end();
}

/// Would fail if a job went on under a handle that nobody has, or if its outcome were lost.
fn a_crash_reset_ends_jobs_also_those_that_restart() {
    let cluster = cluster(8);
    let (at_once, hour) =
        (RestartPolicy::Fixed(Duration::ZERO), RestartPolicy::Fixed(Duration::from_secs(3600)));
    let plain = cluster.backend.register(&worker("sleep").restart(at_once).build().unwrap());
    let plain = plain.unwrap();
    let running = submitted(&cluster, job("sleep").restart(at_once));
    let resting = submitted(&cluster, job("third").restart(hour));
    let done = submitted(&cluster, job("gives").main_arg(7));
    let _ = [&plain, &running].map(ready);
    stopped(&resting);
    stopped(&cluster.backend.handle(done.id()));
    let culprit = shared("sleep", at_once);
    let culprit = worker("sleep").flags(culprit.flags()).job(Orphaned::GoOn).restart(at_once);
    let culprit = submitted(&cluster, culprit);
    let pid = ready(&culprit);
    kill(pid, Signal::SIGABRT);
    let [died, quit, rested, output] =
        [&culprit, &running, &resting, &done].map(|handle| outcome(handle));
    let signal = |outcome: &Outcome| outcome.report().map(|report| report.cause);
    assert!(matches!(signal(&died), Some(ExitCause::Signaled { signal: 6, .. })), "{died}");
    let Outcome::Died(report) = &quit else { panic!("{quit}") };
    assert!(report.reset && report.asked_by == Some(AskedBy::Reset), "{report}");
    assert!(matches!(&rested, Outcome::Failed { text, .. } if text == "failure 0"), "{rested}");
    assert_eq!(output.clone().into_output().unwrap(), 7_u64.to_le_bytes());
    wait_until("the plain worker alone runs again", PATIENCE, || {
        let workers = cluster.backend.workers();
        workers.len() == 1 && workers[0].ready && workers[0].handle != plain.id()
    });
    let again = [&culprit, &running, &resting, &done].map(|handle| outcome(handle));
    assert_eq!(again, [died, quit, rested, output]);
    cluster.end();
}

/// Would fail if a deadline ended a job unasked, or if the job's end did not wait for it.
fn a_deadline_ends_the_wait_or_the_job() {
    let cluster = cluster(4);
    let soon = Duration::from_millis(20);
    let handle = submitted(&cluster, job("sleep"));
    let pid = ready(&handle);
    for _ in 0..2 {
        let late = handle.wait_for_outcome_timeout(soon).unwrap_err();
        assert!(matches!(late, bgw_backend::WaitError::TimedOut), "{late}");
    }
    assert!(alive(pid) && handle.outcome().is_none(), "it goes on");
    let cancelled = handle.wait_for_outcome_or_cancel(soon).unwrap();
    assert!(matches!(cancelled, Outcome::Cancelled(_)), "{cancelled}");
    assert!(!alive(pid));
    let quick = submitted(&cluster, job("gives")).wait_for_outcome_or_cancel(PATIENCE).unwrap();
    assert!(matches!(quick, Outcome::Output { .. }), "{quick}");
    let deaf = job("stubborn").grace(bgw_backend::Grace::After(Duration::from_millis(50)));
    let deaf = submitted(&cluster, deaf);
    ready(&deaf);
    let killed = deaf.wait_for_outcome_or_cancel(soon).unwrap();
    assert!(matches!(&killed, Outcome::Cancelled(report) if report.killed), "{killed}");
    cluster.end();
}

/// Would fail if an unread outcome were overwritten, or if its slot were not given back by a look,
/// a drop, or the submitter's death.
fn outcomes_that_nobody_has_looked_at_give_way_to_nobody() {
    let cluster = cluster(3);
    let full = |when: &str| {
        let refused = cluster.backend.register(&simple("quick")).map(drop);
        let is_full = matches!(refused, Err(RegisterError::NoFreeSlot { capacity: 3, in_use: 3 }));
        assert!(is_full, "{when}: {refused:?}");
    };
    let mut ours: Vec<Handle> =
        (5..7).map(|number| submitted(&cluster, job("gives").main_arg(number))).collect();
    let folder = cluster.folder.clone();
    let mut program = fork_child(move || {
        let handle = connect(&folder).register(&job("gives").build().unwrap()).unwrap();
        stopped(&connect(&folder).handle(handle.id()));
        write_note("theirs", "").unwrap();
        read_note("never");
    });
    read_note("theirs");
    for handle in &ours {
        stopped(&cluster.backend.handle(handle.id()));
    }
    full("all have ended, and nobody has looked");
    assert_eq!(outcome(&ours[0]).into_output().unwrap(), 5_u64.to_le_bytes());
    stopped(&cluster.backend.register(&simple("quick")).unwrap());
    let plain = cluster.backend.register(&simple("quick")).unwrap();
    stopped(&cluster.backend.handle(plain.id()));
    // The end of a worker that is no job gives way, as ever.
    let next = submitted(&cluster, job("gives").main_arg(8));
    stopped(&cluster.backend.handle(next.id()));
    assert_eq!(next.id().slot(), plain.id().slot());
    full("again");
    drop(next);
    let next = submitted(&cluster, job("gives").main_arg(9));
    stopped(&cluster.backend.handle(next.id()));
    full("once more");
    assert_eq!(plain.outcome(), Some(Outcome::Lost), "after two more reports of its slot");
    program.kill(Signal::SIGKILL);
    program.wait();
    wait_until("its slot is free", PATIENCE, || {
        cluster.backend.register(&simple("quick")).map(|handle| drop(stopped(&handle))).is_ok()
    });
    assert_eq!(outcome(&next).into_output().unwrap(), 9_u64.to_le_bytes());
    let last = ours.pop().unwrap();
    assert_eq!(outcome(&last).into_output().unwrap(), 6_u64.to_le_bytes(), "however late");
    cluster.end();
}

/// Would time out if nobody told the postmaster that a slot is free again.
fn a_slot_that_a_look_at_an_outcome_gives_back_goes_to_one_that_waits() {
    let cluster = cluster(2);
    let holder = cluster.start(&simple("sleep"));
    for round in ["looks", "drops"] {
        let handle = submitted(&cluster, job("gives"));
        stopped(&cluster.backend.handle(handle.id()));
        let mut program = queued_program(&cluster, round);
        if round == "looks" {
            outcome(&handle).into_output().unwrap();
        }
        drop(handle);
        let next = cluster.backend.handle(read_note(round).parse().unwrap());
        ready(&next);
        next.terminate().unwrap();
        assert_eq!(program.wait().code(), Some(0));
    }
    drop(holder);
    cluster.end();
}

/// Would fail if a job's slot went to one that waits as soon as it ends: with the second one after
/// it the outcome is gone.
fn the_outcome_of_a_job_that_ends_while_others_wait_for_a_slot_is_kept() {
    let cluster = cluster(1);
    let mut events = cluster.backend.events(EventsFrom::Oldest).unwrap();
    let handle = submitted(&cluster, job("told"));
    let mut programs = ["first", "second"].map(|name| queued_program(&cluster, name));
    write_note("go", "").unwrap();
    while events.next_timeout(PATIENCE).unwrap().unwrap().kind != EventKind::Unregistered {}
    // The postmaster has done all that belongs to the end.
    cluster.backend.ping().unwrap();
    assert!(cluster.backend.workers().is_empty());
    outcome(&handle).into_output().unwrap();
    for (name, program) in ["first", "second"].into_iter().zip(&mut programs) {
        let next = cluster.backend.handle(read_note(name).parse().unwrap());
        ready(&next);
        next.terminate().unwrap();
        assert_eq!(program.wait().code(), Some(0));
    }
    cluster.end();
}

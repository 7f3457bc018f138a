//! The promise: whatever happens between two steps of a worker's start (terminate, death, a failing
//! step), the worker ends as its policy says, every waiter gets the truth, and nothing is lost: no
//! slot, no process, no descriptor.
//!
//! The tests do not choose points: they arm every point in the crates' lists, and one that is never
//! reached fails them.

use crate::support::fault::{
    AT_ONCE, CAPACITY, Waiter, cluster, cluster_with, descriptors, fallible_in_workers,
    in_postmaster, in_workers, lies_in_worker, nothing_leaked, passing, unregistered,
};
use crate::support::{
    PATIENCE, guardian_of, kill, raw, read_note, ready, restarting, simple, started, stopped,
    wait_for_spares, wait_for_state, wait_until_asleep, worker, write_note,
};
use bgw_backend::{
    After, BackgroundWorker, ExitCause, ExitReport, NotStarted, Pid, Ready, RestartPolicy,
    WorkerFlags, WorkerStatus,
};
use process_test::{Signal, Test, descendants, tests, wait_until, zombies_of};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        terminate_at_each_step_of_the_start_ends_the_worker => [R11, S06],
        a_worker_killed_at_any_point_is_reported_and_follows_its_policy,
        a_step_that_fails_in_a_worker_exits_1_and_follows_its_policy,
        a_worker_with_shared_state_killed_at_any_point_causes_one_reset,
        a_worker_that_ends_before_its_start_is_reported_reads_as_ended,
        a_worker_that_stops_before_it_rings_that_it_is_ready_is_watched => [P29, P33],
        a_postmaster_stopped_in_an_end_reaps_last_and_frees_in_time,
        a_failed_fork_is_reported_and_retried_by_policy => [B39, R02],
        an_unwatched_child_with_shared_state_has_crashed,
        an_unwatched_child_that_has_ended_reads_as_ended,
        a_run_begun_without_the_postmaster_is_begun_once_though_it_cannot_be_watched => [J35, J37],
        the_claims_of_an_unwatched_child_are_given_back,
        a_process_that_cannot_be_reaped_is_reported_all_the_same,
    ]
}

const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };

/// Would fail if SIGTERM arrived before its handler is installed (the signal kills) or were lost
/// between two steps (the worker restarts at once), and time out if a waiter slept on.
fn terminate_at_each_step_of_the_start_ends_the_worker() {
    for point in in_postmaster(&["intake:", "start:", "report:"]) {
        terminate_at(point, "sleep");
    }
    for point in in_workers() {
        for function in ["sleep", "default"] {
            terminate_at(point, function);
        }
    }
}

fn terminate_at(point: &str, function: &str) {
    let before_main =
        !["child:after_main", "child:mark_cleared", "child:before_exit"].contains(&point);
    let is_command = point == "child:before_exec";
    let description = if before_main && !is_command { worker(function) } else { passing(point) };
    let cluster = cluster(&format!("{point}=stop"));
    let postmaster = cluster.launched.pid();
    cluster.backend.enable_notifications().unwrap();
    let waiter = Waiter::attach(&cluster.folder, "waiter");
    let descriptors = descriptors(postmaster) - 2;
    let description = description.restart(AT_ONCE).notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let who = if lies_in_worker(point) { started(&handle) } else { postmaster };
    wait_for_state(who, 'T', point);
    waiter.wait_for(&handle);
    // A stop signal continues whoever it stops.
    handle.terminate().unwrap();
    if !lies_in_worker(point) {
        kill(who, Signal::SIGCONT);
    }
    let report = unregistered(&handle, point);
    assert!(report.requested(), "{point}: {report:?}");
    assert_eq!(report.restarts, 0, "{point}: it was started again");
    let expected = if is_command {
        ExitCause::Signaled { signal: 15, core_dumped: false }
    } else if report.pid.is_none() {
        ExitCause::NotStarted(NotStarted::Terminated)
    } else {
        ExitCause::Exited(u8::from(function == "default" && before_main))
    };
    assert_eq!(report.cause, expected, "{point}, {function}");
    let (start, end) = waiter.answers(point);
    assert!(
        ["started", "stopped"].contains(&&*start) && end == "stopped",
        "{point}: {start}, {end}"
    );
    nothing_leaked(&cluster, descriptors, point);
    cluster.end();
}

/// Would fail if an end before the report of its start were lost, if the policy were ignored, or if
/// the slot stayed taken.
fn a_worker_killed_at_any_point_is_reported_and_follows_its_policy() {
    for point in in_workers() {
        let report = met(point, "kill", RestartPolicy::Never);
        assert_eq!(report.cause, KILLED, "{point} was not reached");
        assert!(!report.requested() && report.pid.is_some() && report.restarts == 0, "{point}");
        let report = met(point, "kill", AT_ONCE);
        assert_eq!(report.cause, ExitCause::Exited(0), "{point}");
        assert_eq!(report.restarts, 1, "{point} was not reached, or the policy was not followed");
    }
}

/// Would fail if an error in the start read as a crash or as a success.
fn a_step_that_fails_in_a_worker_exits_1_and_follows_its_policy() {
    for point in fallible_in_workers() {
        let report = met(point, "error", RestartPolicy::Never);
        let expected = if point == "child:before_exec" {
            ExitCause::NotStarted(NotStarted::ExecFailed { errno: libc::EAGAIN })
        } else {
            ExitCause::Exited(1)
        };
        assert_eq!(report.cause, expected, "{point} was not reached, or did not fail");
        let report = met(point, "error", AT_ONCE);
        assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 1), "{point}");
    }
}

/// The last report of a worker that meets a fault once.
fn met(point: &str, action: &str, restart: RestartPolicy) -> ExitReport {
    let cluster = cluster(&format!("{point}={action}"));
    let descriptors = descriptors(cluster.launched.pid());
    let description = passing(point).restart(restart).build().unwrap();
    let report = unregistered(&cluster.backend.register(&description).unwrap(), point);
    nothing_leaked(&cluster, descriptors, point);
    cluster.end();
    report
}

fn sharing(function: &str) -> BackgroundWorker {
    worker(function).flags(WorkerFlags::SHMEM_ACCESS).restart(AT_ONCE).build().unwrap()
}

/// After the reset the worker fails once more before it touches anything: an ordinary exit 1. Would
/// fail if the clean-up mark of its first run caused a second reset.
fn a_worker_with_shared_state_killed_at_any_point_causes_one_reset() {
    let points = in_workers().into_iter().filter(|&point| point != "child:before_exec");
    for point in points {
        // How often it has passed that step when it passes it in its second run.
        let times = match point {
            "child:forked" | "child:before_death_signal" => 1,
            _ => 2,
        };
        let again = format!("child:before_close(brief)=error@{times}");
        let cluster = cluster(&format!("{point}(brief)=kill;{again}"));
        let bystander = cluster.backend.register(&sharing("sleep")).unwrap();
        let first = ready(&bystander);
        let life = bystander.id().incarnation();
        cluster.backend.register(&sharing("brief")).unwrap();
        wait_until(&format!("{point}: only the bystander runs, anew"), PATIENCE, || {
            let workers = cluster.backend.workers();
            let runs = |status: &_| matches!(status, WorkerStatus::Started(pid) if *pid != first);
            workers.len() == 1 && workers.iter().all(|info| info.ready && runs(&info.status))
        });
        let now = cluster.backend.workers()[0].handle.incarnation();
        assert_eq!(now, life.wrapping_add(2) | 1, "{point}: one reset, no more");
        cluster.end();
    }
}

/// The child ends before the postmaster reads its pid. Would time out if the end were missed, and
/// fail if it came before the start.
fn a_worker_that_ends_before_its_start_is_reported_reads_as_ended() {
    for point in in_postmaster(&["start:forked", "start:watched", "report:"]) {
        let cluster = cluster(&format!("{point}=stop"));
        let postmaster = cluster.launched.pid();
        let descriptors = descriptors(postmaster);
        cluster.backend.enable_notifications().unwrap();
        let description = worker("brief").notify(cluster.backend.pid()).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        wait_for_state(postmaster, 'T', point);
        wait_until("the child has ended", PATIENCE, || !zombies_of(raw(postmaster)).is_empty());
        let child = zombies_of(raw(postmaster))[0];
        kill(postmaster, Signal::SIGCONT);
        let report = stopped(&handle);
        assert_eq!(report.cause, ExitCause::Exited(0), "{point}");
        assert_eq!(report.pid.map(Pid::as_raw), Some(child.as_raw()), "{point}");
        nothing_leaked(&cluster, descriptors, point);
        cluster.end();
    }
}

/// The postmaster is stopped in a worker's end, with all other slots taken. Would fail if the pid
/// were reaped while a slot or a notification still uses it, if the slot could be taken before it
/// is free or not at once afterwards, or if the end of one tenant hit the next.
fn a_postmaster_stopped_in_an_end_reaps_last_and_frees_in_time() {
    let all = bgw_postmaster::fault::POINTS;
    let place = |name: &str| all.iter().position(|point| *point == name).unwrap();
    for point in in_postmaster(&["exit:", "free:"]) {
        let cluster = cluster(&format!("{point}=stop"));
        let postmaster = cluster.launched.pid();
        cluster.backend.enable_notifications().unwrap();
        let register = || cluster.backend.register(&simple("sleep"));
        let others: Vec<_> = (1..CAPACITY).map(|_| register().unwrap()).collect();
        // Only an end before a restart is published in the slot's word.
        let stays = point == "exit:before_word";
        let description = worker(if stays { "fail" } else { "brief" });
        let description = description.restart(RestartPolicy::after_secs(60));
        let description = description.notify(cluster.backend.pid()).build().unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        wait_for_state(postmaster, 'T', point);
        let zombies = zombies_of(raw(postmaster));
        assert_eq!(zombies.len(), usize::from(point != "exit:reaped"), "{point}");
        let is_free = !stays && place(point) >= place("free:after");
        let next = register();
        assert_eq!(next.is_ok(), is_free, "{point}: {next:?}");
        handle.terminate().unwrap();
        kill(postmaster, Signal::SIGCONT);
        if let Ok(next) = &next {
            ready(next);
        }
        wait_until(&format!("{point}: the worker is off the list"), PATIENCE, || {
            cluster.backend.workers().iter().all(|info| info.handle != handle.id())
        });
        if next.is_err() {
            // Unregistered between two runs, it keeps the report of the first.
            let ended = ExitCause::Exited(u8::from(stays));
            assert_eq!(unregistered(&handle, point).cause, ended, "{point}");
            ready(&register().unwrap());
        }
        for other in &others {
            assert!(matches!(other.status(), WorkerStatus::Started(_)), "{point}");
        }
        cluster.end();
    }
}

/// Would time out if the waiter slept on or if the other worker were not retried, and fail if the
/// slot stayed taken.
fn a_failed_fork_is_reported_and_retried_by_policy() {
    for point in ["start:before_fork", "start:forked"] {
        let cluster = cluster(&format!("{point}=error;{point}=error@2"));
        let postmaster = cluster.launched.pid();
        let waiter = Waiter::attach(&cluster.folder, "waiter");
        let descriptors = descriptors(postmaster) - 2;
        // Both forks fail, in this order.
        kill(postmaster, Signal::SIGSTOP);
        let never = cluster.backend.register(&simple("sleep")).unwrap();
        let later = Duration::from_millis(300);
        let again = cluster.backend.register(&restarting("sleep", later)).unwrap();
        waiter.wait_for(&never);
        kill(postmaster, Signal::SIGCONT);
        let failed = ExitCause::NotStarted(NotStarted::ForkFailed { errno: libc::EAGAIN });
        let report = stopped(&never);
        assert!(report.cause == failed && report.unregistered, "{point}: {report:?}");
        let report = stopped(&again);
        assert!(report.cause == failed && !report.unregistered, "{point}: {report:?}");
        assert_eq!(waiter.answers(point), ("stopped".into(), "stopped".into()));
        wait_until(&format!("{point}: retried"), PATIENCE, || {
            matches!(again.status(), WorkerStatus::Started(_))
        });
        assert_eq!(cluster.backend.workers().len(), 1, "{point}: the other one is gone");
        again.terminate().unwrap();
        assert_eq!(unregistered(&again, point).restarts, 0, "{point}: it ran once");
        nothing_leaked(&cluster, descriptors, point);
        cluster.end();
    }
}

/// The child runs its main, with shared state, when the postmaster finds that it cannot watch it
/// and kills it. Would time out if that counted as a failed fork.
fn an_unwatched_child_with_shared_state_has_crashed() {
    let cluster = cluster("start:forked=stop@2;start:forked=error@2");
    let postmaster = cluster.launched.pid();
    let bystander = cluster.backend.register(&sharing("sleep")).unwrap();
    let first = ready(&bystander);
    let life = bystander.id().incarnation();
    cluster.backend.register(&sharing("sleep")).unwrap();
    wait_for_state(postmaster, 'T', "start:forked");
    let others = [Some(first), guardian_of(postmaster)].map(|pid| pid.map(raw));
    wait_until("the child sleeps in its main", PATIENCE, || {
        descendants(raw(postmaster))
            .into_iter()
            .any(|pid| !others.contains(&Some(pid)) && sleeps(pid))
    });
    kill(postmaster, Signal::SIGCONT);
    wait_until("both run again", PATIENCE, || {
        let workers = cluster.backend.workers();
        let runs = |status: &_| matches!(status, WorkerStatus::Started(pid) if *pid != first);
        workers.len() == 2 && workers.iter().all(|info| runs(&info.status))
    });
    let now = cluster.backend.workers()[0].handle.incarnation();
    assert_eq!(now, life.wrapping_add(2) | 1);
    cluster.end();
}

/// As above, but the child has ended before it is killed. Would fail if it restarted, or if its end
/// were lost.
fn an_unwatched_child_that_has_ended_reads_as_ended() {
    let cluster = cluster("start:forked=stop;start:forked=error");
    let postmaster = cluster.launched.pid();
    let descriptors = descriptors(postmaster);
    let description = worker("brief").restart(AT_ONCE).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    wait_for_state(postmaster, 'T', "start:forked");
    wait_until("the child has ended", PATIENCE, || !zombies_of(raw(postmaster)).is_empty());
    kill(postmaster, Signal::SIGCONT);
    let report = unregistered(&handle, "start:forked");
    assert_eq!((report.cause, report.restarts), (ExitCause::Exited(0), 0));
    nothing_leaked(&cluster, descriptors, "start:forked");
    cluster.end();
}

/// A spare runs its worker when the postmaster finds that it cannot watch it. Would fail if the
/// worker, which never restarts, ran a second time.
fn a_run_begun_without_the_postmaster_is_begun_once_though_it_cannot_be_watched() {
    let cluster = cluster_with("direct:listed=error", |builder| {
        builder.warm_spares(2).direct_starts(true).function("counts", bgw_backend::entry(counts))
    });
    wait_for_spares(&cluster, 2);
    cluster.backend.ping().unwrap();
    wait_until_asleep(cluster.launched.pid());
    let first = cluster.backend.register(&simple("counts")).unwrap();
    let report = unregistered(&first, "direct:listed");
    assert_eq!((report.cause, report.restarts), (KILLED, 0));
    wait_for_spares(&cluster, 2);
    // It may have been ended before it had written anything.
    let runs = std::fs::read(std::env::temp_dir().join("runs")).unwrap_or_default().len();
    assert!(runs <= 1, "it ran {runs} times");
    // The next one is watched.
    let second = cluster.backend.register(&simple("sleep")).unwrap();
    ready(&second);
    second.terminate().unwrap();
    unregistered(&second, "direct:listed");
    cluster.end();
}

fn counts(worker: &mut bgw_backend::Worker) -> Result<(), bgw_backend::WorkerError> {
    let path = std::env::temp_dir().join("runs");
    let mut runs = std::fs::OpenOptions::new().create(true).append(true).open(path)?;
    std::io::Write::write_all(&mut runs, b"x")?;
    loop {
        worker.sleep(None)?;
    }
}

/// A child that cannot be watched is killed in the middle of a registration of its own. Would fail
/// if the slot that it had claimed stayed taken.
fn the_claims_of_an_unwatched_child_are_given_back() {
    let cluster = cluster_with("start:forked=stop;start:forked=error", |builder| {
        builder.function("claims", bgw_backend::entry(claims))
    });
    let postmaster = cluster.launched.pid();
    let descriptors = descriptors(postmaster);
    let handle = cluster.backend.register(&simple("claims")).unwrap();
    wait_for_state(postmaster, 'T', "start:forked");
    let child: Pid = read_note("claims").parse().unwrap();
    wait_for_state(child, 'T', "in the middle of its claim");
    kill(postmaster, Signal::SIGCONT);
    let failed = ExitCause::NotStarted(NotStarted::ForkFailed { errno: libc::EAGAIN });
    assert_eq!(unregistered(&handle, "start:forked").cause, failed);
    nothing_leaked(&cluster, descriptors, "start:forked");
    cluster.end();
}

/// Stops itself in the middle of a registration, with the slot claimed.
fn claims(worker: &mut bgw_backend::Worker) -> Result<(), bgw_backend::WorkerError> {
    shmem_slots::fault::arm("claim:after_swap=stop");
    write_note("claims", &std::process::id().to_string())?;
    worker.backend().register(&simple("quick"))?;
    Ok(())
}

/// The worker says so in its slot, though the postmaster has not said yet that it runs.
/// Nothing before a worker's main makes a child sleep.
fn sleeps(pid: process_test::Pid) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ").next().is_some_and(|rest| rest.starts_with('S'))
}

/// Would time out if an error while looking at an ended child lost its end: no other event follows.
fn a_process_that_cannot_be_reaped_is_reported_all_the_same() {
    for point in ["exit:before_peek", "exit:before_reap"] {
        let cluster = cluster(&format!("{point}=error"));
        let handle = cluster.backend.register(&simple("brief")).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{point}");
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
        cluster.end();
    }
}

/// Its readiness can be seen in its slot, but nobody has told the postmaster. Would time out if
/// only a ring were believed: nobody would miss its beats, or its start would be late.
fn a_worker_that_stops_before_it_rings_that_it_is_ready_is_watched() {
    let declared = || worker("sleep").unique().ready(Ready::Call);
    let beats = cluster("worker:said_ready=stop");
    let builder = declared().heartbeat(Duration::from_millis(300));
    let report = stopped(&beats.backend.register(&builder.build().unwrap()).unwrap());
    assert!(matches!(report.cause, ExitCause::Hung { .. }), "{report:?}");
    beats.end();

    let starts = cluster("worker:said_ready(sleep)=stop");
    let builder = declared().start_timeout(Duration::from_millis(300));
    let handle = starts.backend.register(&builder.build().unwrap()).unwrap();
    let pid = ready(&handle);
    wait_for_state(pid, 'T', "it is stopped");
    // It starts once the postmaster knows, when it looks at the end of the time.
    let dependent = BackgroundWorker::builder("dependent").function("sleep");
    let dependent = dependent.after("sleep", After::Ready).build().unwrap();
    ready(&starts.backend.register(&dependent).unwrap());
    assert_eq!(started(&handle), pid, "it was ready in time");
    kill(pid, Signal::SIGCONT);
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    starts.end();
}

//! The promise: a postmaster that dies between any two steps takes its workers with it and leaves
//! no waiter asleep. A postmaster that is stopped there loses nothing.
//!
//! The tests do not choose points: they arm every point of the postmaster, and one that is never
//! reached fails them.

use crate::support::fault::{
    AT_ONCE, Waiter, a_new_postmaster_takes_over, arm, cluster, cluster_with, descriptors,
    in_postmaster, in_workers, lies_in_worker, nothing_leaked, unregistered,
};
use crate::support::{
    Cluster, PATIENCE, alive, connect, functions, kill, note_path, read_note, ready, shared,
    simple, started, stopped, wait_for_state, worker, write_note,
};
use bgw_backend::{
    AskError, AttachError, Backend, BackgroundWorker, ExitCause, NotStarted, RestartPolicy,
    ShutdownMode, WorkerStatus,
};
use bgw_postmaster::{BuildError, Postmaster};
use process_test::{Signal, Test, fork_child, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_death_in_a_start_is_noticed => [B18, B19, B70],
        the_death_in_an_end_is_noticed => [B19, B70],
        the_death_in_a_reset_is_noticed => [B70],
        a_postmaster_killed_as_it_begins_leaves_its_folder_free => [B79],
        a_postmaster_killed_in_a_shutdown_leaves_its_folder_free => [B70, B79],
        the_death_between_a_word_and_its_wake_up_is_noticed => [B18, B19],
        a_worker_at_any_step_of_its_start_ends_with_its_postmaster => [R13],
        a_loop_that_fails_ends_the_whole_cluster_first => [D05, D19],
        every_point_of_the_postmaster_is_met,
        a_worker_terminated_before_its_intake_never_runs => [R03],
    ]
}

fn dies(cluster: &Cluster, point: &str) {
    let postmaster = cluster.launched.pid();
    wait_until(&format!("{point} is reached"), PATIENCE, || !alive(postmaster));
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    assert_eq!(cluster.launched.wait().unwrap(), killed, "{point}");
}

/// Workers in waits of several kinds. They end with their postmaster.
fn bystanders(cluster: &Cluster) {
    for function in ["socket", "default"] {
        ready(&cluster.backend.register(&simple(function)).unwrap());
    }
}

/// Would time out if a waiter slept on or a worker lived on, and fail if a waiter learned of
/// something that has not happened.
fn the_death_in_a_start_is_noticed() {
    for point in in_postmaster(&["intake:", "start:", "report:"]) {
        // The two bystanders pass here first.
        let cluster =
            cluster(&format!("{point}=kill@{}", if point.ends_with("notify") { 1 } else { 3 }));
        cluster.backend.enable_notifications().unwrap();
        bystanders(&cluster);
        let waiters = [Waiter::attach(&cluster.folder, "a"), Waiter::attach(&cluster.folder, "b")];
        kill(cluster.launched.pid(), Signal::SIGSTOP);
        let description = worker("sleep").notify(cluster.backend.pid()).restart(AT_ONCE);
        let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
        for waiter in &waiters {
            waiter.wait_for(&handle);
        }
        kill(cluster.launched.pid(), Signal::SIGCONT);
        dies(&cluster, point);
        let published = point.starts_with("report:") && point != "report:before_word";
        let start = if published { "started" } else { "postmaster died" };
        for waiter in waiters {
            assert_eq!(waiter.answers(point), (start.into(), "postmaster died".into()), "{point}");
        }
        assert_eq!(handle.wait_for_shutdown().unwrap(), WorkerStatus::PostmasterDied, "{point}");
        a_new_postmaster_takes_over(point);
    }
}

/// Would fail like the test before, and if an end were visible before its report.
fn the_death_in_an_end_is_noticed() {
    for point in in_postmaster(&["stop:", "exit:", "free:"]) {
        // Terminate frees the slot; exit 1 keeps it for the next start.
        let ways: &[bool] = match point {
            "exit:before_word" => &[false],
            _ if point.starts_with("exit:") => &[true, false],
            _ => &[true],
        };
        for &freed in ways {
            end_at(point, freed);
        }
    }
}

fn end_at(point: &str, freed: bool) {
    let cluster = cluster(&format!("{point}=kill"));
    cluster.backend.enable_notifications().unwrap();
    bystanders(&cluster);
    let waiters = [Waiter::attach(&cluster.folder, "a"), Waiter::attach(&cluster.folder, "b")];
    let description = worker("default").restart(RestartPolicy::after_secs(60));
    let description = description.notify(cluster.backend.pid()).build().unwrap();
    let handle = cluster.backend.register(&description).unwrap();
    let pid = ready(&handle);
    for waiter in &waiters {
        waiter.wait_for(&handle);
        waiter.waits_for_the_end();
    }
    if freed {
        handle.terminate().unwrap();
    } else {
        kill(pid, Signal::SIGTERM);
    }
    dies(&cluster, point);
    let all = bgw_postmaster::fault::POINTS;
    let place = |name: &str| all.iter().position(|point| *point == name).unwrap();
    let published = place(point) >= place("free:after");
    let end = if published { "stopped" } else { "postmaster died" };
    for waiter in waiters {
        assert_eq!(
            waiter.answers(point),
            ("started".into(), end.into()),
            "{point}, freed: {freed}"
        );
    }
    match handle.wait_for_shutdown().unwrap() {
        WorkerStatus::Stopped(Some(report)) if published => {
            assert_eq!(report.cause, ExitCause::Exited(1), "{point}");
            assert_eq!((report.unregistered, report.pid), (freed, Some(pid)), "{point}");
        }
        WorkerStatus::PostmasterDied if !published => {}
        other => panic!("{point}, freed: {freed}: {other:?}"),
    }
    a_new_postmaster_takes_over(point);
}

/// Would time out if a waiter from before the reset, or one from after it, slept on.
fn the_death_in_a_reset_is_noticed() {
    for point in in_postmaster(&["reset:"]) {
        let cluster = cluster(&format!("{point}=kill"));
        let bystander = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
        let crashing = cluster.backend.register(&shared("sleep", AT_ONCE)).unwrap();
        ready(&bystander);
        let waiter = Waiter::attach(&cluster.folder, "a");
        waiter.wait_for(&bystander);
        waiter.waits_for_the_end();
        kill(ready(&crashing), Signal::SIGABRT);
        dies(&cluster, point);
        assert_eq!(waiter.answers(point), ("started".into(), "stopped".into()), "{point}");
        for info in cluster.backend.workers() {
            let status = cluster.backend.handle(info.handle).wait_for_startup().unwrap();
            assert_ne!(status, WorkerStatus::NotYetStarted, "{point}");
        }
        a_new_postmaster_takes_over(point);
    }
}

/// A program has connected and waits for its welcome. Would time out if it or the launching program
/// waited for ever, or if the folder stayed locked.
fn a_postmaster_killed_as_it_begins_leaves_its_folder_free() {
    for point in in_postmaster(&["begin:"]) {
        for kills_itself in [true, false] {
            arm(&format!("{point}={}", if kills_itself { "kill" } else { "stop" }));
            let folder = std::env::temp_dir().join("cluster");
            let mut postmaster =
                functions(Postmaster::builder().runtime_dir(&folder)).build().unwrap();
            postmaster.register(simple("sleep")).unwrap();
            let mut launched = postmaster.launch().unwrap();
            arm("");
            if !kills_itself {
                wait_for_state(launched.pid(), 'T', point);
                let mut other = fork_child(|| {
                    write_note("connecting", "").unwrap();
                    let refused = Backend::connect(&folder).unwrap_err();
                    assert!(
                        !matches!(refused, AttachError::Ask(AskError::TimedOut)),
                        "{point}: {refused}"
                    );
                });
                read_note("connecting");
                process_test::wait_until_asleep(other.pid());
                kill(launched.pid(), Signal::SIGKILL);
                assert_eq!(other.wait().code(), Some(0), "{point}");
                std::fs::remove_file(note_path("connecting")).unwrap();
            }
            let refused = Backend::over(launched.take_control().unwrap()).unwrap_err();
            assert!(!matches!(refused, AttachError::Ask(AskError::TimedOut)), "{point}: {refused}");
            let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
            assert_eq!(launched.wait().unwrap(), killed, "{point}");
            a_new_postmaster_takes_over(point);
        }
    }
}

/// Would time out if a socket or a lock that stays behind kept the next postmaster out.
fn a_postmaster_killed_in_a_shutdown_leaves_its_folder_free() {
    for point in in_postmaster(&["end:"]) {
        let cluster = cluster(&format!("{point}=kill"));
        bystanders(&cluster);
        cluster.launched.shutdown(ShutdownMode::Fast).unwrap();
        dies(&cluster, point);
        a_new_postmaster_takes_over(point);
    }
}

/// The word is written and its waiters still sleep: the death of the postmaster wakes them, and
/// they read the word first. These points are the slots' own.
fn the_death_between_a_word_and_its_wake_up_is_noticed() {
    let points = [
        ("update:before_wake", "started"),
        ("report:half_written", "postmaster died"),
        ("report:before_number", "postmaster died"),
        ("free:before_swap", "postmaster died"),
        ("free:before_hint", "stopped"),
        ("free:before_wake", "stopped"),
    ];
    for (point, truth) in points {
        let cluster = cluster(&format!("{point}=kill"));
        let waiter = Waiter::attach(&cluster.folder, "a");
        kill(cluster.launched.pid(), Signal::SIGSTOP);
        let handle = cluster.backend.register(&simple("sleep")).unwrap();
        waiter.wait_for(&handle);
        kill(cluster.launched.pid(), Signal::SIGCONT);
        if truth == "started" {
            dies(&cluster, point);
            let answers = ("started".to_owned(), "postmaster died".to_owned());
            assert_eq!(waiter.answers(point), answers, "{point}");
        } else {
            ready(&handle);
            waiter.waits_for_the_end();
            handle.terminate().unwrap();
            dies(&cluster, point);
            assert_eq!(waiter.answers(point), ("started".into(), truth.into()), "{point}");
        }
        a_new_postmaster_takes_over(point);
    }
}

/// A worker is stopped at each step of its start, where it blocks all signals most of the time,
/// beside workers in waits. Would time out if a start did not check that its postmaster still
/// lives, or if the signal of its death were lost between two steps.
fn a_worker_at_any_step_of_its_start_ends_with_its_postmaster() {
    let points = in_workers();
    let name = |number: usize| format!("stopped {number}");
    let faults: Vec<String> = (0..points.len())
        .map(|number| format!("{}({})=stop", points[number], name(number)))
        .collect();
    let cluster = cluster_with(&faults.join(";"), |builder| builder.max_workers(64));
    for function in ["sleep", "socket", "busy", "stubborn"] {
        ready(&cluster.backend.register(&simple(function)).unwrap());
    }
    let mut stopped = Vec::new();
    for (number, point) in points.iter().enumerate() {
        let description = BackgroundWorker::builder(name(number));
        let description = match *point {
            "child:before_exec" => description.command("sleep", ["1000"]),
            "child:after_main" | "child:mark_cleared" | "child:before_exit" => {
                description.function("brief")
            }
            "worker:before_unblock" | "worker:unblocked" => description.function("sleep"),
            _ => description.function("deaf"),
        };
        let waiter = Waiter::attach(&cluster.folder, &name(number));
        let handle = cluster.backend.register(&description.build().unwrap()).unwrap();
        let pid = started(&handle);
        wait_for_state(pid, 'T', point);
        waiter.wait_for(&handle);
        waiter.waits_for_the_end();
        stopped.push((point, pid, waiter));
    }
    kill(cluster.launched.pid(), Signal::SIGKILL);
    dies(&cluster, "any time");
    let taken = || Postmaster::builder().runtime_dir(&cluster.folder).build();
    assert!(matches!(taken(), Err(BuildError::InUse { .. })), "its workers still hold the folder");
    // The guardian continues them.
    for (point, pid, waiter) in stopped {
        assert_eq!(waiter.answers(point), ("started".into(), "postmaster died".into()));
        wait_until(&format!("{point}: the worker has ended"), PATIENCE, || !alive(pid));
    }
    a_new_postmaster_takes_over("all steps");
}

/// A program is the postmaster itself, and lives on after it. Would fail if a process of the
/// cluster were left beside it, and time out if it waited for one that does not end when it is
/// asked to.
fn a_loop_that_fails_ends_the_whole_cluster_first() {
    // More passes than the workers need to start.
    arm("loop:before_wait=error@300");
    let folder = std::env::temp_dir().join("cluster");
    let built = functions(Postmaster::builder().runtime_dir(&folder).warm_spares(2));
    let mut program = fork_child(|| {
        let failed = built.build().unwrap().run().unwrap_err();
        assert!(failed.to_string().contains("epoll_wait"), "{failed}");
        let me = nix::unistd::Pid::this();
        assert!(process_test::descendants(me).is_empty(), "somebody is left");
        assert!(process_test::zombies_of(me).is_empty(), "somebody is not reaped");
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    let backend = connect(&folder);
    let groups = BackgroundWorker::builder("c").command("sh", ["-c", "sleep 1000 & sleep 1000"]);
    let leaves = BackgroundWorker::builder("l")
        .command("sh", ["-c", "trap '' TERM; (trap '' TERM; exec sleep 1000) & exit 0"]);
    let workers = [simple("deaf"), simple("stubborn"), groups.build().unwrap()];
    let handles = workers.map(|worker| backend.register(&worker).unwrap());
    let pids = handles.each_ref().map(started);
    kill(pids[1], Signal::SIGSTOP);
    wait_for_state(pids[1], 'T', "loop:before_wait");
    // Its leader has ended when the loop fails, and the rest of its group has not.
    let left = backend.register(&leaves.build().unwrap()).unwrap();
    stopped(&left);
    while backend.ping().is_ok() {}
    assert_eq!(program.wait().code(), Some(0));
    for (handle, pid) in handles.iter().zip(pids) {
        assert!(!alive(pid));
        assert_eq!(handle.wait_for_end().unwrap(), WorkerStatus::PostmasterDied);
    }
    a_new_postmaster_takes_over("loop:before_wait");
}

/// Would fail if a new point had no test here.
fn every_point_of_the_postmaster_is_met() {
    // The tests of `spares` meet those of spares, those of `reuse` those of lives, those of
    // `companions` tickets and collectors, those of `templates` orders, those of `hand_overs`
    // theirs, one of `start` that of direct starts.
    let prefixes = [
        "begin:",
        "loop:",
        "intake:",
        "start:",
        "spare:",
        "direct:",
        "life:",
        "report:",
        "stop:",
        "exit:",
        "free:",
        "reset:",
        "end:",
        "ticket:",
        "collector:",
        "order:",
        "hand_over:",
    ];
    let met = in_postmaster(&prefixes);
    let all = bgw_postmaster::fault::POINTS.iter();
    let left: Vec<_> = all.filter(|point| !lies_in_worker(point) && !met.contains(point)).collect();
    assert!(left.is_empty(), "{left:?}");
}

/// Would fail if a registration that is terminated before its intake started or kept its slot, and
/// time out if its waiter slept on.
fn a_worker_terminated_before_its_intake_never_runs() {
    let cluster = cluster("");
    let postmaster = cluster.launched.pid();
    let waiter = Waiter::attach(&cluster.folder, "a");
    let descriptors = descriptors(postmaster) - 2;
    kill(postmaster, Signal::SIGSTOP);
    let handle = cluster.backend.register(&simple("describe")).unwrap();
    handle.terminate().unwrap();
    waiter.wait_for(&handle);
    assert_eq!(handle.status(), WorkerStatus::NotYetStarted);
    kill(postmaster, Signal::SIGCONT);
    assert_eq!(waiter.answers("the intake"), ("stopped".into(), "stopped".into()));
    let report = unregistered(&handle, "the intake");
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Terminated));
    assert!(report.requested() && report.pid.is_none());
    nothing_leaked(&cluster, descriptors, "the intake");
    assert!(!note_path("describe").exists(), "it never ran");
    cluster.end();
}

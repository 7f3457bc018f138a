//! The promise: a roll replaces workers a few at a time, each once the one before it is ready,
//! stops at the first failure, and says what became of each.
//!
//! Would catch: a fleet that a bad roll takes down whole, a handle that is lost, a roll that dies
//! with whoever asked for it.

use crate::support::{
    Cluster, PATIENCE, connect, note_path, read_note, ready, simple, stopped, worker, write_note,
};
use bgw_backend::{
    AnswerError, AskError, AskedBy, Backend, BackgroundWorker, BackgroundWorkerBuilder,
    ConnectOptions, ExitCause, Handle, Pid, Ready, Recycled, Refusal, RestartPolicy, Roll,
    RollError, RollOutcome, ShutdownMode, StartTime, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::{Group, PostmasterBuilder, Strategy};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_roll_replaces_each_worker_under_its_handle,
        a_roll_stops_at_its_first_failure_and_says_so => [P47],
        a_next_run_that_is_late_stops_a_roll_and_runs_on => [P47],
        a_roll_of_more_workers_than_a_packet_names_is_one_roll,
        of_thousands_of_workers_each_has_its_answer,
        a_group_is_rolled_by_its_name_and_nobody_else_is,
        a_roll_goes_on_when_its_caller_is_killed,
        a_shutdown_ends_a_roll,
        what_cannot_be_rolled_is_refused_by_name,
    ]
}

type Done = Result<(), WorkerError>;

const HOUR: RestartPolicy = RestartPolicy::Fixed(Duration::from_secs(3600));

/// Is ready in its first run. Later runs do what the note of their number says: `fail`, `hang`, or
/// nothing in particular.
fn serve(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let name = format!("served-{}", worker.main_arg());
    if note_path(&name).exists() {
        let order = std::fs::read_to_string(note_path(&format!("order-{}", worker.main_arg())));
        match order.unwrap_or_default().as_str() {
            "fail" => return Err("this run is broken".into()),
            "hang" => {
                write_note("hangs", "")?;
                while !worker.should_stop() && !note_path("go-on").exists() {
                    worker.sleep(Some(Duration::from_millis(10)))?;
                }
            }
            _ => {}
        }
    }
    write_note(&name, "")?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn served(number: u64) -> BackgroundWorker {
    worker("serve").main_arg(number).ready(Ready::Call).restart(HOUR).build().unwrap()
}

fn fleet(count: u64) -> (Cluster, Vec<Handle>, Vec<Pid>) {
    let cluster = Cluster::with(|builder| builder.function("serve", entry(serve)));
    let workers = (0..count).map(|number| cluster.backend.register(&served(number)).unwrap());
    let workers: Vec<Handle> = workers.collect();
    let pids = workers.iter().map(ready).collect();
    (cluster, workers, pids)
}

fn end(cluster: Cluster, workers: &[Handle]) {
    for worker in workers {
        worker.terminate().unwrap();
    }
    for worker in workers {
        worker.wait_for_end_timeout(PATIENCE).unwrap();
    }
    cluster.end();
}

/// Would fail if a worker kept its run, got another handle, or looked restarted.
fn a_roll_replaces_each_worker_under_its_handle() {
    let (cluster, workers, mut before) = fleet(5);
    for at_once in [1, 2, 9] {
        let report = cluster.backend.roll(&workers, Roll::stop_first(at_once, PATIENCE)).unwrap();
        assert!(report.is_complete(), "{report:?}");
        let all: Vec<_> = workers.iter().map(Handle::id).collect();
        assert_eq!(report.done, all, "{at_once} at once");
        for (worker, before) in workers.iter().zip(&mut before) {
            assert!(worker.is_ready());
            let pid = ready(worker);
            assert_ne!(pid, *before);
            *before = pid;
            let report = worker.exit_report().unwrap();
            assert_eq!((report.recycled, report.restarts), (Some(Recycled::Roll), 0), "{report}");
            assert_eq!(report.asked_by, Some(AskedBy::Recycle));
        }
    }
    end(cluster, &workers);
}

/// Would fail if a second worker were broken, or the answer hid who failed and how.
fn a_roll_stops_at_its_first_failure_and_says_so() {
    let (cluster, workers, before) = fleet(4);
    write_note("order-1", "fail").unwrap();
    let report = cluster.backend.roll(&workers, Roll::stop_first(1, PATIENCE)).unwrap();
    assert_eq!(report.done, [workers[0].id()]);
    assert_eq!(report.not_begun, [workers[2].id(), workers[3].id()]);
    let [(failed, why, last)] = &report.failed[..] else { panic!("{report:?}") };
    assert_eq!((*failed, *why), (workers[1].id(), RollOutcome::Ended));
    assert_eq!(last.as_ref().unwrap().cause, ExitCause::Exited(1));
    for worker in [2, 3] {
        assert_eq!(workers[worker].status(), WorkerStatus::Started(before[worker]));
    }
    end(cluster, &workers);
}

/// Would fail if a late run were taken for a ready one, or were killed for it.
fn a_next_run_that_is_late_stops_a_roll_and_runs_on() {
    let (cluster, workers, before) = fleet(2);
    write_note("order-0", "hang").unwrap();
    let soon = Duration::from_millis(200);
    let report = cluster.backend.roll(&workers, Roll::stop_first(1, soon)).unwrap();
    assert_eq!(report.failed, [(workers[0].id(), RollOutcome::NotReady, None)]);
    assert_eq!(report.not_begun, [workers[1].id()]);
    assert!(matches!(workers[0].status(), WorkerStatus::Started(pid) if pid != before[0]));
    write_note("go-on", "").unwrap();
    ready(&workers[0]);
    // Nothing is left of the roll: another one may take them.
    assert!(cluster.backend.roll(&workers, Roll::stop_first(2, PATIENCE)).unwrap().is_complete());
    end(cluster, &workers);
}

/// Would fail if only the workers of the first packet, or of the last one, were rolled.
fn a_roll_of_more_workers_than_a_packet_names_is_one_roll() {
    let serve = |builder: PostmasterBuilder| builder.function("serve", entry(serve));
    let cluster = Cluster::with(|builder| serve(builder).max_workers(300));
    let command = BackgroundWorker::builder("c").command("sh", ["-c", "echo >&3; exec sleep 1000"]);
    let command = command.ready(Ready::Newline(3)).restart(HOUR).build().unwrap();
    let commands = (0..3).map(|_| command.clone());
    let all = commands.clone().chain((0..250).map(served)).chain(commands);
    let workers: Vec<Handle> = all.map(|one| cluster.backend.register(&one).unwrap()).collect();
    let before: Vec<Pid> = workers.iter().map(ready).collect();
    let report = cluster.backend.roll(&workers, Roll::stop_first(50, PATIENCE)).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.done, workers.iter().map(Handle::id).collect::<Vec<_>>());
    for (worker, before) in workers.iter().zip(before) {
        assert_ne!(ready(worker), before);
    }
    // Nothing is begun if the last packet names a worker of the first one.
    let twice: Vec<Handle> = workers.iter().chain(&workers[..1]).cloned().collect();
    let refused = cluster.backend.roll(&twice, Roll::stop_first(50, PATIENCE)).unwrap_err();
    let text = format!("worker {} is named twice", workers[0]);
    assert!(refused.to_string().contains(&text), "{refused}");
    assert!(workers.iter().all(Handle::is_ready));
    end(cluster, &workers);
}

/// Would fail if an answer that does not fit into a packet were cut or lost.
fn of_thousands_of_workers_each_has_its_answer() {
    let serve = |builder: PostmasterBuilder| builder.function("serve", entry(serve));
    let cluster = Cluster::with(|builder| {
        serve(builder).max_workers(10_000).initial_phase(StartTime::PostmasterStart)
    });
    let waits = worker("serve").ready(Ready::Call).restart(HOUR);
    let waits = waits.start_time(StartTime::RecoveryFinished).build().unwrap();
    let workers: Vec<_> = (0..9_000).map(|_| cluster.backend.register(&waits).unwrap()).collect();
    // None runs yet, so the first one in hand is late, and no other is begun.
    let soon = Duration::from_millis(1);
    let roll = |workers: &[Handle]| {
        let report = cluster.backend.roll(workers, Roll::stop_first(1, soon)).unwrap();
        assert_eq!(report.failed, [(workers[0].id(), RollOutcome::NotReady, None)]);
        let others: Vec<_> = workers[1..].iter().map(Handle::id).collect();
        assert_eq!(report.not_begun, others);
    };
    roll(&workers);
    // Threads share one session, and do not mix their lists.
    std::thread::scope(|scope| {
        for share in workers.chunks(1_000) {
            scope.spawn(|| roll(share));
        }
    });
    cluster.end();
}

/// Would fail if a roll went by the names of workers, counted as failures of the group, or stopped
/// other members with the one in hand.
fn a_group_is_rolled_by_its_name_and_nobody_else_is() {
    let group = Group::new("web").strategy(Strategy::OneForAll).intensity(0, PATIENCE);
    let cluster = Cluster::with(|builder| {
        let builder =
            builder.group(group).group(Group::new("other")).function("serve", entry(serve));
        builder.max_workers(20)
    });
    let command = BackgroundWorker::builder("web");
    let command = command.command("sh", ["-c", "echo >&3; exec sleep 1000"]);
    let command = command.ready(Ready::Newline(3)).restart(HOUR);
    let function = |number| worker("serve").main_arg(number).ready(Ready::Call).restart(HOUR);
    let register = |builder: BackgroundWorkerBuilder| {
        let handle = cluster.backend.register(&builder.build().unwrap()).unwrap();
        (ready(&handle), handle)
    };
    let members: Vec<_> = (0..3).map(|number| register(function(number).group("web"))).collect();
    let others = [register(function(8).group("other")), register(command.clone())];
    let last = register(command.group("web"));
    let members: Vec<_> = members.into_iter().chain([last]).collect();
    let handles: Vec<_> = members.iter().map(|(_, handle)| handle.id()).collect();
    let found: Vec<_> = cluster.backend.find_group("web").iter().map(Handle::id).collect();
    assert_eq!(found, handles);
    let roll = Roll::stop_first(2, PATIENCE);
    let report = cluster.backend.roll_group("web", roll).unwrap();
    assert!(report.is_complete(), "{report:?}");
    assert_eq!(report.done, handles);
    for (before, handle) in &members {
        assert_ne!(ready(handle), *before);
    }
    // One run for each: nobody was stopped with another one.
    for (_, handle) in &members {
        assert_eq!(handle.exit_report().unwrap().restarts, 0);
    }
    for (before, handle) in &others {
        assert_eq!(handle.status(), WorkerStatus::Started(*before));
    }
    for misspelt in ["serve", "we", ""] {
        let refused = cluster.backend.roll_group(misspelt, roll).unwrap_err();
        let text = format!("no worker is a member of group \"{misspelt}\"");
        assert_eq!(refused.to_string(), text);
    }
    let undeclared = worker("sleep").group("other").restart(HOUR).build().unwrap();
    let (undeclared, _) = cluster.start(&undeclared);
    let refused = cluster.backend.roll_group("other", roll).unwrap_err();
    let text = format!("worker {undeclared} does not declare that it says ready");
    assert!(refused.to_string().contains(&text), "{refused}");
    cluster.end();
}

fn a_roll_goes_on_when_its_caller_is_killed() {
    let (cluster, workers, before) = fleet(3);
    write_note("order-0", "hang").unwrap();
    let (folder, ids) =
        (cluster.folder.clone(), workers.iter().map(Handle::id).collect::<Vec<_>>());
    let mut caller = fork_child(move || {
        let backend = connect(&folder);
        let workers: Vec<Handle> = ids.iter().map(|&id| backend.handle(id)).collect();
        let _ = backend.roll(&workers, Roll::stop_first(1, PATIENCE));
    });
    read_note("hangs");
    caller.kill(Signal::SIGKILL);
    caller.wait();
    write_note("go-on", "").unwrap();
    wait_until("all are replaced", PATIENCE, || {
        let replaced = |(worker, before): (&Handle, &Pid)| {
            worker.is_ready() && worker.status() != WorkerStatus::Started(*before)
        };
        workers.iter().zip(&before).all(replaced)
    });
    end(cluster, &workers);
}

/// Would hang if nobody answered.
fn a_shutdown_ends_a_roll() {
    let (cluster, workers, _) = fleet(2);
    write_note("order-0", "hang").unwrap();
    let report = std::thread::scope(|scope| {
        let roll = || cluster.backend.roll(&workers, Roll::stop_first(1, PATIENCE));
        let rolling = scope.spawn(roll);
        read_note("hangs");
        // The session of the roll is free meanwhile.
        cluster.backend.ping().unwrap();
        cluster.backend.shutdown(ShutdownMode::Fast).unwrap();
        rolling.join().unwrap().unwrap()
    });
    assert_eq!(report.failed, [(workers[0].id(), RollOutcome::ShuttingDown, None)]);
    assert_eq!(report.not_begun, [workers[1].id()]);
    assert_eq!(cluster.launched.wait().unwrap(), ExitCause::Exited(0));
}

fn reason(error: &RollError) -> Option<Refusal> {
    match error {
        RollError::Answer(AnswerError::Ask(AskError::Refused { reason, .. })) => Some(*reason),
        _ => None,
    }
}

/// Would fail if a refusal hid its reason, a misspelt name passed for a roll that is done, or a
/// part of a refused roll were begun.
fn what_cannot_be_rolled_is_refused_by_name() {
    let (cluster, workers, before) = fleet(1);
    let undeclared = worker("sleep").restart(HOUR).build().unwrap();
    let never = worker("sleep").ready(Ready::Call).build().unwrap();
    let [undeclared, never, gone] =
        [undeclared, never, simple("sleep")].map(|description| cluster.start(&description).0);
    gone.terminate().unwrap();
    stopped(&gone);
    let roll = Roll::stop_first(1, PATIENCE);
    for (other, why, text) in [
        (&undeclared, Refusal::NotAllowed, "does not declare that it says ready"),
        (&never, Refusal::NotAllowed, "is never restarted"),
        (&gone, Refusal::NotRegistered, "is not registered"),
        (&workers[0], Refusal::NotAllowed, "is named twice"),
    ] {
        let refused = cluster.backend.roll(&[workers[0].clone(), other.clone()], roll).unwrap_err();
        let text = format!("worker {other} {text}");
        assert!(refused.to_string().contains(&text), "{refused}");
        assert_eq!(reason(&refused), Some(why), "{refused}");
    }
    let refused = |workers: &[Handle], roll| match cluster.backend.roll(workers, roll) {
        Err(RollError::OutOfRange { field, value, limit }) => (field, value, limit),
        other => panic!("{other:?}"),
    };
    let second = Duration::from_secs(1);
    let (field, value, limit) = refused(&workers, Roll::stop_first(0, second));
    assert_eq!((field, value.as_str(), limit), ("at_once", "0", "1 up"));
    for time in [Duration::from_micros(999), 86_401 * second] {
        let (field, _, limit) = refused(&workers, Roll::stop_first(1, time));
        assert_eq!((field, limit), ("ready_within", "1ms to a day"));
    }
    let misspelt = cluster.backend.find("serf");
    assert_eq!(refused(&misspelt, roll), ("workers", "0".to_owned(), "1 up"));
    let options = ConnectOptions { read_only: true, ..ConnectOptions::default() };
    let observer = Backend::connect_with(&cluster.folder, options).unwrap();
    let refused = observer.roll(&[observer.handle(workers[0].id())], roll).unwrap_err();
    assert!(reason(&refused).is_some(), "{refused}");
    assert_eq!(workers[0].status(), WorkerStatus::Started(before[0]), "nothing was begun");
    end(cluster, &[workers[0].clone(), undeclared, never]);
}

//! The promise: the members of a named group stop and start together as its strategy says, and the
//! group ends with one failure more than it is granted.
//!
//! Would catch: a member that is left out or harmed without need, a wrong order, a group that
//! restarts for ever, or that hangs because a member has gone.

use crate::support::waiter::waiting_thread;
use crate::support::{
    Cluster, PATIENCE, kill, monotonic_nanos, read_note, ready, started, the_end, write_note,
};
use bgw_backend::{
    AskedBy, BackgroundWorker, BackgroundWorkerBuilder, ExitCause, GivenUp, Grace, Handle,
    NotStarted, Pid, Ready, RestartPolicy, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_postmaster::{Group, Postmaster, Strategy};
use process_test::{Signal, Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_killed_member_takes_those_along_that_the_strategy_says => [P49],
        members_stop_in_reverse_and_start_in_order_each_when_the_one_before_is_ready => [P49],
        a_deaf_member_is_killed_so_that_the_group_goes_on => [P49],
        one_failure_more_than_granted_ends_the_group_and_the_reports_name_it => [P50],
        without_a_grant_the_first_failure_ends_the_group => [P50],
        a_terminated_member_leaves_the_others_also_while_they_restart => [P51],
        a_group_that_cannot_be_is_refused_by_name => [P01],
    ]
}

const HOUR: Duration = Duration::from_secs(3600);

type Done = Result<(), WorkerError>;

/// Notes when each of its runs begins, is ready, and is told to end.
fn note_and_sleep(worker: &mut Worker) -> Done {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let name = |what: &str| format!("{what}-{}-{}", worker.name(), worker.restarts());
    let (began, is_ready, told) = (name("began"), name("ready"), name("told"));
    write_note(&began, &monotonic_nanos().to_string())?;
    // So that one that does not wait for this one would begin earlier.
    std::thread::sleep(Duration::from_millis(30));
    write_note(&is_ready, &monotonic_nanos().to_string())?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    write_note(&told, &monotonic_nanos().to_string())?;
    // So that one that is told at the same time would be told before this one has ended.
    std::thread::sleep(Duration::from_millis(30));
    Ok(())
}

fn noted(what: &str, name: &str, restarts: u32) -> u64 {
    read_note(&format!("{what}-{name}-{restarts}")).parse().unwrap()
}

fn cluster(group: Group) -> Cluster {
    Cluster::with(|builder| {
        builder.max_workers(16).function("note", entry(note_and_sleep)).group(group)
    })
}

fn member(name: &str, function: &str) -> BackgroundWorkerBuilder {
    let builder = BackgroundWorker::builder(name).function(function).ready(Ready::Call).group("g");
    builder.restart(RestartPolicy::Fixed(Duration::ZERO))
}

fn group(strategy: Strategy) -> Group {
    Group::new("g").strategy(strategy).intensity(100, HOUR)
}

/// Registers members that run and are ready.
fn running<const N: usize>(
    cluster: &Cluster,
    members: [BackgroundWorkerBuilder; N],
) -> [(Handle, Pid); N] {
    let members = members.map(|member| member.build().unwrap());
    let handles = cluster.backend.register_all(&members).unwrap();
    let all: Vec<_> = handles.into_iter().map(|handle| (handle.clone(), ready(&handle))).collect();
    all.try_into().unwrap()
}

/// The process of the run with this number of restarts, once it is ready.
fn run(handle: &Handle, restarts: u32) -> Pid {
    wait_until("the next run is ready", PATIENCE, || {
        let report = handle.exit_report();
        let before = report.as_ref().map_or(0, |report| report.restarts + 1);
        // The report of a run is there a moment before its worker has stopped.
        let last = report.and_then(|report| report.pid);
        handle.is_ready() && before == restarts && handle.pid() != last
    });
    started(handle)
}

fn a_killed_member_takes_those_along_that_the_strategy_says() {
    let again: [(Strategy, &[usize]); 3] = [
        (Strategy::OneForOne, &[1]),
        (Strategy::RestForOne, &[1, 2]),
        (Strategy::OneForAll, &[0, 1, 2]),
    ];
    for (strategy, again) in again {
        let group = group(strategy);
        let folder = std::env::temp_dir().join(format!("{strategy:?}"));
        let builder = crate::support::functions(Postmaster::builder().runtime_dir(&folder));
        let postmaster = builder.function("note", entry(note_and_sleep)).group(group).build();
        let mut launched = postmaster.unwrap().launch().unwrap();
        let backend = bgw_backend::Backend::over(launched.take_control().unwrap()).unwrap();
        let cluster = Cluster { launched, backend, folder };
        let all = running(&cluster, ["a", "b", "c"].map(|name| member(name, "note")));
        kill(all[1].1, Signal::SIGKILL);
        for (at, (handle, pid)) in all.iter().enumerate() {
            if again.contains(&at) {
                assert_ne!(run(handle, 1), *pid, "{strategy:?}, {at}");
                let report = handle.exit_report().unwrap();
                let asked = (at != 1).then_some(AskedBy::Group);
                assert_eq!((report.asked_by, report.unregistered), (asked, false));
                assert_eq!(report.streak, u32::from(at == 1), "{strategy:?}, {at}");
            }
        }
        cluster.backend.ping().unwrap();
        for (at, (handle, pid)) in all.iter().enumerate() {
            if !again.contains(&at) {
                assert_eq!(handle.status(), WorkerStatus::Started(*pid), "{strategy:?}, {at}");
            }
        }
        cluster.end();
    }
}

fn members_stop_in_reverse_and_start_in_order_each_when_the_one_before_is_ready() {
    let cluster = cluster(group(Strategy::OneForAll));
    let names = ["a", "b", "c", "d"];
    let all = running(&cluster, names.map(|name| member(name, "note")));
    kill(all[1].1, Signal::SIGKILL);
    all.iter().for_each(|(handle, _)| {
        run(handle, 1);
    });
    let told = ["d", "c", "a"].map(|name| noted("told", name, 0));
    assert!(told.is_sorted_by(|one, next| one + 30_000_000 <= *next), "{told:?}");
    assert!(told[2] < noted("began", "a", 1));
    for two in names.windows(2) {
        assert!(noted("ready", two[0], 1) < noted("began", two[1], 1), "{two:?}");
    }
    cluster.end();
}

/// Would hang if a grace of "for ever" held here.
fn a_deaf_member_is_killed_so_that_the_group_goes_on() {
    let cluster = cluster(group(Strategy::OneForAll));
    let deaf = member("deaf", "deaf").grace(Grace::After(Duration::from_millis(50)));
    let all = running(&cluster, [member("a", "note"), deaf]);
    kill(all[0].1, Signal::SIGKILL);
    run(&all[0].0, 1);
    run(&all[1].0, 1);
    let report = all[1].0.exit_report().unwrap();
    assert!(report.killed && report.asked_by == Some(AskedBy::Group), "{report:?}");
    cluster.end();
}

/// Would hang if somebody who waits for a member were not told.
fn one_failure_more_than_granted_ends_the_group_and_the_reports_name_it() {
    // The default: one restart in 5 s. Here in an hour, so that a slow machine counts both.
    let cluster = cluster(Group::new("g").strategy(Strategy::OneForAll).intensity(1, HOUR));
    let temporary = member("c", "note").restart(RestartPolicy::Never);
    let all = running(&cluster, [member("a", "note"), member("b", "note"), temporary]);
    kill(all[1].1, Signal::SIGKILL);
    let second = run(&all[1].0, 1);
    run(&all[0].0, 1);
    let report = the_end(&all[2].0);
    assert!(report.given_up.is_none() && report.asked_by == Some(AskedBy::Group), "{report:?}");
    let first = all[0].0.clone();
    let waiting = waiting_thread(move || first.wait_for_end_timeout(PATIENCE).unwrap());
    kill(second, Signal::SIGKILL);
    let report = the_end(&all[1].0);
    assert_eq!(report.given_up, Some(GivenUp::Group { count: 1, within: HOUR }));
    let WorkerStatus::Stopped(Some(other)) = waiting.join().unwrap() else { panic!() };
    assert_eq!(other.given_up, Some(GivenUp::WithGroup { failed: all[1].0.id() }));
    assert_eq!((other.asked_by, other.cause), (Some(AskedBy::Group), ExitCause::Exited(0)));
    assert!(other.to_string().contains(&all[1].0.to_string()), "{other}");
    assert!(cluster.backend.workers().is_empty());
    // The group is as new.
    let again = running(&cluster, [member("b", "note")]);
    kill(again[0].1, Signal::SIGKILL);
    run(&again[0].0, 1);
    cluster.end();
}

fn without_a_grant_the_first_failure_ends_the_group() {
    let cluster = cluster(Group::new("g").intensity(0, Duration::from_secs(5)));
    let all = running(&cluster, [member("a", "note"), member("b", "note")]);
    kill(all[0].1, Signal::SIGKILL);
    let reports = [the_end(&all[0].0), the_end(&all[1].0)];
    let none = GivenUp::Group { count: 0, within: Duration::from_secs(5) };
    assert_eq!(reports[0].given_up, Some(none));
    assert_eq!(reports[1].given_up, Some(GivenUp::WithGroup { failed: all[0].0.id() }));
    cluster.end();
}

fn a_terminated_member_leaves_the_others_also_while_they_restart() {
    let cluster = cluster(group(Strategy::OneForAll));
    let pausing = member("b", "note").restart(RestartPolicy::Fixed(HOUR));
    let all = running(&cluster, [member("a", "note"), pausing, member("c", "note")]);
    let extra = running(&cluster, [member("d", "note")]);
    extra[0].0.terminate().unwrap();
    the_end(&extra[0].0);
    assert_eq!([&all[0], &all[2]].map(|one| started(&one.0)), [all[0].1, all[2].1]);
    // The others stop, and wait for an hour.
    kill(all[1].1, Signal::SIGKILL);
    for at in [0, 2] {
        wait_until("the others have stopped", PATIENCE, || {
            matches!(all[at].0.status(), WorkerStatus::Stopped(_))
        });
    }
    all[2].0.terminate().unwrap();
    assert_eq!(the_end(&all[2].0).asked_by, Some(AskedBy::Terminate));
    assert!(matches!(all[0].0.status(), WorkerStatus::Stopped(_)), "b still pauses");
    all[1].0.terminate().unwrap();
    the_end(&all[1].0);
    run(&all[0].0, 1);
    cluster.end();
}

fn a_group_that_cannot_be_is_refused_by_name() {
    let second = Duration::from_secs(1);
    let bad: [(&[Group], &[&str]); 6] = [
        (&[Group::new("")], &["group \"\"", "1 to 31"]),
        (&[Group::new("x".repeat(32))], &["1 to 31"]),
        (&[Group::new("a\n")], &["group \"a\\n\""]),
        (&[Group::new("a").intensity(101, second)], &["group \"a\"", "101", "100"]),
        (&[Group::new("a").intensity(1, Duration::ZERO)], &["group \"a\"", "0ns", "1ms"]),
        (&[Group::new("a"), Group::new("a")], &["group \"a\"", "two"]),
    ];
    for (groups, facts) in bad {
        let builder = groups.iter().cloned().fold(Postmaster::builder(), |b, group| b.group(group));
        let error = builder.build().unwrap_err().to_string();
        assert!(facts.iter().all(|fact| error.contains(fact)), "{error}");
    }
    let mut postmaster = Postmaster::builder().build().unwrap();
    let unknown = BackgroundWorker::builder("w").command("true", [""; 0]).group("g");
    let error = postmaster.register(unknown.clone().build().unwrap()).unwrap_err().to_string();
    assert!(error.contains("\"w\"") && error.contains("\"g\""), "{error}");
    drop(postmaster);
    let cluster = Cluster::new();
    let refused = cluster.backend.register(&unknown.build().unwrap()).unwrap();
    let report = the_end(&refused);
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Refused));
    let words = report.last_words().unwrap().to_string();
    assert_eq!(words, "group is \"g\", but the postmaster has no group of this name");
    cluster.end();
}

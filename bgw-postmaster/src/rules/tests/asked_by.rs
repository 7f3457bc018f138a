//! Who asked for an end, and whether it took our SIGKILL.

use super::super::action::Action;
use super::super::cluster::Policy;
use super::super::ending::Ending;
use super::super::event::Event;
use super::{ISOLATED, SHARED, TestCluster, key, seconds};
use bgw_core::{AskedBy, ExitCause, RestartPolicy, ShutdownMode};

const DONE: ExitCause = ExitCause::Exited(0);
const KILLED: ExitCause = ExitCause::Signaled { signal: 9, core_dumped: false };
const TERMINATED: ExitCause = ExitCause::Signaled { signal: 15, core_dumped: false };
const FAST: Event = Event::ShutdownRequested(ShutdownMode::Fast);
const SMART: Event = Event::ShutdownRequested(ShutdownMode::Smart);
const IMMEDIATE: Event = Event::ShutdownRequested(ShutdownMode::Immediate);

fn ending(actions: &[Action]) -> Ending {
    let found = actions.iter().find_map(|action| match action {
        Action::Unregister(_, ending)
        | Action::ReportStopped(_, ending)
        | Action::ReportClearing(_, ending) => Some(*ending),
        _ => None,
    });
    found.unwrap()
}

/// Breaks if a way down forgets who asked, or a death by a stranger's SIGKILL counts as ours.
#[test]
fn each_end_says_who_asked_for_it_and_whether_it_was_killed() {
    let terminate = || Event::TerminateRequested(key(0));
    let kill = || Event::KillRequested(key(0));
    let (by_terminate, by_kill) = (Some(AskedBy::Terminate), Some(AskedBy::Kill));
    let (by_shutdown, by_reset) = (Some(AskedBy::Shutdown), Some(AskedBy::Reset));
    // what happens -> with the grace over before the end or not, how it ends -> the report
    let table = [
        (Vec::new(), false, DONE, None, false),
        (vec![], true, KILLED, None, false),
        (vec![terminate()], false, DONE, by_terminate, false),
        (vec![terminate()], false, KILLED, by_terminate, false),
        (vec![terminate()], true, KILLED, by_terminate, true),
        (vec![terminate()], true, TERMINATED, by_terminate, false),
        (vec![terminate(), kill()], false, KILLED, by_kill, true),
        (vec![kill()], false, KILLED, by_kill, true),
        (vec![kill()], false, DONE, by_kill, false),
        (vec![kill(), terminate()], false, KILLED, by_kill, true),
        (vec![SMART], false, DONE, by_shutdown, false),
        (vec![SMART], true, KILLED, by_shutdown, true),
        (vec![FAST], true, KILLED, by_shutdown, true),
        (vec![Event::LauncherGone], true, KILLED, by_shutdown, true),
        (vec![IMMEDIATE], false, ExitCause::Exited(2), by_shutdown, false),
        (vec![IMMEDIATE], true, KILLED, by_shutdown, true),
        (vec![terminate(), FAST], true, KILLED, by_terminate, true),
        (vec![FAST, terminate()], true, KILLED, by_terminate, true),
        (vec![FAST, kill()], false, KILLED, by_kill, true),
    ];
    for (events, grace_over, cause, asked_by, killed) in table {
        let row = format!("{events:?}, {cause:?}, the grace is over: {grace_over}");
        let grace = Some(seconds(3));
        let mut cluster = TestCluster::with(Policy { terminate_grace: grace, ..Policy::default() });
        cluster.running(0, ISOLATED, RestartPolicy::after_secs(5));
        for event in events {
            cluster.step(event);
        }
        if grace_over {
            cluster.later(seconds(5));
        }
        let end = ending(&cluster.exits(0, cause));
        assert_eq!((end.asked_by, end.killed), (asked_by, killed), "{row}");
    }
    for (grace_over, cause) in [(false, ExitCause::Exited(2)), (true, KILLED)] {
        let mut cluster = TestCluster::new();
        cluster.running(0, SHARED, RestartPolicy::Never);
        cluster.running(1, ISOLATED, RestartPolicy::Never);
        let culprit = ending(&cluster.exits(0, ExitCause::Exited(3)));
        assert_eq!((culprit.asked_by, culprit.killed), (None, false));
        if grace_over {
            cluster.later(seconds(5));
        }
        let other = ending(&cluster.exits(1, cause));
        assert_eq!((other.asked_by, other.killed), (by_reset, grace_over));
    }
}

/// Breaks if the report of a run names who had asked for the end of the one before.
#[test]
fn a_new_run_begins_with_nobody_having_asked() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(5));
    if let Some(entry) = cluster.state.registry.get_mut(key(0)) {
        entry.ask(AskedBy::Reset);
    }
    assert_eq!(ending(&cluster.exits(0, ExitCause::Exited(1))).asked_by, Some(AskedBy::Reset));
    cluster.later(seconds(5));
    cluster.starts(0);
    assert_eq!(ending(&cluster.exits(0, ExitCause::Exited(1))).asked_by, None);
}

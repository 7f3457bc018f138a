//! The end of a worker process.

use super::super::action::Action;
use super::super::action::News;
use super::super::event::Event;
use super::super::exit::Verdict;
use super::super::exit::judge;
use super::super::registry::Entry;
use super::super::registry::NotifyTarget;
use super::super::registry::StopSignal;
use super::{CRASH, ISOLATED, SHARED, TestCluster, ended, key, pid, seconds, worker};
use bgw_core::{ExitCause, RestartPolicy};

#[test]
fn the_verdict_table_holds_for_every_kind_of_end() {
    let after = RestartPolicy::After(seconds(5));
    let again = Verdict::RestartAfter(seconds(5));
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    let (exit0, exit1, exit3) = (ExitCause::Exited(0), ExitCause::Exited(1), ExitCause::Exited(3));
    let never = RestartPolicy::Never;
    // flags, policy, terminate asked, what we told it, clean-up mark, end -> verdict
    let table = [
        (ISOLATED, after, false, None, false, exit0, Verdict::Unregister),
        (SHARED, after, false, None, false, exit0, Verdict::Unregister),
        (SHARED, after, false, None, true, exit0, Verdict::Reset),
        (SHARED, after, false, None, true, exit1, Verdict::Reset),
        (ISOLATED, after, false, None, true, exit0, Verdict::Unregister),
        (ISOLATED, after, false, None, false, exit1, again),
        (SHARED, after, false, None, false, exit1, again),
        (SHARED, never, false, None, false, exit1, Verdict::Unregister),
        (SHARED, after, true, None, false, exit1, Verdict::Unregister),
        (SHARED, after, false, None, false, exit3, Verdict::Reset),
        (SHARED, never, false, None, false, CRASH, Verdict::Reset),
        (ISOLATED, after, false, None, false, exit3, again),
        (ISOLATED, after, false, None, false, CRASH, again),
        (ISOLATED, never, false, None, false, CRASH, Verdict::Unregister),
        (SHARED, after, true, Some(StopSignal::Terminate), false, exit0, Verdict::Unregister),
        (SHARED, after, true, Some(StopSignal::Kill), false, killed, Verdict::Unregister),
        (SHARED, after, true, Some(StopSignal::Kill), true, killed, Verdict::Unregister),
        (SHARED, after, true, Some(StopSignal::Terminate), false, killed, Verdict::Reset),
        (SHARED, after, true, Some(StopSignal::Terminate), false, CRASH, Verdict::Reset),
    ];
    for (row, (flags, restart, terminate, told, dirty, cause, verdict)) in
        table.into_iter().enumerate()
    {
        let mut entry = Entry::new(key(0), *worker(flags, restart), None);
        entry.terminate = terminate;
        assert_eq!(judge(&entry, cause, dirty, told), verdict, "row {row}: {cause}");
    }
}

#[test]
fn a_worker_that_exits_0_is_freed_before_its_target_is_notified() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(0));
    assert_eq!(
        cluster.exits(0, ExitCause::Exited(0)),
        [
            Action::Unregister(key(0), ended(0, ExitCause::Exited(0), 0, false)),
            Action::Notify(NotifyTarget::Session(0), News::Ended),
        ]
    );
    assert!(cluster.is_empty());
}

#[test]
fn a_failed_worker_is_restarted_after_its_interval_and_not_before() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(5));
    assert_eq!(
        cluster.exits(0, ExitCause::Exited(1))[0],
        Action::ReportStopped(key(0), ended(0, ExitCause::Exited(1), 0, false))
    );
    assert_eq!(cluster.state.next_deadline(), Some(cluster.now + seconds(5)));
    cluster.later(seconds(4));
    assert_eq!(cluster.state.next_to_start(), None);
    cluster.later(seconds(1));
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
    cluster.step(Event::Forked { key: key(0), pid: pid(0) });
    assert_eq!(cluster.state.registry().get(key(0)).unwrap().restarts, 1);
}

#[test]
fn an_interval_of_0_restarts_at_once() {
    let mut cluster = TestCluster::new();
    cluster.running(0, ISOLATED, RestartPolicy::after_secs(0));
    cluster.exits(0, ExitCause::Exited(1));
    assert_eq!(cluster.state.next_to_start(), Some(key(0)));
}

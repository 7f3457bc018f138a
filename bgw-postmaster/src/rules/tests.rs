//! The rules as tables: a cluster, a row of events, the actions that must follow.

use super::*;
use bgw_core::{RestartPolicy, WorkerFlags};

const SHARED: WorkerFlags = WorkerFlags::SHMEM_ACCESS;
const ISOLATED: WorkerFlags = WorkerFlags::empty();
const CRASH: ExitCause = ExitCause::Signaled { signal: 11, core_dumped: false };

/// A cluster with a clock of its own.
struct Stand {
    cluster: Cluster,
    now: Instant,
}

fn key(index: u32) -> Key {
    Key { index, generation: 1 }
}

fn pid(index: u32) -> Pid {
    Pid::new(1000 + index).unwrap()
}

fn worker(flags: WorkerFlags, restart: RestartPolicy) -> Box<BackgroundWorker> {
    Box::new(
        BackgroundWorker::builder("w").function("f").flags(flags).restart(restart).build().unwrap(),
    )
}

impl Stand {
    fn with(policy: Policy) -> Self {
        Self { cluster: Cluster::new(policy), now: Instant::now() }
    }

    fn new() -> Self {
        Self::with(Policy::default())
    }

    /// The actions that follow from `event`, log lines left out.
    fn step(&mut self, event: Event) -> Vec<Action> {
        let mut actions = Vec::new();
        self.cluster.step(event, self.now, &mut actions);
        actions.retain(|action| !matches!(action, Action::Log(_)));
        actions
    }

    fn register(&mut self, index: u32, worker: Box<BackgroundWorker>) -> Vec<Action> {
        let notify = Some(NotifyTarget::Session(u64::from(index)));
        self.step(Event::Registered { key: key(index), worker, notify, terminate: false })
    }

    /// Registers and starts a worker.
    fn running(&mut self, index: u32, flags: WorkerFlags, restart: RestartPolicy) {
        self.register(index, worker(flags, restart));
        assert_eq!(self.cluster.next_to_start(), Some(key(index)));
        self.step(Event::Forked { key: key(index), pid: pid(index) });
    }

    fn exits(&mut self, index: u32, cause: ExitCause) -> Vec<Action> {
        self.step(Event::ChildExited { key: key(index), cause, dirty: false })
    }

    fn later(&mut self, time: Duration) -> Vec<Action> {
        self.now += time;
        self.step(Event::Tick)
    }
}

fn ending(cause: ExitCause, restarts: u32, requested: bool) -> Ending {
    Ending { cause, restarts, requested }
}

const fn seconds(n: u64) -> Duration {
    Duration::from_secs(n)
}

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
        (SHARED, after, true, Some(Told::Terminate), false, exit0, Verdict::Unregister),
        (SHARED, after, true, Some(Told::Die), false, killed, Verdict::Unregister),
        (SHARED, after, true, Some(Told::Die), true, killed, Verdict::Unregister),
        (SHARED, after, true, Some(Told::Terminate), false, killed, Verdict::Reset),
        (SHARED, after, true, Some(Told::Terminate), false, CRASH, Verdict::Reset),
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
fn a_registered_worker_is_started_reported_and_then_told() {
    let mut stand = Stand::new();
    assert_eq!(stand.register(0, worker(ISOLATED, RestartPolicy::Never)), []);
    assert_eq!(stand.cluster.next_to_start(), Some(key(0)));
    assert_eq!(stand.cluster.next_to_start(), None);
    assert_eq!(
        stand.step(Event::Forked { key: key(0), pid: pid(0) }),
        [Action::ReportStarted(key(0), pid(0)), Action::Notify(NotifyTarget::Session(0)),]
    );
}

#[test]
fn a_worker_that_exits_0_is_freed_before_anybody_is_told() {
    let mut stand = Stand::new();
    stand.running(0, ISOLATED, RestartPolicy::after_secs(0));
    assert_eq!(
        stand.exits(0, ExitCause::Exited(0)),
        [
            Action::Unregister(key(0), ending(ExitCause::Exited(0), 0, false)),
            Action::Notify(NotifyTarget::Session(0)),
        ]
    );
    assert!(stand.cluster.registry.is_empty());
}

#[test]
fn a_failed_worker_is_restarted_after_its_interval_and_not_before() {
    let mut stand = Stand::new();
    stand.running(0, ISOLATED, RestartPolicy::after_secs(5));
    assert_eq!(
        stand.exits(0, ExitCause::Exited(1))[0],
        Action::ReportStopped(key(0), ending(ExitCause::Exited(1), 0, false))
    );
    assert_eq!(stand.cluster.next_deadline(), Some(stand.now + seconds(5)));
    stand.later(seconds(4));
    assert_eq!(stand.cluster.next_to_start(), None);
    stand.later(seconds(1));
    assert_eq!(stand.cluster.next_to_start(), Some(key(0)));
    stand.step(Event::Forked { key: key(0), pid: pid(0) });
    assert_eq!(stand.cluster.registry.get(key(0)).unwrap().restarts, 1);
}

#[test]
fn an_interval_of_0_restarts_at_once() {
    let mut stand = Stand::new();
    stand.running(0, ISOLATED, RestartPolicy::after_secs(0));
    stand.exits(0, ExitCause::Exited(1));
    assert_eq!(stand.cluster.next_to_start(), Some(key(0)));
}

#[test]
fn nothing_starts_before_its_phase() {
    let phases =
        [StartTime::PostmasterStart, StartTime::ConsistentState, StartTime::RecoveryFinished];
    for reached in phases {
        for wanted in phases {
            let mut stand = Stand::with(Policy { initial_phase: reached, ..Policy::default() });
            let worker = BackgroundWorker::builder("w").function("f").start_time(wanted).build();
            stand.register(0, Box::new(worker.unwrap()));
            let starts = stand.cluster.next_to_start().is_some();
            assert_eq!(starts, wanted <= reached, "{wanted:?} in {reached:?}");
            if !starts {
                stand.step(Event::PhaseReached(StartTime::RecoveryFinished));
                assert_eq!(stand.cluster.next_to_start(), Some(key(0)));
            }
        }
    }
}

#[test]
fn terminate_ends_a_running_worker_and_drops_any_other() {
    let mut stand = Stand::new();
    stand.running(0, ISOLATED, RestartPolicy::after_secs(5));
    assert_eq!(stand.step(Event::TerminateAsked(key(0))), [Action::Tell(key(0), Told::Terminate)]);
    assert_eq!(stand.step(Event::TerminateAsked(key(0))), [], "twice is once");
    let end = stand.exits(0, ExitCause::Exited(1));
    assert_eq!(end[0], Action::Unregister(key(0), ending(ExitCause::Exited(1), 0, true)));
    assert_eq!(stand.step(Event::TerminateAsked(key(0))), [], "after the end: nothing");

    // Waiting for its restart: unregistered at once.
    stand.running(1, ISOLATED, RestartPolicy::after_secs(5));
    stand.exits(1, ExitCause::Exited(1));
    let never = ExitCause::NotStarted(NotStarted::Terminated);
    assert_eq!(
        stand.step(Event::TerminateAsked(key(1)))[0],
        Action::Unregister(key(1), ending(never, 0, true))
    );
    assert_eq!(stand.later(seconds(9)), []);
    assert_eq!(stand.cluster.next_to_start(), None);

    // Still in the queue: never started.
    stand.register(2, worker(ISOLATED, RestartPolicy::Never));
    stand.step(Event::TerminateAsked(key(2)));
    assert_eq!(stand.cluster.next_to_start(), None);
}

#[test]
fn a_worker_that_ignores_its_end_is_killed_after_the_grace_time() {
    let grace = Some(seconds(3));
    let mut stand = Stand::with(Policy { terminate_grace: grace, ..Policy::default() });
    stand.running(0, SHARED, RestartPolicy::after_secs(5));
    stand.step(Event::TerminateAsked(key(0)));
    assert_eq!(stand.later(seconds(2)), []);
    assert_eq!(stand.later(seconds(1)), [Action::Tell(key(0), Told::Die)]);
    let killed = ExitCause::Signaled { signal: 9, core_dumped: false };
    assert_eq!(
        stand.exits(0, killed)[0],
        Action::Unregister(key(0), ending(killed, 0, true)),
        "no crash: it was ours"
    );
    assert!(!stand.cluster.crashed());
}

#[test]
fn a_crash_of_one_with_shared_state_ends_all_and_brings_back_the_restartable() {
    let mut stand = Stand::new();
    stand.running(0, SHARED, RestartPolicy::after_secs(60));
    stand.running(1, SHARED, RestartPolicy::after_secs(60));
    stand.running(2, SHARED, RestartPolicy::Never);
    let first = stand.exits(0, CRASH);
    assert_eq!(first[0], Action::ReportStopped(key(0), ending(CRASH, 0, false)));
    assert!(first.contains(&Action::Tell(key(1), Told::Quit)));
    assert!(first.contains(&Action::Tell(key(2), Told::Quit)));
    assert!(!stand.cluster.takes_registrations());

    // A second crash in the meantime is part of the same reset.
    let second = stand.exits(1, CRASH);
    assert!(!second.iter().any(|action| matches!(action, Action::Tell(..))), "{second:?}");
    let last = stand.exits(2, ExitCause::Exited(2));
    let quit = ending(ExitCause::Exited(2), 0, true);
    assert_eq!(last[0], Action::Unregister(key(2), quit), "never-restart ones are gone");
    assert_eq!(last.last(), Some(&Action::ResetShared));

    let mut actions = Vec::new();
    let mut next = 7;
    stand.cluster.rebuild(
        |_| {
            next += 1;
            Some(key(next))
        },
        &mut actions,
    );
    assert!(!stand.cluster.crashed());
    let starts = [stand.cluster.next_to_start(), stand.cluster.next_to_start()];
    assert_eq!(starts, [Some(key(8)), Some(key(9))], "at once, not after 60 s");
    let told = stand.step(Event::Forked { key: key(8), pid: pid(8) });
    assert_eq!(told, [Action::ReportStarted(key(8), pid(8))], "old notify targets are forgotten");
}

#[test]
fn those_that_do_not_quit_after_a_crash_are_killed() {
    let mut stand = Stand::new();
    stand.running(0, SHARED, RestartPolicy::Never);
    stand.running(1, ISOLATED, RestartPolicy::Never);
    stand.exits(0, CRASH);
    assert_eq!(stand.later(seconds(4)), []);
    assert_eq!(stand.later(seconds(1)), [Action::Tell(key(1), Told::Die)]);
}

#[test]
fn without_restart_after_crash_the_postmaster_ends_with_1() {
    let mut stand = Stand::with(Policy { restart_after_crash: false, ..Policy::default() });
    stand.running(0, SHARED, RestartPolicy::after_secs(0));
    stand.exits(0, CRASH);
    assert_eq!(stand.cluster.stage(), Stage::Over(1));
}

#[test]
fn a_shutdown_during_a_reset_ends_without_building_anything_anew() {
    let mut stand = Stand::new();
    stand.running(0, SHARED, RestartPolicy::after_secs(0));
    stand.running(1, SHARED, RestartPolicy::after_secs(0));
    stand.exits(0, CRASH);
    assert_eq!(stand.step(Event::ShutdownAsked(ShutdownMode::Fast)), []);
    let end = stand.exits(1, ExitCause::Exited(2));
    assert!(!end.contains(&Action::ResetShared));
    assert_eq!(stand.cluster.stage(), Stage::Over(1));
}

#[test]
fn each_shutdown_mode_does_what_its_row_says() {
    // mode, programs attached -> what a running worker is told at once
    let table = [
        (ShutdownMode::Smart, 0, Some(Told::Terminate)),
        (ShutdownMode::Smart, 1, None),
        (ShutdownMode::Fast, 1, Some(Told::Terminate)),
        (ShutdownMode::Immediate, 1, Some(Told::Quit)),
    ];
    for (mode, sessions, told) in table {
        let mut stand = Stand::new();
        for _ in 0..sessions {
            stand.step(Event::SessionOpened);
        }
        stand.running(0, SHARED, RestartPolicy::after_secs(5));
        let actions = stand.step(Event::ShutdownAsked(mode));
        let expected: Vec<Action> =
            told.map(|told| Action::Tell(key(0), told)).into_iter().collect();
        assert_eq!(actions, expected, "{mode}");
        if told.is_none() {
            // Live programs may still have workers started.
            stand.running(1, ISOLATED, RestartPolicy::Never);
            let last_gone = stand.step(Event::SessionClosed);
            assert_eq!(last_gone.len(), 2, "then both are told to end: {last_gone:?}");
            stand.exits(1, ExitCause::Exited(0));
        }
        stand.exits(0, ExitCause::Exited(1));
        assert_eq!(stand.cluster.stage(), Stage::Over(0), "{mode}");
    }
}

#[test]
fn a_stricter_shutdown_overrides_a_milder_one_and_never_the_reverse() {
    let mut stand = Stand::new();
    stand.running(0, SHARED, RestartPolicy::Never);
    stand.step(Event::ShutdownAsked(ShutdownMode::Fast));
    assert_eq!(stand.step(Event::ShutdownAsked(ShutdownMode::Smart)), []);
    assert_eq!(
        stand.step(Event::ShutdownAsked(ShutdownMode::Immediate)),
        [Action::Tell(key(0), Told::Quit)]
    );
    assert_eq!(stand.step(Event::ShutdownAsked(ShutdownMode::Fast)), []);
    assert_eq!(stand.cluster.shutdown(), Some(ShutdownMode::Immediate));
    assert_eq!(stand.later(QUIT_GRACE), [Action::Tell(key(0), Told::Die)]);
}

#[test]
fn unstarted_workers_are_released_at_shutdown_and_later_ones_are_turned_away() {
    let policy = Policy { initial_phase: StartTime::PostmasterStart, ..Policy::default() };
    let mut stand = Stand::with(policy);
    stand.running_at_start(0);
    stand.register(1, worker(ISOLATED, RestartPolicy::after_secs(5)));
    let gone = ending(ExitCause::NotStarted(NotStarted::ShuttingDown), 0, false);
    let actions = stand.step(Event::ShutdownAsked(ShutdownMode::Fast));
    assert_eq!(
        actions,
        [
            Action::Unregister(key(1), gone),
            Action::Notify(NotifyTarget::Session(1)),
            Action::Tell(key(0), Told::Terminate),
        ]
    );
    assert_eq!(
        stand.register(2, worker(ISOLATED, RestartPolicy::Never)),
        [Action::Unregister(key(2), gone), Action::Notify(NotifyTarget::Session(2))]
    );
    stand.exits(0, ExitCause::Exited(0));
    assert_eq!(stand.cluster.stage(), Stage::Over(0));
}

#[test]
fn a_failed_fork_follows_the_restart_policy_and_the_waiter_is_told() {
    let errno = libc::EAGAIN;
    let cause = ExitCause::NotStarted(NotStarted::ForkFailed { errno });
    let mut stand = Stand::new();
    stand.register(0, worker(ISOLATED, RestartPolicy::Never));
    stand.register(1, worker(ISOLATED, RestartPolicy::after_secs(2)));
    assert_eq!(stand.cluster.next_to_start(), Some(key(0)));
    assert_eq!(
        stand.step(Event::ForkFailed { key: key(0), errno }),
        [
            Action::Unregister(key(0), ending(cause, 0, false)),
            Action::Notify(NotifyTarget::Session(0)),
        ]
    );
    assert_eq!(stand.cluster.next_to_start(), Some(key(1)), "others go on being started");
    assert_eq!(
        stand.step(Event::ForkFailed { key: key(1), errno }),
        [
            Action::ReportStopped(key(1), ending(cause, 0, false)),
            Action::Notify(NotifyTarget::Session(1)),
        ]
    );
    stand.later(seconds(2));
    assert_eq!(stand.cluster.next_to_start(), Some(key(1)));
}

#[test]
fn a_failed_fork_is_no_busy_loop_even_with_interval_0() {
    let mut stand = Stand::new();
    stand.register(0, worker(ISOLATED, RestartPolicy::after_secs(0)));
    assert_eq!(stand.cluster.next_to_start(), Some(key(0)));
    stand.step(Event::ForkFailed { key: key(0), errno: libc::EAGAIN });
    assert_eq!(stand.cluster.next_deadline(), Some(stand.now + FORK_RETRY));
    stand.later(Duration::ZERO);
    assert_eq!(stand.cluster.next_to_start(), None);
    stand.later(FORK_RETRY);
    assert_eq!(stand.cluster.next_to_start(), Some(key(0)));
}

#[test]
fn a_slot_that_came_with_its_end_asked_for_is_never_listed() {
    let mut stand = Stand::new();
    let actions = stand.step(Event::Registered {
        key: key(0),
        worker: worker(ISOLATED, RestartPolicy::Never),
        notify: None,
        terminate: true,
    });
    let cause = ExitCause::NotStarted(NotStarted::Terminated);
    assert_eq!(actions, [Action::Unregister(key(0), ending(cause, 0, true))]);
    assert!(stand.cluster.registry.is_empty());
}

impl Stand {
    /// A running worker that may start in the first phase.
    fn running_at_start(&mut self, index: u32) {
        let worker = BackgroundWorker::builder("early")
            .function("f")
            .start_time(StartTime::PostmasterStart)
            .build();
        self.register(index, Box::new(worker.unwrap()));
        assert_eq!(self.cluster.next_to_start(), Some(key(index)));
        self.step(Event::Forked { key: key(index), pid: pid(index) });
    }
}

//! One run: a postmaster that meets the fault, a registrant, a waiter, and a look at who is
//! stopped.
//!
//! The process of the stage launches the postmaster and never waits for it, since it may be
//! stopped: it looks every millisecond, lets a stopped process go on after a while, and judges when
//! all have ended.

use super::fault::{Action, Fault, Party};
use super::registrant::{Registrant, wait_for_end};
use super::scenario::{SLOTS, Scenario};
use crate::actor::with_sources;
use crate::job::QUICK;
use crate::journal::{Deed, Event, Journal, Kind, NOBODY};
use crate::seen::{Cause, Seen};
use crate::{driver, invariants, oracle, pool, processes, report, round, sys, worker};
use bgw_backend::{Backend, ShutdownMode};
use bgw_postmaster::{Launched, Postmaster};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process_test::{Child, Ended, fork_child};
use shmem_slots::fault::{Traces, arm};
use std::path::Path;
use std::time::{Duration, Instant};

/// A run to be done.
#[derive(Clone, Copy)]
pub(crate) struct Stage {
    pub(crate) scenario: Scenario,
    pub(crate) fault: Option<Fault>,
    /// How many descriptors the postmaster has at the end when there is no fault.
    pub(crate) descriptors: Option<usize>,
}

/// What a run found.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Found {
    pub(crate) reached: bool,
    pub(crate) descriptors: usize,
}

/// What came of the end of a run.
struct Judged {
    killed: bool,
    descriptors: usize,
}

/// How long a stopped process stays so, while the others go on.
const PAUSE: Duration = Duration::from_millis(25);
/// A run takes some ten milliseconds; on a busy machine much longer.
const LONG: Duration = Duration::from_secs(60);
const EVENTS: usize = 1 << 14;

/// Reads what a run has left in `results`.
pub(crate) fn found(results: Journal) -> Result<Found, String> {
    let event = results.events().first().copied().ok_or("the run left no result")?;
    Ok(Found { reached: event.a == 1, descriptors: event.b as usize })
}

impl Stage {
    /// Runs in a process of its own; exits with 1 when something is broken.
    pub(crate) fn run(self, results: Journal) {
        // Workers say that they fail, and fail they shall.
        let log = tempfile::tempfile().ok();
        if let Some(log) = &log {
            let _ = nix::unistd::dup2_stderr(log);
        }
        match self.play() {
            Ok(found) => {
                let about = [u64::from(found.reached), found.descriptors as u64, 0];
                results.note(1, 0, Kind::Did, NOBODY, about);
            }
            Err(why) => {
                println!("BROKEN: {why}");
                let said = log.map(|mut log| driver::content(&mut log)).unwrap_or_default();
                for line in said.lines().rev().take(10).collect::<Vec<_>>().iter().rev() {
                    println!("  said: {line}");
                }
                sys::exit_now(1);
            }
        }
    }

    fn play(self) -> Result<Found, String> {
        sys::become_subreaper().map_err(|error| error.to_string())?;
        let folder = tempfile::tempdir().map_err(|error| error.to_string())?;
        let run = folder.path().join("run");
        let journal = Journal::new(EVENTS).map_err(|error| error.to_string())?;
        let (launched, traces) = self.launch(journal, &run)?;
        let postmaster = launched.pid().get();
        let mut players = [
            fork_child(|| self.register(journal, &run, postmaster)),
            fork_child(|| {
                self.arm(Party::Waiter, None);
                watch(journal, &run, postmaster);
            }),
        ];
        let stage = std::process::id();
        let helper = fork_child(|| let_go_on(journal, stage, postmaster));
        self.until_all_have_ended(&mut players, journal, &run, postmaster)?;
        let mut reached = players[0].wait() == Ended::Signal(Signal::SIGKILL)
            && !self.scenario.kills_registrant();
        reached |= players[1].wait() == Ended::Signal(Signal::SIGKILL);
        for (player, name) in players.iter_mut().zip(["registrant", "waiter"]) {
            match player.wait() {
                Ended::Code(0) | Ended::Signal(Signal::SIGKILL) => {}
                ended => return Err(format!("the {name} ended by {ended:?}")),
            }
        }
        let judged = self.judge(&launched, journal, &run, helper)?;
        reached |= judged.killed || traces.any();
        reached |= journal.events().iter().any(shows_the_fault);
        Ok(Found { reached, descriptors: judged.descriptors })
    }

    /// The calling process meets the fault of `party`, and `also`.
    fn arm(self, party: Party, also: Option<&str>) -> Traces {
        let fault = self.fault.filter(|fault| fault.party == party).map(|fault| {
            let action = if fault.action == Action::Kill { "kill" } else { "stop" };
            format!("{}={action}", fault.point)
        });
        arm(&[fault.as_deref(), also].map(Option::unwrap_or_default).join(";"))
    }

    fn launch(self, journal: Journal, run: &Path) -> Result<(Launched, Traces), String> {
        let builder = Postmaster::builder()
            .runtime_dir(run)
            .max_workers(SLOTS)
            .max_parallel_workers(SLOTS)
            .terminate_grace(Duration::from_secs(5));
        let outputs = run.with_file_name("outputs");
        let builder = self.scenario.configure(
            worker::functions(builder, journal, self.scenario == Scenario::Reused),
            journal,
            &outputs,
        );
        let mut postmaster = builder.build().map_err(|error| with_sources(&error))?;
        if let Some(worker) = self.scenario.static_worker() {
            postmaster.register(worker).map_err(|error| with_sources(&error))?;
        }
        let traces = self.arm(Party::Cluster, None);
        let launched = postmaster.launch().map_err(|error| with_sources(&error))?;
        arm("");
        Ok((launched, traces))
    }

    fn register(self, journal: Journal, run: &Path, postmaster: u32) {
        self.arm(Party::Registrant, self.scenario.own_fault());
        let Some(backend) = connect(run, postmaster) else { return };
        if let Err(error) = backend.enable_notifications() {
            println!("BROKEN: notifications: {error}");
            journal.broke(1, NOBODY);
        }
        // Gone: the postmaster has died, and what must be broken is printed.
        let faulty = self.fault.is_some();
        let folder = run.to_owned();
        let _ = self.scenario.act(&Registrant { backend, journal, faulty, folder });
    }

    /// The players come to an end, whoever is stopped or killed.
    fn until_all_have_ended(
        self,
        players: &mut [Child; 2],
        journal: Journal,
        run: &Path,
        postmaster: u32,
    ) -> Result<(), String> {
        let began = Instant::now();
        let mut heir = None;
        loop {
            let registrant_ended = players[0].try_wait().is_some();
            if registrant_ended {
                // Nothing comes any more that the waiter could wait for.
                journal.stop();
            }
            if registrant_ended && players[1].try_wait().is_some() {
                // An heir that still tries to connect is ended with this value.
                return Ok(());
            }
            if registrant_ended && heir.is_none() {
                // What it has left runs until somebody terminates it.
                heir = Some(fork_child(|| {
                    if let Some(backend) = connect(run, postmaster) {
                        let _ = round::end_all(&backend, journal, 2);
                    }
                }));
            }
            if began.elapsed() > LONG {
                let tree = report::hang(std::process::id());
                return Err(format!("the players do not come to an end\n{tree}"));
            }
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// The invariants, with a postmaster that lives or has died, and the oracle.
    fn judge(
        self,
        launched: &Launched,
        journal: Journal,
        run: &Path,
        helper: Child,
    ) -> Result<Judged, String> {
        let mut judged = Judged { killed: false, descriptors: 0 };
        // The fault may wait for it here, too.
        let mut served = Ok(0);
        if self.scenario != Scenario::Shutdown && !is_dead(launched.pid().get()) {
            served = self.serves(launched, journal, run);
        }
        if served.is_ok() {
            launched.shutdown(ShutdownMode::Fast).map_err(|error| error.to_string())?;
        }
        journal.note(journal.ticket(), 0, Kind::Did, NOBODY, [Deed::Ended as u64, 0, 0]);
        match served {
            Ok(descriptors) => judged.descriptors = descriptors,
            Err(_) if dies(launched.pid().get()) => {}
            Err(why) => return Err(why),
        }
        judged.killed = invariants::ends_or_was_killed(launched)?;
        drop(helper);
        invariants::nothing_is_left("the postmaster's end")?;
        if judged.killed {
            a_new_one_serves(run, journal)?;
        }
        if journal.broken() > 0 {
            return Err("see the line before".to_owned());
        }
        let events = journal.events();
        if let Some(job) = pool::ran_twice(&events) {
            return Err(format!("job {job} of the pool ran twice"));
        }
        let verdict = oracle::judge_with_faults(&events, false);
        report::print(&events, &verdict);
        if verdict.violations.is_empty() {
            return Ok(judged);
        }
        Err("see the lines before".to_owned())
    }

    /// A postmaster that lives: nothing is registered any more, every slot takes a worker, and it
    /// has no process and no descriptor too many.
    fn serves(self, launched: &Launched, journal: Journal, run: &Path) -> Result<usize, String> {
        let postmaster = launched.pid().get();
        let backend = Backend::connect(run).map_err(|error| with_sources(&error))?;
        round::end_all(&backend, journal, 2)?;
        invariants::every_slot_is_free(&backend, journal, 2, SLOTS, false, true)?;
        invariants::every_slot_is_free(&backend, journal, 2, SLOTS, true, true)?;
        round::all_have_ended(&backend, journal)?;
        if self.scenario.template().is_some() {
            invariants::template_serves(&backend, journal, 2)?;
        }
        let now = || processes::descriptors(postmaster);
        let companions = self.scenario.companions();
        invariants::until("the postmaster has its spares and no other child", || {
            let children = processes::children(postmaster);
            // One that a template forks is its child before it has opened a pidfd of it.
            let watched = processes::watched(postmaster);
            let all_are_watched = children.iter().all(|child| watched.contains(&child.pid));
            let right = companions.contains(&children.len()) && all_are_watched;
            if right {
                Ok(())
            } else {
                Err(format!("{children:?}, of which it watches {watched:?}"))
            }
        })?;
        if let Some(before) = self.descriptors {
            invariants::until("the postmaster has closed what it opened", || {
                // One that rests, or does not rest any more, has two.
                let may_differ = 2 * self.scenario.resting();
                let right = now().abs_diff(before) <= may_differ;
                if right { Ok(()) } else { Err(format!("{} of {before}", now())) }
            })?;
        }
        Ok(now())
    }
}

/// True when somebody was stopped, or a worker was killed.
fn shows_the_fault(event: &Event) -> bool {
    match (event.kind, Seen::decode(event.a, event.b)) {
        (Kind::Did, _) => event.a == Deed::FoundStopped as u64,
        (Kind::Saw, Seen::Stopped(Some(report))) => report.cause == Cause::Signaled(9),
        _ => false,
    }
}

/// Waits for the first worker that is registered, from its start to its end.
fn watch(journal: Journal, run: &Path, postmaster: u32) {
    let Some(backend) = connect(run, postmaster) else { return };
    let until = Instant::now() + Duration::from_secs(5);
    let handle = loop {
        let over = journal.is_stopped();
        if let Some(first) = (0..journal.len()).rev().find_map(|back| journal.recent(back)) {
            break backend.handle(first);
        }
        // The registrant has died before, or the postmaster has.
        if Instant::now() > until || !backend.postmaster_is_alive() || over {
            return;
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    // Once it gives up before.
    let _ = handle.wait_for_end_timeout(Duration::from_micros(100));
    if let Err(why) = wait_for_end(journal, &handle, 0) {
        println!("BROKEN: the waiter: {why}");
        journal.broke(3, handle.id());
    }
}

/// Attaches as soon as the postmaster listens; none when it has died.
fn connect(run: &Path, postmaster: u32) -> Option<Backend> {
    let until = Instant::now() + LONG;
    loop {
        match Backend::connect(run) {
            Ok(backend) => return Some(backend),
            Err(_) if is_dead(postmaster) => return None,
            Err(error) if Instant::now() > until => {
                println!("BROKEN: attaching: {}", with_sources(&error));
                return None;
            }
            Err(_) => std::thread::sleep(Duration::from_millis(1)),
        }
    }
}

/// Others see the end of its connections a moment before it is dead.
fn dies(pid: u32) -> bool {
    let until = Instant::now() + Duration::from_secs(2);
    while !is_dead(pid) && Instant::now() < until {
        std::thread::sleep(Duration::from_millis(1));
    }
    is_dead(pid)
}

fn is_dead(pid: u32) -> bool {
    processes::read(pid).is_none_or(|process| process.state == 'Z')
}

/// Looks for processes that are stopped, and lets each go on after a while.
fn let_go_on(journal: Journal, stage: u32, postmaster: u32) {
    loop {
        let all = processes::children(stage).into_iter().chain(processes::children(postmaster));
        let meant = |pid: u32| {
            let stops = |event: &Event| event.kind == Kind::Signalled && event.a == u64::from(pid);
            journal.events().iter().any(stops)
        };
        for process in all.filter(|process| process.state == 'T' && !meant(process.pid)) {
            journal.note(journal.ticket(), 4, Kind::Did, NOBODY, [Deed::FoundStopped as u64, 0, 0]);
            std::thread::sleep(PAUSE);
            let _ = kill(Pid::from_raw(process.pid as i32), Signal::SIGCONT);
        }
        std::thread::sleep(Duration::from_micros(500));
    }
}

/// The folder is free, and the next postmaster serves there.
fn a_new_one_serves(run: &Path, journal: Journal) -> Result<(), String> {
    let mut built = None;
    invariants::until("the next postmaster gets the folder", || {
        let builder = worker::functions(Postmaster::builder().runtime_dir(run), journal, false);
        built = Some(builder.build().map_err(|error| with_sources(&error))?);
        Ok(())
    })?;
    let Some(postmaster) = built else { return Ok(()) };
    let mut next = postmaster.launch().map_err(|error| with_sources(&error))?;
    let control = next.take_control().ok_or("there is no control socket")?;
    let backend = Backend::over(control).map_err(|error| with_sources(&error))?;
    let worker = QUICK.describe(None).map_err(|error| error.to_string())?;
    let handle = backend.register(&worker).map_err(|error| with_sources(&error))?;
    let aside = Journal::new(64).map_err(|error| error.to_string())?;
    wait_for_end(aside, &handle, 0)?;
    next.shutdown(ShutdownMode::Fast).map_err(|error| error.to_string())?;
    invariants::ends(&next, "the next postmaster", false)
}

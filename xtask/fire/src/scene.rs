//! One server and its load, through all phases.

use crate::clock::now;
use crate::load::{Load, Plan};
use crate::phase::Phase;
use crate::process;
use crate::report::{Facts, Outcome, Report, complaint};
use crate::request::Request;
use crate::server::{Kind, Server, a_free_address};
use crate::verdict::Death;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::collections::BTreeSet;
use std::error::Error;
use std::time::Duration;
use std::{io, thread};

/// How often a server is looked at.
const LOOK: Duration = Duration::from_millis(5);
/// A death is seen at most so much later.
const SEEN_LATE: Duration = Duration::from_millis(30);
/// What follows a phase, under load: its last requests end in it.
const TAIL: Duration = Duration::from_millis(300);
/// How long a server may take to have all its workers again. Ours may pause for 30 s before it
/// starts one that has failed again and again.
const RECOVERY: Duration = Duration::from_secs(45);
/// How long a hung worker is waited for.
const HANG: Duration = Duration::from_secs(10);

/// How much of what.
#[derive(Clone, Debug)]
pub(crate) struct Settings {
    pub(crate) seconds: Duration,
    pub(crate) crash: Duration,
    pub(crate) kill_every: Duration,
    pub(crate) rate: u32,
    pub(crate) kept: usize,
    pub(crate) workers: usize,
    pub(crate) patience: Duration,
    pub(crate) phases: Vec<Phase>,
}

impl Settings {
    /// What the issue of this program asks for. All phases if `only` names none.
    pub(crate) fn new(seconds: Duration, only: &[Phase]) -> Self {
        let all = Phase::ALL.into_iter();
        Self {
            seconds,
            crash: Duration::from_secs(10),
            kill_every: Duration::from_secs(1),
            rate: 800,
            kept: 32,
            workers: 4,
            patience: Duration::from_secs(3),
            phases: all.filter(|phase| only.is_empty() || only.contains(phase)).collect(),
        }
    }

    /// Short, and for machines that have other work.
    pub(crate) fn quick(self) -> Self {
        Self {
            seconds: Duration::from_secs(2),
            crash: Duration::from_secs(2),
            kill_every: Duration::from_millis(600),
            rate: 200,
            patience: Duration::from_secs(20),
            ..self
        }
    }
}

/// Takes a server through all phases that it can go through.
pub(crate) fn play(kind: &Kind, settings: &Settings) -> Result<Outcome, Box<dyn Error>> {
    println!("== {} ==", kind.name());
    let plan = Plan {
        address: a_free_address()?,
        rate: settings.rate,
        kept: settings.kept,
        patience: settings.patience,
    };
    let mut outcome = Outcome { kind: kind.clone(), reports: Vec::new(), complaints: Vec::new() };
    let mut running: Option<(Server, Phase)> = None;
    let mut load: Option<Load> = None;
    let mut requests = Vec::new();
    let mut begin = now();
    for phase in &settings.phases {
        if let Some(why) = kind.lacks(*phase) {
            println!("{phase}: not possible, {why}");
            continue;
        }
        if *phase == Phase::NoneStarts {
            drop(running.take());
            requests.extend(load.take().map_or(Ok(Vec::new()), Load::stop)?);
            outcome.reports.push(none_starts(kind, settings, plan)?);
            continue;
        }
        let fits = running.as_mut().is_some_and(|(server, started_for)| {
            !server.has_ended() && !kind.has_flags(*phase) && !kind.has_flags(*started_for)
        });
        if !fits {
            drop(running.take());
            let address = Some(plan.address);
            let server = Server::start(kind, settings.workers, address, *phase)?;
            running = Some((server, *phase));
            begin = now();
        }
        let Some((server, _)) = &mut running else { return Err("no server runs".into()) };
        let load = match &load {
            Some(load) => load,
            None => load.insert(Load::begin(plan)?),
        };
        let facts = Scene::new(settings, server, load).play(*phase)?;
        let spoilt = facts.crippled || facts.still_hung > 0;
        let end = now();
        println!("{phase}: {:.1} s", (end - begin).as_secs_f64());
        outcome.reports.push(Report::of(*phase, facts, begin, end));
        begin = end;
        if spoilt {
            // What is left of it says nothing about the next phase.
            drop(running.take());
        }
    }
    drop(running);
    requests.extend(load.map_or(Ok(Vec::new()), Load::stop)?);
    // A request that was begun in one phase may end in the next.
    let deaths = outcome.reports.iter().flat_map(|report| report.facts.deaths.clone());
    let deaths: Vec<Death> = deaths.collect();
    for report in &mut outcome.reports {
        report.judge(&requests, &deaths);
        outcome.complaints.extend(complaint(report));
    }
    Ok(outcome)
}

/// The phase without load: nobody could answer.
fn none_starts(kind: &Kind, settings: &Settings, plan: Plan) -> Result<Report, Box<dyn Error>> {
    let phase = Phase::NoneStarts;
    let begin = now();
    let mut server = Server::start(kind, settings.workers, Some(plan.address), phase)?;
    let mut facts = Facts::default();
    while now() < begin + settings.crash && facts.gone.is_none() {
        // The last time that it can be read.
        facts.cpu = server.cpu().or(facts.cpu);
        if server.has_ended() {
            facts.gone = Some(now() - begin);
        }
        thread::sleep(LOOK);
    }
    let end = now();
    facts.boots = server.boots();
    facts.logged = server.log_len();
    println!("{phase}: {:.1} s", (end - begin).as_secs_f64());
    Ok(Report::of(phase, facts, begin, end))
}

/// A phase in progress.
struct Scene<'a> {
    settings: &'a Settings,
    server: &'a mut Server,
    load: &'a Load,
    begin: Duration,
    facts: Facts,
    /// The workers of the last look.
    workers: BTreeSet<i32>,
    /// Whether workers that disappear have died unasked.
    expects_deaths: bool,
    /// Whether the workers' memory is of interest.
    weighs: bool,
}

impl<'a> Scene<'a> {
    fn new(settings: &'a Settings, server: &'a mut Server, load: &'a Load) -> Self {
        let workers = server.workers().into_iter().collect();
        let facts = Facts::default();
        let (expects_deaths, weighs) = (false, false);
        Self { settings, server, load, begin: now(), facts, workers, expects_deaths, weighs }
    }

    fn play(mut self, phase: Phase) -> Result<Facts, Box<dyn Error>> {
        let (cpu, logged) = (self.server.cpu(), self.server.log_len());
        let end = self.begin + self.settings.seconds;
        match phase {
            Phase::Quiet => self.watch(end),
            Phase::Kill => self.kill_workers(end)?,
            Phase::Crash => self.fail_starts()?,
            Phase::Hang => self.hang(1),
            Phase::HangAll => self.hang(self.settings.workers),
            Phase::Leak => {
                self.weighs = true;
                self.load.leak(true);
                // The limit takes some time to reach.
                self.watch(end + self.settings.seconds);
                self.load.leak(false);
            }
            Phase::Roll => self.replace_all()?,
            Phase::Reload => {
                for quarter in 1..4 {
                    self.watch(self.begin + self.settings.seconds / 4 * quarter);
                    self.server.reload()?;
                }
                self.watch(end);
            }
            Phase::Stop => {
                self.watch(self.begin + self.settings.seconds / 2);
                self.stop()?;
            }
            Phase::NoneStarts => return Err("it is no scene".into()),
        }
        if phase != Phase::Stop && self.facts.gone.is_none() {
            self.recover();
            self.watch(now() + TAIL);
        }
        self.facts.boots = self.server.boots();
        self.facts.boots.retain(|boot| boot.at >= self.begin);
        let used = |after: Duration| after.saturating_sub(cpu.unwrap_or_default());
        self.facts.cpu = self.facts.cpu.map(used);
        self.facts.logged = self.server.log_len() - logged;
        Ok(self.facts)
    }

    /// Looks at the server until then, or until it has ended.
    fn watch(&mut self, until: Duration) {
        while self.facts.gone.is_none() && now() < until {
            self.look();
            thread::sleep(LOOK);
        }
    }

    fn look(&mut self) {
        self.facts.cpu = self.server.cpu().or(self.facts.cpu);
        if self.server.has_ended() {
            self.facts.gone = Some(now() - self.begin);
        }
        let workers: BTreeSet<i32> = self.server.workers().into_iter().collect();
        let seen = now();
        for death in self.facts.deaths.iter_mut().filter(|death| death.seen.is_none()) {
            death.seen = (!workers.contains(&death.pid)).then_some(seen);
        }
        if self.expects_deaths {
            let (at, seen) = (seen.saturating_sub(SEEN_LATE), Some(seen));
            let died = self.workers.difference(&workers);
            self.facts.deaths.extend(died.map(|pid| Death { at, seen, pid: *pid }));
        }
        if self.weighs {
            let memory = workers.iter().filter_map(|pid| process::anonymous_memory(*pid));
            self.facts.peak = memory.max().unwrap_or(0).max(self.facts.peak);
        }
        self.workers = workers;
    }

    /// Waits until the server has all its workers again.
    fn recover(&mut self) {
        let deadline = now() + RECOVERY;
        let wanted = self.settings.workers;
        while self.server.workers().len() < wanted && self.facts.gone.is_none() {
            if now() > deadline {
                self.facts.crippled = true;
                return;
            }
            self.look();
            thread::sleep(LOOK);
        }
    }

    fn kill_the_oldest(&mut self) -> io::Result<()> {
        if let Some(pid) = self.server.workers().first().copied() {
            self.facts.deaths.push(Death { at: now(), seen: None, pid });
            kill(Pid::from_raw(pid), Signal::SIGKILL)?;
        }
        Ok(())
    }

    fn kill_workers(&mut self, end: Duration) -> io::Result<()> {
        let mut next = self.begin + self.settings.kill_every;
        while next < end && self.facts.gone.is_none() {
            self.watch(next);
            self.kill_the_oldest()?;
            next += self.settings.kill_every;
        }
        self.watch(end);
        Ok(())
    }

    fn fail_starts(&mut self) -> io::Result<()> {
        self.server.fail_starts(true)?;
        self.kill_the_oldest()?;
        self.watch(now() + self.settings.crash);
        self.server.fail_starts(false)
    }

    fn hang(&mut self, workers: usize) {
        self.expects_deaths = true;
        let before = self.load.hung().len();
        for _ in 0..workers {
            self.load.hang();
            // One after the other: each takes a worker of its own.
            self.watch(now() + Duration::from_millis(40));
        }
        let deadline = now() + HANG;
        while self.load.hung().len() < before + workers && now() < deadline {
            self.watch(now() + LOOK);
        }
        let hung = self.load.hung();
        self.facts.hung = hung[before..].iter().map(Request::latency).collect();
        self.facts.still_hung = workers - self.facts.hung.len();
        self.watch(now() + TAIL);
    }

    fn replace_all(&mut self) -> Result<(), Box<dyn Error>> {
        let old = self.server.workers();
        let asked = now();
        self.server.replace_all()?;
        let deadline = asked + RECOVERY;
        while now() < deadline && self.facts.gone.is_none() {
            let workers = self.server.workers();
            if !old.iter().any(|pid| workers.contains(pid)) {
                self.facts.replaced = Some(now() - asked);
                return Ok(());
            }
            self.watch(now() + LOOK);
        }
        self.facts.crippled = true;
        Ok(())
    }

    fn stop(&mut self) -> io::Result<()> {
        let asked = now();
        self.server.ask_to_stop()?;
        self.facts.crippled = !self.server.await_end();
        self.facts.stopped = Some((asked, now() - asked));
        Ok(())
    }
}

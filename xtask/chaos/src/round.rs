//! One round: a cluster, crews of actors that use it, crews killed and replaced, then quiet, then
//! the invariants, then an end of the cluster in one of four ways.
//!
//! A round runs in a process of its own, which has one thread, so that it may fork.

use crate::actor::{HUNG, with_sources};
use crate::crew::{Crew, Plan, mix};
use crate::invariants::{self, Baseline};
use crate::job::{Job, pick};
use crate::journal::{Deed, Journal, Kind, NOBODY};
use crate::seen::Seen;
use crate::{hostile, oracle, pool, processes, report, sys, worker};
use bgw_backend::{Backend, Pool, PoolOptions, ShutdownMode, WorkerStatus};
use bgw_postmaster::{Launched, Postmaster, Template};
use nix::sys::signal::{Signal, kill};
use process_test::{Child, Ended, Stranger};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use std::time::{Duration, Instant};

/// So many slots that one is always free. With fewer, claims may take ends that nobody has read.
const ROOMY: u32 = 4096;

/// What a round is like.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Settings {
    pub(crate) seed: u64,
    /// Actors, over all processes.
    pub(crate) actors: u32,
    pub(crate) time: Duration,
    pub(crate) hostile: bool,
}

/// Processes full of actors; two more have one actor each.
const CREWS: u32 = 6;
const LONE: u32 = 2;
const EVENTS: usize = 1 << 20;
/// A worker that ignores SIGTERM is killed after so long.
const GRACE: Duration = Duration::from_millis(300);

/// The supervisor's number among those who write into the journal.
const SUPERVISOR: u32 = 0x00ff_ffff;

struct Round {
    settings: Settings,
    journal: Journal,
    random: StdRng,
    launched: Launched,
    backend: Backend,
    /// Kept open until the end, so that its segment stays.
    pool: Option<Pool<u64, u64>>,
    folder: tempfile::TempDir,
    slots: u32,
    parallel: u32,
    spares: usize,
    /// How many processes may sleep that have had a worker.
    used: usize,
    crews: Vec<Crew>,
    attackers: Vec<Child>,
    stranger: Option<Stranger>,
    killed: u32,
    attacks: u32,
}

/// Runs a round and prints what it found. True when nothing is broken.
pub(crate) fn run(settings: Settings) -> Result<bool, String> {
    sys::become_subreaper().map_err(|error| format!("becoming a subreaper failed: {error}"))?;
    let mut round = Round::begin(settings)?;
    let baseline = Baseline::take(&round.backend, round.spares, round.used)?;
    round.busy()?;
    if settings.hostile {
        round.survives(&baseline)?;
        round.stranger = None;
        let (slots, attacks) = (round.slots, round.attacks);
        let way = round.end()?;
        println!("{slots} slots: {attacks} attacks, ended by {way}");
        return Ok(true);
    }
    round.quiet()?;
    round.invariants(&baseline)?;
    let events = round.journal.events();
    if let Some(job) = pool::ran_twice(&events) {
        return Err(format!("job {job} of the pool ran twice"));
    }
    let verdict = oracle::judge(&events, round.slots == ROOMY);
    let refused = round.journal.refused();
    let (slots, spares, killed) = (round.slots, round.spares, round.killed);
    let kind = if round.used > 0 { "used again" } else { "spares" };
    let broken = round.journal.broken();
    let resets = report::resets(&events);
    let way = round.end()?;
    println!(
        "{slots} slots, {spares} {kind}: {} registered, {refused} refused, {resets} resets, {killed} crews killed, \
         {} ends looked at ({} lost), ended by {way}",
        verdict.registered, verdict.first_looks, verdict.ends_lost
    );
    report::print(&events, &verdict);
    Ok(broken == 0 && verdict.violations.is_empty())
}

impl Round {
    fn begin(settings: Settings) -> Result<Self, String> {
        let mut random = StdRng::seed_from_u64(settings.seed);
        let journal = Journal::new(EVENTS).map_err(|error| format!("no journal: {error}"))?;
        let folder = tempfile::tempdir().map_err(|error| format!("no folder: {error}"))?;
        let slots = pick(&mut random, &[(1, 4), (2, 16), (2, 64), (2, ROOMY)]);
        let parallel = random.random_range(0..6);
        let spares = pick(&mut random, &[(2, 0), (1, 2), (1, 6)]);
        let builder = Postmaster::builder()
            .runtime_dir(folder.path().join("run"))
            .max_workers(slots)
            .max_parallel_workers(parallel)
            .max_sessions(2048)
            .warm_spares(spares)
            .direct_starts(pick(&mut random, &[(1, false), (1, true)]))
            .terminate_grace(GRACE);
        let builder = worker::template(pool::functions(builder, journal), Template::new());
        let reusable = random.random_ratio(1, 2);
        let postmaster = worker::functions(builder, journal, reusable).build();
        let postmaster = postmaster.map_err(|error| with_sources(&error))?;
        let stranger = settings.hostile.then(Stranger::new);
        let mut launched = postmaster.launch().map_err(|error| with_sources(&error))?;
        let control = launched.take_control().ok_or("there is no control socket")?;
        let backend = Backend::over(control).map_err(|error| with_sources(&error))?;
        let pool = if settings.hostile { None } else { Some(create_pool(&backend, journal)?) };
        let (crews, attackers) = (Vec::new(), Vec::new());
        Ok(Self {
            settings,
            journal,
            random,
            launched,
            backend,
            pool,
            folder,
            slots,
            parallel,
            spares,
            used: if reusable { spares } else { 0 },
            crews,
            attackers,
            stranger,
            killed: 0,
            attacks: 0,
        })
    }

    fn run_folder(&self) -> std::path::PathBuf {
        self.folder.path().join("run")
    }

    fn start_crew(&mut self, place: u32, life: u32) {
        let share = self.settings.actors.saturating_sub(LONE) / CREWS;
        let threads = if place < CREWS { share.max(2) } else { 1 };
        let plan = Plan { seed: self.settings.seed, threads };
        let folder = self.run_folder();
        self.crews.push(Crew::start(self.journal, &folder, plan, place, life));
    }

    /// Crews act; the supervisor kills and replaces some and stops the postmaster for moments.
    fn busy(&mut self) -> Result<(), String> {
        self.journal.go();
        let all = if self.settings.actors <= 4 { LONE } else { CREWS + LONE };
        for place in (CREWS + LONE - all)..CREWS + LONE {
            self.start_crew(place, 0);
        }
        let until = Instant::now() + self.settings.time;
        while Instant::now() < until {
            let pause = self.random.random_range(2..40);
            std::thread::sleep(Duration::from_millis(pause));
            if self.journal.broken() > 0 && !self.settings.hostile || self.journal.is_nearly_full()
            {
                break;
            }
            match self.random.random_range(0..100) {
                0..4 => self.kill_crew()?,
                4..10 => self.stop_postmaster(),
                10..14 => self.ping()?,
                14..50 if self.settings.hostile => self.attack(),
                14..16 => self.kill_template(),
                _ => {}
            }
        }
        Ok(())
    }

    fn kill_crew(&mut self) -> Result<(), String> {
        let place = self.random.random_range(0..self.crews.len());
        let mut crew = self.crews.swap_remove(place);
        crew.process.kill(Signal::SIGKILL);
        let ended = crew.process.wait();
        if ended != Ended::Signal(Signal::SIGKILL) {
            return Err(format!("crew {} ended early: {ended:?}", crew.place));
        }
        self.did(Deed::KilledActor);
        self.killed += 1;
        self.start_crew(crew.place, crew.life + 1);
        Ok(())
    }

    fn stop_postmaster(&mut self) {
        let pid = raw(self.launched.pid());
        let _ = kill(pid, Signal::SIGSTOP);
        self.did(Deed::StoppedPostmaster);
        let pause = self.random.random_range(0..15);
        std::thread::sleep(Duration::from_millis(pause));
        let _ = kill(pid, Signal::SIGCONT);
    }

    /// Its workers wait for its successor, or are told.
    fn kill_template(&self) {
        let mut all = processes::children(self.launched.pid().get()).into_iter();
        let template = all.find(|child| processes::title(child.pid).starts_with("bgw template"));
        let Some(template) = template else { return };
        // Before it happens: what follows from it may be seen at once.
        self.did(Deed::KilledTemplate);
        let _ = kill(nix::unistd::Pid::from_raw(template.pid as i32), Signal::SIGKILL);
    }

    fn attack(&mut self) {
        self.journal.be_hostile();
        self.attacks += 1;
        self.attackers.retain_mut(|child| child.try_wait().is_none());
        let stranger = self.stranger.as_ref().map_or(1, |stranger| stranger.pid().as_raw());
        let seed = mix(self.settings.seed, self.random.random());
        let folder = self.run_folder();
        self.attackers.push(hostile::attack(&folder, seed, stranger.unsigned_abs()));
    }

    /// What must hold although slots may say anything: the postmaster serves, has closed what it
    /// opened, and has signalled nobody else. Waits of actors may hang, so they are killed.
    fn survives(&mut self, baseline: &Baseline) -> Result<(), String> {
        self.crews.clear();
        self.attackers.clear();
        self.ping()?;
        if !self.stranger.as_mut().is_none_or(Stranger::answers) {
            return Err(
                "a process that has nothing to do with the cluster was signalled".to_owned()
            );
        }
        baseline.no_zombies()?;
        baseline.descriptors_hold()
    }

    fn ping(&self) -> Result<(), String> {
        let answer = self.backend.ping();
        answer.map_err(|error| format!("the postmaster does not answer: {}", with_sources(&error)))
    }

    fn did(&self, deed: Deed) {
        self.journal.note(
            self.journal.ticket(),
            SUPERVISOR,
            Kind::Did,
            NOBODY,
            [deed as u64, 0, 0],
        );
    }

    /// All actors come to an end, and what the killed ones have left is terminated.
    fn quiet(&mut self) -> Result<(), String> {
        self.journal.stop();
        let until = Instant::now() + HUNG * 2;
        while let Some(crew) = self.crews.last_mut() {
            match crew.process.try_wait() {
                Some(Ended::Code(0)) => drop(self.crews.pop()),
                Some(ended) => return Err(format!("crew {} ended by {ended:?}", crew.place)),
                None if Instant::now() > until => {
                    let pid = crew.process.pid().as_raw().unsigned_abs();
                    return Err(format!("crew {} hangs\n{}", crew.place, report::hang(pid)));
                }
                None => std::thread::sleep(Duration::from_millis(2)),
            }
        }
        end_all(&self.backend, self.journal, SUPERVISOR)
    }

    fn invariants(&mut self, baseline: &Baseline) -> Result<(), String> {
        self.ping()?;
        invariants::template_serves(&self.backend, self.journal, SUPERVISOR)?;
        invariants::every_slot_is_free(
            &self.backend,
            self.journal,
            SUPERVISOR,
            self.slots,
            false,
            false,
        )?;
        invariants::every_slot_is_free(
            &self.backend,
            self.journal,
            SUPERVISOR,
            self.parallel,
            true,
            false,
        )?;
        all_have_ended(&self.backend, self.journal)?;
        invariants::no_orphans(self.launched.pid().get())?;
        baseline.holds()
    }

    /// Ends the cluster while workers run, and waits until nothing of it is left.
    fn end(mut self) -> Result<&'static str, String> {
        let jobs: Vec<Job> = (0..3).map(|_| Job::draw(&mut self.random)).collect();
        let mut handles = Vec::new();
        for job in jobs {
            let worker = job.describe(None).map_err(|error| error.to_string())?;
            // Of a full class, or in a reset, there is none.
            handles.extend(self.backend.register(&worker));
        }
        let pause = self.random.random_range(0..20);
        std::thread::sleep(Duration::from_millis(pause));
        self.did(Deed::Ended);
        let way = self.random.random_range(0..4);
        let (name, mode) = [
            ("a fast shutdown", Some(ShutdownMode::Fast)),
            ("a smart shutdown", Some(ShutdownMode::Smart)),
            ("an immediate shutdown", Some(ShutdownMode::Immediate)),
            ("SIGKILL", None),
        ][way];
        match mode {
            Some(mode) => self.launched.shutdown(mode).map_err(|error| error.to_string())?,
            None => kill(raw(self.launched.pid()), Signal::SIGKILL).map_err(|e| e.to_string())?,
        }
        // A smart shutdown waits for attached programs before it terminates workers.
        let waits = mode != Some(ShutdownMode::Smart) && !self.settings.hostile;
        for handle in handles.iter().filter(|_| waits) {
            match handle.wait_for_end_timeout(HUNG) {
                Ok(WorkerStatus::Stopped(_) | WorkerStatus::PostmasterDied) => {}
                other => {
                    let tree = report::hang(std::process::id());
                    return Err(format!("{name}: {handle} is {other:?}\n{tree}"));
                }
            }
        }
        drop((handles, self.pool, self.backend));
        invariants::ends(&self.launched, name, mode.is_none())?;
        invariants::nothing_is_left(name)?;
        Ok(name)
    }
}

/// A pool of two workers at most, which start when jobs wait.
fn create_pool(backend: &Backend, journal: Journal) -> Result<Pool<u64, u64>, String> {
    let options = PoolOptions::new(pool::FUNCTION).workers(0..=2).queue(64);
    let options = options.launch_interval(Duration::from_millis(2));
    let pool = backend.create_pool(&options).map_err(|error| with_sources(&error))?;
    journal.set_pool(pool.handle());
    Ok(pool)
}

/// Terminates whatever is registered, until nothing is.
pub(crate) fn end_all(backend: &Backend, journal: Journal, who: u32) -> Result<(), String> {
    let until = Instant::now() + HUNG;
    loop {
        let left = backend.workers();
        if left.is_empty() {
            return Ok(());
        }
        if !backend.postmaster_is_alive() {
            return Err(format!("the postmaster has died, and leaves {left:?}"));
        }
        for info in &left {
            let handle = backend.handle(info.handle);
            let begin = journal.ticket();
            handle.terminate().map_err(|error| with_sources(&error))?;
            journal.note(begin, who, Kind::Terminated, info.handle, [0; 3]);
        }
        if Instant::now() > until {
            let pid = backend.postmaster().get();
            return Err(format!("workers stay: {left:?}\n{}", report::hang(pid)));
        }
        std::thread::sleep(Duration::from_millis(3));
    }
}

/// Every handle says so that was given out since the last reset.
pub(crate) fn all_have_ended(backend: &Backend, journal: Journal) -> Result<(), String> {
    let events = journal.events();
    let registered = || events.iter().filter(|event| event.kind == Kind::Registered);
    let last = registered().max_by_key(|event| event.end).map(|event| event.handle.incarnation());
    for event in registered().filter(|event| Some(event.handle.incarnation()) == last) {
        let seen = Seen::of(&backend.handle(event.handle).status());
        if !seen.is_final() {
            return Err(format!("{} is {seen:?} when all have ended", event.handle));
        }
    }
    Ok(())
}

pub(crate) fn raw(pid: bgw_backend::Pid) -> nix::unistd::Pid {
    nix::unistd::Pid::from_raw(pid.as_raw())
}

//! The steps of the demo, in order. Each prints what it sees, and fails if that is wrong.

use crate::arguments::Arguments;
use crate::leftovers;
use bgw_backend::{
    Backend, BackgroundWorker, ExitCause, Handle, Pid, RestartPolicy, ShutdownMode, StartTime,
    Worker, WorkerError, WorkerStatus, entry,
};
use bgw_examples::database::Database;
use bgw_examples::worker_spi;
use bgw_postmaster::{Launched, Postmaster};
use nix::sys::signal::{Signal, kill};
use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const PATIENCE: Duration = Duration::from_secs(30);
const STATIC_WORKERS: u64 = 2;
const DYNAMIC_WORKERS: u64 = 3;
const DELTAS: i64 = 400;

/// The running demo.
struct Demo {
    begin: Instant,
    database: Database,
    backend: Backend,
}

macro_rules! say {
    ($demo:expr, $($text:tt)*) => {
        println!("[{:6.3} s] {}", $demo.begin.elapsed().as_secs_f64(), format!($($text)*))
    };
}

/// Runs all steps. Returns the figures for the last line.
pub(crate) fn run(arguments: &Arguments) -> Result<String> {
    let begin = Instant::now();
    // Orphans of the cluster become children of this process, so that they are found at the end.
    nix::sys::prctl::set_child_subreaper(true)?;
    let temporary = tempfile::Builder::new().prefix("bgw-demo-").tempdir()?;
    let folder = temporary.path().to_path_buf();
    let database = match arguments.database.as_str() {
        "postgres" => Database::on_postgres()?,
        _ => Database::Sqlite(folder.join("demo.db")),
    };
    let settings = write_settings(&folder, &database)?;
    let log = fs::File::create(folder.join("log"))?;
    tracing_subscriber::fmt()
        .with_env_filter(tracing_subscriber::EnvFilter::new("info"))
        .with_ansi(false)
        .with_target(false)
        .with_writer(log)
        .init();
    let mut launched = launch(&folder, &settings)?;
    let backend = Backend::over(launched.take_control().ok_or("no control socket")?)?;
    let demo = Demo { begin, database, backend };
    if let Database::Postgres(cluster) = &demo.database {
        say!(demo, "PostgreSQL runs as process {}: {}", cluster.pid(), demo.database.name());
    }
    say!(demo, "postmaster {} runs, with {} slots", launched.pid(), demo.backend.capacity());

    let kept = if arguments.keep { Some(temporary.keep()) } else { None };
    if let Some(kept) = &kept {
        say!(demo, "settings, log, control socket and SQLite file are kept in {}", kept.display());
    }
    let dynamic = demo.nothing_starts_before_its_phase()?;
    demo.backend.advance(StartTime::RecoveryFinished)?;
    say!(demo, "the last phase is reached: workers start");
    demo.static_workers_run()?;
    demo.dynamic_workers_start(&dynamic)?;
    demo.totals_are_folded()?;
    demo.a_killed_worker_is_restarted()?;
    demo.a_worker_ends_by_itself()?;
    demo.a_full_array_is_refused(&dynamic)?;
    demo.a_dynamic_worker_is_terminated(&dynamic)?;
    let churn = demo.workers_come_and_go(Duration::from_secs(arguments.seconds))?;
    drop(dynamic);
    demo.everything_stops(&launched)?;
    Ok(format!(
        "in {:.1} s: {churn}, {} totals of {DELTAS} deltas each, no process and no shared memory left",
        begin.elapsed().as_secs_f64(),
        STATIC_WORKERS + DYNAMIC_WORKERS,
    ))
}

fn write_settings(folder: &Path, database: &Database) -> Result<PathBuf> {
    let path = folder.join("worker_spi.toml");
    let role = database.user().map(|user| format!("role = {user:?}\n")).unwrap_or_default();
    fs::write(
        &path,
        format!(
            "database = {:?}\n{role}naptime_ms = 60000\ntotal_workers = {STATIC_WORKERS}\n",
            database.name()
        ),
    )?;
    Ok(path)
}

/// A worker that sleeps until it is asked to stop.
fn sleeper(worker: &mut Worker) -> std::result::Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn launch(folder: &Path, settings: &Path) -> Result<Launched> {
    let settings = settings.to_path_buf();
    let mut postmaster = Postmaster::builder()
        .max_workers(16)
        .runtime_dir(folder)
        .initial_phase(StartTime::PostmasterStart)
        .function(worker_spi::FUNCTION, entry(move |worker| worker_spi::main(worker, &settings)))
        .function("sleeper", entry(sleeper))
        .function("quick", |_| Ok(()))
        .function("failing", |_| Err("this worker fails on purpose".into()))
        .build()?;
    for schema in 1..=STATIC_WORKERS {
        postmaster.register(worker_spi::worker(schema, RestartPolicy::after_secs(1))?)?;
    }
    Ok(postmaster.launch()?)
}

fn started(handle: &Handle) -> Result<Pid> {
    match handle.wait_for_startup_timeout(PATIENCE)? {
        WorkerStatus::Started(pid) => Ok(pid),
        other => Err(format!("worker {handle} should be running, but is {other}").into()),
    }
}

fn signal(pid: Pid, signal: Signal) -> Result<()> {
    Ok(kill(nix::unistd::Pid::from_raw(pid.as_raw()), signal)?)
}

impl Demo {
    fn simple(&self, function: &str, restart: RestartPolicy) -> Result<BackgroundWorker> {
        Ok(BackgroundWorker::builder(function).function(function).restart(restart).build()?)
    }

    fn static_workers_run(&self) -> Result<()> {
        for schema in 1..=STATIC_WORKERS {
            let name = format!("worker_spi worker {schema}");
            let found = self.backend.find(&name);
            let handle = found.first().ok_or_else(|| format!("{name} is not registered"))?;
            handle.wait_for_ready_timeout(PATIENCE)?;
            say!(self, "{handle} {name}, static: {}", handle.status());
        }
        Ok(())
    }

    fn nothing_starts_before_its_phase(&self) -> Result<Vec<Handle>> {
        let mut handles = Vec::new();
        for schema in STATIC_WORKERS + 1..=STATIC_WORKERS + DYNAMIC_WORKERS {
            let worker = worker_spi::worker(schema, RestartPolicy::Never)?;
            let handle = self.backend.register(&worker)?;
            self.backend.ping()?;
            say!(self, "{handle} {}, registered: {}", worker.name(), handle.status());
            if handle.status() != WorkerStatus::NotYetStarted {
                return Err(format!("{handle} started before its phase").into());
            }
            handles.push(handle);
        }
        Ok(handles)
    }

    fn dynamic_workers_start(&self, handles: &[Handle]) -> Result<()> {
        for handle in handles {
            started(handle)?;
            handle.wait_for_ready_timeout(PATIENCE)?;
            say!(self, "{handle} {}", handle.status());
        }
        let worker = self.simple("sleeper", RestartPolicy::Never)?;
        let begin = Instant::now();
        let handle = self.backend.register(&worker)?;
        started(&handle)?;
        let start = begin.elapsed().as_micros();
        let begin = Instant::now();
        handle.terminate()?;
        handle.wait_for_end_timeout(PATIENCE)?;
        let stop = begin.elapsed().as_micros();
        say!(
            self,
            "{handle} sleeper: started {start} µs after its registration, stopped {stop} µs after terminate"
        );
        Ok(())
    }

    /// Inserts rows as any client of the database would, and wakes the workers by their latches.
    fn totals_are_folded(&self) -> Result<()> {
        let mut client = self.database.client()?;
        let table = |schema| worker_spi::table(&self.database.name(), schema);
        let schemas = 1..=STATIC_WORKERS + DYNAMIC_WORKERS;
        let expected = |schema: u64| -> Result<i64> {
            let schema = i64::try_from(schema)?;
            Ok((1..=DELTAS).map(|delta| delta * schema).sum())
        };
        for schema in schemas.clone() {
            let rows: Vec<String> =
                (1..=DELTAS.unsigned_abs()).map(|d| format!("('delta', {})", d * schema)).collect();
            let insert = format!("INSERT INTO {} (type, value) VALUES ", table(schema));
            client.execute(&(insert + &rows.join(", ")))?;
        }
        say!(self, "inserted {DELTAS} deltas into each of {} tables", schemas.clone().count());
        for info in self.backend.workers() {
            self.backend.handle(info.handle).set_latch()?;
        }
        for schema in schemas {
            let table = table(schema);
            let query = format!(
                "SELECT coalesce(sum(value) FILTER (WHERE type = 'total'), 0), \
                 count(*) FILTER (WHERE type = 'delta') FROM {table}"
            );
            let until = Instant::now() + PATIENCE;
            let total = loop {
                let [total, left] = client.numbers(&query)?;
                if left == 0 {
                    break total;
                }
                if Instant::now() > until {
                    return Err(format!("{left} deltas of {table} were not folded").into());
                }
                // A database does not announce a change to other programs, so look again.
                std::thread::sleep(Duration::from_millis(5));
            };
            if total != expected(schema)? {
                return Err(
                    format!("{table}: total {total}, expected {}", expected(schema)?).into()
                );
            }
            say!(self, "{table}: all deltas folded into total {total}");
        }
        Ok(())
    }

    fn a_killed_worker_is_restarted(&self) -> Result<()> {
        let worker = self.simple("sleeper", RestartPolicy::Fixed(Duration::from_millis(500)))?;
        let handle = self.backend.register(&worker)?;
        let first = started(&handle)?;
        say!(self, "{handle} sleeper: {}; sending it SIGKILL", handle.status());
        signal(first, Signal::SIGKILL)?;
        let stopped = handle.wait_for_shutdown_timeout(PATIENCE)?;
        say!(self, "{handle} {stopped}");
        let begin = Instant::now();
        let until = begin + PATIENCE;
        let second = loop {
            match handle.status() {
                WorkerStatus::Started(pid) => break pid,
                _ if Instant::now() > until => return Err("it was not restarted".into()),
                _ => std::thread::sleep(Duration::from_millis(1)),
            }
        };
        say!(
            self,
            "{handle} {} again, {:.0} ms after its end",
            handle.status(),
            begin.elapsed().as_secs_f64() * 1e3
        );
        if first == second {
            return Err("the restarted worker has the old pid".into());
        }
        handle.terminate()?;
        let ended = handle.wait_for_end_timeout(PATIENCE)?;
        say!(self, "{handle} terminated; {ended}");
        Ok(())
    }

    fn a_worker_ends_by_itself(&self) -> Result<()> {
        for (function, code) in [("quick", 0), ("failing", 1)] {
            let worker = self.simple(function, RestartPolicy::Never)?;
            let handle = self.backend.register(&worker)?;
            let status = handle.wait_for_end_timeout(PATIENCE)?;
            say!(self, "{handle} {function}: {status}");
            let cause = match status {
                WorkerStatus::Stopped(Some(report)) => report.cause,
                other => return Err(format!("{function} left no report: {other}").into()),
            };
            if cause != ExitCause::Exited(code) {
                return Err(
                    format!("{function} should exit with code {code}, but it {cause}").into()
                );
            }
        }
        Ok(())
    }

    fn a_full_array_is_refused(&self, kept: &[Handle]) -> Result<()> {
        let worker = self.simple("sleeper", RestartPolicy::Never)?;
        let mut fillers = Vec::new();
        let refusal = loop {
            match self.backend.register(&worker) {
                Ok(handle) => fillers.push(handle),
                Err(error) => break error,
            }
        };
        say!(self, "{} more sleepers fit, then: {refusal}", fillers.len());
        if !matches!(refusal, bgw_backend::RegisterError::NoFreeSlot { capacity: 16, in_use: 16 }) {
            return Err(refusal.into());
        }
        for handle in &fillers {
            started(handle)?;
            handle.terminate()?;
        }
        bgw_backend::wait_all(&fillers, Some(PATIENCE))?;
        for handle in kept {
            started(handle)?;
        }
        Ok(())
    }

    fn a_dynamic_worker_is_terminated(&self, dynamic: &[Handle]) -> Result<()> {
        let handle = dynamic.last().ok_or("no dynamic worker")?;
        let begin = Instant::now();
        handle.terminate()?;
        let status = handle.wait_for_end_timeout(PATIENCE)?;
        say!(self, "{handle} terminated; {status}, after {} µs", begin.elapsed().as_micros());
        match status {
            WorkerStatus::Stopped(Some(report)) if report.requested() && report.unregistered => {
                Ok(())
            }
            other => Err(format!("a terminated worker should report so, but is {other:?}").into()),
        }
    }

    /// Starts workers that end at once, for the rest of the time.
    fn workers_come_and_go(&self, whole: Duration) -> Result<String> {
        let worker = self.simple("quick", RestartPolicy::Never)?;
        let until = self.begin + whole.saturating_sub(Duration::from_millis(500));
        let (begin, mut count, mut shown) = (Instant::now(), 0u32, Instant::now());
        while Instant::now() < until || count < 8 {
            let mut some = Vec::new();
            for _ in 0..8 {
                some.push(self.backend.register(&worker)?);
            }
            for status in bgw_backend::wait_all(&some, Some(PATIENCE))? {
                if !matches!(status, WorkerStatus::Stopped(_)) {
                    return Err(format!("a worker that ended is {status}").into());
                }
                count += 1;
            }
            if shown.elapsed() >= Duration::from_secs(1) {
                shown = Instant::now();
                say!(self, "{count} short workers started and ended");
            }
        }
        let rate = f64::from(count) / begin.elapsed().as_secs_f64();
        Ok(format!("{count} short workers ({rate:.0}/s, 8 in flight)"))
    }

    fn everything_stops(self, launched: &Launched) -> Result<()> {
        let running = leftovers::processes().len();
        let region = leftovers::own_region().ok_or("the region is not mapped")?;
        say!(self, "fast shutdown of {running} processes");
        let begin = self.begin;
        self.backend.shutdown(ShutdownMode::Fast)?;
        let handles = self.backend.workers();
        let ended = launched.wait()?;
        println!("[{:6.3} s] postmaster {ended}", begin.elapsed().as_secs_f64());
        if ended != ExitCause::Exited(0) {
            return Err(format!("the postmaster {ended}").into());
        }
        drop(handles);
        drop(self);
        let processes = leftovers::processes();
        let memory = leftovers::shared_memory(region);
        println!(
            "[{:6.3} s] {} processes and {} mappings left",
            begin.elapsed().as_secs_f64(),
            processes.len(),
            memory.len()
        );
        if processes.is_empty() && memory.is_empty() {
            return Ok(());
        }
        Err(format!("left behind: {processes:?} {memory:?}").into())
    }
}

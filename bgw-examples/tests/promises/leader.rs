//! The promise: a leader that shares its work among workers of the parallel class goes on with
//! fewer than it asked for, gets their errors, and leaves none behind; on SQLite and on PostgreSQL.
//! PostgreSQL's own leader is a parallel query.
//!
//! Would catch: a full class that stops the leader, a helper's error that looks like a result,
//! helpers that work on for a leader that has died.

use crate::support::database::{Database, Target, database_worker, number, postgres, sql, sqlite};
use crate::support::{
    Cluster, Log, PATIENCE, alive, kill, raw, read_note, started, stopped, wait_for_reset, worker,
    write_note,
};
use bgw_backend::{
    BackgroundWorker, EventsFrom, ExitCause, Handle, Pid, RegisterError, RestartPolicy, Value,
    Worker, WorkerError, WorkerFlags, WorkerStatus, entry, wait_any,
};
use process_test::{Signal, Test, tests, wait_until};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_leader_goes_on_with_fewer_helpers_on_sqlite => [S08],
        a_leader_goes_on_with_fewer_helpers_on_postgres => [S08],
        an_error_in_a_helper_reaches_the_leader_on_sqlite => [S08],
        an_error_in_a_helper_reaches_the_leader_on_postgres => [S08],
        a_leaders_death_ends_its_helpers_on_sqlite => [S08],
        a_leaders_death_ends_its_helpers_on_postgres => [S08],
    ]
}

/// How many parts the work has, and how many helpers the leader asks for.
const PARTS: u64 = 4;

/// The rows of each part, numbered from 1.
const ROWS: i64 = 100;

/// The main argument of a helper that adds up its part, and of those that do not.
const ADDS_UP: u64 = 0;

const FAILS: u64 = 1;

const HANGS: u64 = 2;

/// The description of a helper. Its argument holds its part and its fate.
fn helper(part: u64, fate: u64) -> BackgroundWorker {
    let flags =
        WorkerFlags::CLASS_PARALLEL | WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    worker("help").flags(flags).main_arg(fate * PARTS + part).build().unwrap()
}

fn add_up(worker: &mut Worker, part: u64) -> Result<(), WorkerError> {
    let statement =
        "INSERT INTO sums SELECT part, sum(v) FROM numbers WHERE part = $1 GROUP BY part";
    let part = Value::Integer(part.cast_signed());
    Ok(worker.transaction(|tx| tx.execute(statement, &[part])).map(drop)?)
}

fn help(worker: &mut Worker, target: &Target) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    target.connect(worker)?;
    let part = worker.main_arg() % PARTS;
    match worker.main_arg() / PARTS {
        ADDS_UP => {
            // Only when the leader has asked for all: a free place would be one more helper.
            read_note("helpers");
            add_up(worker, part)
        }
        FAILS => Err(format!("part {part} cannot be added up").into()),
        _ => {
            write_note("hanging", "")?;
            Ok(worker.transaction(|tx| tx.query(target.endless, &[])).map(drop)?)
        }
    }
}

/// The helpers of a leader. They end with it, however it leaves.
struct Helpers(Vec<Handle>);

impl Drop for Helpers {
    fn drop(&mut self) {
        for handle in &self.0 {
            handle.terminate().unwrap();
        }
    }
}

/// Gives each part to a helper, and does itself what is left. Its argument is the fate of the
/// helper of part 1; the helper of part 0 hangs then, and there are no others.
fn lead(worker: &mut Worker, target: &Target) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    target.connect(worker)?;
    let fate = worker.main_arg();
    let fates = if fate == ADDS_UP { vec![fate; PARTS as usize] } else { vec![HANGS, fate] };
    let (mut helpers, mut left) = (Helpers(Vec::new()), Vec::new());
    for (part, fate) in (0..).zip(fates) {
        match worker.backend().register(&helper(part, fate)) {
            Ok(handle) => helpers.0.push(handle),
            Err(RegisterError::NoParallelSlot { .. }) => left.push(part),
            Err(error) => return Err(error.into()),
        }
    }
    write_note("helpers", &helpers.0.len().to_string())?;
    for part in left {
        add_up(worker, part)?;
    }
    while !helpers.0.is_empty() {
        let (place, status) = wait_any(&helpers.0, None)?;
        let handle = helpers.0.remove(place);
        match status {
            WorkerStatus::Stopped(Some(report)) if report.cause.is_clean() => {}
            other => return Err(format!("helper {handle}: {other}").into()),
        }
    }
    worker.transaction(|tx| tx.execute("INSERT INTO answer SELECT sum(v) FROM sums", &[]))?;
    Ok(())
}

/// A cluster with the work in its database, and a leader at work.
fn led(database: &Database, cap: u32, fate: u64) -> (Cluster, Handle) {
    let all: Vec<String> = (0..PARTS)
        .flat_map(|part| (1..=ROWS).map(move |value| format!("({part}, {value})")))
        .collect();
    let insert = format!("INSERT INTO numbers VALUES {}", all.join(", "));
    let tables = [
        "CREATE TABLE numbers (part bigint, v integer)",
        "CREATE TABLE sums (part bigint, v bigint)",
        "CREATE TABLE answer (v bigint)",
        &insert,
    ];
    sql(database, &tables);
    let (leading, helping) = (Target::of(database), Target::of(database));
    let cluster = Cluster::with(|builder| {
        builder
            .max_workers(2)
            .max_parallel_workers(cap)
            .function("lead", entry(move |worker| lead(worker, &leading)))
            .function("help", entry(move |worker| help(worker, &helping)))
    });
    let flags = database_worker("lead", RestartPolicy::Never).flags();
    let leader = worker("lead").flags(flags).main_arg(fate).build().unwrap();
    let handle = cluster.backend.register(&leader).unwrap();
    (cluster, handle)
}

/// Would fail if the leader gave up with fewer helpers or left a part out, and time out if it
/// waited for more.
fn with_fewer(database: &Database) {
    let (cluster, leader) = led(database, 2, ADDS_UP);
    assert_eq!(stopped(&leader).cause, ExitCause::Exited(0));
    assert_eq!(read_note("helpers"), "2");
    assert_eq!(number(database, "SELECT count(*) FROM sums"), PARTS.cast_signed());
    let whole = PARTS.cast_signed() * ROWS * (ROWS + 1) / 2;
    assert_eq!(number(database, "SELECT v FROM answer"), whole);
    cluster.end();
}

fn a_leader_goes_on_with_fewer_helpers_on_sqlite() {
    with_fewer(&sqlite());
}

fn a_leader_goes_on_with_fewer_helpers_on_postgres() {
    with_fewer(&postgres());
}

fn class_is_free(cluster: &Cluster, cap: u32) {
    let handles: Vec<_> = (0..cap)
        .map(|_| {
            let sleeper = worker("sleep").flags(WorkerFlags::CLASS_PARALLEL).build().unwrap();
            cluster.backend.register(&sleeper).unwrap()
        })
        .collect();
    for handle in &handles {
        started(handle);
    }
}

/// Would fail if the leader took the failed part for done, and time out if its other helper worked
/// on.
fn hears_of_an_error(database: &Database) {
    let log = Log::start();
    let (cluster, leader) = led(database, 2, FAILS);
    assert_eq!(stopped(&leader).cause, ExitCause::Exited(1));
    assert_eq!(number(database, "SELECT count(*) FROM answer"), 0);
    log.wait_for("part 1 cannot be added up");
    log.wait_for(") ends: helper ");
    wait_until("the helper that hung is gone", PATIENCE, || cluster.backend.workers().is_empty());
    class_is_free(&cluster, 2);
    cluster.end();
}

fn an_error_in_a_helper_reaches_the_leader_on_sqlite() {
    hears_of_an_error(&sqlite());
}

fn an_error_in_a_helper_reaches_the_leader_on_postgres() {
    hears_of_an_error(&postgres());
}

/// Would time out if a helper lived on or came back, and fail if it kept its place in the class.
fn dies(database: &Database) {
    let (cluster, leader) = led(database, 2, HANGS);
    let pid = started(&leader);
    // Both are registered, and one is at work.
    read_note("helpers");
    read_note("hanging");
    let helpers: Vec<Pid> = cluster
        .backend
        .workers()
        .iter()
        .filter(|info| info.worker.is_parallel())
        .map(|info| started(&cluster.backend.handle(info.handle)))
        .collect();
    assert_eq!(helpers.len(), 2);
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    kill(pid, Signal::SIGKILL);
    for helper in helpers {
        wait_until("the helper has ended", PATIENCE, || !process_test::alive(raw(helper)));
    }
    wait_until("nobody is left", PATIENCE, || cluster.backend.workers().is_empty());
    assert!(!alive(pid));
    // What is registered while the reset runs ends with it.
    wait_for_reset(&mut events);
    class_is_free(&cluster, 2);
    assert_eq!(number(database, "SELECT count(*) FROM answer"), 0);
    cluster.end();
}

fn a_leaders_death_ends_its_helpers_on_sqlite() {
    dies(&sqlite());
}

fn a_leaders_death_ends_its_helpers_on_postgres() {
    dies(&postgres());
}

//! `job_queue`: jobs in a table, and as many workers as there is work for.
//!
//! A worker takes a job and answers it in one transaction. So the database takes back what a dead
//! worker had in hand, and whoever comes next takes it again: each job is answered once. Here one
//! job in a hundred kills its worker. The program registers workers while jobs are open, looks how
//! each has ended, and exits with 0 when every job has exactly one answer.

use bgw_backend::{Backend, BackgroundWorker, RegisterError, WorkerFlags, WorkerStatus};
use bgw_backend::{InvalidWorker, Tx, Value, Worker, WorkerError, entry, wait_any_end};
use bgw_examples::database::{Client, Database};
use bgw_examples::logging;
use bgw_postmaster::Postmaster;
use clap::Parser;
use nix::sys::signal::Signal;
use std::error::Error;
use std::process::ExitCode;

/// Answers jobs that lie in a database.
#[derive(Parser)]
#[command(version)]
struct Arguments {
    /// How many jobs there are.
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(i64).range(1..))]
    jobs: i64,
    /// How many workers run at a time, at most.
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=64))]
    workers: u32,
    /// Use a PostgreSQL server, which is started for this, instead of an SQLite file.
    #[arg(long)]
    postgres: bool,
}

/// With fewer open jobs for each worker, no other one is started.
const WORTH_A_WORKER: i64 = 50;

/// Answers jobs until none is open.
fn work(worker: &mut Worker, database: &str, user: Option<&str>) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    worker.initialize_connection(Some(database), user)?;
    let skip = if bgw_backend::is_on_a_server(database) { "FOR UPDATE SKIP LOCKED" } else { "" };
    // The first statement writes, so no two transactions in a file wait for each other.
    let take = format!(
        "UPDATE jobs SET taken = 1 WHERE id = \
         (SELECT id FROM jobs WHERE answer IS NULL ORDER BY id LIMIT 1 {skip}) RETURNING id"
    );
    let mut served = 0;
    while worker.transaction(|tx| answer_one(tx, &take, &mut served))? {}
    Ok(())
}

/// False if there is no job to take.
fn answer_one(tx: &mut Tx<'_>, take: &str, served: &mut u32) -> Result<bool, WorkerError> {
    let taken = tx.query(take, &[])?;
    let Some(job) = taken.iter().flatten().find_map(Value::as_integer) else { return Ok(false) };
    *served += 1;
    if *served == 100 {
        // The worst moment: the job is taken and not answered.
        nix::sys::signal::raise(Signal::SIGKILL).map_err(std::io::Error::from)?;
    }
    let answer = Value::Integer(job * job);
    let statement = "UPDATE jobs SET answer = $2, answers = answers + 1 WHERE id = $1";
    tx.execute(statement, &[Value::Integer(job), answer])?;
    Ok(true)
}

fn description() -> Result<BackgroundWorker, InvalidWorker> {
    let flags = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    BackgroundWorker::builder("job queue").function("work").flags(flags).build()
}

fn main() -> Result<ExitCode, Box<dyn Error>> {
    logging::to_stderr("error");
    let Arguments { jobs, workers, postgres } = Arguments::parse();
    let folder = tempfile::tempdir()?;
    let database = if postgres {
        Database::on_postgres()?
    } else {
        let path = folder.path().join("jobs.db");
        // One sync a transaction.
        rusqlite::Connection::open(&path)?.pragma_update(None, "journal_mode", "WAL")?;
        Database::Sqlite(path)
    };
    let (name, user) = (database.name(), database.user());
    let mut launched = Postmaster::builder()
        .max_workers(2 * workers)
        .function("work", entry(move |worker| work(worker, &name, user)))
        .build()?
        .launch()?;
    let backend = Backend::over(launched.take_control().ok_or("control is taken")?)?;
    let mut client = database.client()?;
    fill(&mut client, jobs)?;

    let died = serve(&backend, &mut client, workers)?;
    let query = "SELECT count(*), min(answers), max(answers) FROM jobs WHERE answer = id * id";
    let once = client.numbers(query)? == [jobs, 1, 1];
    let verdict = if once { "ok" } else { "failed" };
    println!("job_queue: {verdict}, {jobs} jobs, {died} workers died");
    Ok(if once { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

fn fill(client: &mut Client, jobs: i64) -> Result<(), Box<dyn Error>> {
    client.execute(
        "CREATE TABLE jobs (id BIGINT PRIMARY KEY, answer BIGINT, \
         taken INTEGER NOT NULL DEFAULT 0, answers INTEGER NOT NULL DEFAULT 0)",
    )?;
    let values: Vec<String> = (1..=jobs).map(|job| format!("({job})")).collect();
    client.execute(&format!("INSERT INTO jobs (id) VALUES {}", values.join(",")))
}

/// Keeps workers running while jobs are open; returns how many died at work.
fn serve(backend: &Backend, client: &mut Client, most: u32) -> Result<u32, Box<dyn Error>> {
    let (mut running, mut died) = (Vec::new(), 0);
    loop {
        let open = client.number("SELECT count(*) FROM jobs WHERE answer IS NULL")?;
        let wanted = ((open + WORTH_A_WORKER - 1) / WORTH_A_WORKER).min(i64::from(most));
        while (running.len() as i64) < wanted {
            match backend.register(&description()?) {
                // Beside a worker that dies: register it again.
                Err(RegisterError::ClaimLost(_)) => {}
                registered => running.push(registered?),
            }
        }
        if running.is_empty() {
            return Ok(died);
        }
        let (place, status) = wait_any_end(&running, None)?;
        let handle = running.swap_remove(place);
        match status {
            // The others with shared state end with the one that dies, as they are asked to.
            WorkerStatus::Stopped(Some(report)) => {
                died += u32::from(report.cause.is_crash() && !report.requested());
            }
            other => return Err(format!("worker {handle}: {other}").into()),
        }
    }
}

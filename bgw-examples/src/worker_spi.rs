//! The counterpart of PostgreSQL's example of the same name: workers that keep a running total.
//!
//! Each worker has a table of its own, `schemaN.counted`, with rows of type `delta` and one row of
//! type `total`. On each tick, and whenever its latch is set, it adds the deltas to the total and
//! deletes them, in one transaction. It reads its settings again on SIGHUP, stops on SIGTERM, and
//! ends when the postmaster dies. It works on a PostgreSQL server and in an SQLite file. SQLite has
//! no schemas, so there the schema is the first half of the table's name.

use bgw_backend::{BackgroundWorker, InvalidWorker, RestartPolicy, StartTime};
use bgw_backend::{Tx, Value, is_on_a_server};
use bgw_backend::{Worker, WorkerError, WorkerFlags};
use serde::Deserialize;
use std::path::Path;
use std::time::Duration;

/// The name of [`main`] among the functions of the postmaster.
pub const FUNCTION: &str = "worker_spi_main";

/// The settings file.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Settings {
    /// The database: an SQLite file, or `postgres://…` (see `Worker::initialize_connection`).
    pub database: String,
    /// The database role that the workers use.
    pub role: Option<String>,
    /// How long a worker sleeps between two rounds, in milliseconds.
    #[serde(default = "ten_seconds")]
    pub naptime_ms: u64,
    /// The number of static workers. Each has a schema of its own.
    #[serde(default = "two")]
    pub total_workers: u32,
}

const fn ten_seconds() -> u64 {
    10_000
}

const fn two() -> u32 {
    2
}

impl Settings {
    /// Reads the file.
    ///
    /// # Errors
    /// The file cannot be read or is not valid; the message says where.
    pub fn read(path: &Path) -> Result<Self, String> {
        let text = std::fs::read_to_string(path)
            .map_err(|error| format!("reading settings {} failed: {error}", path.display()))?;
        toml::from_str(&text)
            .map_err(|error| format!("settings {} are wrong: {error}", path.display()))
    }
}

/// The description of the worker of one schema.
///
/// # Errors
/// The error of the builder. No schema causes one.
pub fn worker(schema: u64, restart: RestartPolicy) -> Result<BackgroundWorker, InvalidWorker> {
    BackgroundWorker::builder(format!("worker_spi worker {schema}"))
        .worker_type("worker_spi")
        .function(FUNCTION)
        .main_arg(schema)
        .flags(WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION)
        .start_time(StartTime::RecoveryFinished)
        .restart(restart)
        .build()
}

/// The name of a schema's table, as statements in this database write it.
#[must_use]
pub fn table(database: &str, schema: u64) -> String {
    if is_on_a_server(database) {
        format!("schema{schema}.counted")
    } else {
        format!("\"schema{schema}.counted\"")
    }
}

/// The main function of a worker.
///
/// # Errors
/// The settings cannot be read at the start, or the database fails.
pub fn main(worker: &mut Worker, settings_path: &Path) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.handle_reload()?;
    worker.unblock_signals()?;

    let mut settings = Settings::read(settings_path)?;
    worker.initialize_connection(Some(&settings.database), settings.role.as_deref())?;
    let schema = worker.main_arg();
    let table = table(&settings.database, schema);
    worker.transaction(|tx| {
        if is_on_a_server(&settings.database) {
            tx.execute(&format!("CREATE SCHEMA IF NOT EXISTS schema{schema}"), &[])?;
        }
        make_table(tx, &table, schema)
    })?;
    tracing::info!("{} initialized with table {table}", worker.name());
    worker.ready();

    while !worker.should_stop() {
        if worker.reload_requested() {
            match Settings::read(settings_path) {
                Ok(new) => settings = new,
                Err(error) => tracing::warn!("keeping the old settings: {error}"),
            }
        }
        if let Some(total) = worker.transaction(|tx| fold(tx, &table))? {
            tracing::info!("{}: count in {table} is now {total}", worker.name());
        }
        worker.sleep(Some(Duration::from_millis(settings.naptime_ms)))?;
    }
    Ok(())
}

fn make_table(tx: &mut Tx<'_>, table: &str, schema: u64) -> Result<(), WorkerError> {
    let create = format!(
        "CREATE TABLE IF NOT EXISTS {table} \
         (type text CHECK (type IN ('total', 'delta')), value integer)"
    );
    tx.execute(&create, &[])?;
    let unique = format!(
        "CREATE UNIQUE INDEX IF NOT EXISTS schema{schema}_unique_total ON {table} (type) \
         WHERE type = 'total'"
    );
    tx.execute(&unique, &[])?;
    Ok(())
}

/// Adds the deltas to the total. Returns the new total if there were any. It adds exactly the rows
/// that it deletes; rows inserted meanwhile are left for the next round.
fn fold(tx: &mut Tx<'_>, table: &str) -> Result<Option<i64>, WorkerError> {
    let delete = format!("DELETE FROM {table} WHERE type = 'delta' RETURNING value");
    let deleted = tx.query(&delete, &[])?;
    if deleted.is_empty() {
        return Ok(None);
    }
    let mut deltas = deleted.iter().flatten().filter_map(Value::as_integer);
    let sum = deltas
        .try_fold(0, i64::checked_add)
        .ok_or_else(|| format!("the deltas of {table} are too large to be added up"))?;
    let add = format!(
        "INSERT INTO {table} AS counted (type, value) VALUES ('total', $1) \
         ON CONFLICT (type) WHERE type = 'total' \
         DO UPDATE SET value = counted.value + excluded.value RETURNING value"
    );
    let total = tx.query(&add, &[Value::from(sum)])?;
    Ok(total.first().and_then(|row| row.first()).and_then(Value::as_integer))
}

//! Databases for a test, of both kinds, and workers that use them.

use super::{Cluster, PATIENCE, worker};
use bgw_backend::{
    BackgroundWorker, DatabaseError, Handle, Interrupt, RestartPolicy, Worker, WorkerError,
    WorkerFlags, entry,
};
pub use bgw_examples::database::Database;
use std::error::Error;
use throwaway_postgres::ClusterError;

pub fn sqlite() -> Database {
    Database::Sqlite(std::env::temp_dir().join("cluster.db"))
}

/// A server for this test; skips the test where PostgreSQL is not installed.
pub fn postgres() -> Database {
    match Database::on_postgres() {
        Ok(database) => database,
        Err(missing @ ClusterError::NotInstalled) => process_test::skip(missing.to_string()),
        Err(error) => panic!("{error}"),
    }
}

/// Runs statements on a connection of the test, and closes it: no child must inherit it.
#[track_caller]
pub fn sql(database: &Database, statements: &[&str]) {
    let mut client = database.client().unwrap();
    for statement in statements {
        client.execute(statement).unwrap();
    }
}

/// The number that a query returns on a connection of the test.
#[track_caller]
pub fn number(database: &Database, query: &str) -> i64 {
    database.client().unwrap().number(query).unwrap()
}

/// Waits until the query returns `wanted`.
#[track_caller]
pub fn wait_for_number(database: &Database, query: &str, wanted: i64) {
    let mut client = database.client().unwrap();
    process_test::wait_until(&format!("{query} is {wanted}"), PATIENCE, || {
        client.number(query).unwrap() == wanted
    });
}

/// What a worker needs to know of its database.
#[derive(Clone)]
pub struct Target {
    pub name: String,
    pub user: Option<String>,
    /// A statement that never ends by itself.
    pub endless: &'static str,
}

impl Target {
    pub fn of(database: &Database) -> Self {
        let endless = match database {
            Database::Sqlite(_) => {
                "WITH RECURSIVE c (x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM c) \
                 SELECT count(*) FROM c"
            }
            Database::Postgres(_) => "SELECT pg_sleep(3600)",
        };
        Self { name: database.name(), user: database.user().map(str::to_owned), endless }
    }

    pub fn connect(&self, worker: &mut Worker) -> Result<(), WorkerError> {
        Ok(worker.initialize_connection(Some(&self.name), self.user.as_deref())?)
    }
}

/// Waits until the endless statement runs. A file cannot tell: there the note that the worker wrote
/// before the statement must do, and a signal that comes too early cancels the statement all the
/// same.
pub fn wait_for_endless(database: &Database) {
    if matches!(database, Database::Postgres(_)) {
        let query = "SELECT count(*) FROM pg_stat_activity \
                     WHERE state = 'active' AND query LIKE 'SELECT pg_sleep(3600)%'";
        wait_for_number(database, query, 1);
    }
}

pub fn database_worker(function: &str, restart: RestartPolicy) -> BackgroundWorker {
    let flags = WorkerFlags::SHMEM_ACCESS | WorkerFlags::DATABASE_CONNECTION;
    worker(function).flags(flags).restart(restart).build().unwrap()
}

/// A cluster with one more function.
pub fn cluster(
    function: &str,
    main: impl Fn(&mut Worker) -> Result<(), WorkerError> + 'static,
) -> Cluster {
    Cluster::with(|builder| builder.function(function, entry(main)))
}

/// Registers a database worker; it may have ended when this returns.
pub fn start(cluster: &Cluster, function: &str, restart: RestartPolicy) -> Handle {
    cluster.backend.register(&database_worker(function, restart)).unwrap()
}

/// The name of the refusal, for a note.
pub fn refusal<E: Into<WorkerError>>(result: Result<(), E>) -> String {
    match result.map_err(Into::into) {
        Ok(()) => "none".to_owned(),
        Err(WorkerError::Database(DatabaseError::WithoutFlag { .. })) => "no flag".to_owned(),
        Err(WorkerError::Database(DatabaseError::Twice)) => "twice".to_owned(),
        Err(WorkerError::Database(DatabaseError::NotConnected)) => "not connected".to_owned(),
        Err(WorkerError::Database(DatabaseError::Lost { .. })) => "lost".to_owned(),
        Err(WorkerError::Interrupted(Interrupt::Canceled)) => "canceled".to_owned(),
        Err(error) => {
            let cause = error.source().map(ToString::to_string).unwrap_or_default();
            format!("{error}: {cause}")
        }
    }
}

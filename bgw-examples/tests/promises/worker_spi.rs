//! The promise: the counterpart of PostgreSQL's `worker_spi` does what the original does: static
//! and dynamic workers fold deltas into totals, in one transaction, on SQLite and on PostgreSQL.
//!
//! Would catch: a delta deleted but not added or the reverse, a second total, settings that need a
//! restart, a launch that the server refuses and nobody reports.

use crate::support::database::{
    Database, database_worker, number, postgres, sql, sqlite, wait_for_number,
};
use crate::support::{Cluster, Log, PATIENCE, alive, kill, ready, started, stopped, worker};
use bgw_backend::{
    BackgroundWorker, ExitCause, Handle, RestartPolicy, Worker, WorkerError, WorkerStatus, entry,
};
use bgw_examples::worker_spi;
use process_test::{Signal, Test, tests};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_launched_worker_counts_up_and_ends_on_sqlite => [B83, S01],
        a_launched_worker_counts_up_and_ends_on_postgres => [B83, S01],
        two_inserters_and_two_folders_lose_no_delta => [B83],
        static_workers_start_and_take_a_new_nap_time_on_sqlite => [S02],
        static_workers_start_and_take_a_new_nap_time_on_postgres => [S02],
        a_launch_names_its_database_and_its_role => [S03, B59],
        a_refused_connection_is_logged_and_exits_1 => [S03, B60],
    ]
}

const HOUR: u64 = 3_600_000;

fn write_settings(database: &Database, naptime_ms: u64) -> PathBuf {
    let path = std::env::temp_dir().join("settings.toml");
    let part = path.with_extension("part");
    let role = database.user().map(|user| format!("role = {user:?}\n")).unwrap_or_default();
    let text = format!("database = {:?}\n{role}naptime_ms = {naptime_ms}\n", database.name());
    std::fs::write(&part, text).unwrap();
    std::fs::rename(part, &path).unwrap();
    path
}

fn cluster(settings: &Path, workers: Vec<BackgroundWorker>) -> Cluster {
    let settings = settings.to_path_buf();
    let main = entry(move |worker: &mut Worker| worker_spi::main(worker, &settings));
    Cluster::with_static(|builder| builder.function(worker_spi::FUNCTION, main), workers)
}

fn table(database: &Database, schema: u64) -> String {
    worker_spi::table(&database.name(), schema)
}

fn insert(database: &Database, schema: u64, rows: &str) {
    sql(database, &[&format!("INSERT INTO {} VALUES {rows}", table(database, schema))]);
}

/// The contents of the table: how many rows, how many of them totals, and their sum.
fn contents(database: &Database, schema: u64) -> [i64; 3] {
    let query = format!(
        "SELECT count(*), count(CASE type WHEN 'total' THEN 1 END), coalesce(sum(value), 0) FROM {}",
        table(database, schema)
    );
    database.client().unwrap().numbers(&query).unwrap()
}

/// Waits until all deltas are folded, and the total is `total`.
fn wait_for_total(database: &Database, schema: u64, total: i64) {
    let table = table(database, schema);
    wait_for_number(
        database,
        &format!(
            "SELECT coalesce(sum(value), 0) FROM {table} WHERE type = 'total' \
             AND NOT EXISTS (SELECT 1 FROM {table} WHERE type = 'delta')"
        ),
        total,
    );
}

/// Would fail if the worker used another table, if the table's rules did not hold, or if half of a
/// round were done.
fn counts_up(database: &Database) {
    let settings = write_settings(database, HOUR);
    let log = Log::start();
    let cluster = cluster(&settings, Vec::new());
    let handle =
        cluster.backend.register(&worker_spi::worker(4, RestartPolicy::Never).unwrap()).unwrap();
    let pid = ready(&handle);
    assert_eq!(cluster.backend.worker_type_by_pid(pid).as_deref(), Some("worker_spi"));
    assert_eq!(contents(database, 4), [0, 0, 0], "a new table is empty");

    // As in PostgreSQL's own test: a total of 0 and a delta of 1.
    insert(database, 4, "('total', 0), ('delta', 1)");
    handle.set_latch().unwrap();
    wait_for_total(database, 4, 1);
    insert(database, 4, "('delta', 5), ('delta', -2), ('delta', NULL)");
    handle.set_latch().unwrap();
    wait_for_total(database, 4, 4);
    assert_eq!(contents(database, 4), [1, 1, 4], "one row is left, the total");
    log.wait_for(&format!("count in {} is now 4", table(database, 4)));

    let mut client = database.client().unwrap();
    let refused = |client: &mut bgw_examples::database::Client, row: &str| {
        client.execute(&format!("INSERT INTO {} VALUES {row}", table(database, 4))).is_err()
    };
    assert!(refused(&mut client, "('total', 1)"), "a second total");
    assert!(refused(&mut client, "('other', 1)"), "a third type");

    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(!alive(pid) && cluster.backend.workers().is_empty());
    cluster.end();
}

fn a_launched_worker_counts_up_and_ends_on_sqlite() {
    counts_up(&sqlite());
}

fn a_launched_worker_counts_up_and_ends_on_postgres() {
    counts_up(&postgres());
}

/// Would fail if a round deleted a delta without adding it: a server's transactions see what others
/// commit in the middle of a round.
fn two_inserters_and_two_folders_lose_no_delta() {
    let database = postgres();
    let settings = write_settings(&database, 1);
    let cluster = cluster(&settings, Vec::new());
    let launch = || -> Handle {
        let description = worker_spi::worker(1, RestartPolicy::after_secs(0)).unwrap();
        let handle = cluster.backend.register(&description).unwrap();
        ready(&handle);
        handle
    };
    // Two workers on one table wait for each other's rows, and neither adds what the other has
    // taken.
    let workers = [launch(), launch()];
    let name = table(&database, 1);
    let Database::Postgres(server) = &database else { return };
    let mut clients = [server.client("postgres").unwrap(), server.client("postgres").unwrap()];
    for _ in 0..300 {
        for client in &mut clients {
            client.execute(&format!("INSERT INTO {name} VALUES ('delta', 1)"), &[]).unwrap();
        }
    }
    wait_for_total(&database, 1, 600);
    for handle in &workers {
        assert!(matches!(handle.status(), WorkerStatus::Started(_)), "{handle}");
        assert_eq!(handle.exit_report(), None, "no round failed");
    }
    cluster.end();
}

/// Would time out if a static worker needed a launch, and fail if new settings needed a restart.
fn takes_a_new_nap_time(database: &Database) {
    let settings = write_settings(database, HOUR);
    let schemas = [1, 2];
    let description = |schema| worker_spi::worker(schema, RestartPolicy::after_secs(5)).unwrap();
    let cluster = cluster(&settings, schemas.map(description).to_vec());
    let infos = cluster.backend.workers();
    assert_eq!(infos.len(), 2, "{infos:?}");
    let handles: Vec<_> = infos.iter().map(|info| cluster.backend.handle(info.handle)).collect();
    let pids: Vec<_> = handles.iter().map(ready).collect();
    // Each has had its first round, and naps for an hour.
    for handle in &handles {
        insert(database, handle_schema(&cluster, handle), "('delta', 1)");
        handle.set_latch().unwrap();
        wait_for_total(database, handle_schema(&cluster, handle), 1);
    }
    write_settings(database, 5);
    kill(cluster.launched.pid(), Signal::SIGHUP);
    for round in [10, 100] {
        for schema in schemas {
            insert(database, schema, &format!("('delta', {round})"));
        }
        for schema in schemas {
            wait_for_total(database, schema, if round == 10 { 11 } else { 111 });
        }
    }
    let now: Vec<_> = handles.iter().map(started).collect();
    assert_eq!(now, pids, "nobody was restarted");
    // A settings file with an error changes nothing.
    std::fs::write(&settings, "nonsense").unwrap();
    kill(cluster.launched.pid(), Signal::SIGHUP);
    insert(database, 1, "('delta', 1000)");
    wait_for_total(database, 1, 1111);
    assert_eq!(handles.iter().map(started).collect::<Vec<_>>(), pids);
    cluster.end();
}

fn handle_schema(cluster: &Cluster, handle: &Handle) -> u64 {
    let infos = cluster.backend.workers();
    infos.iter().find(|info| info.handle == handle.id()).unwrap().worker.main_arg()
}

fn static_workers_start_and_take_a_new_nap_time_on_sqlite() {
    takes_a_new_nap_time(&sqlite());
}

fn static_workers_start_and_take_a_new_nap_time_on_postgres() {
    takes_a_new_nap_time(&postgres());
}

/// Connects as its extra bytes `URL USER` say, and leaves its mark.
fn sign(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let extra = String::from_utf8_lossy(worker.extra()).into_owned();
    let mut words = extra.trim_end_matches('\0').split(' ');
    worker.initialize_connection(words.next(), words.next())?;
    worker.transaction(|tx| {
        tx.execute("CREATE TABLE mark AS SELECT current_user::text AS who", &[])
    })?;
    Ok(())
}

fn signer(url: &str, user: &str) -> BackgroundWorker {
    let text = format!("{url} {user}");
    let flags = database_worker("sign", RestartPolicy::Never).flags();
    worker("sign").flags(flags).extra(text.as_bytes()).build().unwrap()
}

/// Would fail if the worker worked in another database or as another role.
fn a_launch_names_its_database_and_its_role() {
    let database = postgres();
    let create = ["CREATE ROLE bob LOGIN", "CREATE DATABASE marks OWNER bob"];
    sql(&database, &create);
    let Database::Postgres(server) = &database else { return };
    let cluster = Cluster::with(|builder| builder.function("sign", entry(sign)));
    let handle = cluster.backend.register(&signer(&server.url("marks"), "bob")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let who: String =
        server.client("marks").unwrap().query_one("SELECT who FROM mark", &[]).unwrap().get(0);
    assert_eq!(who, "bob");
    assert_eq!(number(&database, "SELECT count(*) FROM pg_class WHERE relname = 'mark'"), 0);
    cluster.end();
}

/// Would time out if a refusal hung or did not reach the log, and fail if it were retried.
fn a_refused_connection_is_logged_and_exits_1() {
    let database = postgres();
    let create = [
        "CREATE ROLE bob LOGIN",
        "CREATE ROLE sleeper NOLOGIN",
        "CREATE DATABASE closed ALLOW_CONNECTIONS false",
    ];
    sql(&database, &create);
    let Database::Postgres(server) = &database else { return };
    let log = Log::start();
    let cluster = Cluster::with(|builder| builder.function("sign", entry(sign)));
    let nowhere = format!("{}/no", server.url("marks"));
    let cases = [
        (server.url("postgres"), "sleeper", "role \"sleeper\" is not permitted to log in"),
        (server.url("closed"), "bob", "database \"closed\" is not currently accepting connections"),
        (server.url("nowhere"), "bob", "database \"nowhere\" does not exist"),
        (server.url("postgres"), "nobody", "role \"nobody\" does not exist"),
        (nowhere, "bob", "No such file or directory"),
        ("postgres://".to_owned(), "bob", "no host is named"),
    ];
    for (url, user, said) in cases {
        let handle = cluster.backend.register(&signer(&url, user)).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(1), "{url} {user}");
        log.wait_for(said);
    }
    assert_eq!(log.count(") ends: opening database "), 6);
    wait_for_nobody(&cluster);
    cluster.end();
}

/// All are gone, since they never restart.
fn wait_for_nobody(cluster: &Cluster) {
    let gone = || cluster.backend.workers().is_empty();
    process_test::wait_until("all are gone", PATIENCE.min(Duration::from_secs(10)), gone);
}

//! The promise: a worker connects once, by name and user, and its transactions happen whole or not
//! at all, whatever ends them; on SQLite and on PostgreSQL.
//!
//! Would catch: a second connection or one without the flag, a user other than the named one, a
//! commit of what failed, half of a transaction after a death or a lost connection.

use crate::support::database::{
    Database, Target, cluster, number, postgres, refusal, sql, sqlite, start, wait_for_endless,
    wait_for_number,
};
use crate::support::{Log, kill, note_path, read_note, simple, started, stopped, write_note};
use bgw_backend::{DatabaseError, ExitCause, RestartPolicy, Value, Worker, WorkerError};
use process_test::{Signal, Test, tests};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_connects_by_name_and_user_on_sqlite => [B59],
        a_worker_connects_by_name_and_user_on_postgres => [B59],
        once_and_only_with_the_flag_on_sqlite => [B59, B60],
        once_and_only_with_the_flag_on_postgres => [B59, B60],
        commit_and_rollback_on_sqlite => [B61],
        commit_and_rollback_on_postgres => [B61],
        a_kill_in_mid_transaction_leaves_nothing_half_done_on_sqlite => [B61],
        a_kill_in_mid_transaction_leaves_nothing_half_done_on_postgres => [B61],
        a_connection_lost_in_a_statement_ends_the_worker_with_1 => [B61],
        a_connection_lost_between_statements_ends_the_worker_with_1 => [B61],
    ]
}

/// One row of texts, for a note.
fn row(worker: &mut Worker, query: &str) -> Result<String, WorkerError> {
    let rows = worker.transaction(|tx| tx.query(query, &[]))?;
    let texts: Vec<_> = rows.iter().flatten().filter_map(Value::as_text).collect();
    Ok(texts.join("|"))
}

/// Would fail if the worker connected as another user or to another database.
fn connects(target: Target, query: &'static str, expected: &str) {
    let cluster = cluster("connect", move |worker| {
        worker.unblock_signals()?;
        target.connect(worker)?;
        let text = row(worker, query)?;
        Ok(write_note("connected", &text)?)
    });
    let handle = start(&cluster, "connect", RestartPolicy::Never);
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert_eq!(read_note("connected"), expected);
    cluster.end();
}

fn a_worker_connects_by_name_and_user_on_sqlite() {
    let database = sqlite();
    connects(Target::of(&database), "SELECT file FROM pragma_database_list", &database.name());
}

fn a_worker_connects_by_name_and_user_on_postgres() {
    let database = postgres();
    sql(&database, &["CREATE ROLE alice LOGIN", "CREATE DATABASE counts"]);
    let Database::Postgres(cluster) = &database else { return };
    let target = Target {
        name: cluster.url("counts"),
        user: Some("alice".to_owned()),
        ..Target::of(&database)
    };
    let query = "SELECT current_database(), current_user, application_name \
                 FROM pg_stat_activity WHERE pid = pg_backend_pid()";
    connects(target, query, "counts|alice|bgworker: connect");
}

/// Would fail if a worker could connect without the flag, or change its database.
fn once_and_with_the_flag(database: &Database) {
    let target = Target::of(database);
    let cluster = cluster("connect", move |worker| {
        worker.unblock_signals()?;
        let mut said = vec![refusal(worker.transaction(|_| Ok::<_, DatabaseError>(())))];
        for _ in 0..2 {
            said.push(refusal(target.connect(worker)));
        }
        let usable = worker.transaction(|tx| tx.query("SELECT 1", &[]));
        said.push(refusal(usable.map(drop)));
        Ok(write_note(&format!("said-{}", worker.name()), &said.join(", "))?)
    });
    cluster.backend.register(&simple("connect")).unwrap();
    assert_eq!(read_note("said-connect"), "not connected, no flag, no flag, not connected");
    std::fs::remove_file(note_path("said-connect")).unwrap();
    start(&cluster, "connect", RestartPolicy::Never);
    assert_eq!(read_note("said-connect"), "not connected, none, twice, none");
    cluster.end();
}

fn once_and_only_with_the_flag_on_sqlite() {
    once_and_with_the_flag(&sqlite());
}

fn once_and_only_with_the_flag_on_postgres() {
    once_and_with_the_flag(&postgres());
}

/// Each insert is a power of two, so the sum says which of them were committed.
fn commit_and_roll_back(worker: &mut Worker) -> Result<(), WorkerError> {
    let insert = "INSERT INTO t VALUES ($1)";
    let value = |value: i64| [Value::from(value)];
    worker.transaction(|tx| tx.execute(insert, &value(1)))?;
    let failed: Result<(), WorkerError> = worker.transaction(|tx| {
        tx.execute(insert, &value(2))?;
        Err("on purpose".into())
    });
    let panicked = catch_unwind(AssertUnwindSafe(|| {
        worker.transaction(|tx| -> Result<(), WorkerError> {
            tx.execute(insert, &value(4))?;
            panic!("on purpose")
        })
    }));
    // A statement fails, and its error is ignored.
    let hidden: Result<(), DatabaseError> = worker.transaction(|tx| {
        tx.execute(insert, &value(8))?;
        assert!(tx.execute("INSERT INTO nowhere VALUES (1)", &[]).is_err());
        Ok(())
    });
    worker.transaction(|tx| {
        tx.execute(insert, &value(16))?;
        tx.execute("SAVEPOINT here", &[])?;
        tx.execute(insert, &value(32))?;
        assert!(tx.execute("INSERT INTO nowhere VALUES (1)", &[]).is_err());
        tx.execute("ROLLBACK TO here", &[])?;
        Ok::<_, WorkerError>(())
    })?;
    assert!(failed.is_err() && panicked.is_err());
    Ok(write_note("hidden", &refusal(hidden))?)
}

/// Would fail if an error or a panic committed, or a commit did not.
fn commits_and_rolls_back(database: &Database, sum: i64, hidden: &str) {
    sql(database, &["CREATE TABLE t (v integer)"]);
    let target = Target::of(database);
    let cluster = cluster("transactions", move |worker| {
        worker.unblock_signals()?;
        target.connect(worker)?;
        commit_and_roll_back(worker)
    });
    let handle = start(&cluster, "transactions", RestartPolicy::Never);
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert_eq!(number(database, "SELECT sum(v) FROM t"), sum);
    let said = read_note("hidden");
    assert!(said.starts_with(hidden), "{said}");
    cluster.end();
}

/// SQLite undoes a failed statement alone.
fn commit_and_rollback_on_sqlite() {
    commits_and_rolls_back(&sqlite(), 1 + 8 + 16, "none");
}

/// PostgreSQL answers the commit of a failed transaction with a rollback, as if that were a
/// success.
fn commit_and_rollback_on_postgres() {
    commits_and_rolls_back(&postgres(), 1 + 16, "statement failed: COMMIT");
}

const TWO_TABLES: [&str; 2] = ["CREATE TABLE a (v integer)", "CREATE TABLE b (v integer)"];

/// Inserts into two tables. The first time it stops in between, as `pause` says.
fn in_two_steps(
    worker: &mut Worker,
    backend_pid: &'static str,
    pause: impl Fn(&mut bgw_backend::Tx<'_>) -> Result<(), WorkerError>,
) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let again = note_path("half").exists();
    worker.transaction(|tx| {
        tx.execute("INSERT INTO a VALUES (1)", &[])?;
        if !again {
            let rows = tx.query(backend_pid, &[])?;
            let pid = rows.iter().flatten().find_map(Value::as_integer);
            write_note("half", &pid.unwrap_or_default().to_string())?;
            pause(tx)?;
        }
        tx.execute("INSERT INTO b VALUES (1)", &[])?;
        Ok::<_, WorkerError>(())
    })?;
    write_note("whole", "")?;
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

fn both_are_there_once(database: &Database) {
    let query = "SELECT 10 * (SELECT count(*) FROM a) + (SELECT count(*) FROM b)";
    assert_eq!(number(database, query), 11);
}

/// Would fail if the rows of a killed worker stayed, and time out if its locks did.
fn killed_in_mid_transaction(database: &Database) {
    sql(database, &TWO_TABLES);
    let target = Target::of(database);
    let cluster = cluster("steps", move |worker| {
        target.connect(worker)?;
        in_two_steps(worker, "SELECT 0", |_| {
            loop {
                std::thread::park();
            }
        })
    });
    let handle = start(&cluster, "steps", RestartPolicy::Fixed(Duration::ZERO));
    let pid = started(&handle);
    read_note("half");
    kill(pid, Signal::SIGKILL);
    read_note("whole");
    both_are_there_once(database);
    cluster.end();
}

fn a_kill_in_mid_transaction_leaves_nothing_half_done_on_sqlite() {
    killed_in_mid_transaction(&sqlite());
}

fn a_kill_in_mid_transaction_leaves_nothing_half_done_on_postgres() {
    killed_in_mid_transaction(&postgres());
}

/// Would time out if the worker hung, and fail if it crashed or went on without its transaction.
fn loses_its_connection(
    pause: impl Fn(&mut bgw_backend::Tx<'_>) -> Result<(), WorkerError> + 'static,
    cut: impl Fn(&Database, &str),
) {
    let database = postgres();
    sql(&database, &TWO_TABLES);
    let log = Log::start();
    let target = Target::of(&database);
    let cluster = cluster("steps", move |worker| {
        target.connect(worker)?;
        in_two_steps(worker, "SELECT pg_backend_pid()", &pause)
    });
    let handle = start(&cluster, "steps", RestartPolicy::Fixed(Duration::ZERO));
    cut(&database, &read_note("half"));
    read_note("whole");
    assert_eq!(handle.exit_report().unwrap().cause, ExitCause::Exited(1));
    both_are_there_once(&database);
    log.wait_for("the connection to the database was lost in: ");
    log.wait_for("terminating connection due to administrator command");
    cluster.end();
}

fn terminate_backend(database: &Database, pid: &str) {
    sql(database, &[&format!("SELECT pg_terminate_backend({pid})")]);
    let living = format!("SELECT count(*) FROM pg_stat_activity WHERE pid = {pid}");
    wait_for_number(database, &living, 0);
}

fn a_connection_lost_in_a_statement_ends_the_worker_with_1() {
    loses_its_connection(
        |tx| Ok(tx.query("SELECT pg_sleep(3600)", &[]).map(drop)?),
        |database, pid| {
            wait_for_endless(database);
            terminate_backend(database, pid);
        },
    );
}

fn a_connection_lost_between_statements_ends_the_worker_with_1() {
    loses_its_connection(
        |_| {
            read_note("cut");
            Ok(())
        },
        |database, pid| {
            terminate_backend(database, pid);
            write_note("cut", "").unwrap();
        },
    );
}

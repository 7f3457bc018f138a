//! The promise: a signal reaches a worker in the middle of a statement and cancels that statement
//! only. Its transaction is rolled back and the connection stays usable.
//!
//! Would catch: a statement that no signal reaches, a cancel that hits the next statement or is
//! lost, a worker that outlives its postmaster in a database, a thread or descriptor that a cancel
//! leaves.

use crate::support::database::{
    Database, Target, cluster, number, postgres, refusal, sql, sqlite, start, wait_for_endless,
};
use crate::support::{
    Log, PATIENCE, alive, kill, raw, read_note, started, stopped, wait_until_asleep, write_note,
};
use bgw_backend::{DatabaseError, ExitCause, Interrupt, RestartPolicy, Value, Worker, WorkerError};
use process_test::{Pid, Signal, Test, tests, wait_until};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        sigint_cancels_only_the_statement_on_sqlite => [B62],
        sigint_cancels_only_the_statement_on_postgres => [B62],
        sigint_ends_a_wait_for_another_writer => [B62],
        a_cancel_that_overtakes_its_statement_is_repeated => [B62],
        many_cancels_hit_their_statement_or_none_and_leak_nothing => [B62],
        sigterm_cuts_a_statement_short_on_sqlite => [B54, B62],
        sigterm_cuts_a_statement_short_on_postgres => [B54, B62],
        a_statement_ends_with_the_postmaster_on_sqlite => [B70, B61],
        a_statement_ends_with_the_postmaster_on_postgres => [B70, B61],
    ]
}

/// Would time out if the statement went on, and fail if the worker ended with it or if its rows
/// stayed.
fn cancels(database: &Database) {
    sql(database, &["CREATE TABLE t (v integer)"]);
    let target = Target::of(database);
    let cluster = cluster("cancel", move |worker| {
        worker.handle_terminate();
        worker.unblock_signals()?;
        target.connect(worker)?;
        let canceled = worker.transaction(|tx| {
            tx.execute("INSERT INTO t VALUES (1)", &[])?;
            write_note("running", "")?;
            Ok::<_, WorkerError>(tx.query(target.endless, &[]).map(drop)?)
        });
        worker.transaction(|tx| tx.execute("INSERT INTO t VALUES (2)", &[]))?;
        write_note("canceled", &refusal(canceled))?;
        while !worker.should_stop() {
            worker.sleep(None)?;
        }
        Ok(())
    });
    let handle = start(&cluster, "cancel", RestartPolicy::Never);
    let pid = started(&handle);
    read_note("running");
    wait_for_endless(database);
    kill(pid, Signal::SIGINT);
    assert_eq!(read_note("canceled"), "canceled");
    assert_eq!(number(database, "SELECT sum(v) FROM t"), 2);
    assert!(alive(pid));
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

fn sigint_cancels_only_the_statement_on_sqlite() {
    cancels(&sqlite());
}

fn sigint_cancels_only_the_statement_on_postgres() {
    cancels(&postgres());
}

/// A file has one writer at a time. Would time out if SIGINT did not end the wait for the other
/// writer.
fn sigint_ends_a_wait_for_another_writer() {
    let database = sqlite();
    sql(&database, &["CREATE TABLE t (v integer)"]);
    let target = Target::of(&database);
    let cluster = cluster("cancel", move |worker| {
        worker.unblock_signals()?;
        target.connect(worker)?;
        write_note("connected", "")?;
        read_note("locked");
        write_note("running", "")?;
        let canceled = worker.transaction(|tx| tx.execute("INSERT INTO t VALUES (1)", &[]));
        Ok(write_note("canceled", &refusal(canceled.map(drop)))?)
    });
    let pid = started(&start(&cluster, "cancel", RestartPolicy::Never));
    read_note("connected");
    let mut writer = database.client().unwrap();
    writer.execute("BEGIN IMMEDIATE").unwrap();
    write_note("locked", "").unwrap();
    read_note("running");
    wait_until("the worker waits", PATIENCE, || status(raw(pid), "State:").starts_with('S'));
    kill(pid, Signal::SIGINT);
    assert_eq!(read_note("canceled"), "canceled");
    writer.execute("ROLLBACK").unwrap();
    assert_eq!(number(&database, "SELECT count(*) FROM t"), 0);
    cluster.end();
}

/// The line of a process's status that begins with `name`.
fn status(pid: Pid, name: &str) -> String {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(name)).unwrap();
    line.trim().to_owned()
}

/// The server's process is stopped until statement and cancel have both arrived, and then handles
/// the cancel first, while it has nothing to cancel. Would time out if no other cancel followed.
fn a_cancel_that_overtakes_its_statement_is_repeated() {
    let database = postgres();
    let target = Target::of(&database);
    let cluster = cluster("cancel", move |worker| {
        worker.unblock_signals()?;
        target.connect(worker)?;
        let canceled = worker.transaction(|tx| {
            let rows = tx.query("SELECT pg_backend_pid()", &[])?;
            let pid = rows.iter().flatten().find_map(Value::as_integer).unwrap_or_default();
            write_note("server", &pid.to_string())?;
            read_note("stopped");
            write_note("sending", "")?;
            Ok::<_, WorkerError>(tx.query(target.endless, &[]).map(drop)?)
        });
        Ok(write_note("canceled", &refusal(canceled))?)
    });
    let pid = started(&start(&cluster, "cancel", RestartPolicy::Never));
    let server = Pid::from_raw(read_note("server").parse().unwrap());
    nix::sys::signal::kill(server, Signal::SIGSTOP).unwrap();
    wait_until("the server's process has stopped", PATIENCE, || {
        status(server, "State:").starts_with('T')
    });
    write_note("stopped", "").unwrap();
    read_note("sending");
    wait_until_asleep(pid);
    kill(pid, Signal::SIGINT);
    wait_until("the cancel has arrived", PATIENCE, || {
        let pending = u64::from_str_radix(&status(server, "ShdPnd:"), 16).unwrap();
        pending & (1 << (Signal::SIGINT as u32 - 1)) != 0
    });
    nix::sys::signal::kill(server, Signal::SIGCONT).unwrap();
    assert_eq!(read_note("canceled"), "canceled");
    cluster.end();
}

/// Short transactions, so cancels come before, in and after their statements. A late cancel would
/// fail a statement that nobody cancelled.
fn hail(worker: &mut Worker, target: &Target) -> Result<(), WorkerError> {
    let open = |folder: &str| std::fs::read_dir(folder).map(Iterator::count);
    target.connect(worker)?;
    worker.transaction(|tx| tx.query("SELECT 1", &[]))?;
    let before = open("/proc/self/fd")?;
    worker.unblock_signals()?;
    write_note("begun", "")?;
    let (mut done, mut canceled) = (0, 0);
    while done + canceled < 300 {
        let step = worker.transaction(|tx| {
            tx.execute("INSERT INTO t VALUES (1)", &[])?;
            tx.query("SELECT pg_sleep(0.002)", &[])
        });
        match step {
            Ok(_) => done += 1,
            Err(DatabaseError::Interrupted(Interrupt::Canceled)) => canceled += 1,
            Err(error) => return Err(error.into()),
        }
    }
    let leaked = open("/proc/self/fd")? - before;
    let threads = open("/proc/self/task")?;
    write_note("done", &format!("{done} {leaked} {threads}"))?;
    Ok(())
}

/// Would fail if a cancel hit a later statement, if a committed row were missing or a cancelled one
/// present, or if a descriptor or a thread were left.
fn many_cancels_hit_their_statement_or_none_and_leak_nothing() {
    let database = postgres();
    sql(&database, &["CREATE TABLE t (v integer)"]);
    let log = Log::start();
    let target = Target::of(&database);
    let cluster = cluster("hail", move |worker| hail(worker, &target));
    let handle = start(&cluster, "hail", RestartPolicy::Never);
    let pid = started(&handle);
    read_note("begun");
    wait_until("the worker is done", PATIENCE, || {
        // It may have ended; nobody else gets its pid before its end is published.
        let _ = nix::sys::signal::kill(raw(pid), Signal::SIGINT);
        !alive(pid)
    });
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0), "{}", log.text());
    let note = read_note("done");
    let numbers: Vec<i64> = note.split(' ').map(|text| text.parse().unwrap()).collect();
    let [done, leaked, threads] = numbers[..] else { panic!("{note}") };
    assert_eq!((leaked, threads), (0, 1), "descriptors left, threads");
    assert_eq!(number(&database, "SELECT count(*) FROM t"), done);
    assert!(done < 300, "no statement was cancelled");
    cluster.end();
}

/// Would time out if the worker waited for the end of its statement, and fail if it committed.
fn terminates(database: &Database) {
    sql(database, &["CREATE TABLE t (v integer)"]);
    let target = Target::of(database);
    let cluster = cluster("endless", move |worker| {
        worker.unblock_signals()?;
        target.connect(worker)?;
        worker.transaction(|tx| {
            tx.execute("INSERT INTO t VALUES (1)", &[])?;
            write_note("running", "")?;
            Ok::<_, WorkerError>(tx.query(target.endless, &[]).map(drop)?)
        })
    });
    let handle = start(&cluster, "endless", RestartPolicy::Fixed(Duration::ZERO));
    read_note("running");
    wait_for_endless(database);
    handle.terminate().unwrap();
    let report = stopped(&handle);
    assert_eq!((report.cause, report.requested()), (ExitCause::Exited(1), true));
    assert_eq!(number(database, "SELECT count(*) FROM t"), 0);
    cluster.end();
}

fn sigterm_cuts_a_statement_short_on_sqlite() {
    terminates(&sqlite());
}

fn sigterm_cuts_a_statement_short_on_postgres() {
    terminates(&postgres());
}

/// Would fail if the worker missed the death in its statement: then only the kernel would end it.
fn ends_with_the_postmaster(database: &Database) {
    sql(database, &["CREATE TABLE t (v integer)"]);
    let target = Target::of(database);
    let cluster = cluster("endless", move |worker| {
        worker.handle_terminate();
        worker.unblock_signals()?;
        target.connect(worker)?;
        let ended = worker.transaction(|tx| {
            tx.execute("INSERT INTO t VALUES (1)", &[])?;
            write_note("running", "")?;
            Ok::<_, WorkerError>(tx.query(target.endless, &[]).map(drop)?)
        });
        write_note("ended", &refusal(ended))?;
        Ok(())
    });
    let handle = start(&cluster, "endless", RestartPolicy::Never);
    let pid = started(&handle);
    read_note("running");
    wait_for_endless(database);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    assert!(read_note("ended").starts_with("the postmaster has died"));
    wait_until("the worker has ended", PATIENCE, || !alive(pid));
    assert_eq!(number(database, "SELECT count(*) FROM t"), 0);
    cluster.launched.wait().unwrap();
}

fn a_statement_ends_with_the_postmaster_on_sqlite() {
    ends_with_the_postmaster(&sqlite());
}

fn a_statement_ends_with_the_postmaster_on_postgres() {
    ends_with_the_postmaster(&postgres());
}

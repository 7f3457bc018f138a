//! The promise: each example does what its head comment says, and says so by its exit status.
//!
//! Would catch: an example that no longer fits the crates, a total that is not folded, a server that
//! stops serving when one of its workers is killed.

use process_test::{Test, tests, wait_until};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    process_test::watchdog(
        std::time::Duration::from_secs(120),
        tests![
            the_demo_ends_ok,
            the_demo_ends_ok_on_postgres,
            prefork_serves_on_when_a_worker_is_killed,
            ring_passes_messages_of_every_size,
            worker_spi_folds_reloads_lists_and_stops => [S01, S02],
        ],
    )
}

const PATIENCE: Duration = Duration::from_secs(30);

fn run(command: &mut Command) -> Output {
    let output = command.output().unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}\n{text}\n{errors}", output.status);
    output
}

fn the_demo_ends_ok() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_demo")).args(["--seconds", "3"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().last().unwrap().starts_with("demo: ok"), "{text}");
}

fn the_demo_ends_ok_on_postgres() {
    if let Err(missing) = throwaway_postgres::programs() {
        process_test::skip(missing.to_string());
    }
    let arguments = ["--seconds", "3", "--database", "postgres"];
    let output = run(Command::new(env!("CARGO_BIN_EXE_demo")).args(arguments));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().last().unwrap().starts_with("demo: ok"), "{text}");
}

fn prefork_serves_on_when_a_worker_is_killed() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_prefork")).args(["--requests", "400"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().last().unwrap().starts_with("prefork: ok"), "{text}");
}

fn ring_passes_messages_of_every_size() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_ring")).args(["--messages", "1000"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().last().unwrap().starts_with("ring: ok"), "{text}");
}

fn spi(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker_spi"));
    command.arg("--runtime-dir").arg(folder.join("run")).args(arguments);
    String::from_utf8(run(&mut command).stdout).unwrap()
}

/// Would time out if a delta were lost or if a reload needed a restart, and fail if a stopped worker
/// stayed in the list.
fn worker_spi_folds_reloads_lists_and_stops() {
    let folder = std::env::temp_dir();
    let settings = folder.join("settings.toml");
    let database = folder.join("spi.db");
    let write_settings = |naptime: u64| {
        let text = format!("database = {database:?}\nnaptime_ms = {naptime}\ntotal_workers = 2\n");
        std::fs::write(&settings, text).unwrap();
    };
    write_settings(3_600_000);
    let mut server = Command::new(env!("CARGO_BIN_EXE_worker_spi"))
        .arg("--runtime-dir")
        .arg(folder.join("run"))
        .arg("run")
        .arg(&settings)
        .spawn()
        .unwrap();
    wait_until("the control socket exists", PATIENCE, || folder.join("run/control.sock").exists());
    let launched = spi(&folder, &["launch", "7"]);
    let handle = launched.split_whitespace().next().unwrap().to_owned();
    let connection = rusqlite::Connection::open(&database).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    let count =
        |query: &str| -> i64 { connection.query_row(query, [], |row| row.get(0)).unwrap_or(-1) };
    wait_until("all three tables exist", PATIENCE, || {
        count("SELECT count(*) FROM sqlite_master WHERE type = 'table'") == 3
    });
    for schema in [1, 7] {
        let insert = format!("INSERT INTO \"schema{schema}.counted\" VALUES ('delta', ?1)");
        for value in [5, 6, 7] {
            connection.execute(&insert, [value * schema]).unwrap();
        }
    }
    // Their nap is an hour; the new settings shorten it without a restart.
    write_settings(20);
    let postmaster = nix::unistd::Pid::from_raw(server.id().cast_signed());
    nix::sys::signal::kill(postmaster, nix::sys::signal::Signal::SIGHUP).unwrap();
    for (schema, total) in [(1, 18), (7, 126)] {
        let query = format!("SELECT value FROM \"schema{schema}.counted\" WHERE type = 'total'");
        wait_until(&format!("schema {schema} is folded"), PATIENCE, || count(&query) == total);
        // The signal itself woke them once; the second time they wake by the new setting.
        let insert = format!("INSERT INTO \"schema{schema}.counted\" VALUES ('delta', 1000)");
        connection.execute(&insert, []).unwrap();
        let again = total + 1000;
        wait_until(&format!("schema {schema} naps less"), PATIENCE, || count(&query) == again);
    }
    let list = spi(&folder, &["list"]);
    assert_eq!(list.lines().count(), 3, "{list}");
    assert!(list.contains("worker_spi worker 7"), "{list}");
    spi(&folder, &["stop", &handle]);
    assert_eq!(spi(&folder, &["list"]).lines().count(), 2);
    nix::sys::signal::kill(postmaster, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert!(server.wait().unwrap().success());
}

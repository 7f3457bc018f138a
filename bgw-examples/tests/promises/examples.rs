//! The promise: each example does what its head comment says, and says so by its exit status.
//!
//! Would catch: an example that no longer fits the crates, a total that is not folded, a server
//! that stops serving when one of its workers is killed.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use process_test::{Test, tests, wait_until};
use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    process_test::watchdog(
        std::time::Duration::from_secs(120),
        tests![
            the_demo_ends_ok,
            the_demo_ends_ok_on_postgres,
            prefork_serves_on_when_a_worker_is_killed,
            prefork_spreads_kept_connections_over_its_workers,
            ring_passes_messages_of_every_size,
            await_jobs_awaits_every_end_and_gives_up_on_the_one_that_hangs,
            zygote_answers_from_a_table_that_was_loaded_once_and_then_anew => [J41, J44],
            primes_counts_although_one_of_its_calls_dies,
            parallel_sum_is_right_by_any_number_of_workers,
            map_files_counts_all_that_can_be_read => [J22],
            job_queue_answers_each_job_once_although_workers_die,
            job_queue_answers_each_job_once_on_postgres,
            plugin_host_goes_on_whatever_its_plug_ins_do,
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

fn needs_postgres() {
    if let Err(missing) = throwaway_postgres::programs() {
        process_test::skip(missing.to_string());
    }
}

fn the_demo_ends_ok_on_postgres() {
    needs_postgres();
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

/// Sends a request over a kept connection, or over a new one if there is none or it has ended.
/// Returns the process that answered, and keeps the connection unless the answer ends it.
fn ask(address: &str, kept: &mut Option<TcpStream>) -> std::io::Result<i32> {
    let mut stream = kept.take().map_or_else(|| TcpStream::connect(address), Ok)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")?;
    let mut reader = BufReader::new(&stream);
    let (mut head, mut body) = (String::new(), [0; 1024]);
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head)? == 0 {
            return Err(std::io::ErrorKind::UnexpectedEof.into());
        }
    }
    reader.read_exact(&mut body)?;
    if !head.contains("connection: close") {
        *kept = Some(stream);
    }
    let process = head.lines().find_map(|line| line.strip_prefix("x-pid: ")).unwrap();
    Ok(process.parse().unwrap())
}

/// Would catch: a worker that gets none of the connections that the others keep, for good.
fn prefork_spreads_kept_connections_over_its_workers() {
    let mut server = Command::new(env!("CARGO_BIN_EXE_prefork"))
        .args(["--requests", "0"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(server.stdout.as_mut().unwrap()).read_line(&mut line).unwrap();
    let address = line.trim().rsplit(' ').next().unwrap().to_owned();
    let mut found = BTreeSet::new();
    wait_until("four workers answer", PATIENCE, || {
        found.extend(ask(&address, &mut None).ok());
        found.len() == 4
    });
    // This one gets no connection while the others take all of them.
    let asleep = Pid::from_raw(*found.first().unwrap());
    kill(asleep, Signal::SIGSTOP).unwrap();
    wait_until("all its threads stand still", PATIENCE, || {
        std::fs::read_dir(format!("/proc/{asleep}/task")).unwrap().all(|task| {
            let stat = std::fs::read_to_string(task.unwrap().path().join("stat")).unwrap();
            stat.rsplit_once(") ").unwrap().1.starts_with('T')
        })
    });
    let mut connections: [Option<TcpStream>; 32] = [const { None }; 32];
    for connection in &mut connections {
        assert_ne!(ask(&address, connection).unwrap(), asleep.as_raw());
    }
    kill(asleep, Signal::SIGCONT).unwrap();
    wait_until("no worker has more than 5/4 of its share of eight", PATIENCE, || {
        let mut shares = BTreeMap::new();
        for connection in &mut connections {
            *shares.entry(ask(&address, connection).unwrap()).or_insert(0) += 1;
        }
        shares.len() == 4 && shares.values().all(|share| *share <= 10)
    });
    kill(Pid::from_raw(server.id().cast_signed()), Signal::SIGTERM).unwrap();
    assert!(server.wait().unwrap().success());
}

fn await_jobs_awaits_every_end_and_gives_up_on_the_one_that_hangs() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_await_jobs")).args(["--jobs", "40"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let late = text.lines().last().unwrap().strip_prefix("await_jobs: ok, 40 jobs, too slow: [");
    // On a busy machine others are too slow, too; the one that hangs is so on any.
    let late: Vec<&str> = late.expect(&text).trim_end_matches(']').split(", ").collect();
    assert_eq!(late[0], "0", "{text}");
}

fn primes_counts_although_one_of_its_calls_dies() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_primes")).args(["--below", "10000"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.starts_with("0 to 1250: the job was terminated by signal 6"), "{text}");
    assert_eq!(text.lines().last().unwrap(), "primes: ok, 1229 below 10000");
}

fn parallel_sum_is_right_by_any_number_of_workers() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_parallel_sum"));
    let output = run(command.args(["--numbers", "100003", "--workers", "8"]));
    let text = String::from_utf8(output.stdout).unwrap();
    let counts = text.lines().filter_map(|line| line.split_whitespace().next());
    assert_eq!(counts.collect::<Vec<_>>(), ["workers", "1", "2", "4", "8", "parallel_sum:"]);
    assert_eq!(text.lines().last().unwrap(), "parallel_sum: ok, 5000350006");
}

fn map_files_counts_all_that_can_be_read() {
    let folder = std::env::temp_dir().join("files");
    fs::create_dir_all(folder.join("below")).unwrap();
    for number in 0..30 {
        let place = if number % 2 == 0 { folder.clone() } else { folder.join("below") };
        fs::write(place.join(number.to_string()), "one two\n three ".repeat(number)).unwrap();
    }
    let map_files = |folder: &Path| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_map_files"));
        command.arg(folder).args(["--workers", "3"]).output().unwrap()
    };
    let output = map_files(&folder);
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text, "map_files: ok, 30 files, 0 failed, 1305 words\n");
    let refused = map_files(&folder.join("nothing"));
    assert_eq!(refused.status.code(), Some(1));
    assert!(String::from_utf8(refused.stderr).unwrap().contains("No such file"));
}

fn answers_each_job_once(arguments: &[&str]) {
    let mut command = Command::new(env!("CARGO_BIN_EXE_job_queue"));
    // Of two workers at a time, one comes to its hundredth job, which kills it.
    let output = run(command.args(["--jobs", "300"]).args(arguments));
    let text = String::from_utf8(output.stdout).unwrap();
    let died =
        text.strip_prefix("job_queue: ok, 300 jobs, ").and_then(|rest| rest.split(' ').next());
    assert!(died.is_some_and(|died| died.parse::<u32>().unwrap() > 0), "{text}");
}

fn job_queue_answers_each_job_once_although_workers_die() {
    answers_each_job_once(&[]);
}

fn job_queue_answers_each_job_once_on_postgres() {
    needs_postgres();
    answers_each_job_once(&["--postgres"]);
}

fn plugin_host_goes_on_whatever_its_plug_ins_do() {
    let mut command = Command::new(env!("CARGO_BIN_EXE_plugin_host"));
    command.arg(crate::libraries::library("plugins"));
    let output = run(command.args(["works", "crashes", "hangs", "leaks", "--times", "1"]));
    let text = String::from_utf8(output.stdout).unwrap();
    for (name, what) in [("crashes", "signal 6"), ("hangs", "silent"), ("leaks", "makes place")] {
        let said = |line: &str| line.contains(&format!("{name:?}")) && line.contains(what);
        assert!(text.lines().any(said), "{name} {what}: {text}");
    }
    assert_eq!(text.lines().last().unwrap(), "plugin_host: ok, 4 plug-ins");
}

fn ring_passes_messages_of_every_size() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_ring")).args(["--messages", "1000"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(text.lines().last().unwrap().starts_with("ring: ok"), "{text}");
}

fn zygote_answers_from_a_table_that_was_loaded_once_and_then_anew() {
    let output = run(Command::new(env!("CARGO_BIN_EXE_zygote")).args(["--requests", "20"]));
    let text = String::from_utf8(output.stdout).unwrap();
    assert_eq!(text.lines().last().unwrap(), "zygote: ok", "{text}");
}

fn spi(folder: &Path, arguments: &[&str]) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_worker_spi"));
    command.arg("--runtime-dir").arg(folder.join("run")).args(arguments);
    String::from_utf8(run(&mut command).stdout).unwrap()
}

/// Would time out if a delta were lost or if a reload needed a restart, and fail if a stopped
/// worker stayed in the list.
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
    let postmaster = Pid::from_raw(server.id().cast_signed());
    kill(postmaster, Signal::SIGHUP).unwrap();
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
    kill(postmaster, Signal::SIGTERM).unwrap();
    assert!(server.wait().unwrap().success());
}

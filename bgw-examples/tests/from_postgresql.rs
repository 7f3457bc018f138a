//! The promise: FROM_POSTGRESQL.md names every function, field, flag and setting of PostgreSQL's
//! background workers, and each item that it names beside one exists here.
//!
//! Would catch: an item that was renamed (this file does not compile then), a row that was lost, an
//! item on the page that nothing here proves.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use bgw_backend::{
    Backend, BackgroundWorker, BackgroundWorkerBuilder, Handle, OutputFile, RestartPolicy, Segment,
    ShutdownMode, StartTime, WaitEvents, Worker, WorkerError, WorkerFlags, WorkerStatus, entry,
    set_latch, wait_all, wait_any,
};
use bgw_postmaster::{Postmaster, PostmasterBuilder};
use process_test::tests;
use shmem_slots::queue::{Queue, QueueOptions, Receiver, Sender};
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::ExitCode;
use std::time::Duration;

const PAGE: &str = include_str!("../FROM_POSTGRESQL.md");

/// What a user of the C interface knows.
const C_NAMES: &[&str] = &[
    "RegisterBackgroundWorker",
    "RegisterDynamicBackgroundWorker",
    "GetBackgroundWorkerPid",
    "WaitForBackgroundWorkerStartup",
    "WaitForBackgroundWorkerShutdown",
    "TerminateBackgroundWorker",
    "BackgroundWorkerInitializeConnection",
    "BackgroundWorkerInitializeConnectionByOid",
    "BackgroundWorkerBlockSignals",
    "BackgroundWorkerUnblockSignals",
    "GetBackgroundWorkerTypeByPid",
    "TerminateBackgroundWorkersForDatabase",
    "bgw_name",
    "bgw_type",
    "bgw_flags",
    "bgw_start_time",
    "bgw_restart_time",
    "bgw_library_name",
    "bgw_function_name",
    "bgw_main_arg",
    "bgw_extra",
    "bgw_notify_pid",
    "BGWORKER_SHMEM_ACCESS",
    "BGWORKER_BACKEND_DATABASE_CONNECTION",
    "BGWORKER_CLASS_PARALLEL",
    "BGWORKER_INTERRUPTIBLE",
    "BGWORKER_BYPASS_ALLOWCONN",
    "BGWORKER_BYPASS_ROLELOGINCHECK",
    "BgWorkerStart_PostmasterStart",
    "BgWorkerStart_ConsistentState",
    "BgWorkerStart_RecoveryFinished",
    "BGW_NEVER_RESTART",
    "BGW_DEFAULT_RESTART_INTERVAL",
    "BGWH_NOT_YET_STARTED",
    "BGWH_STARTED",
    "BGWH_STOPPED",
    "BGWH_POSTMASTER_DIED",
    "WL_LATCH_SET",
    "WL_SOCKET_READABLE",
    "WL_SOCKET_WRITEABLE",
    "WL_TIMEOUT",
    "WL_POSTMASTER_DEATH",
    "WL_EXIT_ON_PM_DEATH",
    "max_worker_processes",
    "max_parallel_workers",
    "restart_after_crash",
    "shared_preload_libraries",
];

/// Names of items, as the page writes them; the compiler sees that each exists. A method is called
/// in a closure that never runs.
macro_rules! items {
    ($($kind:ident $($path:ident)::+ $(($($argument:expr),*))?;)*) => {
        vec![$({
            items!(@$kind $($path)::+ $(($($argument),*))?);
            stringify!($($path)::+).replace(' ', "")
        }),*]
    };
    (@item $($path:ident)::+) => { let _ = $($path)::+; };
    (@free $function:ident($($argument:expr),*)) => {
        let _ = || drop($function($($argument),*));
    };
    (@of $type:ident::$function:ident($($argument:expr),*)) => {
        let _ = || drop($type::$function($($argument),*));
    };
    (@method $type:ident::$method:ident($($argument:expr),*)) => {
        #[allow(unused_mut, reason = "some need it")]
        let _ = |mut it: $type| drop(it.$method($($argument),*));
    };
}

fn items() -> Vec<String> {
    items! {
        item Postmaster::launch;
        item OutputFile::rotate;
        item Postmaster::register;
        item Postmaster::run;
        item Backend::advance;
        item Backend::create_segment;
        item Backend::register;
        item Backend::reload;
        item Backend::segment;
        item Backend::terminate_by_tag;
        item Backend::worker_type_by_pid;
        item Backend::workers;
        item Handle::set_latch;
        item Handle::status;
        item Handle::terminate;
        item Handle::wait_for_end;
        item Handle::wait_for_ready;
        item Handle::wait_for_shutdown;
        item Handle::wait_for_startup;
        item BackgroundWorker::entry;
        item BackgroundWorker::flags;
        item BackgroundWorker::notify;
        item BackgroundWorker::restart;
        item BackgroundWorker::start_time;
        of BackgroundWorker::builder("");
        item BackgroundWorkerBuilder::extra;
        item BackgroundWorkerBuilder::flags;
        item BackgroundWorkerBuilder::main_arg;
        item BackgroundWorkerBuilder::notify;
        item BackgroundWorkerBuilder::restart;
        item BackgroundWorkerBuilder::start_time;
        item BackgroundWorkerBuilder::unbraked;
        method BackgroundWorkerBuilder::command("", [""]);
        method BackgroundWorkerBuilder::function("");
        method BackgroundWorkerBuilder::library("", "");
        method BackgroundWorkerBuilder::tag("");
        method BackgroundWorkerBuilder::worker_type("");
        item PostmasterBuilder::allow_commands;
        item PostmasterBuilder::allow_libraries;
        item PostmasterBuilder::initial_phase;
        item PostmasterBuilder::max_parallel_workers;
        item PostmasterBuilder::max_sessions;
        item PostmasterBuilder::max_workers;
        item PostmasterBuilder::restart_after_crash;
        item PostmasterBuilder::segment_bytes;
        item PostmasterBuilder::terminate_grace;
        method PostmasterBuilder::descriptor("", std::fs::File::open("").unwrap());
        method PostmasterBuilder::output_dir("");
        method PostmasterBuilder::runtime_dir("");
        item RestartPolicy::Never;
        item RestartPolicy::after_secs;
        item Segment::create_queue;
        item Segment::handle;
        item Segment::queue;
        item ShutdownMode::Fast;
        item ShutdownMode::Immediate;
        item ShutdownMode::Smart;
        item StartTime::ConsistentState;
        item StartTime::PostmasterStart;
        item StartTime::RecoveryFinished;
        item WaitEvents::EXIT_ON_POSTMASTER_DEATH;
        item WaitEvents::LATCH_SET;
        item WaitEvents::POSTMASTER_DEATH;
        item WaitEvents::SOCKET_READABLE;
        item WaitEvents::SOCKET_WRITABLE;
        item WaitEvents::TIMEOUT;
        item Worker::block_signals;
        item Worker::check_interrupts;
        item Worker::extra;
        item Worker::handle_reload;
        item Worker::handle_terminate;
        item Worker::initialize_connection;
        item Worker::main_arg;
        item Worker::name;
        item Worker::name_waits;
        item Worker::reload_requested;
        item Worker::should_stop;
        item Worker::sleep;
        item Worker::unblock_signals;
        item Worker::wait;
        item Worker::worker_type;
        method Worker::transaction(|_| Ok::<(), WorkerError>(()));
        item WorkerFlags::CLASS_PARALLEL;
        item WorkerFlags::DATABASE_CONNECTION;
        item WorkerFlags::INTERRUPTIBLE;
        item WorkerFlags::SHMEM_ACCESS;
        item WorkerStatus::NotYetStarted;
        item WorkerStatus::PostmasterDied;
        item WorkerStatus::Started;
        item WorkerStatus::Stopped;
        of Queue::create(&QueueOptions { buffer: 1, max_message: 1, tag: 0 });
        item set_latch;
        item wait_all;
        item wait_any;
        free entry(|_: &mut Worker| Ok::<(), String>(()));
    }
}

fn main() -> ExitCode {
    process_test::main(tests![
        the_search_of_the_reference_finds_every_name_that_stands_for_an_item,
        every_name_of_postgresql_is_on_the_page,
        every_item_on_the_page_exists_and_every_item_here_is_on_the_page,
        the_queue_sends_and_receives_as_the_page_says,
    ])
}

/// The text between single backticks.
fn spans(text: &str) -> impl Iterator<Item = &str> {
    text.split('`').skip(1).step_by(2)
}

/// The cells of all tables, without the heads.
fn rows() -> impl Iterator<Item = Vec<&'static str>> {
    let rows = PAGE.lines().filter(|line| line.starts_with("| `"));
    rows.map(|row| row.trim_matches('|').split('|').map(str::trim).collect())
}

fn every_name_of_postgresql_is_on_the_page() {
    let prose = PAGE.lines().filter(|line| !line.starts_with("```"));
    let known: BTreeSet<&str> = prose.flat_map(spans).collect();
    for name in C_NAMES {
        assert!(known.contains(name), "{name}");
    }
}

/// The page says so. Would fail if an alias were lost with a line of code.
fn the_search_of_the_reference_finds_every_name_that_stands_for_an_item() {
    let mut sources = String::new();
    for name in ["shmem-slots", "bgw-core", "bgw-postmaster", "bgw-backend"] {
        let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(name).join("src");
        let mut folders = vec![root];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() {
                    folders.push(path);
                } else {
                    sources += &fs::read_to_string(path).unwrap();
                }
            }
        }
    }
    for name in rows().flat_map(|row| spans(row.first().unwrap())) {
        let command = name.contains(' ');
        let found = sources.contains(&format!("#[doc(alias = \"{name}\")]"))
            || sources.contains(&format!("fn {name}("));
        assert!(found || command, "no item has the alias {name}");
    }
}

fn every_item_on_the_page_exists_and_every_item_here_is_on_the_page() {
    let shown: BTreeSet<String> =
        rows().flat_map(|row| row.into_iter().skip(1).flat_map(spans)).map(str::to_owned).collect();
    // Proven by the test below: their types are generic.
    let exempt = ["Sender::send", "Receiver::receive"].map(str::to_owned);
    let exist: BTreeSet<String> = items().into_iter().chain(exempt).collect();
    for item in shown.iter().filter(|item| item.contains("::")) {
        assert!(exist.contains(item), "the page names {item}; add it to items()");
    }
    let prose: BTreeSet<&str> = PAGE.lines().flat_map(spans).collect();
    for item in &exist {
        assert!(prose.contains(item.as_str()), "{item} is not on the page");
    }
}

fn the_queue_sends_and_receives_as_the_page_says() {
    let queue = Queue::create(&QueueOptions { buffer: 64, max_message: 64, tag: 1 }).unwrap();
    let mut sender: Sender<'_> = queue.sender(1).unwrap();
    let mut receiver: Receiver<'_> = queue.receiver(2).unwrap();
    let mut message = Vec::new();
    sender.send(b"hello", &[], Some(std::time::Instant::now() + Duration::from_secs(9))).unwrap();
    receiver.receive(&mut message, &[], None).unwrap();
    assert_eq!(message, b"hello");
}

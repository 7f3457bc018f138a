//! The promise: a worker's main may lie in a shared library, in Rust or C. The child loads it, and
//! the worker can do there what any worker can.
//!
//! Would catch: a library loaded before the fork, signal flags set in the wrong copy of the crate,
//! an error or a panic that is lost at the border.

use crate::support::{Cluster, Log, PATIENCE, ready, stopped};
use bgw_backend::{BackgroundWorker, BackgroundWorkerBuilder, ExitCause, RestartPolicy};
use process_test::{Test, tests, wait_until, watchdog};
use std::io::Read;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    let all = tests![
        a_rust_library_is_loaded_in_the_child => [B51],
        a_rust_library_takes_what_it_is_given => [J07],
        a_c_library_gets_its_description_and_ends_in_order => [B51],
        an_unloadable_library_is_logged_and_exits_1 => [B52],
        an_error_or_a_panic_in_a_library_is_logged_and_exits_1,
        what_a_library_gives_back_is_in_its_report => [J06, J16],
    ];
    // They may have to build the library first.
    watchdog(Duration::from_secs(300), all)
}

fn rust_library() -> PathBuf {
    library("library_worker")
}

/// `cargo test` builds it beside the tests; this builds it when cargo built these tests only. A
/// library of other sources than these tests would be refused.
pub(crate) fn library(name: &str) -> PathBuf {
    let tests = std::env::current_exe().unwrap();
    let profile = tests.ancestors().nth(2).unwrap();
    let path = profile.join(format!("examples/lib{name}.so"));
    let built_at = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    if built_at(&path) < built_at(&tests) {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(["build", "--quiet", "-p", "bgw-examples", "--example", name]);
        cargo.args(profile.ends_with("release").then_some("--release"));
        cargo.arg("--target-dir").arg(profile.parent().unwrap());
        assert!(cargo.status().unwrap().success(), "{cargo:?}");
    }
    path
}

fn c_library() -> PathBuf {
    let crates = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let source = crates.join("tests/library/worker.c");
    let header = crates.join("../bgw-core/src/ffi");
    let path = std::env::temp_dir().join("libworker.so");
    let built = Command::new("cc")
        .args(["-shared", "-fPIC", "-Wall", "-Wextra", "-Werror", "-I"])
        .args([&header, Path::new("-o"), &path, &source])
        .status()
        .expect("a C compiler is needed");
    assert!(built.success());
    path
}

fn of(library: &std::path::Path, function: &str) -> BackgroundWorkerBuilder {
    BackgroundWorker::builder(function).library(library.to_str().unwrap(), function)
}

fn maps(pid: impl std::fmt::Display) -> String {
    std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap()
}

/// Would fail if the library's copy of the crate did not become the worker, with its signals, latch
/// and cluster, or if the postmaster loaded the library.
fn a_rust_library_is_loaded_in_the_child() {
    let cluster = Cluster::new();
    let library = rust_library();
    let ticking = of(&library, "count_ticks").main_arg(3_600_000).build().unwrap();
    let (handle, pid) = cluster.start(&ticking);
    ready(&handle);
    assert!(maps(pid).contains("liblibrary_worker.so"));
    assert!(
        !maps(cluster.launched.pid()).contains("liblibrary_worker.so"),
        "only the child loads it"
    );
    assert!(handle.set_latch().unwrap());
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let path = library.to_str().unwrap().as_bytes();
    // Only 128 extra bytes fit, so a longer path goes through a link.
    let link = std::env::temp_dir().join("w.so");
    let path = if path.len() > 128 {
        std::os::unix::fs::symlink(&library, &link).unwrap();
        link.to_str().unwrap().as_bytes()
    } else {
        path
    };
    let registering = of(&library, "register_another").extra(path).build().unwrap();
    let handle = cluster.backend.register(&registering).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would fail if the library's copy of the crate had no way to what its host was given.
fn a_rust_library_takes_what_it_is_given() {
    let log = Log::start();
    let cluster = Cluster::new();
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let worker = of(&rust_library(), "greets").give("conn", theirs).build().unwrap();
    let handle = cluster.backend.register(&worker).unwrap();
    drop(worker);
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from Rust");
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    log.wait_for("the descriptor \"conn\" was taken before");
    cluster.end();
}

/// Would fail if a field of the context were at another offset, if SIGTERM did not reach
/// `should_stop`, or if a descriptor that the library has taken were open elsewhere.
fn a_c_library_gets_its_description_and_ends_in_order() {
    let log = Log::start();
    let cluster = Cluster::new();
    let mut extra = [0; 128];
    extra[127] = 77;
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    let worker = of(&c_library(), "c_worker").worker_type("kind").main_arg(u64::MAX).extra(&extra);
    let worker = worker.give("conn", theirs);
    let handle = cluster.backend.register(&worker.build().unwrap()).unwrap();
    ready(&handle);
    log.wait_for("C worker c_worker/kind: 18446744073709551615, 77, ");
    let mut text = String::new();
    ours.read_to_string(&mut text).unwrap();
    assert_eq!(text, "from C");
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would time out if the start hung, the reason were not logged or the policy were ignored.
fn an_unloadable_library_is_logged_and_exits_1() {
    let log = Log::start();
    let cluster = Cluster::new();
    let no_function = of(&rust_library(), "no_such_function");
    let no_library = of(std::path::Path::new("/no/such/library.so"), "main");
    for (worker, reason) in [(no_function, "no_such_function"), (no_library, "/no/such/library.so")]
    {
        let handle = cluster.backend.register(&worker.clone().build().unwrap()).unwrap();
        let report = stopped(&handle);
        assert!(report.cause == ExitCause::Exited(1) && report.unregistered, "{report:?}");
        log.wait_for(reason);
        let again = worker.restart(RestartPolicy::Fixed(Duration::from_millis(1))).build().unwrap();
        let handle = cluster.backend.register(&again).unwrap();
        wait_until("it is tried again", PATIENCE, || {
            handle.exit_report().is_some_and(|report| report.restarts >= 2)
        });
        handle.terminate().unwrap();
    }
    cluster.end();
}

/// Would fail if the text were lost at the border of the library, or if a panic crossed it.
fn an_error_or_a_panic_in_a_library_is_logged_and_exits_1() {
    let log = Log::start();
    let cluster = Cluster::new();
    let cases = [("fails", "of a library fails on purpose"), ("panics", "of a library panics")];
    for (function, text) in cases {
        let worker = of(&rust_library(), function).build().unwrap();
        let handle = cluster.backend.register(&worker).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(1), "{function}");
        log.wait_for(text);
    }
    cluster.end();
}

/// Would fail if the host's own error replaced the library's, or if a C library could not say
/// anything.
fn what_a_library_gives_back_is_in_its_report() {
    let cluster = Cluster::new();
    let (rust, c) = (rust_library(), c_library());
    let report = |library: &Path, function: &str, argument| {
        let worker = of(library, function).main_arg(argument).build().unwrap();
        stopped(&cluster.backend.register(&worker).unwrap())
    };
    for (library, function, argument, words) in [
        (&rust, "fails", 0, "this worker of a library fails on purpose"),
        (&rust, "panics", 0, "panicked: this worker of a library panics"),
        (&c, "c_gives", 1, "no more tea"),
        (&c, "c_silent", 0, "\"c_silent\" of library \"PATH\" returned 7"),
    ] {
        let report = report(library, function, argument);
        let said = report.last_words().map(ToString::to_string).unwrap_or_default();
        assert_eq!(said, words.replace("PATH", library.to_str().unwrap()), "{function}");
        assert_eq!(report.result(), None);
    }
    let given = report(&c, "c_gives", 0);
    assert_eq!((given.result(), given.last_words()), (Some(&b"tea"[..]), None));
    assert_eq!(report(&rust, "sums", 10).result(), Some(&55_u64.to_le_bytes()[..]));
    cluster.end();
}

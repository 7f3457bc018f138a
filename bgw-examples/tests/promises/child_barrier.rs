//! The promise: a child runs its entry point and nothing else of the program. No unwinding into the
//! caller of `launch`, no exit handlers, no second copy of buffered output; and what it says when
//! it fails is never silent.
//!
//! Would catch: a panic that escapes the postmaster or a worker, an exit handler that runs in a
//! worker, text printed before the launch that every worker prints again, a failure that only a log
//! subscriber would see.

use crate::support::{
    self, Cluster, PATIENCE, alive, functions, kill, ready, simple, stopped, worker,
};
use bgw_backend::{Backend, BackgroundWorker, ExitCause, Worker, WorkerError, entry};
use bgw_postmaster::Postmaster;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::cell::RefCell;
use std::error::Error;
use std::fmt;
use std::io::Write;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicI32, Ordering};

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_panic_in_the_postmaster_never_returns_to_the_caller_of_launch => [D10],
        an_error_that_panics_when_it_is_printed_is_exit_code_1 => [D10],
        text_printed_before_the_launch_is_printed_once => [D10],
        text_in_a_buffer_of_the_c_library_is_printed_once => [D10],
        exit_handlers_of_the_program_do_not_run_in_a_worker => [D10],
        what_a_function_owns_is_dropped_in_the_program_alone => [D10],
        an_error_without_a_last_source_is_exit_code_1 => [D10],
        without_a_subscriber_a_failure_goes_to_standard_error => [D07],
        the_postmaster_leaves_the_process_group_of_its_launcher,
        a_worker_cannot_become_a_postmaster,
    ]
}

/// Runs `program` in a child whose standard output and error go to a file, and returns the text.
fn output_of(program: impl FnOnce()) -> String {
    let path = std::env::temp_dir().join("output");
    let file = std::fs::File::create(&path).unwrap();
    let mut child = fork_child(move || {
        // The C library's output of the harness is empty here: nothing was printed in this process.
        for number in [1, 2] {
            // SAFETY: both numbers are this process's own standard streams.
            assert_eq!(unsafe { libc::dup2(file.as_raw_fd(), number) }, number);
        }
        program();
    });
    assert_eq!(child.wait().code(), Some(0), "{}", std::fs::read_to_string(&path).unwrap());
    std::fs::read_to_string(path).unwrap()
}

struct PanicsOnStart;

impl tracing::Subscriber for PanicsOnStart {
    fn enabled(&self, _: &tracing::Metadata<'_>) -> bool {
        true
    }
    fn new_span(&self, _: &tracing::span::Attributes<'_>) -> tracing::span::Id {
        tracing::span::Id::from_u64(1)
    }
    fn record(&self, _: &tracing::span::Id, _: &tracing::span::Record<'_>) {}
    fn record_follows_from(&self, _: &tracing::span::Id, _: &tracing::span::Id) {}
    fn event(&self, _: &tracing::Event<'_>) {
        assert!(std::process::id() == LAUNCHER.load(Ordering::Relaxed) as u32, "on purpose");
    }
    fn enter(&self, _: &tracing::span::Id) {}
    fn exit(&self, _: &tracing::span::Id) {}
}

static LAUNCHER: AtomicI32 = AtomicI32::new(0);

/// Fails if the forked postmaster unwinds into the caller, which then goes on twice.
fn a_panic_in_the_postmaster_never_returns_to_the_caller_of_launch() {
    let text = output_of(|| {
        LAUNCHER.store(std::process::id() as i32, Ordering::Relaxed);
        tracing::subscriber::set_global_default(PanicsOnStart).unwrap();
        let postmaster = functions(Postmaster::builder()).build().unwrap();
        let launched = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            let mut launched = postmaster.launch().unwrap();
            // The postmaster logs what it registers: its subscriber panics there.
            if let Ok(backend) = Backend::over(launched.take_control().unwrap()) {
                let _ = backend.register(&simple("sleep"));
            }
            launched
        }));
        println!("after the launch");
        assert_ne!(launched.unwrap().wait().unwrap(), ExitCause::Exited(0));
    });
    assert_eq!(text.matches("after the launch").count(), 1, "{text}");
}

#[derive(Debug)]
struct Unprintable;

impl fmt::Display for Unprintable {
    fn fmt(&self, _: &mut fmt::Formatter<'_>) -> fmt::Result {
        panic!("an error that cannot be printed")
    }
}

impl Error for Unprintable {}

/// Fails if the panic leaves the child's own frames: the worker then died by a signal.
fn an_error_that_panics_when_it_is_printed_is_exit_code_1() {
    for spares in [0, 1] {
        let cluster = Cluster::with(|builder| {
            builder.warm_spares(spares).function("unprintable", |_| Err(Box::new(Unprintable)))
        });
        let handle = cluster.backend.register(&simple("unprintable")).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
        cluster.end();
    }
}

/// Fails if a worker flushes what the program had printed and not flushed before the launch.
fn text_printed_before_the_launch_is_printed_once() {
    let text = output_of(|| {
        print!("once");
        let cluster = Cluster::new();
        for _ in 0..3 {
            stopped(&cluster.backend.register(&simple("quick")).unwrap());
        }
        cluster.end();
    });
    assert_eq!(text.matches("once").count(), 1, "{text}");
}

/// Fails if a worker that leaves by `exit` has the text in its own copy of the buffer.
fn text_in_a_buffer_of_the_c_library_is_printed_once() {
    let text = output_of(|| {
        // SAFETY: a literal without directives.
        unsafe { libc::printf(c"once".as_ptr()) };
        let cluster = Cluster::new();
        stopped(&cluster.backend.register(&worker("exit").main_arg(1).build().unwrap()).unwrap());
        cluster.end();
        // SAFETY: null means all streams.
        unsafe { libc::fflush(std::ptr::null_mut()) };
    });
    assert_eq!(text.matches("once").count(), 1, "{text}");
}

/// Prints when it is dropped.
struct Owned;

impl Drop for Owned {
    fn drop(&mut self) {
        println!("dropped in {}", std::process::id());
    }
}

/// Fails if the forked postmaster drops its copy of what the functions have captured: a temporary
/// folder of the program, say.
fn what_a_function_owns_is_dropped_in_the_program_alone() {
    let text = output_of(|| {
        let owned = Owned;
        let cluster = Cluster::with(|builder| {
            builder.function("owner", move |_| {
                let _mine = &owned;
                Ok(())
            })
        });
        println!("program {}", std::process::id());
        stopped(&cluster.backend.register(&simple("owner")).unwrap());
        cluster.end();
    });
    let id = text.lines().find_map(|line| line.strip_prefix("program ")).unwrap();
    let drops: Vec<_> = text.lines().filter_map(|line| line.strip_prefix("dropped in ")).collect();
    assert_eq!(drops, [id], "{text}");
}

/// Its source is itself.
#[derive(Debug)]
struct Endless;

impl fmt::Display for Endless {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("because")
    }
}

impl Error for Endless {
    fn source(&self) -> Option<&(dyn Error + 'static)> {
        Some(self)
    }
}

/// Would time out if the worker printed sources as long as there are any.
fn an_error_without_a_last_source_is_exit_code_1() {
    let cluster = Cluster::with(|builder| builder.function("endless", |_| Err(Box::new(Endless))));
    let handle = cluster.backend.register(&simple("endless")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(1));
    cluster.end();
}

static EXIT_NOTE: AtomicI32 = AtomicI32::new(-1);

extern "C" fn at_exit() {
    let text = b"exit handler\n";
    // SAFETY: the descriptor stays open for the life of the process; the bytes are a literal.
    unsafe { libc::write(EXIT_NOTE.load(Ordering::Relaxed), text.as_ptr().cast(), text.len()) };
}

/// Fails if a worker that learns of the postmaster's death in a wait leaves by `exit`.
fn exit_handlers_of_the_program_do_not_run_in_a_worker() {
    let path = std::env::temp_dir().join("exit-note");
    let note = std::fs::File::create(&path).unwrap();
    EXIT_NOTE.store(note.as_raw_fd(), Ordering::Relaxed);
    // SAFETY: `at_exit` does nothing that is not allowed in an exit handler.
    assert_eq!(unsafe { libc::atexit(at_exit) }, 0);
    let cluster = Cluster::new();
    let pids: Vec<_> = ["sleep", "socket", "default"]
        .map(|function| {
            let handle = cluster.backend.register(&simple(function)).unwrap();
            ready(&handle)
        })
        .into();
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    wait_until("the workers are gone", PATIENCE, || !pids.iter().any(|&pid| alive(pid)));
    assert_eq!(std::fs::read_to_string(path).unwrap(), "");
}

/// Fails if an error, a panic or a missing program says nothing in a program without a subscriber.
fn without_a_subscriber_a_failure_goes_to_standard_error() {
    let text = output_of(|| {
        let cluster = Cluster::new();
        for function in ["fail", "panic"] {
            let description = worker(function).worker_type("kind").build().unwrap();
            let handle = cluster.backend.register(&description).unwrap();
            println!("handle of {function}: {handle}");
            std::io::stdout().flush().unwrap();
            stopped(&handle);
        }
        let missing = BackgroundWorker::builder("lost").command("/nowhere/program", ["x"]).build();
        let handle = cluster.backend.register(&missing.unwrap()).unwrap();
        println!("handle of lost: {handle}");
        stopped(&handle);
        cluster.end();
    });
    for (name, what) in [
        ("fail", "this worker fails on purpose"),
        ("panic", "this worker panics on purpose"),
        ("lost", "/nowhere/program"),
    ] {
        let start = format!("handle of {name}: ");
        let handle = text.lines().find_map(|line| line.strip_prefix(&start)).unwrap();
        let line =
            text.lines().find(|line| line.contains(what)).unwrap_or_else(|| panic!("{text}"));
        assert!(line.contains(&format!("\"{name}\"")) && line.contains(handle), "{line}");
        assert!(line.contains("PID "), "{line}");
    }
}

/// Fails if Ctrl-C, which goes to the launcher's group, reaches the postmaster, too.
fn the_postmaster_leaves_the_process_group_of_its_launcher() {
    let cluster = Cluster::new();
    let group = |pid| nix::unistd::getpgid(Some(pid)).unwrap();
    let postmaster = support::raw(cluster.launched.pid());
    assert_ne!(group(postmaster), nix::unistd::getpgrp());
    let title = std::fs::read_to_string(format!("/proc/{postmaster}/cmdline")).unwrap();
    assert!(title.starts_with("bgw postmaster"), "{title:?}");
    assert!(title.contains("cluster"), "it names its runtime folder: {title:?}");
    cluster.end();
}

/// Fails if a postmaster inside a worker is built, or if one that the program had built before is
/// started there: it could not start workers.
fn a_worker_cannot_become_a_postmaster() {
    // Each worker has its copy.
    let [launched, run] = [(); 2].map(|()| RefCell::new(Postmaster::builder().build().ok()));
    let inside = move |worker: &mut Worker| -> Result<(), WorkerError> {
        let built = Postmaster::builder().build();
        let launched = launched.take().unwrap().launch().map(drop);
        let run = run.take().unwrap().run().map(drop);
        let texts = [built.unwrap_err().to_string(), launched.unwrap_err().to_string()];
        let text = format!("{}\n{}\n{}", texts[0], texts[1], run.unwrap_err());
        support::write_note("inside", &text)?;
        worker.ready();
        Ok(())
    };
    let cluster = Cluster::with(move |builder| builder.function("launch", entry(inside)));
    let handle = cluster.backend.register(&simple("launch")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    let text = support::read_note("inside");
    assert_eq!(text.matches("worker \"launch\"").count(), 3, "{text}");
    cluster.end();
}

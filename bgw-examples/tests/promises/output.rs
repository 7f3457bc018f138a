//! The promise: the output of workers comes line by line into files, none torn and none lost at a
//! worker's death; what a full disk or a killed collector costs is bounded and told; and nobody
//! else notices.
//!
//! Would catch: a line cut by a rotation or by another worker's, a worker that dies of SIGPIPE, a
//! flood that fills memory, a file written through a link, a collector that outlives its cluster.

use crate::support::{
    Cluster, PATIENCE, alive, children, connect, kill, raw, ready, simple, started, stopped, title,
    worker,
};
use bgw_backend::{
    BackgroundWorker, EventKind, EventsFrom, ExitCause, Handle, InvalidWorker, Output, OutputFile,
    Pid, RegisterError, RestartPolicy, Worker, WorkerError, entry,
};
use bgw_postmaster::{BuildError, Postmaster, PostmasterBuilder, StaticError};
use process_test::{Signal, Test, tests, wait_until};
use rustix::process::{Resource, Rlimit, prlimit};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        functions_and_commands_write_into_their_files => [P62, P66],
        no_line_is_torn_by_rotation_or_by_other_workers => [P62],
        a_flood_of_output_takes_no_memory_and_holds_nobody_up => [P63],
        an_end_is_told_while_somebody_holds_the_pipe => [P64],
        a_killed_collector_costs_no_worker_its_pipe => [P65],
        on_a_full_disk_lines_are_dropped_and_counted => [P62, P65],
        what_is_in_the_pipes_is_written_before_the_cluster_ends,
        a_killed_postmaster_leaves_no_collector => [D05],
        a_link_is_not_followed => [P66],
        a_folder_that_others_can_write_to_is_refused => [P66],
        a_file_needs_a_folder => [P66],
        an_output_that_cannot_be_is_refused_by_name => [P01, P66],
        output_that_goes_nowhere_goes_nowhere,
        a_restart_goes_on_in_the_same_file,
    ]
}

fn folder() -> PathBuf {
    std::env::temp_dir().join("outputs")
}

pub(super) fn with_folder(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder.max_workers(64).output_dir(folder()).function("chatter", entry(chatter))
}

pub(super) fn cluster() -> Cluster {
    Cluster::with(with_folder)
}

/// What lies in a file; empty if there is none.
pub(super) fn text(name: &str) -> String {
    let found = std::fs::read(folder().join(name)).unwrap_or_default();
    String::from_utf8(found).unwrap()
}

pub(super) fn wait_for_text(name: &str, wanted: &str) {
    let what = format!("\"{wanted}\" is in {name}");
    wait_until(&what, PATIENCE, || text(name).contains(wanted));
}

pub(super) fn script(script: impl Into<String>, output: impl Into<Output>) -> BackgroundWorker {
    let builder =
        BackgroundWorker::builder("s").command("/bin/sh", ["-c".to_owned(), script.into()]);
    builder.output(output).build().unwrap()
}

/// The collector of a postmaster, once it has its title.
pub(super) fn collector(postmaster: Pid) -> Pid {
    let find = || {
        let all = children(postmaster).into_iter();
        all.into_iter().find(|&pid| title(pid).starts_with("bgw output collector"))
    };
    wait_until("there is a collector", PATIENCE, || find().is_some());
    find().unwrap()
}

/// Prints numbered lines until it is told to end, a thousand a second.
fn chatter(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let mut out = std::io::stdout();
    for number in 0u64.. {
        writeln!(out, "line {number}")?;
        if number == 0 {
            worker.ready();
        }
        if worker.should_stop() {
            break;
        }
        worker.sleep(Some(Duration::from_millis(1)))?;
    }
    writeln!(out, "the last")?;
    Ok(())
}

/// Would fail if one of both streams were lost, or a last line without a newline; or if others
/// could read the file. In spares, too, and for both ways to start a command.
fn functions_and_commands_write_into_their_files() {
    for fork in [false, true] {
        let cluster = Cluster::with(|builder| {
            with_folder(builder).warm_spares(1).run_atfork_handlers(fork).function(
                "speaker",
                entry(|_: &mut Worker| -> Result<(), WorkerError> {
                    println!("out");
                    eprintln!("error");
                    print!("end");
                    Ok(())
                }),
            )
        });
        let name = format!("function-{fork}");
        let function = worker("speaker").output(OutputFile::new(&name)).build().unwrap();
        let report = stopped(&cluster.backend.register(&function).unwrap());
        assert_eq!(report.cause, ExitCause::Exited(0));
        wait_for_text(&name, "end\n");
        assert_eq!(text(&name), "out\nerror\nend\n");
        let mode = std::fs::metadata(folder().join(&name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        let name = format!("command-{fork}");
        let command = script("echo out; echo error >&2; printf end", OutputFile::new(&name));
        stopped(&cluster.backend.register(&command).unwrap());
        wait_for_text(&name, "end\n");
        assert_eq!(text(&name), "out\nerror\nend\n");
        cluster.end();
    }
}

/// Would fail if a line were split between two files or mixed with another's, if one were lost, or
/// if a file grew beyond its limit.
fn no_line_is_torn_by_rotation_or_by_other_workers() {
    const LINES: usize = 1000;
    let cluster = cluster();
    let file = OutputFile::new("all.log").rotate(16 << 10, 99);
    let handles: Vec<Handle> = (0..8)
        .map(|writer| {
            let script = script(format!("seq -f '{writer} line %06g end' {LINES}"), file.clone());
            cluster.backend.register(&script).unwrap()
        })
        .collect();
    for handle in &handles {
        stopped(handle);
    }
    // All of it is written by then.
    cluster.end();
    let mut next = [1; 8];
    let names = (1..=99).rev().map(|number| format!("all.log.{number}"));
    for name in names.chain(["all.log".to_owned()]) {
        let found = text(&name);
        assert!(found.len() <= 16 << 10 && (found.is_empty() || found.ends_with('\n')), "{name}");
        for line in found.lines() {
            let [writer, "line", number, "end"] = line.split(' ').collect::<Vec<_>>()[..] else {
                panic!("{name} has the line {line:?}");
            };
            let writer: usize = writer.parse().unwrap();
            assert_eq!(number.parse::<usize>().unwrap(), next[writer], "{name}: {line}");
            next[writer] += 1;
        }
    }
    assert_eq!(next, [LINES + 1; 8]);
}

fn memory_kib(pid: Pid) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// Would fail if the collector kept what it cannot write yet, or if the postmaster read the output
/// itself and started nobody meanwhile.
fn a_flood_of_output_takes_no_memory_and_holds_nobody_up() {
    let cluster = cluster();
    let file = OutputFile::new("flood").rotate(1 << 20, 1);
    let flood =
        script("while :; do echo 'a line of a flood of output that never ends'; done", file);
    let (flood, _) = cluster.start(&flood);
    let long = script(
        "tr '\\0' x < /dev/zero | head -c 30000000",
        OutputFile::new("long").rotate(1 << 20, 0),
    );
    let long = cluster.backend.register(&long).unwrap();
    let before = memory_kib(collector(cluster.launched.pid()));
    for _ in 0..20 {
        let worker = cluster.backend.register(&simple("quick")).unwrap();
        assert_eq!(stopped(&worker).cause, ExitCause::Exited(0));
    }
    assert_eq!(stopped(&long).cause, ExitCause::Exited(0));
    let after = memory_kib(collector(cluster.launched.pid()));
    assert!(after < before + 4096, "{before} KiB became {after} KiB");
    flood.terminate().unwrap();
    stopped(&flood);
    cluster.end();
    assert!(text("flood").len() <= 1 << 20);
}

/// Would fail if an end waited for the last writer of the worker's pipe, or if what that one writes
/// later were lost.
fn an_end_is_told_while_somebody_holds_the_pipe() {
    let cluster = cluster();
    let go = std::env::temp_dir().join("go");
    // A daemon of its own session, which no stop signal reaches.
    let daemon =
        format!("echo here; until [ -e {} ]; do sleep 0.02; done; echo late", go.display());
    // It ends once the daemon has its session.
    let wait = format!("until grep -qs here {}; do sleep 0.02; done", folder().join("d").display());
    let parent = script(format!("setsid sh -c '{daemon}' & {wait}"), OutputFile::new("d"));
    let handle = cluster.backend.register(&parent).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert_eq!(text("d"), "here\n");
    std::fs::write(&go, "").unwrap();
    wait_for_text("d", "late\n");
    cluster.end();
}

/// Would fail if a worker got SIGPIPE, or if nobody read its pipe any more.
fn a_killed_collector_costs_no_worker_its_pipe() {
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let chatter = worker("chatter").output(OutputFile::new("c")).build().unwrap();
    let (chatter, pid) = cluster.start(&chatter);
    ready(&chatter);
    wait_for_text("c", "line 0\n");
    for _ in 0..3 {
        let collector = collector(cluster.launched.pid());
        kill(collector, Signal::SIGKILL);
        wait_until("it is gone", PATIENCE, || !alive(collector));
        let lost = std::iter::from_fn(|| events.next_timeout(PATIENCE).unwrap())
            .find(|event| event.kind == EventKind::OutputLost);
        let lost = lost.unwrap();
        assert_eq!((lost.handle, lost.count), (Some(chatter.id()), 0));
        let before = text("c").len();
        wait_until("it goes on", PATIENCE, || text("c").len() > before + 100);
    }
    assert_eq!(started(&chatter), pid);
    chatter.terminate().unwrap();
    assert_eq!(stopped(&chatter).cause, ExitCause::Exited(0));
    wait_for_text("c", "the last\n");
    cluster.end();
}

/// Would fail if a worker waited for the disk, or a line were cut, or lost without being counted.
fn on_a_full_disk_lines_are_dropped_and_counted() {
    let cluster = cluster();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let first = script("echo first", OutputFile::new("full"));
    stopped(&cluster.backend.register(&first).unwrap());
    wait_for_text("full", "first\n");
    let process = rustix::process::Pid::from_raw(raw(collector(cluster.launched.pid())).as_raw());
    let limited = |limit| Rlimit { current: limit, maximum: None };
    // It stands for a disk that is full at 10,000 bytes.
    prlimit(process, Resource::Fsize, limited(Some(10_000))).unwrap();
    let go = std::env::temp_dir().join("go");
    let end = format!("until [ -e {} ]; do sleep 0.02; done", go.display());
    let many = script(format!("seq -f 'line %06g' 5000; {end}"), OutputFile::new("full"));
    let many = cluster.backend.register(&many).unwrap();
    let mut lost = 0;
    let mut written = 0;
    while lost + written < 5000 {
        let event = events.next_timeout(PATIENCE).unwrap().unwrap();
        lost += if event.kind == EventKind::OutputLost { event.count as usize } else { 0 };
        written = text("full").lines().filter(|line| line.starts_with("line ")).count();
    }
    assert_eq!(lost + written, 5000);
    assert!(lost > 0 && text("full").ends_with('\n') && text("full").len() <= 10_000);
    assert!(text("full").lines().skip(1).all(|line| line.len() == "line 000001".len()));
    std::fs::write(go, "").unwrap();
    assert_eq!(stopped(&many).cause, ExitCause::Exited(0));
    prlimit(process, Resource::Fsize, limited(None)).unwrap();
    stopped(&cluster.backend.register(&first).unwrap());
    wait_for_text("full", &format!("[{lost} lines of output were lost: "));
    assert!(text("full").ends_with("first\n"));
    cluster.end();
}

/// Would fail if the collector were ended with its streams unread.
fn what_is_in_the_pipes_is_written_before_the_cluster_ends() {
    let cluster = cluster();
    let files: Vec<String> = (0..40).map(|number| format!("file-{number}")).collect();
    let handles: Vec<Handle> = files
        .iter()
        .map(|name| {
            let worker = script("echo begun; exec sleep 1000", OutputFile::new(name));
            cluster.backend.register(&worker).unwrap()
        })
        .collect();
    for handle in &handles {
        started(handle);
    }
    let stubborn = script(
        "trap 'echo told; exit 0' TERM; echo begun; while :; do sleep 0.02; done",
        OutputFile::new("told"),
    );
    cluster.start(&stubborn);
    wait_for_text("told", "begun\n");
    cluster.end();
    assert!(text("told").ends_with("told\n"), "{}", text("told"));
    // Those that had no time to begin have written nothing.
    assert!(files.iter().all(|name| ["", "begun\n"].contains(&text(name).as_str())));
}

/// Would fail if the collector lived on, or did not write what the workers had written.
fn a_killed_postmaster_leaves_no_collector() {
    let cluster = cluster();
    let chatter = worker("chatter").output(OutputFile::new("c")).build().unwrap();
    let (chatter, worker) = cluster.start(&chatter);
    ready(&chatter);
    let collector = collector(cluster.launched.pid());
    kill(cluster.launched.pid(), Signal::SIGKILL);
    wait_until("the worker is gone", PATIENCE, || !alive(worker));
    wait_until("the collector is gone", PATIENCE, || !alive(collector));
    assert!(text("c").starts_with("line 0\n") && text("c").ends_with('\n'));
    // The folder is free: the guardian has ended, too.
    let builder = || Postmaster::builder().runtime_dir(&cluster.folder);
    wait_until("the folder is free", PATIENCE, || builder().build().is_ok());
}

/// Would fail if a link in the folder made the postmaster write somewhere else.
fn a_link_is_not_followed() {
    let victim = std::env::temp_dir().join("victim");
    std::fs::write(&victim, "mine").unwrap();
    let cluster = cluster();
    symlink(&victim, folder().join("link")).unwrap();
    std::fs::create_dir(folder().join("dir")).unwrap();
    nix::unistd::mkfifo(&folder().join("fifo"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    for name in ["link", "dir", "fifo"] {
        let handle = cluster.backend.register(&script("seq 10", OutputFile::new(name))).unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    }
    // The postmaster may have ended these workers before it heard of their lines, so that only the
    // log says so; a worker that lives has its event.
    let lives = script("seq 10; exec sleep 1000", OutputFile::new("link"));
    let (lives, _) = cluster.start(&lives);
    let lost = std::iter::from_fn(|| events.next_timeout(PATIENCE).unwrap())
        .find(|event| event.kind == EventKind::OutputLost && event.handle == Some(lives.id()));
    assert_eq!(lost.unwrap().count, 10);
    assert_eq!(std::fs::read_to_string(&victim).unwrap(), "mine");
    cluster.end();
}

fn a_folder_that_others_can_write_to_is_refused() {
    let open = std::env::temp_dir().join("open");
    std::fs::create_dir(&open).unwrap();
    std::fs::set_permissions(&open, std::fs::Permissions::from_mode(0o777)).unwrap();
    let error = Postmaster::builder().output_dir(&open).build().unwrap_err();
    assert!(matches!(error, BuildError::OutputDirRefused { .. }), "{error}");
    assert!(error.to_string().contains("chmod go-w"), "{error}");
    let error = Postmaster::builder().output_dir("/no/such/folder").build().unwrap_err();
    assert!(error.to_string().contains("/no/such/folder"), "{error}");
    let made = std::env::temp_dir().join("made");
    drop(Postmaster::builder().output_dir(&made).build().unwrap());
    assert_eq!(std::fs::metadata(&made).unwrap().mode() & 0o777, 0o700);
}

/// Would fail if such a worker began without its output, or without a word.
fn a_file_needs_a_folder() {
    let cluster = Cluster::new();
    let worker = worker("sleep").output(OutputFile::new("file")).build().unwrap();
    let error = cluster.backend.register(&worker).unwrap_err();
    assert!(matches!(error, RegisterError::NoOutputDir { .. }), "{error}");
    assert!(error.to_string().contains("output_dir"), "{error}");
    cluster.end();
    let mut postmaster = crate::support::functions(Postmaster::builder()).build().unwrap();
    let error = postmaster.register(worker).unwrap_err();
    assert!(matches!(error, StaticError::NoOutputDir { .. }), "{error}");
}

fn an_output_that_cannot_be_is_refused_by_name() {
    let built = |file: OutputFile| worker("sleep").output(file).build();
    let long = "x".repeat(32);
    for name in ["", "a/b", "/etc/passwd", ".", "..", ".hidden", "log.1", "log.99", &long, "a\nb"] {
        let error = built(OutputFile::new(name)).unwrap_err();
        assert_eq!(error.field(), "output", "{name}: {error}");
    }
    for name in ["a", "web.log", "log.100", "a.b.c", &long[1..]] {
        built(OutputFile::new(name)).unwrap();
    }
    let error = built(OutputFile::new("a").rotate(4095, 1)).unwrap_err();
    assert_eq!(
        error.to_string(),
        "output is a file of 4095 bytes, the limit is 4096 bytes or more"
    );
    let error = built(OutputFile::new("a").rotate(4096, 100)).unwrap_err();
    assert!(matches!(error, InvalidWorker::OutOfRange { .. }));
    built(OutputFile::new("a").rotate(4096, 99)).unwrap();
}

fn output_that_goes_nowhere_goes_nowhere() {
    let cluster = Cluster::with(|builder| builder.warm_spares(2));
    let function = worker("sleep").output(Output::Null).build().unwrap();
    for worker in [function, script("exec sleep 1000", Output::Null)] {
        let (_, pid) = cluster.start(&worker);
        for stream in [1, 2] {
            let link = || std::fs::read_link(format!("/proc/{pid}/fd/{stream}")).unwrap();
            wait_until("it is /dev/null", PATIENCE, || link() == Path::new("/dev/null"));
        }
    }
    cluster.end();
}

/// Would fail if a run wrote into the pipe of the run before, which nobody reads.
fn a_restart_goes_on_in_the_same_file() {
    let cluster = cluster();
    let again = BackgroundWorker::builder("again")
        .command("/bin/sh", ["-c", "echo run; exit 1"])
        .restart(RestartPolicy::after_secs(0))
        .output(OutputFile::new("again"))
        .build()
        .unwrap();
    let handle = cluster.backend.register(&again).unwrap();
    wait_until("it has run four times", PATIENCE, || text("again").lines().count() >= 4);
    assert!(text("again").lines().all(|line| line == "run"));
    handle.terminate().unwrap();
    let observer = connect(&cluster.folder);
    observer.ping().unwrap();
    cluster.end();
}

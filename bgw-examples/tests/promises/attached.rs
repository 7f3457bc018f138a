//! The promise: a program that was started as a command becomes its worker, with all that a worker
//! that is a function has; no other process does; and a script learns its own handle.
//!
//! Would catch: a wrong description or handle, a signal that ends the program in place of stopping
//! it, beats or jobs that do not count, a child that takes its parent's place, a descriptor that
//! stays open.

use crate::support::{
    Cluster, PATIENCE, alive, is_reset, kill, read_note, ready, shared, simple, started, stopped,
    the_end, wait_for_reset, write_note,
};
use bgw_backend::{
    Backend, BackgroundWorker, BackgroundWorkerBuilder, EventKind, EventsFrom, ExitCause,
    FromEnvError, Handle, Input, Ready, Recycle, RestartPolicy, StopSignal, WaitEvents, Worker,
    WorkerError, WorkerFlags, WorkerHandle, entry,
};
use process_test::{Signal, Test, tests, wait_until};
use std::io::Write;
use std::process::{Command, ExitCode};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        an_attached_command_has_what_a_worker_has,
        an_attached_command_that_falls_silent_is_hung => [P30],
        an_attached_command_is_recycled_after_its_jobs => [P42],
        an_attached_command_stops_by_its_own_signal,
        an_attached_command_inside_shared_state_that_exits_has_crashed,
        only_the_process_of_the_worker_can_be_it,
        a_program_that_was_not_started_so_is_told,
        an_attached_command_leaves_nothing_open_for_its_children => [R24],
        an_attached_command_ends_with_its_postmaster => [D05],
        a_command_learns_its_own_handle_and_no_other_cluster_s,
    ]
}

/// The program that these tests run as a command.
pub(crate) fn client(what: &str) -> ExitCode {
    let done = match what {
        "serve" => serve(),
        "silent" => silent(),
        "jobs" => jobs(),
        "shared-exit" => shared_state(true),
        "shared-drop" => shared_state(false),
        "errors" => errors(),
        "children" => children(),
        "patient" => patient(),
        "reloads" => crate::attached_reload::client(false),
        "ignores" => crate::attached_reload::client(true),
        other => panic!("{other}"),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            let _ = writeln!(std::io::stderr(), "{error}");
            ExitCode::from(9)
        }
    }
}

pub(crate) type Done = Result<(), WorkerError>;

pub(crate) fn command(what: &str) -> BackgroundWorkerBuilder {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let name = format!("client {what}");
    BackgroundWorker::builder(name).command(program, ["attached-client", what]).attach()
}

pub(crate) fn register(cluster: &Cluster, builder: BackgroundWorkerBuilder) -> Handle {
    cluster.backend.register(&builder.build().unwrap()).unwrap()
}

/// Notes what it knows, works with the cluster, and serves until it is told to stop.
fn serve() -> Done {
    let mut worker = Worker::from_env()?;
    worker.handle_terminate();
    worker.unblock_signals()?;
    let extra = worker.extra()[0];
    let own: WorkerHandle = std::env::var("BGW_HANDLE").unwrap().parse().unwrap();
    assert_eq!(own, worker.handle());
    let backend = Backend::current().unwrap();
    assert_eq!(backend.pid().get(), std::process::id());
    let inner = backend.register(&simple("quick"))?;
    assert_eq!(stopped(&inner).cause, ExitCause::Exited(0));
    backend.ping()?;
    let given = worker.descriptor("passed").unwrap().try_clone_to_owned()?;
    std::io::Read::read_exact(&mut std::fs::File::from(given), &mut [0; 5])?;
    let mut events = backend.events(EventsFrom::Oldest)?;
    let begun = events.try_next()?.unwrap();
    write_note(
        "serve",
        &format!(
            "{}|{}|{}|{extra}|{}|{:?}",
            worker.name(),
            worker.worker_type(),
            worker.main_arg(),
            worker.restarts(),
            begun.kind,
        ),
    )?;
    worker.set_status_text("serving");
    worker.set_result(b"served")?;
    worker.name_waits(Some("Latch"));
    worker.ready();
    let mut sets = 0;
    while !worker.should_stop() {
        if worker.sleep(None)?.contains(WaitEvents::LATCH_SET) && !worker.should_stop() {
            sets += 1;
            write_note(&format!("set-{sets}"), "")?;
        }
    }
    Ok(())
}

/// Would fail if one of the things that a worker has were missing or another's.
fn an_attached_command_has_what_a_worker_has() {
    for fork in [false, true] {
        let (passed, mut theirs) = std::io::pipe().unwrap();
        theirs.write_all(b"bytes").unwrap();
        let cluster = Cluster::with(|builder| {
            builder.max_workers(64).run_atfork_handlers(fork).descriptor("passed", passed)
        });
        let builder = command("serve").worker_type("a type").main_arg(7).extra(&[42]);
        let handle = register(&cluster, builder.ready(Ready::Call).stdin(Input::Null));
        let pid = ready(&handle);
        let noted = read_note("serve");
        assert!(noted.starts_with("client serve|a type|7|42|0|"), "{noted}");
        let all = cluster.backend.workers();
        let info = all.iter().find(|info| info.handle == handle.id()).unwrap();
        assert!(info.ready && info.worker.is_attached());
        assert_eq!(info.status_text.as_deref(), Some("serving"));
        wait_until("it names its wait", PATIENCE, || {
            let all = cluster.backend.workers();
            let info = all.iter().find(|info| info.handle == handle.id()).unwrap();
            info.wait_event.as_deref() == Some("Latch")
        });
        for set in 1..=2 {
            handle.set_latch().unwrap();
            read_note(&format!("set-{set}"));
        }
        assert_eq!(started(&handle), pid);
        handle.terminate().unwrap();
        let report = the_end(&handle);
        assert_eq!((report.cause, report.pid), (ExitCause::Exited(0), Some(pid)));
        assert_eq!(report.result(), Some(b"served".as_slice()));
        for note in ["serve", "set-1", "set-2"] {
            std::fs::remove_file(crate::support::note_path(note)).unwrap();
        }
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Beats for a while, and then no more.
fn silent() -> Done {
    let worker = Worker::from_env()?;
    worker.ready();
    for _ in 0..20 {
        worker.beat();
        std::thread::sleep(Duration::from_millis(50));
    }
    loop {
        std::thread::park();
    }
}

/// Would fail if its beats did not count, and time out if its silence did not.
fn an_attached_command_that_falls_silent_is_hung() {
    let cluster = Cluster::new();
    let builder = command("silent").ready(Ready::Call).heartbeat(Duration::from_millis(300));
    let report = the_end(&register(&cluster, builder));
    assert!(matches!(report.cause, ExitCause::Hung { .. }), "{report:?}");
    assert!(report.ran_for > Duration::from_millis(1000), "it had beaten before: {report:?}");
    cluster.end();
}

/// Does a job each time that its latch is set.
fn jobs() -> Done {
    let mut worker = Worker::from_env()?;
    worker.handle_terminate();
    worker.ready();
    while !worker.should_stop() {
        worker.job_done();
        worker.sleep(Some(Duration::from_millis(5)))?;
    }
    Ok(())
}

/// Would time out if its jobs were not counted, or told to nobody.
fn an_attached_command_is_recycled_after_its_jobs() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let builder = command("jobs").restart(RestartPolicy::Fixed(Duration::from_secs(3600)));
    let builder = builder.recycle(Recycle::new().jobs(5));
    let handle = register(&cluster, builder);
    let mut recycled = 0;
    while recycled < 3 {
        let event = events.next_timeout(PATIENCE).unwrap().unwrap();
        recycled += usize::from(matches!(event.kind, EventKind::Recycling));
    }
    handle.terminate().unwrap();
    let report = the_end(&handle);
    assert_eq!(report.restarts, 0, "{report:?}");
    cluster.end();
}

/// Would fail if a signal that no function has ended the program.
fn an_attached_command_stops_by_its_own_signal() {
    let cluster = Cluster::new();
    for signal in [
        StopSignal::Term,
        StopSignal::Int,
        StopSignal::Hup,
        StopSignal::Usr1,
        StopSignal::Usr2,
        StopSignal::Quit,
        StopSignal::Winch,
    ] {
        let handle = register(&cluster, command("patient").ready(Ready::Call).stop(signal));
        ready(&handle);
        handle.terminate().unwrap();
        assert_eq!(the_end(&handle).cause, ExitCause::Exited(0), "{signal}");
    }
    cluster.end();
}

/// Waits to be stopped.
fn patient() -> Done {
    let mut worker = Worker::from_env()?;
    worker.handle_terminate();
    worker.ready();
    while !worker.should_stop() {
        worker.wait(WaitEvents::LATCH_SET | WaitEvents::POSTMASTER_DEATH, &mut [], None)?;
    }
    write_note("patient", "")?;
    Ok(())
}

fn shared_state(exits: bool) -> Done {
    let worker = Worker::from_env()?;
    worker.ready();
    if exits {
        std::process::exit(0);
    }
    drop(worker);
    std::process::exit(0);
}

/// Would fail if nobody noticed, or if leaving in order counted as a crash.
fn an_attached_command_inside_shared_state_that_exits_has_crashed() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let shared_state = |what| register(&cluster, command(what).flags(WorkerFlags::SHMEM_ACCESS));
    assert_eq!(stopped(&shared_state("shared-drop")).cause, ExitCause::Exited(0));
    let (bystander, _) = cluster.start(&shared("sleep", RestartPolicy::Never));
    assert!(!is_reset(&mut events));
    assert_eq!(stopped(&shared_state("shared-exit")).cause, ExitCause::Exited(0));
    stopped(&bystander);
    wait_for_reset(&mut events);
    cluster.end();
}

/// Tries to become the worker twice.
fn errors() -> Done {
    match Worker::from_env() {
        Ok(mut worker) => {
            worker.handle_terminate();
            let again = Worker::from_env().unwrap_err();
            assert!(matches!(again, FromEnvError::AlreadyWorker), "{again}");
            worker.ready();
            while !worker.should_stop() {
                worker.sleep(None)?;
            }
            Ok(())
        }
        Err(error) => Err(error.into()),
    }
}

/// Would fail if a script's child took the place of the script, or spoilt it for it.
fn only_the_process_of_the_worker_can_be_it() {
    let cluster = Cluster::new();
    let program = std::env::current_exe().unwrap();
    let (program, noted) = (program.display(), crate::support::note_path("child"));
    let script = format!(
        "'{program}' attached-client errors 2>{0}.part; test $? = 9 || exit 8; \
         mv {0}.part {0}; exec '{program}' attached-client errors",
        noted.display()
    );
    let script = BackgroundWorker::builder("script").command("/bin/sh", ["-c", &script]);
    let handle = register(&cluster, script.attach().ready(Ready::Call));
    let pid = ready(&handle);
    let said = read_note("child");
    assert!(said.contains(&format!("a child of process {pid} and not of postmaster")), "{said}");
    assert!(said.contains("exec"), "{said}");
    handle.terminate().unwrap();
    assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Would fail if it took something else for the invitation, or did something to it.
fn a_program_that_was_not_started_so_is_told() {
    let program = std::env::current_exe().unwrap();
    let run = |value: Option<&str>| {
        let mut command = Command::new(&program);
        command.args(["attached-client", "errors"]).env_remove("BGW_ATTACH");
        value.map(|value| command.env("BGW_ATTACH", value));
        let output = command.output().unwrap();
        assert_eq!(output.status.code(), Some(9));
        String::from_utf8(output.stderr).unwrap()
    };
    for (value, part) in [
        (None, "BGW_ATTACH is not set"),
        (Some(""), "which is no descriptor"),
        (Some("-1"), "which is no descriptor"),
        (Some("99999999999"), "which is no descriptor"),
        (Some("1"), "is no invitation"),
        (Some("987"), "is no invitation"),
    ] {
        let said = run(value);
        assert!(said.contains(part), "{value:?}: {said}");
    }
    // Without attach() there is none.
    let cluster = Cluster::new();
    let plain = BackgroundWorker::builder("plain");
    let plain = plain.command(program.to_str().unwrap(), ["attached-client", "errors"]);
    assert_eq!(the_end(&register(&cluster, plain)).cause, ExitCause::Exited(9));
    cluster.end();
}

/// Notes what a child of it has open, and why that cannot be the worker.
fn children() -> Done {
    let _worker = Worker::from_env()?;
    let list = Command::new("/bin/sh").args(["-c", "ls -l /proc/$$/fd"]).output()?;
    let said =
        Command::new(std::env::current_exe()?).args(["attached-client", "errors"]).output()?;
    let both = [list.stdout, said.stderr].concat();
    write_note("children", &String::from_utf8_lossy(&both))?;
    Ok(())
}

/// Would fail if the invitation, or what came with it, were inherited.
fn an_attached_command_leaves_nothing_open_for_its_children() {
    for fork in [false, true] {
        let cluster = Cluster::with(|builder| builder.max_workers(64).run_atfork_handlers(fork));
        assert_eq!(the_end(&register(&cluster, command("children"))).cause, ExitCause::Exited(0));
        let noted = read_note("children");
        for kind in ["eventpoll", "signalfd", "socket:", "memfd", "eventfd", "pidfd"] {
            assert!(!noted.contains(kind), "{kind}: {noted}");
        }
        assert!(noted.contains("is no invitation"), "{noted}");
        std::fs::remove_file(crate::support::note_path("children")).unwrap();
        cluster.end();
        std::fs::remove_dir_all(std::env::temp_dir().join("cluster")).unwrap();
    }
}

/// Would fail if it were killed before it could end in order, and time out if it did not notice.
fn an_attached_command_ends_with_its_postmaster() {
    let cluster = Cluster::new();
    let handle = register(&cluster, command("patient").ready(Ready::Call));
    let pid = ready(&handle);
    kill(cluster.launched.pid(), Signal::SIGKILL);
    cluster.launched.wait().unwrap();
    read_note("patient");
    wait_until("it has ended", PATIENCE, || !alive(pid));
}

/// Notes the variables of these crates.
fn note_variables(worker: &mut Worker) -> Done {
    let own = std::env::vars().filter(|(name, _)| name.starts_with("BGW_"));
    let own = own.filter(|(name, _)| !name.starts_with("BGW_TEST"));
    let noted = own.map(|(name, value)| format!("{name}={value}\n")).collect::<String>();
    write_note(&format!("function-{}", worker.main_arg()), &noted)?;
    Ok(())
}

/// Would fail if a script could not find itself, or if a worker of a cluster inside another one
/// took that one's for its own.
fn a_command_learns_its_own_handle_and_no_other_cluster_s() {
    for (name, value) in [("BGW_HANDLE", "1.1@1"), ("BGW_ATTACH", "3"), ("BGW_RUNTIME_DIR", "/")] {
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var(name, value) };
    }
    let cluster = Cluster::with(|builder| builder.function("note", entry(note_variables)));
    stopped(&cluster.backend.register(&simple("note")).unwrap());
    assert_eq!(read_note("function-0"), "");
    let out = crate::support::note_path("script");
    let script = "echo \"$BGW_HANDLE ${BGW_ATTACH-none} $BGW_RUNTIME_DIR\" > $0.part && mv $0.part $0; exec sleep 1000";
    let script =
        BackgroundWorker::builder("script").command("sh", ["-c", script, out.to_str().unwrap()]);
    let handle = register(&cluster, script);
    let noted = read_note("script");
    let mut words = noted.split_whitespace();
    let own: WorkerHandle = words.next().unwrap().parse().unwrap();
    assert_eq!((own, words.next()), (handle.id(), Some("none")));
    let backend = Backend::connect(words.next().unwrap()).unwrap();
    backend.handle(own).terminate().unwrap();
    assert!(the_end(&handle).requested());
    cluster.end();
}

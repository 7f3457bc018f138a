//! The promise: a command finds the environment, working folder and standard input that its
//! description gives it, at each start, however it was registered; and nobody who may look at the
//! cluster sees them.
//!
//! Would catch: a variable that is lost, doubled or another command's, a secret in shared memory, a
//! registration that ends with its connection, a run in the wrong folder.

use crate::support::{
    Cluster, Log, PATIENCE, connect, read_note, shared, simple, stopped, write_note,
};
use bgw_backend::{
    BackgroundWorker, BackgroundWorkerBuilder, ExitCause, Handle, Input, NotStarted, RegisterError,
    RestartPolicy, Worker, WorkerError, WorkerStatus, entry,
};
use process_test::{Signal, Test, fork_child, tests};
use std::path::{Path, PathBuf};
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_command_finds_what_its_description_says_however_it_is_registered,
        a_program_is_looked_for_in_the_path_that_the_command_has,
        a_folder_or_an_input_that_cannot_be_opened_is_reported_and_logged,
        restarts_and_resets_find_the_same_again,
        nobody_finds_an_environment_in_shared_memory,
        environments_of_16_kib_arrive_whole_from_many_threads,
        a_registrant_that_goes_at_once_has_its_command_run_as_described,
        a_worker_registers_such_a_command_too,
    ]
}

fn clusters() -> impl Iterator<Item = Cluster> {
    [false, true]
        .into_iter()
        .map(|fork| Cluster::with(|builder| builder.max_workers(64).run_atfork_handlers(fork)))
}

fn temp(name: &str) -> PathBuf {
    std::fs::canonicalize(std::env::temp_dir()).unwrap().join(name)
}

fn simple_command() -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("c").command("/bin/true", [""; 0])
}

/// A shell that writes into `seen`, whole at its end, what this script prints.
fn script(seen: &Path, script: &str) -> BackgroundWorkerBuilder {
    let seen = seen.display();
    let script = format!("{{ {script}; }} > {seen}.part && /bin/mv {seen}.part {seen}");
    BackgroundWorker::builder("c").command("/bin/sh", ["-c".to_owned(), script])
}

/// Sees variable by variable, the folder, and what comes in.
fn looks(seen: &Path) -> BackgroundWorkerBuilder {
    let looks = r#"echo "$A|$B|${GONE-none}|${KEPT-none}"; pwd; /bin/cat"#;
    script(seen, looks).env("A", "1").env("A", "a b=c\n").env("B", "").env_remove("GONE")
}

#[track_caller]
fn seen(path: &Path, handle: &Handle) -> String {
    let end = handle.wait_for_end_timeout(PATIENCE).unwrap();
    let WorkerStatus::Stopped(Some(report)) = end else { panic!("{end:?}") };
    assert_eq!(report.cause, ExitCause::Exited(0));
    let text = std::fs::read_to_string(path).unwrap();
    std::fs::remove_file(path).unwrap();
    text
}

fn set(name: &str, value: &str) {
    // SAFETY: this process has one thread.
    unsafe { std::env::set_var(name, value) };
}

/// Would fail if one way of registering, or of starting, lost a part.
fn a_command_finds_what_its_description_says_however_it_is_registered() {
    for name in ["GONE", "KEPT", "A"] {
        set(name, "the program's");
    }
    let (out, input, folder) = (temp("seen"), temp("input"), temp("folder"));
    std::fs::write(&input, "what comes in").unwrap();
    std::fs::create_dir(&folder).unwrap();
    let shown = folder.display().to_string();
    let whole = looks(&out).current_dir(&shown).stdin(Input::File(input.display().to_string()));
    let clear = looks(&out).current_dir("/").stdin(Input::Null).env_clear();
    let table = [
        (whole, format!("a b=c\n||none|the program's\n{shown}\nwhat comes in")),
        (clear, "a b=c\n||none|none\n/\n".to_owned()),
    ];
    for cluster in clusters() {
        for (command, expected) in &table {
            let command = command.clone().build().unwrap();
            let backend = &cluster.backend;
            let one = backend.register(&command).unwrap();
            assert_eq!(seen(&out, &one), *expected);
            let together = [simple("quick"), command.clone()];
            let refused = backend.register_all(&together).unwrap_err();
            let is_named = matches!(
                &refused,
                RegisterError::GivenTogether { name, field: "env" | "env_clear" } if name == "c"
            );
            assert!(is_named, "{refused}");
            for (field, command) in [
                ("env_remove", simple_command().env_remove("A")),
                ("current_dir", simple_command().current_dir("/")),
                ("stdin", simple_command().stdin(Input::Null)),
                ("give", simple_command().give("x", std::fs::File::open("/").unwrap())),
            ] {
                let refused = backend.register_all(&[simple("quick"), command.build().unwrap()]);
                let refused = refused.unwrap_err().to_string();
                assert!(refused.contains(&format!("worker \"c\" has {field},")), "{refused}");
            }
            assert_eq!(backend.workers().len(), 0, "none of them is registered");
            let waits = backend.register_timeout(&command, PATIENCE).unwrap();
            assert_eq!(seen(&out, &waits), *expected);
        }
        cluster.end();
    }
    for (command, expected) in table {
        let cluster = Cluster::with_static(|builder| builder, vec![command.build().unwrap()]);
        process_test::wait_until("it has looked", PATIENCE, || out.exists());
        assert_eq!(std::fs::read_to_string(&out).unwrap(), expected);
        std::fs::remove_file(&out).unwrap();
        cluster.end();
        std::fs::remove_dir_all(temp("cluster")).unwrap();
    }
}

/// Would fail if the postmaster's own path counted.
fn a_program_is_looked_for_in_the_path_that_the_command_has() {
    use std::os::unix::fs::PermissionsExt;
    let folder = temp("bin");
    std::fs::create_dir(&folder).unwrap();
    let program = folder.join("only-there");
    std::fs::write(&program, "exit 7\n").unwrap();
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o755)).unwrap();
    let missing = ExitCause::NotStarted(NotStarted::ExecFailed { errno: libc::ENOENT });
    for cluster in clusters() {
        let run = |program: &str, change: fn(BackgroundWorkerBuilder, &str) -> _| {
            let command = BackgroundWorker::builder("c").command(program, [""; 0]);
            let command: BackgroundWorkerBuilder = change(command, folder.to_str().unwrap());
            stopped(&cluster.backend.register(&command.build().unwrap()).unwrap()).cause
        };
        let code = ExitCause::Exited;
        assert_eq!(run("only-there", |command, path| command.env("PATH", path)), code(7));
        assert_eq!(run("./only-there", |command, path| command.current_dir(path)), code(7));
        // An empty entry is the working folder.
        let here = |command: BackgroundWorkerBuilder, path: &str| {
            command.current_dir(path).env("PATH", "/nowhere::")
        };
        assert_eq!(run("only-there", here), code(7));
        assert_eq!(run("only-there", |command, _| command), missing);
        assert_eq!(run("true", |command, path| command.env("PATH", path)), missing);
        assert_eq!(run("true", |command, _| command.env_clear()), code(0));
        assert_eq!(run("true", |command, _| command.env_remove("PATH")), code(0));
        cluster.end();
    }
}

/// Would fail if it ran elsewhere instead, or if nobody were told why it does not run.
fn a_folder_or_an_input_that_cannot_be_opened_is_reported_and_logged() {
    let log = Log::start();
    for cluster in clusters() {
        let cause = |command: BackgroundWorkerBuilder| {
            stopped(&cluster.backend.register(&command.build().unwrap()).unwrap()).cause
        };
        let command = || BackgroundWorker::builder("c").command("/bin/true", [""; 0]);
        let failed = |errno| ExitCause::NotStarted(NotStarted::ExecFailed { errno });
        assert_eq!(cause(command().current_dir("/no/such/folder")), failed(libc::ENOENT));
        assert_eq!(cause(command().current_dir("/etc/passwd")), failed(libc::ENOTDIR));
        assert_eq!(cause(command().stdin(Input::File("/no/file".into()))), failed(libc::ENOENT));
        // A pipe that nobody writes to delays nothing but this command, which can be ended.
        let pipe = temp("pipe");
        let _ = std::fs::remove_file(&pipe);
        nix::unistd::mkfifo(&pipe, nix::sys::stat::Mode::S_IRWXU).unwrap();
        let waits = command().stdin(Input::File(pipe.display().to_string())).build().unwrap();
        let (waits, _) = cluster.start(&waits);
        assert_eq!(cause(command()), ExitCause::Exited(0));
        waits.terminate().unwrap();
        let end = ExitCause::Signaled { signal: libc::SIGTERM as u8, core_dumped: false };
        assert_eq!(stopped(&waits).cause, end);
        cluster.end();
    }
    log.wait_for("changing to folder \"/no/such/folder\" failed: No such file");
    log.wait_for("opening \"/no/file\" as standard input failed: No such file");
    assert_eq!(log.count("changing to folder \"/no/such/folder\""), 2, "each way tells it");
}

/// Would fail if the postmaster forgot them with the run or with the slot.
fn restarts_and_resets_find_the_same_again() {
    let cluster = Cluster::new();
    let out = temp("seen");
    let command = script(&out, "echo $A; pwd").env("A", "again").current_dir("/");
    let command = command.restart(RestartPolicy::Fixed(Duration::from_secs(3600)));
    let command = command.restart_on(bgw_backend::RestartOn::Always).build().unwrap();
    let look = || {
        process_test::wait_until("it has looked", PATIENCE, || out.exists());
        assert_eq!(std::fs::read_to_string(&out).unwrap(), "again\n/\n");
        std::fs::remove_file(&out).unwrap();
    };
    let handle = cluster.backend.register(&command).unwrap();
    look();
    stopped(&handle);
    handle.restart_now().unwrap();
    look();
    let (_, pid) = cluster.start(&shared("sleep", RestartPolicy::Never));
    crate::support::kill(pid, Signal::SIGKILL);
    // After a reset it starts at once.
    look();
    cluster.end();
}

/// Would fail if the environment lay in a slot, where an observer of another user may read it.
fn nobody_finds_an_environment_in_shared_memory() {
    let cluster = Cluster::new();
    let secret = "sesame-open-the-door";
    let command = BackgroundWorker::builder("named-so").command("sleep", ["1000"]);
    let command = command.env("PASSWORD", secret).current_dir("/").build().unwrap();
    let (handle, pid) = cluster.start(&command);
    let holds =
        |bytes: &[u8], text: &str| bytes.windows(text.len()).any(|at| at == text.as_bytes());
    process_test::wait_until("the command has it", PATIENCE, || {
        holds(&std::fs::read(format!("/proc/{pid}/environ")).unwrap(), secret)
    });
    let folder = format!("/proc/{}/fd", cluster.launched.pid());
    let mut regions = 0;
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if std::fs::read_link(&path).is_ok_and(|to| to.to_string_lossy().starts_with("/memfd:")) {
            let bytes = std::fs::read(path).unwrap();
            regions += usize::from(holds(&bytes, "named-so"));
            assert!(!holds(&bytes, secret) && !holds(&bytes, "PASSWORD"));
        }
    }
    assert!(regions > 0, "the description lies there");
    let all = cluster.backend.workers();
    let shown = &all.iter().find(|info| info.handle == handle.id()).unwrap().worker;
    assert_eq!((shown.name(), shown.env().count(), shown.current_dir()), ("named-so", 0, None));
    cluster.end();
}

/// Would fail if two were mixed, or one were cut.
fn environments_of_16_kib_arrive_whole_from_many_threads() {
    let cluster = Cluster::new();
    let threads: Vec<_> = (0..4)
        .map(|number| {
            let backend = cluster.backend.clone();
            std::thread::spawn(move || {
                let value = format!("{number}").repeat(16_384 - 100);
                for round in 0..5 {
                    let command = r#"test ${#V} = 16284 && test "${V#"${V%?}"}" = "$1" && exit 5"#;
                    let number = number.to_string();
                    let command = ["-c", command, "sh", number.as_str()];
                    let command = BackgroundWorker::builder("c").command("sh", command);
                    let command = command.env("V", value.clone()).build().unwrap();
                    let handle = backend.register(&command).unwrap();
                    assert_eq!(stopped(&handle).cause, ExitCause::Exited(5), "round {round}");
                }
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    cluster.end();
}

/// Would fail if the registration ended with its connection.
fn a_registrant_that_goes_at_once_has_its_command_run_as_described() {
    let cluster = Cluster::new();
    let folder = cluster.folder.clone();
    for round in 0..20 {
        let out = temp(&format!("seen-{round}"));
        let command = script(&out, "echo $A").env("A", format!("{round}")).build().unwrap();
        let path = folder.clone();
        let mut registrant = fork_child(move || {
            let backend = connect(&path);
            drop(backend.register(&command).unwrap());
            drop(backend);
        });
        registrant.wait();
        process_test::wait_until("it has run", PATIENCE, || out.exists());
        assert_eq!(std::fs::read_to_string(&out).unwrap(), format!("{round}\n"));
    }
    cluster.end();
}

/// Registers a command over its inherited attachment.
fn register_from_inside(worker: &mut Worker) -> Result<(), WorkerError> {
    let command = BackgroundWorker::builder("c").command("sh", ["-c", "exit $A"]).env("A", "6");
    let command = command.build().map_err(|error| error.to_string())?;
    let cause = stopped(&worker.backend().register(&command)?).cause;
    write_note("inside", &cause.to_string())?;
    Ok(())
}

/// Would fail if only programs could register such a command.
fn a_worker_registers_such_a_command_too() {
    let cluster = Cluster::with(|builder| builder.function("in", entry(register_from_inside)));
    let handle = cluster.backend.register(&simple("in")).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert_eq!(read_note("inside"), "exited with exit code 6");
    cluster.end();
}

//! The promise: a worker has the descriptors that it was given with its registration, long after
//! the launch. Each can be taken once, whoever gave it may close its own at once, and what nobody
//! has taken is closed when the registration is over.
//!
//! Would catch: a descriptor that somebody else keeps open, or that is lost with a run that did not
//! take it; a command that finds one at another number; a close that stops the postmaster.

use crate::support::{
    Cluster, PATIENCE, children, connect, note_path, read_note, simple, started, stopped, the_end,
    title, wait_for_spares, worker, write_note,
};
use bgw_backend::{
    AskError, BackgroundWorker, BackgroundWorkerBuilder, ExitCause, NotStarted, Ready, Refusal,
    RegisterError, RestartPolicy, StartTime, TakeError, Worker, WorkerError, WorkerFlags, entry,
};
use bgw_postmaster::PostmasterBuilder;
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use process_test::{Test, fork_child, tests, wait_until};
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::net::UnixStream;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_worker_alone_has_what_it_takes_and_takes_it_once => [J07, J09],
        a_run_finds_what_no_run_before_has_taken => [J07],
        what_was_not_taken_outlives_a_crash_reset => [J07],
        a_command_has_them_at_the_numbers_asked_for => [J08],
        a_command_that_restarts_has_them_in_each_run => [J08],
        what_nobody_takes_is_closed_and_holds_nobody_up => [J07, D14],
        one_that_gives_and_dies_leaves_nothing => [J07],
        nobody_else_has_what_a_worker_is_given => [J07, R24],
        a_connection_has_its_share_and_no_more => [J07],
        a_worker_gives_as_a_program_does => [J07],
        who_cannot_give_is_told_why => [J07],
    ]
}

pub(crate) fn with_functions(builder: PostmasterBuilder) -> PostmasterBuilder {
    builder
        .max_workers(64)
        .function("takes", entry(takes))
        .function("takes in turn", entry(takes_in_turn))
        .function("lists", entry(lists))
        .function("gives", entry(gives))
}

/// Takes its connection, says hello, and closes it. Then it is ready, and sleeps.
fn takes(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.handle_terminate();
    worker.unblock_signals()?;
    let unknown = worker.take("other").unwrap_err();
    assert!(matches!(&unknown, TakeError::Unknown { .. }), "{unknown}");
    assert!(unknown.to_string().contains("\"other\"; it was given conn, second"), "{unknown}");
    let conn = worker.take("conn")?;
    assert!(conn.as_raw_fd() > 2);
    let flags = FdFlag::from_bits_retain(fcntl(&conn, FcntlArg::F_GETFD).unwrap());
    assert!(flags.contains(FdFlag::FD_CLOEXEC));
    let taken = worker.take("conn").unwrap_err();
    assert!(matches!(&taken, TakeError::Taken { name } if name == "conn"), "{taken}");
    let (mut conn, mut second) = (UnixStream::from(conn), UnixStream::from(worker.take("second")?));
    conn.write_all(b"hello")?;
    second.write_all(b"second")?;
    drop((conn, second));
    worker.ready();
    while !worker.should_stop() {
        worker.sleep(None)?;
    }
    Ok(())
}

/// Everything that comes until the other end is closed.
pub(crate) fn all_of(mut stream: UnixStream) -> String {
    stream.set_read_timeout(Some(PATIENCE)).unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).expect("somebody still has the other end");
    text
}

/// Fails if this process or the postmaster keeps a duplicate: the other end would not be closed
/// while the worker runs.
fn a_worker_alone_has_what_it_takes_and_takes_it_once() {
    let cluster = Cluster::with(|builder| with_functions(builder).warm_spares(1));
    wait_for_spares(&cluster, 1);
    for _ in 0..3 {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let (second, theirs_too) = UnixStream::pair().unwrap();
        let giving = worker("takes").give("conn", theirs).give("second", theirs_too);
        let handle = cluster.backend.register(&giving.build().unwrap()).unwrap();
        assert_eq!((all_of(ours).as_str(), all_of(second).as_str()), ("hello", "second"));
        crate::support::ready(&handle);
        handle.terminate().unwrap();
        assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    }
    cluster.end();
}

/// Each run takes the next letter, and fails.
fn takes_in_turn(worker: &mut Worker) -> Result<(), WorkerError> {
    let run = worker.restarts();
    let names = ["a", "b", "c"];
    let found: Vec<String> = names
        .iter()
        .enumerate()
        // Run 0 takes nothing, run 1 takes "b", run 2 whatever is left.
        .filter(|(at, _)| run == 2 || run == 1 && *at == 1)
        .map(|(_, name)| match worker.take(name) {
            Ok(_) => format!("{name} "),
            Err(error) => format!("({error}) "),
        })
        .collect();
    write_note(&format!("run-{run}"), &found.concat())?;
    match (run, worker.main_arg()) {
        (2, _) => Ok(()),
        (_, 0) => Err("not all is taken yet".into()),
        // A crash: it resets the cluster.
        _ => std::process::abort(),
    }
}

fn given_letters(builder: BackgroundWorkerBuilder) -> (BackgroundWorker, Vec<UnixStream>) {
    let mut builder = builder;
    let mut ours = Vec::new();
    for name in ["c", "b", "a"] {
        let (one, theirs) = UnixStream::pair().unwrap();
        builder = builder.give(name, theirs);
        ours.push(one);
    }
    (builder.build().unwrap(), ours)
}

fn check_letters(ours: Vec<UnixStream>) {
    assert_eq!(read_note("run-0"), "");
    assert_eq!(read_note("run-1"), "b ");
    let last = read_note("run-2");
    assert!(last.starts_with("a (") && last.ends_with(") c "), "{last}");
    assert!(last.contains("\"b\" was taken before"), "{last}");
    ours.into_iter().for_each(|one| assert_eq!(all_of(one), ""));
}

/// Fails if a run that ends before it takes one loses it, or if what was taken comes back.
fn a_run_finds_what_no_run_before_has_taken() {
    let cluster = Cluster::with(with_functions);
    let restarting = worker("takes in turn").restart(RestartPolicy::Fixed(Duration::ZERO));
    let (description, ours) = given_letters(restarting);
    let handle = cluster.backend.register(&description).unwrap();
    drop(description);
    handle.wait_for_end_timeout(PATIENCE).unwrap();
    check_letters(ours);
    cluster.end();
}

/// Fails if a reset, which gives the worker another slot, takes away what it was given.
fn what_was_not_taken_outlives_a_crash_reset() {
    let cluster = Cluster::with(with_functions);
    let restarting = worker("takes in turn").restart(RestartPolicy::Fixed(Duration::ZERO));
    let restarting = restarting.flags(WorkerFlags::SHMEM_ACCESS).main_arg(1);
    let (description, ours) = given_letters(restarting);
    // It is gone with the reset: it is not restarted.
    let (lost, theirs) = UnixStream::pair().unwrap();
    let never = worker("sleep").start_time(StartTime::RecoveryFinished).give("conn", theirs);
    let never = cluster.backend.register(&never.build().unwrap()).unwrap();
    started(&never);
    cluster.backend.register(&description).unwrap();
    drop(description);
    check_letters(ours);
    assert_eq!(all_of(lost), "");
    cluster.end();
}

pub(crate) fn script(text: &str) -> BackgroundWorkerBuilder {
    BackgroundWorker::builder("script").command("/bin/sh", ["-c", text])
}

/// Fails if a number is another one, if the environment speaks of others, or of another process.
fn a_command_has_them_at_the_numbers_asked_for() {
    // SAFETY: the process has one thread.
    unsafe { std::env::set_var("LISTEN_FDS", "9") };
    let cluster = Cluster::with(with_functions);
    let pairs = [(); 5].map(|()| UnixStream::pair().unwrap());
    let [a, b, c, d, e] = pairs;
    let text = "for n in 3 4 5 7 9; do eval \"echo $n >&$n\"; done; \
                [ $LISTEN_PID = $$ ] && echo \"$LISTEN_FDS $LISTEN_FDNAMES\" >&3";
    let command = script(text)
        .give_at(5, "a", a.1)
        .give("b", b.1)
        .give_at(9, "c", c.1)
        .give("d", d.1)
        .give_at(7, "e", e.1);
    let handle = cluster.backend.register(&command.build().unwrap()).unwrap();
    let said = [a.0, b.0, c.0, d.0, e.0].map(all_of);
    assert_eq!(said, ["5\n", "3\n3 b:d:a\n", "9\n", "4\n", "7\n"]);
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    // The descriptor for readiness has its own number.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let ready = script("echo >&3; exec 3>&-; echo $LISTEN_FDS >&4").ready(Ready::Newline(3));
    let handle = cluster.backend.register(&ready.give("conn", theirs).build().unwrap()).unwrap();
    assert_eq!(all_of(ours), "\n");
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    // What the postmaster's own supervisor has said is for nobody else.
    let path = note_path("environment");
    let plain =
        script(&format!("echo \"<$LISTEN_FDS>\" > {}.part; mv {0}.part {0}", path.display()));
    cluster.backend.register(&plain.build().unwrap()).unwrap();
    assert_eq!(read_note("environment"), "<>\n");
    cluster.end();
}

/// Fails if the second run has nothing, or if the postmaster keeps what it gave when all is over.
fn a_command_that_restarts_has_them_in_each_run() {
    for atfork_handlers in [false, true] {
        let cluster =
            Cluster::with(|builder| with_functions(builder).run_atfork_handlers(atfork_handlers));
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        let text = "echo $LISTEN_FDNAMES >&3; read answer <&3; exit $answer";
        let command = script(text).restart(RestartPolicy::Fixed(Duration::ZERO));
        let command = command.give("conn", theirs).build().unwrap();
        let handle = cluster.backend.register(&command).unwrap();
        drop(command);
        ours.set_read_timeout(Some(PATIENCE)).unwrap();
        for answer in ["1\n", "1\n", "0\n"] {
            let mut line = [0; 5];
            ours.read_exact(&mut line).unwrap();
            assert_eq!(&line, b"conn\n");
            ours.write_all(answer.as_bytes()).unwrap();
        }
        assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
        assert_eq!(all_of(ours), "");
        cluster.end();
    }
}

/// A connection whose close takes ten minutes, and its other end, which reads nothing: there is
/// more to send than the two buffer.
pub(crate) fn lingering() -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let ours = TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (theirs, _) = listener.accept().unwrap();
    let linger = libc::linger { l_onoff: 1, l_linger: 600 };
    nix::sys::socket::setsockopt(&ours, nix::sys::socket::sockopt::Linger, &linger).unwrap();
    ours.set_nonblocking(true).unwrap();
    while (&ours).write(&[0; 65536]).is_ok() {}
    (ours, theirs)
}

/// Hangs if the postmaster closes the last descriptor of one of these itself.
fn what_nobody_takes_is_closed_and_holds_nobody_up() {
    let cluster =
        Cluster::with(|builder| with_functions(builder).initial_phase(StartTime::PostmasterStart));
    let mut others = Vec::new();
    let mut give = |worker: BackgroundWorkerBuilder| {
        let (ours, theirs) = lingering();
        others.push(theirs);
        worker.give("conn", ours).build().unwrap()
    };
    let served = |what: &str| cluster.backend.ping().expect(what);
    // Never started, and terminated. The description, which has a descriptor, too, goes first.
    for _ in 0..3 {
        let handle = cluster.backend.register(&give(worker("sleep"))).unwrap();
        handle.terminate().unwrap();
        let report = stopped(&handle);
        assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Terminated));
        served("it was terminated");
    }
    // Ran, and did not take it.
    let next = worker("quick").start_time(StartTime::ConsistentState);
    let handle = cluster.backend.register(&give(next)).unwrap();
    cluster.backend.advance(StartTime::ConsistentState).unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    served("it ran");
    let closers = || {
        let all = children(cluster.launched.pid()).into_iter().map(title);
        all.filter(|title| title == "bgw closer").count()
    };
    wait_until("the closers have ended", PATIENCE, || closers() == 0);
    wait_until("the postmaster has no envelope left", PATIENCE, || sockets(&cluster) == 1);
    // What is there when the postmaster ends holds it up no longer.
    cluster.backend.register(&give(worker("sleep"))).unwrap();
    cluster.end();
}

/// How many sockets the postmaster has open.
fn sockets(cluster: &Cluster) -> usize {
    let all = std::fs::read_dir(format!("/proc/{}/fd", cluster.launched.pid())).unwrap();
    let targets = all.filter_map(|one| std::fs::read_link(one.ok()?.path()).ok());
    let unnamed = targets.filter(|target| target.to_string_lossy().starts_with("socket:"));
    // The control socket is one of them.
    unnamed.count() - 1
}

/// Fails if a program that dies between giving and registering leaves an envelope behind.
fn one_that_gives_and_dies_leaves_nothing() {
    let cluster = Cluster::with(|builder| with_functions(builder).max_workers(1));
    let before = sockets(&cluster);
    let (holder, _) = cluster.start(&simple("sleep"));
    let folder = cluster.folder.clone();
    let (ours, theirs) = UnixStream::pair().unwrap();
    let mut giving = fork_child(move || {
        let backend = connect(&folder);
        let worker = worker("sleep").give("conn", theirs).build().unwrap();
        let _ = backend.register_timeout(&worker, PATIENCE);
    });
    wait_until("it waits for a slot", PATIENCE, || {
        cluster.backend.ping().unwrap();
        // Its session, its ticket, its envelope.
        sockets(&cluster) == before + 3 && process_test::asleep(giving.pid())
    });
    giving.kill(process_test::Signal::SIGKILL);
    giving.wait();
    assert_eq!(all_of(ours), "");
    wait_until("nothing is left", PATIENCE, || sockets(&cluster) == before);
    // Nobody waits, and there is no slot now.
    let (ours, theirs) = UnixStream::pair().unwrap();
    let gifted = worker("takes").give("conn", theirs).build().unwrap();
    let full = cluster.backend.register(&gifted).unwrap_err();
    assert!(matches!(full, RegisterError::NoFreeSlot { capacity: 1, in_use: 1 }), "{full}");
    drop(gifted);
    assert_eq!(all_of(ours), "");
    holder.terminate().unwrap();
    cluster.end();
}

/// Notes which sockets it has.
fn lists(_: &mut Worker) -> Result<(), WorkerError> {
    let all = std::fs::read_dir("/proc/self/fd")?;
    let targets = all.filter_map(|one| std::fs::read_link(one.ok()?.path()).ok());
    let sockets = targets.filter(|target| target.to_string_lossy().starts_with("socket:"));
    write_note("sockets", &sockets.count().to_string())?;
    Ok(())
}

/// Fails if an envelope leaks into a process that was not given it.
fn nobody_else_has_what_a_worker_is_given() {
    let cluster = Cluster::with(with_functions);
    let (_ours, theirs) = UnixStream::pair().unwrap();
    let given = worker("sleep").give("conn", theirs).build().unwrap();
    let (handle, _) = cluster.start(&given);
    drop(given);
    cluster.backend.register(&simple("lists")).unwrap();
    assert_eq!(read_note("sockets"), "0");
    let path = note_path("listed");
    let text = format!("ls -l /proc/self/fd > {}.part; mv {0}.part {0}", path.display());
    cluster.backend.register(&script(&text).build().unwrap()).unwrap();
    assert!(!read_note("listed").contains("socket:"));
    handle.terminate().unwrap();
    cluster.end();
}

/// Fails if there is no limit, or if what is over still counts.
fn a_connection_has_its_share_and_no_more() {
    let (soft, _) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    nix::sys::resource::setrlimit(
        nix::sys::resource::Resource::RLIMIT_NOFILE,
        soft.min(1024),
        1024,
    )
    .unwrap();
    let cluster = Cluster::with(with_functions);
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let give = |count: usize| {
        let gifts = (0..count).map(|at| (at.to_string(), null()));
        let worker = gifts.fold(worker("sleep"), |worker, (name, fd)| worker.give(name, fd));
        worker.build().unwrap()
    };
    // A sixteenth of 1,024 descriptors.
    let first = cluster.backend.register(&give(16)).unwrap();
    let others = [16, 16, 10, 6].map(|count| cluster.backend.register(&give(count)).unwrap());
    let refused = cluster.backend.register(&give(1)).unwrap_err();
    let is_refused = |error: &RegisterError| {
        matches!(
            error,
            RegisterError::Ask(AskError::Refused { reason: Refusal::TooManyDescriptors, detail })
                if detail.contains("64")
        )
    };
    assert!(is_refused(&refused), "{refused}");
    // Another program has a share of its own.
    let other = connect(&cluster.folder);
    other.register(&give(16)).unwrap();
    first.terminate().unwrap();
    stopped(&first);
    wait_until("what is over counts no more", PATIENCE, || {
        cluster.backend.register(&give(16)).is_ok_and(|handle| {
            started(&handle);
            true
        })
    });
    drop((others, other));
    cluster.end();
}

/// Gives what it is given itself, with another pair.
fn gives(worker: &mut Worker) -> Result<(), WorkerError> {
    worker.unblock_signals()?;
    let (ours, theirs) = UnixStream::pair()?;
    let gifted = BackgroundWorker::builder("takes").function("takes");
    let gifted = gifted.give("conn", theirs).give("second", worker.take("conn")?).build()?;
    let handle = worker.backend().register(&gifted)?;
    drop(gifted);
    write_note("hello", &all_of(ours))?;
    handle.terminate()?;
    handle.wait_for_end()?;
    Ok(())
}

/// Fails if only programs can give.
fn a_worker_gives_as_a_program_does() {
    let cluster = Cluster::with(with_functions);
    let (ours, theirs) = UnixStream::pair().unwrap();
    let giving = worker("gives").give("conn", theirs).build().unwrap();
    let handle = cluster.backend.register(&giving).unwrap();
    drop(giving);
    assert_eq!(all_of(ours), "second");
    assert_eq!(read_note("hello"), "hello");
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    cluster.end();
}

/// Fails if such a worker is registered without what it is to be given.
fn who_cannot_give_is_told_why() {
    let cluster = Cluster::with(with_functions);
    let null = std::fs::File::open("/dev/null").unwrap();
    let gifted = worker("quick").give("x", null).build().unwrap();
    let refused = cluster.backend.register_all(&[gifted]).unwrap_err();
    assert!(
        matches!(&refused, RegisterError::GivenTogether { name, field: "give" } if name == "quick")
    );
    cluster.end();
    let null = std::fs::File::open("/dev/null").unwrap();
    let gifted = worker("quick").give("x", null).build().unwrap();
    let mut postmaster = with_functions(bgw_postmaster::Postmaster::builder()).build().unwrap();
    let text = postmaster.register(gifted).unwrap_err();
    assert!(text.to_string().contains("\"x\""), "{text}");
}

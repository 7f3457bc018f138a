//! The promise: a command says how it is by `NOTIFY_SOCKET`, as programs written for systemd do,
//! and nobody else can say it for it.
//!
//! Would catch: a stranger's word that counts, a descriptor that stays open, a flood that starves
//! the others, a postmaster's own variables in the environment of its commands.

use crate::gifts::lingering;
use crate::support::{
    Cluster, PATIENCE, alive, kill, read_note, ready, simple, started, stopped, the_end, write_note,
};
use bgw_backend::{
    Backend, BackgroundWorker, BackgroundWorkerBuilder, EventKind, EventsFrom, ExitCause, Handle,
    NotifyFrom, Ready, ShutdownMode, Worker, WorkerError, WorkerInfo, entry,
};
use bgw_postmaster::Postmaster;
use nix::sys::socket::{ControlMessage, MsgFlags, UnixAddr, sendmsg};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::io::{IoSlice, Read};
use std::net::TcpStream;
use std::os::fd::{AsRawFd, BorrowedFd, RawFd};
use std::os::unix::net::UnixDatagram;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_command_is_ready_by_its_own_message_and_by_nobody_elses => [P36],
        a_message_of_its_process_group_counts_where_that_is_allowed => [P36],
        descriptors_in_messages_are_closed => [P37],
        a_descriptor_that_takes_long_to_close_holds_nobody_up => [P37, D14],
        what_a_command_says_behind_a_descriptor_counts_though_it_ends_at_once => [P37],
        a_message_over_4_kib_is_dropped_and_a_flood_starves_nobody => [P38],
        a_command_has_the_variables_of_its_own_run_and_none_of_the_postmasters => [P39],
        a_function_sees_none_of_the_postmasters_variables => [P39],
        a_status_text_is_cleaned_cut_and_gone_with_its_run => [P41],
        a_command_that_stops_beating_or_says_that_it_hangs_is_hung => [P30],
        a_command_that_asks_for_more_time_to_start_gets_it => [P29],
    ]
}

/// The program that these tests run as a command: does what each argument says.
pub(crate) fn client(steps: impl Iterator<Item = String>) -> ExitCode {
    let path = std::env::var("NOTIFY_SOCKET").map(PathBuf::from).unwrap_or_default();
    let socket = UnixDatagram::unbound().unwrap();
    for step in steps {
        let (what, text) = step.split_once(':').unwrap();
        match what {
            "send" => drop(socket.send_to(text.as_bytes(), &path).unwrap()),
            "child" => {
                let mut child = fork_child(|| {
                    socket.send_to(text.as_bytes(), &path).unwrap();
                    // Whoever is gone cannot be asked for its group.
                    read_note("heard");
                });
                write_note("child-sends", "").unwrap();
                child.wait();
            }
            "barrier" => {
                let (mut ours, theirs) = std::io::pipe().unwrap();
                let raw = [theirs.as_raw_fd(); 20];
                let address = UnixAddr::new(&path).unwrap();
                let parts = [IoSlice::new(text.as_bytes())];
                let rights = [ControlMessage::ScmRights(&raw)];
                let flags = MsgFlags::empty();
                sendmsg(socket.as_raw_fd(), &parts, &rights, flags, Some(&address)).unwrap();
                drop(theirs);
                // The last one that is open was sent.
                assert_eq!(ours.read(&mut [0]).unwrap(), 0);
            }
            "lend" => {
                let (_, lent) = std::io::pipe().unwrap();
                send_with(&socket, &path, text, lent.as_raw_fd());
            }
            "long" => {
                let long = format!("{text}\n{}", "x".repeat(4097));
                socket.send_to(&long.as_bytes()[..4097], &path).unwrap();
            }
            "flood" => {
                while !crate::support::note_path(text).exists() {
                    socket.send_to(b"WATCHDOG=1", &path).unwrap();
                }
            }
            "beat" => {
                for _ in 0..text.parse::<u32>().unwrap() {
                    socket.send_to(b"WATCHDOG=1", &path).unwrap();
                    std::thread::sleep(EVERY / 8);
                }
            }
            "note" => {
                let all = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
                write_note(text, &all.collect::<String>()).unwrap();
            }
            "write" => {
                let (number, text) = text.split_once(':').unwrap();
                // SAFETY: this process has it from its start on.
                let fd = unsafe { BorrowedFd::borrow_raw(number.parse().unwrap()) };
                // An error: nobody reads.
                let _ = nix::unistd::write(fd, text.as_bytes());
            }
            "fill" => {
                let (number, count) = text.split_once(':').unwrap();
                // SAFETY: as above.
                let fd = unsafe { BorrowedFd::borrow_raw(number.parse().unwrap()) };
                let _ = nix::unistd::write(fd, &vec![b'x'; count.parse().unwrap()]);
            }
            "close" => nix::unistd::close(text.parse::<RawFd>().unwrap()).unwrap(),
            "open" => {
                let mut all: Vec<RawFd> = std::fs::read_dir("/proc/self/fd")
                    .unwrap()
                    .map(|entry| entry.unwrap().file_name().to_str().unwrap().parse().unwrap())
                    .collect();
                // Without this socket, and what reads the folder.
                let gone =
                    |&number: &RawFd| !Path::new(&format!("/proc/self/fd/{number}")).exists();
                all.retain(|number| *number != socket.as_raw_fd() && !gone(number));
                all.sort_unstable();
                write_note(text, &format!("{all:?}")).unwrap();
            }
            "await" => drop(read_note(text)),
            "sleep" => std::thread::sleep(Duration::from_millis(text.parse().unwrap())),
            other => panic!("{other}"),
        }
    }
    ExitCode::SUCCESS
}

const EVERY: Duration = Duration::from_millis(400);
pub(crate) const FOR_EVER: &str = "sleep:3600000";

/// A command that does these steps.
pub(crate) fn client_command(steps: &[&str]) -> BackgroundWorkerBuilder {
    let program = std::env::current_exe().unwrap().to_str().unwrap().to_owned();
    let args = ["notify-client"].iter().chain(steps).map(|&arg| arg.to_owned());
    BackgroundWorker::builder("command").command(program, args)
}

fn command(steps: &[&str]) -> BackgroundWorkerBuilder {
    client_command(steps).ready(Ready::Notify)
}

fn register(cluster: &Cluster, command: BackgroundWorkerBuilder) -> Handle {
    cluster.backend.register(&command.build().unwrap()).unwrap()
}

/// The socket of a command that has noted its environment.
fn socket_of(note: &str) -> PathBuf {
    let noted = read_note(note);
    let path = noted.lines().find_map(|line| line.strip_prefix("NOTIFY_SOCKET="));
    PathBuf::from(path.unwrap())
}

fn info(cluster: &Cluster, handle: &Handle) -> WorkerInfo {
    cluster.backend.workers().into_iter().find(|info| info.handle == handle.id()).unwrap()
}

/// Whatever was sent before was heard when this returns.
fn is_heard(cluster: &Cluster) {
    for _ in 0..3 {
        cluster.backend.ping().unwrap();
    }
}

/// Would fail if anybody who can reach the socket could say it, and time out if nobody could.
fn a_command_is_ready_by_its_own_message_and_by_nobody_elses() {
    let cluster = Cluster::new();
    let steps = ["note:environment", "child:READY=1", "await:go", "send:READY=1", FOR_EVER];
    let handle = register(&cluster, command(&steps));
    let path = socket_of("environment");
    assert!(path.starts_with(std::fs::canonicalize(&cluster.folder).unwrap()), "{path:?}");
    read_note("child-sends");
    let stranger = UnixDatagram::unbound().unwrap();
    stranger.send_to(b"READY=1\nSTATUS=a stranger", &path).unwrap();
    is_heard(&cluster);
    let before = info(&cluster, &handle);
    assert!(!before.ready && before.status_text.is_none(), "{before:?}");
    write_note("heard", "").unwrap();
    write_note("go", "").unwrap();
    ready(&handle);
    assert!(path.exists());
    handle.terminate().unwrap();
    the_end(&handle);
    assert!(!path.exists(), "it is gone with its run");
    cluster.end();
}

/// Would time out if the group were not looked at.
fn a_message_of_its_process_group_counts_where_that_is_allowed() {
    let cluster = Cluster::new();
    let steps = ["note:environment", "child:READY=1", FOR_EVER];
    let command = command(&steps).notify_from(NotifyFrom::ProcessGroup);
    let handle = register(&cluster, command);
    let path = socket_of("environment");
    ready(&handle);
    write_note("heard", "").unwrap();
    // A stranger stays one.
    let mut stranger = fork_child(move || {
        let socket = UnixDatagram::unbound().unwrap();
        socket.send_to(b"STATUS=a stranger", &path).unwrap();
    });
    stranger.wait();
    is_heard(&cluster);
    assert_eq!(info(&cluster, &handle).status_text, None);
    cluster.end();
}

/// Would time out if one of the descriptors stayed open.
fn descriptors_in_messages_are_closed() {
    let cluster = Cluster::new();
    let steps = ["barrier:BARRIER=1", "barrier:STATUS=closed\nREADY=1", FOR_EVER];
    let handle = register(&cluster, command(&steps));
    ready(&handle);
    assert_eq!(info(&cluster, &handle).status_text.as_deref(), Some("closed"));
    cluster.end();
}

/// Sends a connection whose close takes ten minutes, and gives its other end, which never reads.
fn send_lingering(path: &Path) -> TcpStream {
    let (ours, theirs) = lingering();
    let socket = UnixDatagram::unbound().unwrap();
    send_with(&socket, path, "BARRIER=1", ours.as_raw_fd());
    // `ours` is on its way, so this one is not the last.
    theirs
}

fn send_with(socket: &UnixDatagram, path: &Path, text: &str, lent: RawFd) {
    let rights = [lent];
    let rights = [ControlMessage::ScmRights(&rights)];
    let parts = [IoSlice::new(text.as_bytes())];
    let (address, flags) = (UnixAddr::new(path).unwrap(), MsgFlags::empty());
    sendmsg(socket.as_raw_fd(), &parts, &rights, flags, Some(&address)).unwrap();
}

/// Hangs if the postmaster closes a descriptor that a message brings: for ten minutes each.
fn a_descriptor_that_takes_long_to_close_holds_nobody_up() {
    let cluster = Cluster::new();
    let postmaster = cluster.launched.pid();
    let steps = ["note:environment", "await:go", "send:STATUS=behind\nREADY=1", FOR_EVER];
    let first = register(&cluster, command(&steps));
    let path = socket_of("environment");
    let mut others = Vec::new();
    for _ in 0..3 {
        // Nobody closes it before it is closed here.
        kill(postmaster, Signal::SIGSTOP);
        others.extend([(); 2].map(|()| send_lingering(&path)));
        kill(postmaster, Signal::SIGCONT);
        cluster.backend.ping().unwrap();
    }
    write_note("go", "").unwrap();
    ready(&first);
    assert_eq!(info(&cluster, &first).status_text.as_deref(), Some("behind"));
    // What lies there when the run ends.
    kill(postmaster, Signal::SIGSTOP);
    others.extend([(); 3].map(|()| send_lingering(&path)));
    kill(started(&first), Signal::SIGKILL);
    kill(postmaster, Signal::SIGCONT);
    the_end(&first);
    cluster.backend.ping().unwrap();
    // What lies there when the postmaster ends.
    let second = register(&cluster, command(&["note:again", FOR_EVER]));
    let path = socket_of("again");
    kill(postmaster, Signal::SIGSTOP);
    others.extend([(); 3].map(|()| send_lingering(&path)));
    kill(postmaster, Signal::SIGCONT);
    second.terminate().unwrap();
    cluster.end();
}

/// Would fail if its last words were lost: nobody has taken out what lies before them.
fn what_a_command_says_behind_a_descriptor_counts_though_it_ends_at_once() {
    let cluster = Cluster::new();
    let mut events = cluster.backend.events(EventsFrom::Now).unwrap();
    let handle =
        register(&cluster, command(&["note:begun", "await:go", "lend:BARRIER=1", "send:READY=1"]));
    read_note("begun");
    let (postmaster, pid) = (cluster.launched.pid(), started(&handle));
    // It sees the message and the end at once.
    kill(postmaster, Signal::SIGSTOP);
    write_note("go", "").unwrap();
    wait_until("the command has ended", PATIENCE, || !alive(pid));
    kill(postmaster, Signal::SIGCONT);
    assert_eq!(the_end(&handle).cause, ExitCause::Exited(0));
    let mut was_ready = false;
    loop {
        let event = events.next_timeout(PATIENCE).unwrap().expect("it ends");
        was_ready |= event.kind == EventKind::Ready && event.handle == Some(handle.id());
        if event.kind == EventKind::Unregistered {
            break;
        }
    }
    assert!(was_ready);
    cluster.end();
}

/// Would fail if a long message counted, and time out if others waited for the end of a flood.
fn a_message_over_4_kib_is_dropped_and_a_flood_starves_nobody() {
    let cluster = Cluster::new();
    let long = ["long:READY=1", "note:sent", "await:go", "send:READY=1", FOR_EVER];
    let handle = register(&cluster, command(&long));
    read_note("sent");
    is_heard(&cluster);
    assert!(!info(&cluster, &handle).ready);
    write_note("go", "").unwrap();
    ready(&handle);
    let flood = register(&cluster, command(&["flood:enough", "send:READY=1", FOR_EVER]));
    for _ in 0..50 {
        let other = cluster.backend.register(&simple("quick")).unwrap();
        assert_eq!(stopped(&other).cause, ExitCause::Exited(0));
    }
    write_note("enough", "").unwrap();
    ready(&flood);
    cluster.end();
}

const OF_THE_POSTMASTER: [&str; 3] = ["NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID"];

fn set_variables() {
    for name in OF_THE_POSTMASTER {
        // SAFETY: this process has one thread.
        unsafe { std::env::set_var(name, "the postmaster's") };
    }
}

/// Writes the variables of its process into a note that its argument names.
fn note_variables(worker: &mut Worker) -> Result<(), WorkerError> {
    let all = std::env::vars().map(|(name, value)| format!("{name}={value}\n"));
    Ok(write_note(&format!("function-{}", worker.main_arg()), &all.collect::<String>())?)
}

/// Would fail if a function could answer the postmaster's own supervisor, forked or in a spare, of
/// a postmaster that was launched or that the program became; or if the program lost its variables.
fn a_function_sees_none_of_the_postmasters_variables() {
    set_variables();
    let noted = |cluster: &Backend, number: u64| {
        let worker = BackgroundWorker::builder("note").function("note").main_arg(number);
        the_end(&cluster.register(&worker.build().unwrap()).unwrap());
        let all = read_note(&format!("function-{number}"));
        assert!(!all.contains("the postmaster's"), "{all}");
        assert!(all.lines().any(|line| line.starts_with("PATH=")), "the rest is there: {all}");
    };
    let own = || OF_THE_POSTMASTER.map(|name| std::env::var(name).unwrap());
    for spares in 0..2 {
        let cluster = Cluster::with(|builder| {
            builder.warm_spares(spares).function("note", entry(note_variables))
        });
        crate::support::wait_for_spares(&cluster, spares);
        noted(&cluster.backend, spares as u64);
        cluster.end();
    }
    assert_eq!(own(), ["the postmaster's"; 3]);
    let folder = std::env::temp_dir().join("run");
    let path = folder.clone();
    let mut program = fork_child(move || {
        let postmaster = Postmaster::builder().runtime_dir(path);
        let postmaster = postmaster.function("note", entry(note_variables)).build().unwrap();
        assert_eq!(postmaster.run().unwrap(), 0);
        assert_eq!(own(), ["the postmaster's"; 3]);
    });
    wait_until("the postmaster listens", PATIENCE, || folder.join("postmaster.pid").exists());
    let backend = crate::support::connect(&folder);
    noted(&backend, 2);
    backend.shutdown(ShutdownMode::Fast).unwrap();
    assert_eq!(program.wait().code(), Some(0));
}

/// Would fail if a command could answer the postmaster's own supervisor.
fn a_command_has_the_variables_of_its_own_run_and_none_of_the_postmasters() {
    set_variables();
    let cluster = Cluster::new();
    let handle =
        register(&cluster, command(&["note:own", "send:READY=1", FOR_EVER]).heartbeat(PATIENCE));
    let own = read_note("own");
    assert!(!own.contains("the postmaster's"), "{own}");
    assert!(own.contains("WATCHDOG_USEC=30000000\n"), "{own}");
    assert!(own.lines().any(|line| line.starts_with("PATH=")), "the rest is there: {own}");
    ready(&handle);
    let plain = BackgroundWorker::builder("plain");
    let plain = plain.command(
        "sh",
        ["-c", "echo \"$NOTIFY_SOCKET$WATCHDOG_USEC$WATCHDOG_PID\" > $TMPDIR/plain"],
    );
    let plain = cluster.backend.register(&plain.build().unwrap()).unwrap();
    the_end(&plain);
    assert_eq!(std::fs::read_to_string(std::env::temp_dir().join("plain")).unwrap(), "\n");
    cluster.end();
}

/// Would fail if a text could forge lines, or outlive its run.
fn a_status_text_is_cleaned_cut_and_gone_with_its_run() {
    let cluster = Cluster::new();
    let long = format!("send:STATUS=a\tb\u{1b}[31m {}", "ä".repeat(200));
    let handle = register(&cluster, command(&[&long, "send:READY=1", FOR_EVER]));
    ready(&handle);
    let text = info(&cluster, &handle).status_text.unwrap();
    assert!(text.starts_with("a?b?[31m ä"), "{text}");
    assert!(text.len() <= 127 && text.len() > 120, "{text}");
    handle.terminate().unwrap();
    the_end(&handle);
    let next = cluster.backend.register(&simple("sleep")).unwrap();
    ready(&next);
    assert!(cluster.backend.workers().iter().all(|info| info.status_text.is_none()));
    cluster.end();
}

/// Would time out if beats did not count, or silence did not.
fn a_command_that_stops_beating_or_says_that_it_hangs_is_hung() {
    let cluster = Cluster::new();
    let beats = ["send:READY=1", "beat:20", FOR_EVER];
    let silent = register(&cluster, command(&beats).heartbeat(EVERY));
    let report = the_end(&silent);
    assert!(matches!(report.cause, ExitCause::Hung { .. }), "{report:?}");
    assert!(report.ran_for > 2 * EVERY, "it had beaten before: {report:?}");
    let says = ["send:READY=1\nWATCHDOG=trigger", FOR_EVER];
    let says = register(&cluster, command(&says).heartbeat(Duration::from_secs(3600)));
    assert!(matches!(the_end(&says).cause, ExitCause::Hung { .. }));
    cluster.end();
}

/// Would fail if the request were not read, and time out if the first clock had no end.
fn a_command_that_asks_for_more_time_to_start_gets_it() {
    let cluster = Cluster::new();
    let short = Duration::from_millis(500);
    let asks = ["send:EXTEND_TIMEOUT_USEC=4000000", "sleep:1500", "send:READY=1", FOR_EVER];
    let handle = register(&cluster, command(&asks).start_timeout(short));
    ready(&handle);
    let late = register(&cluster, command(&[FOR_EVER]).start_timeout(short));
    assert_eq!(the_end(&late).cause, ExitCause::StartTimedOut);
    wait_until("the first one is left alone", PATIENCE, || info(&cluster, &handle).ready);
    cluster.end();
}

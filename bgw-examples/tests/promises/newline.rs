//! The promise: a command that declares it is ready by a newline on a descriptor, as programs
//! written for s6 are, whatever it has written there before, within 4 KiB.
//!
//! Would catch: a pipe under the wrong number, one that is closed on the way or that another
//! command gets, too; a descriptor of ours beside it; a run that is ready by what an earlier one
//! said; a flood that starves the others.

use crate::notify_sockets::{FOR_EVER, client_command};
use crate::support::{Cluster, PATIENCE, kill, read_note, ready, simple, stopped, write_note};
use bgw_backend::{
    BackgroundWorker, ExitCause, Handle, Output, OutputFile, Ready, RestartPolicy, WorkerStatus,
};
use process_test::{Signal, Test, tests, wait_until};
use std::os::fd::OwnedFd;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_command_is_ready_by_a_newline_whatever_it_has_written_before => [P40],
        a_command_gets_its_descriptor_and_nothing_else_of_ours => [P40, R24],
        without_a_newline_in_4_kib_or_at_the_end_of_file_it_is_never_ready => [P40],
        each_run_is_ready_by_its_own_newline => [P40],
    ]
}

fn is_ready(cluster: &Cluster, handle: &Handle) -> bool {
    // Whatever was written before was heard when these return.
    for _ in 0..3 {
        cluster.backend.ping().unwrap();
    }
    let all = cluster.backend.workers();
    all.iter().find(|info| info.handle == handle.id()).unwrap().ready
}

/// Would time out if the pipe had another number, were closed on the way, or were mixed up with
/// what the command prints.
fn a_command_is_ready_by_a_newline_whatever_it_has_written_before() {
    have_a_low_floor();
    for fork in [false, true] {
        let output_dir = std::env::temp_dir().join("outputs");
        let cluster = Cluster::with(|builder| {
            builder.max_workers(64).run_atfork_handlers(fork).output_dir(output_dir)
        });
        for (number, output) in [
            (3, Output::Inherit),
            (9, Output::Null),
            (63, Output::Inherit),
            (63, OutputFile::new("log").into()),
        ] {
            let [said, go] =
                ["said", "go"].map(|what| format!("{what}-{fork}-{number}-{output:?}"));
            let go = go.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let said = said.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
            let steps = [
                "write:1:to standard output\n".to_owned(),
                format!("write:{number}:not yet, "),
                format!("note:{said}"),
                format!("await:{go}"),
                format!("write:{number}:now\nand more"),
                FOR_EVER.to_owned(),
            ];
            let steps = steps.each_ref().map(String::as_str);
            let worker = client_command(&steps).ready(Ready::Newline(number)).output(output);
            let handle = cluster.backend.register(&worker.build().unwrap()).unwrap();
            read_note(&said);
            assert!(!is_ready(&cluster, &handle));
            write_note(&go, "").unwrap();
            ready(&handle);
            handle.terminate().unwrap();
            stopped(&handle);
        }
        cluster.end();
    }
}

/// What this process has inherited far up would hide what happens above the floor.
fn have_a_low_floor() {
    // SAFETY: nothing of the harness lies there.
    assert_eq!(unsafe { libc::close_range(60, libc::c_uint::MAX, 0) }, 0);
}

/// Would fail if another descriptor of ours were left open around the number, or if the program's
/// own kept it.
fn a_command_gets_its_descriptor_and_nothing_else_of_ours() {
    have_a_low_floor();
    let taken: OwnedFd = std::fs::File::open("/dev/null").unwrap().into();
    let taken = nix::fcntl::fcntl(&taken, nix::fcntl::FcntlArg::F_DUPFD(11)).unwrap();
    for fork in [false, true] {
        let cluster = Cluster::with(|builder| builder.max_workers(64).run_atfork_handlers(fork));
        let numbers = |name: &str, on: Option<u8>| {
            let name = format!("{name}-{fork}");
            let (list, newline) = (format!("open:{name}"), format!("write:{}:\n", on.unwrap_or(2)));
            let command = client_command(&[&list, &newline, FOR_EVER]);
            let command = match on {
                Some(number) => command.ready(Ready::Newline(number)),
                None => command,
            };
            let handle = cluster.backend.register(&command.build().unwrap()).unwrap();
            let list = read_note(&name);
            if on.is_some() {
                ready(&handle);
            }
            let list = list.trim_matches(['[', ']']).split(", ");
            list.map(|number| number.parse::<i32>().unwrap()).collect::<Vec<_>>()
        };
        let plain = numbers("plain", None);
        assert!(plain.contains(&taken), "{plain:?}");
        for on in [3, u8::try_from(taken).unwrap(), 20, 62] {
            let mut expected = plain.clone();
            expected.push(on.into());
            expected.sort_unstable();
            expected.dedup();
            assert_eq!(numbers(&format!("on-{on}"), Some(on)), expected);
        }
        cluster.end();
    }
    nix::unistd::close(taken).unwrap();
}

/// Would fail if a late newline counted, and time out if a writer without end starved the others.
fn without_a_newline_in_4_kib_or_at_the_end_of_file_it_is_never_ready() {
    let cluster = Cluster::new();
    let steps = ["fill:3:4096", "note:late", "write:3:\n", "note:written", FOR_EVER];
    let late = client_command(&steps).ready(Ready::Newline(3)).build().unwrap();
    let late = cluster.backend.register(&late).unwrap();
    read_note("late");
    assert!(!is_ready(&cluster, &late));
    read_note("written");
    assert!(!is_ready(&cluster, &late));

    let closes = client_command(&["write:3:almost", "close:3", FOR_EVER]);
    let closes = closes.ready(Ready::Newline(3)).start_timeout(Duration::from_millis(500));
    let closes = cluster.backend.register(&closes.build().unwrap()).unwrap();
    assert_eq!(stopped(&closes).cause, ExitCause::StartTimedOut);

    let flood =
        BackgroundWorker::builder("flood").command("sh", ["-c", "yes xx | tr -d '\\n' >&3"]);
    let flood = flood.ready(Ready::Newline(3)).build().unwrap();
    let flood = cluster.backend.register(&flood).unwrap();
    for _ in 0..20 {
        let other = cluster.backend.register(&simple("quick")).unwrap();
        assert_eq!(stopped(&other).cause, ExitCause::Exited(0));
    }
    // Nobody reads on, and it has been told so.
    let status = flood.wait_for_end_timeout(PATIENCE).unwrap();
    assert!(matches!(status, WorkerStatus::Stopped(_)), "{status}");
    assert!(!is_ready(&cluster, &late));
    cluster.end();
}

/// Would fail if the next run were ready before it says so, or never.
fn each_run_is_ready_by_its_own_newline() {
    let cluster = Cluster::new();
    let command = client_command(&["await:go", "write:5:\n", FOR_EVER]).ready(Ready::Newline(5));
    let command = command.restart(RestartPolicy::Fixed(Duration::from_secs(3600)));
    let handle = cluster.backend.register(&command.build().unwrap()).unwrap();
    for run in 0..3 {
        let go = crate::support::note_path("go");
        assert!(!is_ready(&cluster, &handle), "run {run}");
        write_note("go", "").unwrap();
        let pid = ready(&handle);
        std::fs::remove_file(go).unwrap();
        kill(pid, Signal::SIGKILL);
        assert!(!stopped(&handle).unregistered);
        handle.restart_now().unwrap();
        wait_until(
            "the next run begins",
            PATIENCE,
            || matches!(handle.status(), WorkerStatus::Started(next) if next != pid),
        );
    }
    cluster.end();
}

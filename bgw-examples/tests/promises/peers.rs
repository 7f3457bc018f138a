//! The promise: an attached program's life is its process. A fork that holds its connection keeps
//! nothing alive.
//!
//! Would catch: a postmaster that waits for a connection to close, which a fork of the dead program
//! holds open.

use crate::support::{
    Cluster, PATIENCE, alive, connect, functions, raw, read_note, simple, write_note,
};
use bgw_backend::{Backend, ConnectOptions, ExitCause, Pid, ShutdownMode};
use bgw_postmaster::Postmaster;
use process_test::{Signal, Test, fork_child, tests, wait_until};
use shmem_slots::chain;
use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_fork_of_a_dead_program_does_not_delay_a_smart_shutdown => [D13],
        a_fork_of_a_dead_launcher_does_not_keep_the_postmaster => [D03, D13],
        a_fork_of_a_living_program_does_not_hold_a_closed_connection => [D13],
        a_fork_that_drops_its_copy_does_not_end_the_connection => [D13],
        a_program_that_closed_a_connection_is_still_notified_over_another => [D13],
        whoever_sees_the_control_socket_can_connect,
    ]
}

/// In a program: forks a process that holds all its descriptors, notes its pid, and waits.
fn leave_a_fork_behind() {
    let mut fork = fork_child(|| {
        loop {
            std::thread::park();
        }
    });
    write_note("fork", &fork.pid().to_string()).unwrap();
    fork.wait();
}

/// The fork of a program that was killed. Killed in its turn when this is dropped.
struct Fork(Pid);

impl Fork {
    fn of_noted() -> Self {
        Self(read_note("fork").parse().unwrap())
    }
}

impl Drop for Fork {
    fn drop(&mut self) {
        nix::sys::signal::kill(raw(self.0), Signal::SIGKILL).unwrap();
        wait_until("the fork is gone", PATIENCE, || !alive(self.0));
    }
}

/// Would fail if the postmaster counted the connection, which the fork keeps open.
fn a_fork_of_a_dead_program_does_not_delay_a_smart_shutdown() {
    // Forked before there is a connection of this process, which the fork would hold as well.
    let mut program = fork_child(|| {
        let folder = read_note("folder");
        let _backend = connect(Path::new(&folder));
        leave_a_fork_behind();
    });
    let cluster = Cluster::with(|builder| builder.stop_with_launcher(false));
    write_note("folder", cluster.folder.to_str().unwrap()).unwrap();
    let fork = Fork::of_noted();
    program.kill(Signal::SIGKILL);
    program.wait();
    let Cluster { launched, backend, .. } = cluster;
    backend.shutdown(ShutdownMode::Smart).unwrap();
    drop(backend);
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
    assert!(alive(fork.0), "the connection was open all the time");
}

/// Would fail if the launcher's control connection, held by a fork, passed for the launcher.
fn a_fork_of_a_dead_launcher_does_not_keep_the_postmaster() {
    let mut launcher = fork_child(|| {
        let launched = functions(Postmaster::builder()).build().unwrap().launch().unwrap();
        write_note("postmaster", &launched.pid().to_string()).unwrap();
        leave_a_fork_behind();
    });
    let postmaster: Pid = read_note("postmaster").parse().unwrap();
    let fork = Fork::of_noted();
    launcher.kill(Signal::SIGKILL);
    launcher.wait();
    wait_until("the postmaster has ended", PATIENCE, || !alive(postmaster));
    assert!(alive(fork.0), "the connection was open all the time");
}

/// Would hang if a connection lasted until the last descriptor of it was closed.
fn a_fork_of_a_living_program_does_not_hold_a_closed_connection() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    let fork = fork_child(|| {
        loop {
            std::thread::park();
        }
    });
    let Cluster { launched, backend, .. } = cluster;
    backend.shutdown(ShutdownMode::Smart).unwrap();
    drop((handle, backend));
    assert_eq!(launched.wait().unwrap(), ExitCause::Exited(0));
    assert!(process_test::alive(fork.pid()));
}

/// Would fail if a fork that lets go of its copy ended the connection of the program.
fn a_fork_that_drops_its_copy_does_not_end_the_connection() {
    let cluster = Cluster::new();
    let mut second = Some(connect(&cluster.folder));
    let mut fork = fork_child(|| drop(second.take()));
    assert_eq!(fork.wait().code(), Some(0));
    second.unwrap().ping().unwrap();
    cluster.end();
}

/// Would fail if the end of one connection were taken for the end of the process.
fn a_program_that_closed_a_connection_is_still_notified_over_another() {
    let cluster = Cluster::new();
    cluster.backend.enable_notifications().unwrap();
    for _ in 0..3 {
        drop(connect(&cluster.folder));
        cluster.backend.ping().unwrap();
        let description = crate::support::worker("quick").notify(cluster.backend.pid());
        cluster.backend.register(&description.build().unwrap()).unwrap();
        assert!(cluster.backend.wait_for_notification(Some(PATIENCE)).unwrap());
    }
    cluster.end();
}

/// Would fail if the socket had its name before it takes connections: programs wait for the name.
fn whoever_sees_the_control_socket_can_connect() {
    const ROUNDS: usize = 200;
    let folder = |round: usize| std::env::temp_dir().join(format!("cluster-{round}"));
    let connects = std::thread::spawn(move || {
        // Nobody answers, which is another error than that nobody listens.
        let options = ConnectOptions { timeout: Duration::ZERO, ..ConnectOptions::default() };
        let mut errors = BTreeSet::new();
        for round in 0..ROUNDS {
            let socket = folder(round).join("control.sock");
            let connect = || {
                let error = Backend::connect_with(&socket, options).unwrap_err();
                chain(&error).to_string()
            };
            let found = std::iter::repeat_with(connect).find(|error| !error.contains("No such"));
            errors.extend(found);
        }
        errors
    });
    let build =
        |round| Postmaster::builder().max_workers(1).runtime_dir(folder(round)).build().unwrap();
    let all: Vec<Postmaster> = (0..ROUNDS).map(build).collect();
    let errors = connects.join().unwrap();
    assert!(!errors.iter().any(|error| error.contains("refused")), "{errors:?}");
    drop(all);
}

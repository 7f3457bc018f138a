//! The promise: a change descriptor becomes readable when a worker of this process has changed, and
//! not otherwise, in any loop; and whoever has one holds up nobody.
//!
//! Would catch: a change that comes before the poll and is lost, a descriptor that another
//! process's worker makes readable, one that a program inherits, one that blocks the postmaster.

use crate::support::{
    Cluster, PATIENCE, connect, kill, read_note, ready, simple, started, stopped,
};
use bgw_backend::{
    BackgroundWorker, ChangeFd, RestartPolicy, WaitError, WorkerHandle, WorkerStatus,
};
use nix::fcntl::{FcntlArg, FdFlag, OFlag, fcntl};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use process_test::{Signal, Test, fork_child, tests, wait_until};
use std::os::fd::AsFd;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_change_makes_the_descriptor_readable_until_it_is_drained,
        each_stage_of_a_worker_is_a_change,
        a_worker_registered_before_the_descriptor_counts,
        changes_of_other_workers_leave_it_unreadable,
        a_handle_of_another_s_worker_is_watched,
        an_epoll_loop_on_edges_misses_nothing,
        the_postmaster_s_death_makes_it_readable,
        no_program_inherits_the_descriptor,
        a_stopped_process_that_never_drains_holds_up_nobody,
    ]
}

/// True if it is readable, within patience.
fn is_readable(changes: &ChangeFd, patience: PollTimeout) -> bool {
    let fds = &mut [PollFd::new(changes.as_fd(), PollFlags::POLLIN)];
    poll(fds, patience).unwrap() == 1
}

#[track_caller]
fn next(changes: &ChangeFd) -> Vec<WorkerHandle> {
    let patience = PollTimeout::try_from(PATIENCE).unwrap();
    assert!(is_readable(changes, patience), "nothing has changed in {PATIENCE:?}");
    changes.drain()
}

/// Drains until `condition`; fails if the descriptor does not become readable.
#[track_caller]
fn until(changes: &ChangeFd, worker: WorkerHandle, condition: impl Fn() -> bool) {
    while !condition() {
        assert!(next(changes).iter().all(|&changed| changed == worker));
    }
}

fn a_change_makes_the_descriptor_readable_until_it_is_drained() {
    let cluster = Cluster::new();
    let changes = cluster.backend.change_fd().unwrap();
    assert!(!is_readable(&changes, PollTimeout::ZERO));
    assert_eq!(changes.drain(), []);
    let handle = cluster.backend.register(&simple("quick")).unwrap();
    stopped(&handle);
    assert_eq!(next(&changes), [handle.id()]);
    until(&changes, handle.id(), || matches!(handle.status(), WorkerStatus::Stopped(_)));
    cluster.backend.ping().unwrap();
    changes.drain().clear();
    assert!(!is_readable(&changes, PollTimeout::ZERO));
    cluster.end();
}

fn each_stage_of_a_worker_is_a_change() {
    let cluster = Cluster::new();
    let changes = cluster.backend.change_fd().unwrap();
    let restarting = BackgroundWorker::builder("sleep").function("sleep");
    let restarting = restarting.restart(RestartPolicy::after_secs(0)).build().unwrap();
    let handle = cluster.backend.register(&restarting).unwrap();
    let id = handle.id();
    until(&changes, id, || handle.is_ready());
    let first = started(&handle);
    kill(first, Signal::SIGKILL);
    let again = || matches!(handle.status(), WorkerStatus::Started(pid) if pid != first);
    until(&changes, id, again);
    until(&changes, id, || handle.is_ready());
    handle.terminate().unwrap();
    until(&changes, id, || matches!(handle.status(), WorkerStatus::Stopped(_)));
    cluster.end();
}

fn a_worker_registered_before_the_descriptor_counts() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    ready(&handle);
    let changes = cluster.backend.change_fd().unwrap();
    let more = cluster.backend.change_fd().unwrap();
    handle.terminate().unwrap();
    assert_eq!(next(&changes), [handle.id()]);
    assert_eq!(next(&more), [handle.id()], "each descriptor is told");
    cluster.end();
}

/// Would fail if the descriptor rang for the whole cluster.
fn changes_of_other_workers_leave_it_unreadable() {
    let cluster = Cluster::new();
    let other = connect(&cluster.folder);
    let changes = other.change_fd().unwrap();
    for _ in 0..10 {
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
    }
    let own = other.register(&simple("quick")).unwrap();
    stopped(&own);
    assert_eq!(next(&changes), [own.id()]);
    drop((changes, other));
    cluster.end();
}

fn a_handle_of_another_s_worker_is_watched() {
    let cluster = Cluster::new();
    let [(named, _), (watched, _)] = [(); 2].map(|()| cluster.start(&simple("sleep")));
    ready(&named);
    ready(&watched);
    let other = connect(&cluster.folder);
    let before = other.handle(watched.id());
    let changes = other.change_fd().unwrap();
    let _named = other.handle(named.id());
    changes.watch(&before).unwrap();
    changes.watch(&before).unwrap();
    let foreign = changes.watch(&watched).unwrap_err();
    assert!(matches!(foreign, WaitError::OtherCluster), "{foreign}");
    for handle in [&named, &watched] {
        handle.terminate().unwrap();
        assert_eq!(next(&changes), [handle.id()]);
    }
    drop(before);
    drop((changes, other));
    cluster.end();
}

/// Would hang if a change that came between the drain and the next poll made no edge.
fn an_epoll_loop_on_edges_misses_nothing() {
    let cluster = Cluster::new();
    let changes = cluster.backend.change_fd().unwrap();
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap();
    let edges = EpollEvent::new(EpollFlags::EPOLLIN | EpollFlags::EPOLLET, 7);
    epoll.add(changes.as_fd(), edges).unwrap();
    let patience = EpollTimeout::try_from(PATIENCE).unwrap();
    for _ in 0..100 {
        let handle = cluster.backend.register(&simple("quick")).unwrap();
        while !matches!(handle.status(), WorkerStatus::Stopped(_)) {
            let mut found = [EpollEvent::empty()];
            assert_eq!(epoll.wait(&mut found, patience).unwrap(), 1, "{handle}");
            assert_eq!(found[0].data(), 7);
            let _ = changes.drain();
        }
    }
    cluster.end();
}

fn the_postmaster_s_death_makes_it_readable() {
    let cluster = Cluster::new();
    let (handle, _) = cluster.start(&simple("sleep"));
    ready(&handle);
    let changes = cluster.backend.change_fd().unwrap();
    kill(cluster.launched.pid(), Signal::SIGKILL);
    assert_eq!(next(&changes), [handle.id()]);
    assert!(!cluster.backend.postmaster_is_alive());
    // One that is made after the death, too.
    assert!(is_readable(&cluster.backend.change_fd().unwrap(), PollTimeout::ZERO));
    cluster.launched.wait().unwrap();
}

/// Would fail if a program that is executed got the descriptor, or if a read of it blocked.
fn no_program_inherits_the_descriptor() {
    let cluster = Cluster::new();
    let changes = cluster.backend.change_fd().unwrap();
    let flags = fcntl(&changes, FcntlArg::F_GETFD).unwrap();
    assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
    let flags = fcntl(&changes, FcntlArg::F_GETFL).unwrap();
    assert!(OFlag::from_bits_retain(flags).contains(OFlag::O_NONBLOCK));
    cluster.end();
}

/// Would hang if the postmaster waited for whoever does not drain.
fn a_stopped_process_that_never_drains_holds_up_nobody() {
    let cluster = Cluster::new();
    let (handle, pid) = cluster.start(&simple("sleep"));
    ready(&handle);
    let (folder, id) = (cluster.folder.clone(), handle.id());
    let mut deaf = fork_child(move || {
        let backend = connect(&folder);
        let changes = backend.change_fd().unwrap();
        changes.watch(&backend.handle(id)).unwrap();
        crate::support::write_note("watching", "").unwrap();
        wait_until("it may end", PATIENCE, || crate::support::note_path("end").exists());
        assert_eq!(next(&changes), [id]);
    });
    read_note("watching");
    nix::sys::signal::kill(deaf.pid(), Signal::SIGSTOP).unwrap();
    kill(pid, Signal::SIGKILL);
    stopped(&handle);
    for _ in 0..20 {
        stopped(&cluster.backend.register(&simple("quick")).unwrap());
    }
    nix::sys::signal::kill(deaf.pid(), Signal::SIGCONT).unwrap();
    crate::support::write_note("end", "").unwrap();
    assert_eq!(deaf.wait().code(), Some(0));
    cluster.end();
}

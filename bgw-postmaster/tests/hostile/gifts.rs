//! Descriptors that do not come as they should.
//!
//! Would catch: a worker that starts without what it is to be given, a descriptor of a peer's that
//! becomes one of the postmaster's.

use crate::support::{Cluster, builder, second_peer, worker};
use bgw_core::internals::{GIFTS_LIMIT, Received, Reply, Request, WorkerRecord, envelope, scm};
use bgw_core::{
    AskError, Attachment, BackgroundWorker, ControlSocket, ExitCause, NotStarted, Refusal,
};
use process_test::{Test, tests};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Instant;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_registration_whose_descriptors_do_not_all_arrive_is_refused_whole => [J07],
        a_slot_that_names_descriptors_is_refused => [J07],
        more_descriptors_than_a_worker_is_given_are_refused => [J07],
    ]
}

fn gifted(names: &[&str]) -> BackgroundWorker {
    let null = || OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let builder = BackgroundWorker::builder("gifted").function("sleep");
    names.iter().fold(builder, |builder, name| builder.give(*name, null())).build().unwrap()
}

/// A place to wait for a slot, and the ends of `gifts` envelopes.
fn place(peer: &Attachment, gifts: u8) -> (ControlSocket, Vec<OwnedFd>) {
    let request = Request::Queue { waits: false, gifts };
    let deadline = Some(Instant::now() + crate::support::PATIENCE);
    let (reply, fds) = peer.ask_for(&request, deadline).unwrap();
    assert_eq!(reply, Reply::Queue);
    let mut fds = fds.into_iter();
    (ControlSocket::from(fds.next().unwrap()), fds.collect())
}

/// What the postmaster says to this description.
fn answer(place: &mut ControlSocket, worker: &BackgroundWorker, peer: &Attachment) -> Reply {
    scm::send(&*place, WorkerRecord::encode(worker, peer.owner()).bytes(), &[]).unwrap();
    let deadline = Some(Instant::now() + crate::support::PATIENCE);
    match place.recv_reply(deadline).unwrap() {
        Received::Message { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// Fails if one that is missing is noticed only by the worker, or not at all.
fn a_registration_whose_descriptors_do_not_all_arrive_is_refused_whole() {
    type Put = fn(&[OwnedFd], BorrowedFd<'_>);
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    let peer = second_peer(&folder);
    let null = OwnedFd::from(std::fs::File::open("/dev/null").unwrap());
    let cases: [(u8, &str, Put); 6] = [
        (2, "first", |_, _| {}),
        (2, "second", |ends, fd| envelope::put(&ends[0], fd).unwrap()),
        (2, "first", |ends, fd| envelope::put(&ends[1], fd).unwrap()),
        // Too few envelopes, and packets that hold no descriptor.
        (1, "second", |ends, fd| envelope::put(&ends[0], fd).unwrap()),
        (0, "first", |_, _| {}),
        (2, "second", |ends, fd| {
            envelope::put(&ends[0], fd).unwrap();
            scm::send(&ends[1], &[1], &[]).unwrap();
        }),
    ];
    for (gifts, missing, put) in cases {
        let (mut place, ends) = place(&peer, gifts);
        put(&ends, null.as_fd());
        let reply = answer(&mut place, &gifted(&["first", "second"]), &peer);
        let Reply::Refused { reason: Refusal::Malformed, detail } = &reply else {
            panic!("{reply:?}");
        };
        assert!(detail.contains(&format!("\"{missing}\"")), "{detail}");
    }
    assert_eq!(peer.slots().occupied().count(), 0, "nobody is registered");
    // Several in one envelope, and what comes behind them, do no harm.
    let (mut place, ends) = place(&peer, 2);
    for end in &ends {
        scm::send(end, &[0], &[null.as_fd(); 16]).unwrap();
    }
    while scm::send(&ends[0], &[0; 9], &[null.as_fd()]).is_ok() {}
    let reply = answer(&mut place, &gifted(&["first", "second"]), &peer);
    assert!(matches!(reply, Reply::Granted(_)), "{reply:?}");
    let late = envelope::put(&ends[1], null.as_fd()).unwrap_err();
    assert_eq!(late.raw_os_error(), Some(libc::EPIPE), "it is sealed");
    let key = cluster.register(&worker("quick"));
    cluster.stopped(key);
    cluster.end();
}

/// Fails if a worker starts that finds nothing of what its description names.
fn a_slot_that_names_descriptors_is_refused() {
    let cluster = Cluster::new();
    let key = cluster.register(&gifted(&["conn"]));
    let report = cluster.stopped(key).unwrap();
    assert_eq!(report.cause, ExitCause::NotStarted(NotStarted::Refused));
    cluster.end();
}

/// Fails if a peer gets as many envelopes as it likes.
fn more_descriptors_than_a_worker_is_given_are_refused() {
    let cluster = Cluster::new();
    let ask = |gifts| {
        let deadline = Some(Instant::now() + crate::support::PATIENCE);
        cluster.peer.ask_for(&Request::Queue { waits: true, gifts }, deadline)
    };
    let most = GIFTS_LIMIT as u8;
    assert_eq!(ask(most).unwrap().1.len(), GIFTS_LIMIT + 1);
    let refused = ask(most + 1).unwrap_err();
    assert!(matches!(refused, AskError::Refused { reason: Refusal::Malformed, .. }), "{refused}");
    cluster.end();
}

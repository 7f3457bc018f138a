//! The promise: whoever talks to a postmaster gets its answer, its refusal, or the end of its own
//! deadline, and takes no answer for another.
//!
//! Would catch: a call that waits for a stopped postmaster, an answer that comes too late and is
//! taken for the next one, a refusal that is lost with the connection.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{Received, Reply, Request, eventfd};
use bgw_core::{AskError, AttachError, ControlSocket, Refusal};
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, bind, listen, socket,
};
use process_test::{fork_child, tests, wait_until};
use std::io;
use std::os::fd::{AsFd, AsRawFd};
use std::time::{Duration, Instant};
use support::{LIMIT, deadline, next_reply, next_request, peer, wait_until_asleep};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        an_answer_that_does_not_come_ends_at_the_deadline => [D18],
        an_answer_that_comes_too_late_is_not_taken_for_the_next => [D18],
        a_request_that_is_not_read_ends_at_the_deadline => [D18],
        a_connection_that_is_not_accepted_ends_at_the_deadline => [D18],
        a_refusal_arrives_though_the_connection_is_closed => [D18],
    ])
}

/// Fails when a deadline that has passed waits for ever, or loses the answer that comes after it.
fn an_answer_that_does_not_come_ends_at_the_deadline() {
    let (mut socket, mut child) = peer(|mut socket| {
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(matches!(socket.recv_reply(Some(soon)), Ok(Received::WouldBlock)));
        assert!(Instant::now() >= soon);
        let past = Instant::now();
        assert!(matches!(socket.recv_reply(Some(past)), Ok(Received::WouldBlock)));
        socket.send_request(&Request::Ping, deadline()).unwrap();
        assert_eq!(next_reply(&mut socket).0, Reply::Done);
        // Without a deadline it sleeps until the end of the other side.
        assert!(matches!(socket.recv_reply(None), Ok(Received::Closed)));
    });
    assert_eq!(next_request(&mut socket), Request::Ping);
    socket.send_reply(&Reply::Done, &[]).unwrap();
    wait_until_asleep(child.pid());
    drop(socket);
    assert_eq!(child.wait().code(), Some(0));
}

/// Fails when a reply is taken for the answer to whatever was asked last.
fn an_answer_that_comes_too_late_is_not_taken_for_the_next() {
    let (mut socket, mut child) = peer(|mut socket| {
        for from in 0..3 {
            socket.send_request(&Request::Functions { from }, deadline()).unwrap();
            let past = Some(Instant::now());
            assert!(matches!(socket.recv_reply(past), Ok(Received::WouldBlock)));
        }
        socket.send_request(&Request::Ping, deadline()).unwrap();
        assert_eq!(next_reply(&mut socket).0, Reply::Done);
        socket.send_request(&Request::Ping, deadline()).unwrap();
        assert_eq!(next_reply(&mut socket).0, Reply::Done);
    });
    for from in 0..3 {
        assert_eq!(next_request(&mut socket), Request::Functions { from });
        let bell = eventfd::new_doorbell().unwrap();
        socket.send_reply(&Reply::Functions(Vec::new()), &[bell.as_fd()]).unwrap();
    }
    for _ in 0..2 {
        assert_eq!(next_request(&mut socket), Request::Ping);
        socket.send_reply(&Reply::Done, &[]).unwrap();
    }
    assert_eq!(child.wait().code(), Some(0));
}

/// A stopped postmaster: its queue fills.
fn a_request_that_is_not_read_ends_at_the_deadline() {
    let (_socket, mut child) = peer(|mut socket| {
        let error = loop {
            let soon = Some(Instant::now() + Duration::from_millis(20));
            if let Err(error) = socket.send_request(&Request::Ping, soon) {
                break error;
            }
        };
        assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    });
    assert_eq!(child.wait().code(), Some(0));
}

/// A stopped postmaster, and more connections than its backlog holds.
fn a_connection_that_is_not_accepted_ends_at_the_deadline() {
    let path = std::env::temp_dir().join("full");
    let flags = SockFlag::SOCK_CLOEXEC;
    let listener = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    bind(listener.as_raw_fd(), &UnixAddr::new(&path).unwrap()).unwrap();
    listen(&listener, Backlog::new(1).unwrap()).unwrap();
    let soon = || Instant::now() + Duration::from_millis(50);
    let mut waiting = Vec::new();
    let (end, error) = loop {
        let end = soon();
        match ControlSocket::connect(&path, Some(end)) {
            Ok(socket) => waiting.push(socket),
            Err(error) => break (end, error),
        }
        assert!(waiting.len() < 10, "a backlog without end");
    };
    assert_eq!(error.kind(), io::ErrorKind::TimedOut);
    assert!(Instant::now() >= end);
    let attached = bgw_core::Attachment::connect(&path, false, Some(soon())).unwrap_err();
    assert!(matches!(attached, AttachError::Ask(AskError::TimedOut)), "{attached:?}");
    // A program that prints the error alone shows why.
    assert_eq!(attached.to_string(), AskError::TimedOut.to_string());
    std::fs::remove_file(path).unwrap();
}

/// The postmaster refuses and closes before it has read what the peer sent, before the peer sends,
/// or at any moment between. Fails when the peer hears of the closed connection only.
fn a_refusal_arrives_though_the_connection_is_closed() {
    let refused = |socket: ControlSocket| {
        let attached = bgw_core::Attachment::attach(socket, false, deadline()).unwrap_err();
        match attached {
            AttachError::Ask(AskError::Refused { reason, detail }) => {
                assert_eq!((reason, detail.as_str()), (Refusal::TooManyPeers, "9 of 9"));
            }
            other => panic!("{other:?}"),
        }
    };
    let refuse = |mut socket: ControlSocket| {
        socket.refuse(Refusal::TooManyPeers, "9 of 9".to_owned());
        socket.drop_last_packets();
    };
    // Unread data resets the connection when it closes.
    let (ours, mut theirs) = ControlSocket::pair().unwrap();
    let mut ours = ours;
    ours.send_request(&Request::Ping, deadline()).unwrap();
    let reply = Reply::Refused { reason: Refusal::TooManyPeers, detail: "9 of 9".to_owned() };
    theirs.send_reply(&reply, &[]).unwrap();
    drop(theirs);
    assert_eq!(next_reply(&mut ours).0, reply);
    assert!(matches!(ours.recv_reply(deadline()), Ok(Received::Closed)));
    // Closed before anything is sent.
    let (ours, theirs) = ControlSocket::pair().unwrap();
    refuse(theirs);
    refused(ours);
    // And in a race.
    let path = std::env::temp_dir().join("control");
    let listener = ControlSocket::listen(&path).unwrap();
    let mut peers = fork_child(|| {
        for _ in 0..200 {
            refused(ControlSocket::connect(&path, deadline()).unwrap());
        }
    });
    for _ in 0..200 {
        let mut socket = None;
        wait_until("it connects", LIMIT, || {
            socket = listener.accept_nonblocking().unwrap();
            socket.is_some()
        });
        refuse(socket.unwrap());
    }
    assert_eq!(peers.wait().code(), Some(0));
    std::fs::remove_file(path).unwrap();
}

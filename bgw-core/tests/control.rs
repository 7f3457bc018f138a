//! The promise: between two processes each message arrives whole, in order and with its
//! descriptors; a peer that sends nonsense, too much, descriptors that nobody asked for, or that
//! ends at any moment, gives an answer that says so, leaves no descriptor behind, raises no signal,
//! and holds up nobody.
//!
//! Would catch: a descriptor that is taken out of a bad packet and forgotten, a packet of which the
//! beginning is believed, a SIGPIPE, a send that waits for a peer that does not read.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{Received, Reply, Request, eventfd, pidfd};
use bgw_core::{CodecError, ControlSocket, RecvError, Refusal};
use nix::fcntl::{FcntlArg, FdFlag, fcntl};
use nix::sys::resource::{Resource, getrlimit, setrlimit};
use nix::sys::signal::{SigHandler, Signal, signal};
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use process_test::tests;
use std::io::{self, IoSlice, Read, Write};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::time::Instant;
use support::{deadline, descriptors, next, next_reply, next_request, peer};

/// The longest packet.
const MAX_PACKET: usize = 4096;

/// The most descriptors that the kernel takes in one packet.
const KERNEL_LIMIT: usize = 253;

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        a_message_arrives_with_its_descriptors_and_they_work,
        questions_and_answers_go_back_and_forth_in_order,
        what_is_no_message_is_an_error_and_the_next_one_is_read,
        a_packet_that_is_too_long_is_refused_whole,
        descriptors_that_nobody_asked_for_are_closed,
        descriptors_that_find_no_room_are_closed_all_the_same,
        a_peer_that_ends_is_closed_after_its_last_message,
        a_peer_that_was_killed_raises_no_signal,
        a_peer_that_does_not_read_holds_up_nobody,
        a_peer_is_who_the_kernel_says,
        a_socket_that_cannot_be_is_an_error_and_leaves_nothing,
    ])
}

/// Sends a packet that no `ControlSocket` would send, but for the number in front, if there are
/// bytes.
fn send_raw(socket: &ControlSocket, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let packet = if bytes.is_empty() { Vec::new() } else { [&[0; 4][..], bytes].concat() };
    send_bytes(socket, &packet, fds);
}

fn send_bytes(socket: &ControlSocket, bytes: &[u8], fds: &[BorrowedFd<'_>]) {
    let raw: Vec<i32> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let rights = if raw.is_empty() { &rights[..0] } else { &rights };
    let parts = [IoSlice::new(bytes)];
    sendmsg::<()>(socket.as_fd().as_raw_fd(), &parts, rights, MsgFlags::empty(), None).unwrap();
}

/// Fails when descriptors come in another order, as copies of something else, or open across
/// `exec`.
fn a_message_arrives_with_its_descriptors_and_they_work() {
    let (reader, writer) = nix::unistd::pipe().unwrap();
    let bell = eventfd::new_doorbell().unwrap();
    let (mut socket, mut child) = peer(|mut socket| {
        let (reply, fds) = next_reply(&mut socket);
        assert_eq!(reply, Reply::Done);
        for fd in &fds {
            let flags = fcntl(fd, FcntlArg::F_GETFD).unwrap();
            assert!(FdFlag::from_bits_retain(flags).contains(FdFlag::FD_CLOEXEC));
        }
        let [pipe, bell, again, last] = <[OwnedFd; 4]>::try_from(fds).unwrap();
        drop((again, last));
        std::fs::File::from(pipe).write_all(b"through").unwrap();
        eventfd::ring(&bell).unwrap();
        // A message without descriptors has none, after one that had.
        assert!(next_reply(&mut socket).1.is_empty());
    });
    let fds = [writer.as_fd(), bell.as_fd(), bell.as_fd(), reader.as_fd()];
    socket.send_reply(&Reply::Done, &fds).unwrap();
    socket.send_reply(&Reply::Done, &[]).unwrap();
    drop(writer);
    let mut text = String::new();
    std::fs::File::from(reader).read_to_string(&mut text).unwrap();
    assert_eq!(text, "through");
    assert_eq!(child.wait().code(), Some(0));
    assert!(eventfd::take_rings(&bell).unwrap());
}

fn questions_and_answers_go_back_and_forth_in_order() {
    const ROUNDS: u32 = 2000;
    let (mut socket, mut child) = peer(|mut socket| {
        for number in 0..ROUNDS {
            socket.send_request(&Request::Functions { from: number }, deadline()).unwrap();
            let names = vec![number.to_string(); number as usize % 7];
            assert_eq!(next_reply(&mut socket).0, Reply::Functions(names));
        }
    });
    for number in 0..ROUNDS {
        assert_eq!(next_request(&mut socket), Request::Functions { from: number });
        let names = vec![number.to_string(); number as usize % 7];
        socket.send_reply(&Reply::Functions(names), &[]).unwrap();
    }
    assert!(matches!(next(&mut socket), Ok(Received::Closed)));
    assert_eq!(child.wait().code(), Some(0));
}

/// Nonsense, and each beginning of a message. Fails when a bad packet takes the next one with it.
fn what_is_no_message_is_an_error_and_the_next_one_is_read() {
    let hello = Request::Hello { protocol: 1, layout_tag: 2, read_only: true }.encode();
    let packets = || {
        let halves = (1..hello.len()).map(|len| hello[..len].to_vec());
        halves.chain([vec![0], vec![255; MAX_PACKET], [&hello[..], b"x"].concat()])
    };
    let (mut socket, mut child) = peer(|mut socket| {
        for packet in packets() {
            send_raw(&socket, &packet, &[]);
            socket.send_request(&Request::Ping, deadline()).unwrap();
            assert_eq!(next_reply(&mut socket).0, Reply::Done);
        }
        // And the other way round.
        assert!(matches!(
            socket.recv_reply(deadline()),
            Err(RecvError::Codec(CodecError::Unknown { field: "reply", found: 0 }))
        ));
        assert_eq!(next_reply(&mut socket).0, Reply::Done);
    });
    for packet in packets() {
        let wrong = Request::decode(&packet).unwrap_err();
        match next(&mut socket) {
            Err(RecvError::Codec(error)) => assert_eq!(error, wrong),
            other => panic!("{other:?}"),
        }
        assert_eq!(next_request(&mut socket), Request::Ping);
        socket.send_reply(&Reply::Done, &[]).unwrap();
    }
    send_raw(&socket, &[0, 1, 2], &[]);
    socket.send_reply(&Reply::Done, &[]).unwrap();
    assert_eq!(child.wait().code(), Some(0));
}

/// A text has no end of its own, so a packet that was cut would read as a message.
fn a_packet_that_is_too_long_is_refused_whole() {
    let refusal = |len: usize| [&[3, 0][..], &vec![b'x'; len - 2]].concat();
    let (mut socket, mut child) = peer(|mut socket| {
        send_raw(&socket, &vec![1; MAX_PACKET + 1], &[]);
        send_raw(&socket, &vec![5; 65_536], &[]);
        for _ in 0..3 {
            assert!(matches!(socket.recv_reply(deadline()), Err(RecvError::Truncated)));
        }
        let detail = "x".repeat(MAX_PACKET - 2);
        let longest = Reply::Refused { reason: Refusal::Protocol, detail };
        assert_eq!(next_reply(&mut socket).0, longest);
    });
    for len in [MAX_PACKET + 1, 2 * MAX_PACKET, 65_536] {
        send_raw(&socket, &refusal(len), &[]);
    }
    send_raw(&socket, &refusal(MAX_PACKET), &[]);
    for _ in 0..2 {
        assert!(matches!(next(&mut socket), Err(RecvError::Truncated)));
    }
    assert!(matches!(next(&mut socket), Ok(Received::Closed)));
    assert_eq!(child.wait().code(), Some(0));
}

/// Good requests, nonsense and empty packets, each with as many descriptors as a packet may have,
/// and with more than any message has. Fails when one stays open: a peer could use up the
/// postmaster's.
fn descriptors_that_nobody_asked_for_are_closed() {
    let counts = [1, 2, 4, 17, 18, 19, KERNEL_LIMIT];
    let packets = [Request::Ping.encode(), vec![0, 1, 2], vec![5; MAX_PACKET + 1], Vec::new()];
    let (mut socket, mut child) = peer(|socket| {
        let bell = eventfd::new_doorbell().unwrap();
        for (count, packet) in counts.iter().flat_map(|n| packets.iter().map(move |p| (n, p))) {
            send_raw(&socket, packet, &vec![bell.as_fd(); *count]);
        }
    });
    let before = descriptors();
    for count in counts {
        for packet in &packets {
            let got = next(&mut socket);
            let what = format!("{count} descriptors, {} bytes: {got:?}", packet.len());
            if count > 17 || packet.len() > MAX_PACKET {
                assert!(matches!(got, Err(RecvError::Truncated)), "{what}");
            } else if packet.is_empty() {
                assert!(matches!(got, Ok(Received::Closed)), "{what}");
            } else if *packet == Request::Ping.encode() {
                assert!(
                    matches!(&got, Ok(Received::Message { message: Request::Ping, fds }) if fds.is_empty()),
                    "{what}"
                );
            } else {
                assert!(matches!(got, Err(RecvError::Codec(_))), "{what}");
            }
            drop(got);
            assert_eq!(descriptors(), before, "{what}");
        }
    }
    assert_eq!(child.wait().code(), Some(0));
}

/// The table of this process has room for some of them only: the kernel hands over those, and says
/// that the packet was cut.
fn descriptors_that_find_no_room_are_closed_all_the_same() {
    let (mut socket, mut child) = peer(|mut socket| {
        let bell = eventfd::new_doorbell().unwrap();
        for count in [2, 3, 4, KERNEL_LIMIT] {
            send_raw(&socket, &Request::Ping.encode(), &vec![bell.as_fd(); count]);
        }
        socket.send_request(&Request::Reload, deadline()).unwrap();
    });
    assert_eq!(child.wait().code(), Some(0));
    let before = descriptors();
    let (soft, hard) = getrlimit(Resource::RLIMIT_NOFILE).unwrap();
    // Numbers below the limit that are free: exactly one.
    let next_free = eventfd::new_doorbell().unwrap();
    let room = next_free.as_raw_fd() as u64 + 1;
    drop(next_free);
    setrlimit(Resource::RLIMIT_NOFILE, room, hard).unwrap();
    let results: Vec<_> = (0..4).map(|_| socket.recv_request()).collect();
    setrlimit(Resource::RLIMIT_NOFILE, soft, hard).unwrap();
    assert!(results.iter().all(|got| matches!(got, Err(RecvError::Truncated))), "{results:?}");
    assert_eq!(descriptors(), before);
    assert_eq!(next_request(&mut socket), Request::Reload);
}

fn a_peer_that_ends_is_closed_after_its_last_message() {
    let (mut socket, mut child) = peer(|mut socket| {
        for from in 0..5 {
            socket.send_request(&Request::Functions { from }, deadline()).unwrap();
        }
    });
    assert_eq!(child.wait().code(), Some(0));
    for from in 0..5 {
        assert_eq!(next_request(&mut socket), Request::Functions { from });
    }
    for _ in 0..3 {
        assert!(matches!(socket.recv_request(), Ok(Received::Closed)));
        assert!(matches!(socket.recv_reply(None), Ok(Received::Closed)));
    }
}

/// Killed between its question and the answer. The default for SIGPIPE would end this process; a
/// packet socket raises none of its own accord, a stream would without `MSG_NOSIGNAL`.
fn a_peer_that_was_killed_raises_no_signal() {
    // SAFETY: the default disposition runs no code of this process.
    unsafe { signal(Signal::SIGPIPE, SigHandler::SigDfl) }.unwrap();
    let (mut socket, mut child) = peer(|mut socket| {
        socket.send_request(&Request::Ping, deadline()).unwrap();
        let _ = socket.recv_reply(None);
    });
    assert_eq!(next_request(&mut socket), Request::Ping);
    child.kill(Signal::SIGKILL);
    child.wait();
    let before = descriptors();
    let bell = eventfd::new_doorbell().unwrap();
    for _ in 0..3 {
        let error = socket.send_reply(&Reply::Done, &[bell.as_fd()]).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::BrokenPipe);
        assert!(socket.send_request(&Request::Ping, deadline()).is_err());
    }
    assert!(matches!(next(&mut socket), Ok(Received::Closed)));
    drop(bell);
    assert_eq!(descriptors(), before);
}

/// A stopped peer: its queue fills, and then the send says so.
fn a_peer_that_does_not_read_holds_up_nobody() {
    let (mut socket, child) = peer(|_socket| std::thread::park());
    let mut sent = 0;
    let error = loop {
        match socket.send_reply(&Reply::Done, &[]) {
            Ok(()) => sent += 1,
            Err(error) => break error,
        }
        assert!(sent < 1_000_000, "a queue without end");
    };
    assert_eq!(error.kind(), io::ErrorKind::WouldBlock, "after {sent}");
    assert!(sent > 0);
    // Nothing is there from it either, and that is no error.
    assert!(matches!(socket.recv_request(), Ok(Received::WouldBlock)));
    drop(child);
    assert!(matches!(next(&mut socket), Ok(Received::Closed)));
}

fn a_peer_is_who_the_kernel_says() {
    let (socket, mut child) = peer(|_socket| std::thread::park());
    let (pid, uid, gid) = socket.peer_credentials().unwrap();
    assert_eq!(pid.as_raw(), child.pid().as_raw());
    assert_eq!(uid, nix::unistd::getuid().as_raw());
    assert_eq!(gid, nix::unistd::getgid().as_raw());
    let process = socket.peer_pidfd().unwrap();
    assert!(!pidfd::wait_for_end(&process, Some(Instant::now())).unwrap());
    pidfd::send(&process, rustix::process::Signal::KILL).unwrap();
    assert_eq!(child.wait().signal(), Some(Signal::SIGKILL));
    assert!(pidfd::wait_for_end(&process, deadline()).unwrap());
    assert!(pidfd::send(&process, rustix::process::Signal::KILL).is_err(), "never a stranger");
}

/// Paths that are taken, too long or nobody's, and descriptors that are no sockets.
fn a_socket_that_cannot_be_is_an_error_and_leaves_nothing() {
    let before = descriptors();
    let folder = std::env::temp_dir();
    let path = folder.join("socket");
    let listener = ControlSocket::listen(&path).unwrap();
    let mode = std::fs::metadata(&path).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for its owner alone");
    assert!(listener.accept_nonblocking().unwrap().is_none());
    let taken = ControlSocket::listen(&path).unwrap_err();
    assert_eq!(taken.kind(), io::ErrorKind::AddrInUse);
    drop(listener);
    let gone = ControlSocket::connect(&path, deadline()).unwrap_err();
    assert_eq!(gone.kind(), io::ErrorKind::ConnectionRefused);
    std::fs::remove_file(&path).unwrap();
    let long = folder.join("x".repeat(108));
    for path in [Path::new("/nonexistent/socket"), long.as_path(), folder.as_path()] {
        assert!(ControlSocket::listen(path).is_err(), "{path:?}");
        assert!(ControlSocket::connect(path, deadline()).is_err(), "{path:?}");
    }
    let mut none = ControlSocket::from(eventfd::new_doorbell().unwrap());
    assert!(matches!(none.recv_request(), Err(RecvError::System(_))));
    assert!(none.send_request(&Request::Ping, deadline()).is_err());
    assert!(none.accept_nonblocking().is_err());
    assert!(none.peer_credentials().is_err() && none.peer_pidfd().is_err());
    drop(none);
    assert_eq!(descriptors(), before);
    assert_eq!(std::fs::read_dir(folder).unwrap().count(), 0, "and no file");
}

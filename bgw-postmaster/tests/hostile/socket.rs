//! Whatever arrives at the control socket.
//!
//! Would catch: a request served before the hello, a packet that ends the postmaster, a connection
//! that nobody closes.

use crate::support::{Cluster, PATIENCE, builder, worker};
use bgw_core::internals::{LAYOUT_TAG, PROTOCOL, Received, Reply, Request};
use bgw_core::{ControlSocket, Pid, Refusal};
use process_test::{Test, tests, wait_until};
use std::time::Instant;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_socket_refuses_what_does_not_fit_with_a_reason,
        nonsense_on_the_socket_closes_that_connection_only,
        connections_beyond_the_descriptors_are_closed_and_service_continues,
    ]
}

fn ask(socket: &mut ControlSocket, request: &Request) -> Reply {
    socket.send_request(request, None).unwrap();
    match socket.recv_reply(Some(Instant::now() + PATIENCE)).unwrap() {
        Received::Message { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

/// Would fail if a request came through before the hello or in spite of it, or if a refusal named
/// another reason.
fn the_socket_refuses_what_does_not_fit_with_a_reason() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    let connect = || ControlSocket::connect(&folder.join("control.sock"), None).unwrap();
    let hello = |protocol, layout_tag| Request::Hello { protocol, layout_tag, read_only: false };
    let table = [
        (hello(999, LAYOUT_TAG), Refusal::Protocol),
        (hello(PROTOCOL, 1), Refusal::Layout),
        (Request::Ping, Refusal::NotAttached),
        (Request::Shutdown(bgw_core::ShutdownMode::Immediate), Refusal::NotAttached),
    ];
    for (request, expected) in table {
        match ask(&mut connect(), &request) {
            Reply::Refused { reason, .. } => assert_eq!(reason, expected, "{request:?}"),
            other => panic!("{request:?}: {other:?}"),
        }
    }
    let mut reader = connect();
    let hello = Request::Hello { protocol: PROTOCOL, layout_tag: LAYOUT_TAG, read_only: true };
    assert!(matches!(ask(&mut reader, &hello), Reply::Welcome { read_only: true, .. }));
    let refused = ask(&mut reader, &Request::Reload);
    assert!(matches!(refused, Reply::Refused { reason: Refusal::NotAllowed, .. }));
    assert_eq!(ask(&mut reader, &Request::Ping), Reply::Done);
    cluster.end();
}

/// Would fail if a malformed packet ended the postmaster, or hang if its connection stayed open.
fn nonsense_on_the_socket_closes_that_connection_only() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    for bytes in [vec![0u8], vec![255; 512], vec![1; 300], vec![7; 100_000]] {
        let socket = ControlSocket::connect(&folder.join("control.sock"), None).unwrap();
        // The receiver cuts a packet that is larger than any message.
        let _ = nix::unistd::write(&socket, &bytes);
        let mut socket = socket;
        let mut gone = false;
        while !gone {
            gone = matches!(
                socket.recv_reply(Some(Instant::now() + PATIENCE)),
                Ok(Received::Closed) | Err(_)
            );
        }
    }
    let key = cluster.register(&worker("sleep"));
    cluster.started(key);
    cluster.end();
}

/// Would hang if a connection that cannot be served stayed in the queue: its program waits and the loop
/// spins.
fn connections_beyond_the_descriptors_are_closed_and_service_continues() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    let postmaster = cluster.launched.pid();
    let open = std::fs::read_dir(format!("/proc/{postmaster}/fd")).unwrap();
    let highest: u64 =
        open.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap()).max().unwrap();
    // An even and an odd number: the descriptor that is missing is the session's pidfd, or the
    // connection itself.
    for free in [8, 9] {
        set_descriptor_limit(postmaster, highest + free);
        crowd(&folder);
    }
    wait_until("a program attaches again", PATIENCE, || {
        let socket = ControlSocket::connect(&folder.join("control.sock"), None).unwrap();
        let deadline = Some(Instant::now() + PATIENCE);
        bgw_core::Attachment::attach(socket, false, deadline).is_ok()
    });
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    set_descriptor_limit(postmaster, hard);
    let key = cluster.register(&worker("sleep"));
    cluster.started(key);
    cluster.end();
}

/// More programs than there are descriptors for: each is answered or closed.
fn crowd(folder: &std::path::Path) {
    let mut sockets: Vec<_> = (0..20)
        .map(|_| ControlSocket::connect(&folder.join("control.sock"), None).unwrap())
        .collect();
    let mut closed = 0;
    for socket in &mut sockets {
        // A connection that was closed already may refuse the request itself.
        let _ = socket.send_request(&Request::Ping, None);
        match socket.recv_reply(Some(Instant::now() + PATIENCE)).unwrap() {
            Received::Message { message: Reply::Refused { reason, .. }, .. } => {
                assert_eq!(reason, Refusal::NotAttached);
            }
            Received::Closed => closed += 1,
            other => panic!("a connection hangs: {other:?}"),
        }
    }
    assert!((1..20).contains(&closed), "{closed} of 20 were closed");
    drop(sockets);
}

fn set_descriptor_limit(pid: Pid, limit: u64) {
    let (_, hard) =
        nix::sys::resource::getrlimit(nix::sys::resource::Resource::RLIMIT_NOFILE).unwrap();
    let new = libc::rlimit { rlim_cur: limit.min(hard), rlim_max: hard };
    // SAFETY: `new` is valid for the call, and no old limit is asked for.
    let done = unsafe {
        libc::prlimit(pid.as_raw(), libc::RLIMIT_NOFILE, &raw const new, std::ptr::null_mut())
    };
    assert_eq!(done, 0, "prlimit: {}", std::io::Error::last_os_error());
}

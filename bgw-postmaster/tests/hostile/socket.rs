//! Whatever arrives at the control socket.
//!
//! Would catch: a request served before the hello, a packet that ends the postmaster, a connection
//! that nobody closes.

use crate::support::{Cluster, PATIENCE, builder, worker};
use bgw_core::internals::{LAYOUT_TAG, PROTOCOL, Received, Reply, Request, WorkerRecord, scm};
use bgw_core::{BackgroundWorker, ControlSocket, ExitCause, Pid, Refusal};
use process_test::{Test, tests, wait_until};
use shmem_slots::Key;
use std::time::Instant;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        the_socket_refuses_what_does_not_fit_with_a_reason,
        nonsense_on_the_socket_closes_that_connection_only,
        connections_beyond_the_descriptors_are_closed_and_service_continues,
        connections_that_fail_do_not_fill_the_log => [D14],
        what_a_command_is_to_find_is_checked,
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

/// Would hang if a connection that cannot be served stayed in the queue: its program waits and the
/// loop spins.
fn connections_beyond_the_descriptors_are_closed_and_service_continues() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    let postmaster = cluster.launched.pid();
    let highest = highest_descriptor(postmaster);
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

/// Would fail if each connection that the postmaster cannot serve were a line in the log.
fn connections_that_fail_do_not_fill_the_log() {
    let path = std::env::temp_dir().join("log");
    let file = std::fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(file)).init();
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    let postmaster = cluster.launched.pid();
    let highest = highest_descriptor(postmaster);
    // An even and an odd number: one of them has room for a connection, and none for its pidfd.
    for free in [2, 3] {
        set_descriptor_limit(postmaster, highest + free);
        for _ in 0..200 {
            let _ = ControlSocket::connect(&folder.join("control.sock"), None).unwrap();
        }
        assert_eq!(cluster.peer.ask(&Request::Ping, None).unwrap(), Reply::Done);
    }
    let lines = || {
        let text = std::fs::read_to_string(&path).unwrap();
        text.lines().filter(|line| line.contains("could not be accepted")).count()
    };
    wait_until("a failure is logged", PATIENCE, || lines() > 0);
    assert!(lines() <= 16, "{} lines for 400 connections", lines());
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

fn highest_descriptor(pid: Pid) -> u64 {
    let open = std::fs::read_dir(format!("/proc/{pid}/fd")).unwrap();
    open.map(|fd| fd.unwrap().file_name().to_str().unwrap().parse().unwrap()).max().unwrap()
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

/// Would fail if nonsense were taken in, or if more than the limit could be sent.
fn what_a_command_is_to_find_is_checked() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder).allow_commands(true));
    let command = BackgroundWorker::builder("c").command("sh", ["-c", "exit $A"]).build().unwrap();
    let register = |worker: &BackgroundWorker, rest: &[u8]| {
        let request = Request::Queue { waits: false, gifts: 0 };
        let deadline = Some(Instant::now() + PATIENCE);
        let (reply, fds) = cluster.peer.ask_for(&request, deadline).unwrap();
        assert_eq!(reply, Reply::Queue);
        let mut place = ControlSocket::from(fds.into_iter().next().unwrap());
        let record = WorkerRecord::encode(worker, Pid::this());
        scm::send(&place, &[record.bytes(), rest].concat(), &[]).unwrap();
        match place.recv_reply(deadline).unwrap() {
            Received::Message { message, .. } => Some(message),
            Received::Closed => None,
            Received::WouldBlock => panic!("no answer"),
        }
    };
    for (rest, part) in [
        (b"drelative\0".as_slice(), "current_dir"),
        (b"sNOTIFY_SOCKET=/x\0", "NOTIFY_SOCKET"),
        (b"s=x\0", "env is empty"),
        (b"sA=\xff\0", "UTF-8"),
        (b"?\0", "kind of env"),
        (b"\0", "kind of env"),
    ] {
        let Some(Reply::Refused { reason, detail }) = register(&command, rest) else {
            panic!("{part} is taken")
        };
        assert_eq!(reason, Refusal::NotAllowed);
        assert!(detail.contains(part), "{detail}");
    }
    let refused = register(&worker("quick"), b"sA=1\0");
    assert!(matches!(refused, Some(Reply::Refused { .. })), "a function: {refused:?}");
    let longest = |len: usize| [b"sA=1\0sB=", vec![b'x'; len].as_slice()].concat();
    assert_eq!(register(&command, &longest(16_384)), None, "it does not fit");
    let long = register(&command, &longest(16_374));
    assert!(matches!(long, Some(Reply::Refused { .. })), "it fits, and is too long: {long:?}");
    let Some(Reply::Granted(handle)) = register(&command, &longest(16_000)) else {
        panic!("it was not taken")
    };
    let key = Key { index: handle.slot(), generation: handle.generation() };
    assert_eq!(cluster.stopped(key).unwrap().cause, ExitCause::Exited(1));
    cluster.end();
}

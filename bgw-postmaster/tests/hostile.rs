//! The promise: whatever a peer writes into shared memory or sends on the socket, the postmaster does
//! not end or hang, starts nothing that fails validation, signals no stranger, and continues to serve.
//!
//! Would catch: a panic or endless loop over overwritten bytes, a slot that corrupt bytes keep for
//! ever, a pid taken from shared memory.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{LAYOUT_TAG, Received, Reply, Request, RunState, WorkerRecord, flag};
use bgw_core::{ControlSocket, Pid, Refusal};
use bytemuck::Zeroable;
use process_test::{Stranger, Test, alive, fork_child, tests, wait_until};
use shmem_slots::Memory;
use std::process::ExitCode;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};
use support::{Cluster, PATIENCE, attach, builder, publish, worker};

fn main() -> ExitCode {
    let mut tests = tests![
        a_record_that_is_no_worker_is_freed_and_the_next_one_is_started,
        a_function_that_does_not_exist_is_exit_1_and_reported => [B52],
        a_pid_written_into_a_slot_is_never_signalled,
        a_notify_target_that_is_no_child_or_peer_is_never_signalled => [B24],
        overwritten_counts_are_logged_once_and_service_continues => [R21],
        a_claim_is_swept_when_its_owner_ends,
        a_publication_without_a_ring_is_taken_in_when_its_owner_ends,
        the_socket_refuses_what_does_not_fit_with_a_reason,
        nonsense_on_the_socket_closes_that_connection_only,
        connections_beyond_the_descriptors_are_closed_and_service_continues,
    ];
    tests.push(
        Test::new("any_bytes_in_the_region_leave_the_postmaster_serving", any_bytes)
            .proves(&["B78"])
            .watchdog(Duration::from_secs(120)),
    );
    process_test::main(tests)
}

fn a_record_that_is_no_worker_is_freed_and_the_next_one_is_started() {
    let cluster = Cluster::new();
    let zeros = publish(&cluster.peer, &WorkerRecord::zeroed(), 0);
    let mut bytes = WorkerRecord::encode(&worker("sleep"), Pid::this());
    bytemuck::bytes_of_mut(&mut bytes).fill(0xff);
    let ones = publish(&cluster.peer, &bytes, flag::STARTED | flag::READY);
    cluster.peer.ring().unwrap();
    for key in [zeros, ones] {
        wait_until("the slot is freed", PATIENCE, || cluster.run_state(key) == RunState::Stopped);
    }
    let key = cluster.register(&worker("sleep"));
    cluster.started(key);
    cluster.end();
}

/// A backend refuses such a worker; a peer that does not still gets an answer.
///
/// Would fail if the start hung or the policy were not followed.
fn a_function_that_does_not_exist_is_exit_1_and_reported() {
    let cluster = Cluster::new();
    let key = cluster.register(&worker("no such function"));
    let report = cluster.stopped(key).unwrap();
    assert_eq!(report.cause, bgw_core::ExitCause::Exited(1));
    assert!(report.unregistered);
    cluster.end();
}

fn a_pid_written_into_a_slot_is_never_signalled() {
    let cluster = Cluster::new();
    let mut stranger = Stranger::new();
    let key = cluster.register(&worker("sleep"));
    let own = cluster.started(key);
    let pid = stranger.pid().as_raw().unsigned_abs();
    cluster.peer.slots().update(key, pid, flag::STARTED | flag::TERMINATE).unwrap();
    cluster.terminate(key);
    wait_until("the worker itself is signalled", PATIENCE, || {
        !alive(process_test::Pid::from_raw(own.as_raw()))
    });
    cluster.peer.ask(&Request::Ping, Some(Instant::now() + PATIENCE)).unwrap();
    assert!(stranger.answers(), "and no other process");
    drop(stranger);
    cluster.end();
}

/// Would fail if the target were signalled by its number: the stranger does not handle SIGUSR1.
fn a_notify_target_that_is_no_child_or_peer_is_never_signalled() {
    let cluster = Cluster::new();
    let mut stranger = Stranger::new();
    let target = Pid::new(stranger.pid().as_raw().unsigned_abs()).unwrap();
    for target in [target, cluster.launched.pid(), Pid::new(1).unwrap()] {
        let named = bgw_core::BackgroundWorker::builder("w").function("sleep").notify(target);
        let key = cluster.register(&named.build().unwrap());
        cluster.started(key);
        cluster.terminate(key);
        cluster.stopped(key);
    }
    cluster.peer.ask(&Request::Ping, Some(Instant::now() + PATIENCE)).unwrap();
    assert!(stranger.answers(), "no signal was sent");
    drop(stranger);
    cluster.end();
}

/// Would fail if a count from shared memory were used, or each ring logged it again.
fn overwritten_counts_are_logged_once_and_service_continues() {
    let path = std::env::temp_dir().join("log");
    let file = std::fs::OpenOptions::new().create_new(true).append(true).open(&path).unwrap();
    tracing_subscriber::fmt().with_writer(std::sync::Mutex::new(file)).init();
    let cluster = Cluster::new();
    // Cell 3 of the header is the capacity; the number of general slots is shared cell 3.
    let cells = cluster.peer.slots().memory().writable_cells().unwrap();
    let general = cluster.peer.slots().writable_cells().unwrap().shared_cell(3).unwrap();
    for wrong in [0, 1, u64::MAX, 1 << 40, 17] {
        cells[3].store(wrong, Ordering::Relaxed);
        general.store(wrong, Ordering::Relaxed);
        let keys: Vec<_> = (0..16).map(|_| cluster.register(&worker("sleep"))).collect();
        for &key in &keys {
            cluster.started(key);
        }
        for key in keys {
            cluster.terminate(key);
            cluster.stopped(key);
        }
        assert_eq!(general.load(Ordering::Relaxed), 16, "corrected for those who register");
    }
    let log = std::fs::read_to_string(path).unwrap();
    assert_eq!(log.matches("inconsistent slot counts").count(), 1, "{log}");
    cluster.end();
}

fn second_peer(folder: &std::path::Path) -> bgw_core::Attachment {
    attach(ControlSocket::connect(&folder.join("control.sock")).unwrap())
}

fn a_claim_is_swept_when_its_owner_ends() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().max_workers(1).runtime_dir(&folder));
    let mut child = fork_child(move || {
        let peer = second_peer(&folder);
        std::mem::forget(peer.slots().claim(peer.owner().get()).unwrap());
    });
    assert_eq!(child.wait().code(), Some(0));
    wait_until("the only slot is free again", PATIENCE, || {
        cluster.peer.slots().claim(cluster.peer.owner().get()).is_ok()
    });
    cluster.end();
}

fn a_publication_without_a_ring_is_taken_in_when_its_owner_ends() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().max_workers(1).runtime_dir(&folder));
    let mut child = fork_child(move || {
        let peer = second_peer(&folder);
        publish(&peer, &WorkerRecord::encode(&worker("sleep"), Pid::this()), 0);
    });
    assert_eq!(child.wait().code(), Some(0));
    cluster.started(shmem_slots::Key { index: 0, generation: 1 });
    cluster.end();
}

fn ask(socket: &mut ControlSocket, request: &Request) -> Reply {
    socket.send_request(request).unwrap();
    match socket.recv_reply(Some(Instant::now() + PATIENCE)).unwrap() {
        Received::Message { message, .. } => message,
        other => panic!("{other:?}"),
    }
}

fn the_socket_refuses_what_does_not_fit_with_a_reason() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    let connect = || ControlSocket::connect(&folder.join("control.sock")).unwrap();
    let hello = |protocol, layout_tag| Request::Hello { protocol, layout_tag, read_only: false };
    let table = [
        (hello(999, LAYOUT_TAG), Refusal::Protocol),
        (hello(bgw_core::internals::PROTOCOL, 1), Refusal::Layout),
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
    let hello = Request::Hello { protocol: 1, layout_tag: LAYOUT_TAG, read_only: true };
    assert!(matches!(ask(&mut reader, &hello), Reply::Welcome { read_only: true, .. }));
    let refused = ask(&mut reader, &Request::Reload);
    assert!(matches!(refused, Reply::Refused { reason: Refusal::NotAllowed, .. }));
    assert_eq!(ask(&mut reader, &Request::Ping), Reply::Done);
    cluster.end();
}

fn nonsense_on_the_socket_closes_that_connection_only() {
    let folder = std::env::temp_dir().join("run");
    let cluster = Cluster::with(builder().runtime_dir(&folder));
    for bytes in [vec![0u8], vec![255; 512], vec![1; 300], vec![7; 100_000]] {
        let socket = ControlSocket::connect(&folder.join("control.sock")).unwrap();
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

/// Would catch: a connection that stays in the queue, so that its program waits and the loop spins.
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
        let socket = ControlSocket::connect(&folder.join("control.sock")).unwrap();
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
    let mut sockets: Vec<_> =
        (0..20).map(|_| ControlSocket::connect(&folder.join("control.sock")).unwrap()).collect();
    let mut closed = 0;
    for socket in &mut sockets {
        // A connection that was closed already may refuse the request itself.
        let _ = socket.send_request(&Request::Ping);
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

/// Fills everything but the liveness words with noise, again and again, while a worker runs. Would fail
/// if any pattern stopped the postmaster, or reached its worker.
fn any_bytes() {
    let cluster = Cluster::new();
    let survivor = cluster.register(&worker("sleep"));
    let pid = cluster.started(survivor);
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut noise = move || {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        seed
    };
    let cells = cluster.peer.slots().writable_cells().unwrap().shared_cells();
    let words = &cells[16..16 + 512];
    let liveness = words.as_ptr_range();
    for round in 0..60 {
        for cell in cluster.peer.slots().memory().writable_cells().unwrap() {
            let value = noise();
            // All bits, few bits, or a small number: those pass more checks than large ones.
            let value = match round % 3 {
                0 => value,
                1 => value & noise() & noise() & noise(),
                _ => value % 7,
            };
            if !liveness.contains(&std::ptr::from_ref(cell)) {
                cell.store(value, Ordering::Relaxed);
            }
        }
        cluster.peer.ring().unwrap();
        let pong = cluster.peer.ask(&Request::Ping, Some(Instant::now() + PATIENCE)).unwrap();
        assert_eq!(pong, Reply::Done, "round {round}");
    }
    assert!(
        alive(process_test::Pid::from_raw(pid.as_raw())),
        "the worker is on the postmaster's own list"
    );
    cluster.end();
}

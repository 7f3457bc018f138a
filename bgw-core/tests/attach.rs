//! The promise: who cannot attach, or does not get an answer, learns why, and no later than its
//! deadline.
//!
//! Would catch: a permission that reads as a missing postmaster, a thread that waits for the answer
//! of another one beyond its own deadline.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_core::internals::{PROTOCOL, PostmasterCells, Received, Reply, Request, pidfd};
use bgw_core::{AskError, AttachError, Attachment, ControlSocket, Pid};
use nix::unistd::{Uid, setuid};
use process_test::{fork_child, tests, wait_until};
use std::os::fd::AsFd;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};
use support::{LIMIT, deadline};

fn main() -> std::process::ExitCode {
    process_test::main(tests![
        a_path_without_a_postmaster_is_told_from_one_that_is_not_permitted => [D18],
        each_thread_that_asks_keeps_its_own_deadline => [D18],
        a_forked_child_is_refused_before_it_asks,
    ])
}

fn attach(path: &Path) -> AttachError {
    Attachment::connect(path, false, deadline()).unwrap_err()
}

fn a_path_without_a_postmaster_is_told_from_one_that_is_not_permitted() {
    let folder = std::env::temp_dir().join("run");
    let not_running = |path: &Path| {
        let error = attach(path);
        assert!(matches!(error, AttachError::NotRunning { .. }), "{error:?}");
        assert!(error.to_string().contains(&path.display().to_string()), "{error}");
    };
    not_running(&folder);
    std::fs::create_dir(&folder).unwrap();
    not_running(&folder);
    drop(ControlSocket::listen(&folder.join("control.sock")).unwrap());
    not_running(&folder);
    let socket = folder.join("control.sock");
    std::fs::remove_file(&socket).unwrap();
    let listener = ControlSocket::listen(&socket).unwrap();
    // Another user, if this one may change it; else a folder that is closed to this one.
    let closed = |mode| {
        std::fs::set_permissions(&folder, PermissionsExt::from_mode(mode)).unwrap();
        let mut other = fork_child(|| {
            if Uid::effective().is_root() {
                setuid(Uid::from_raw(65_534)).unwrap();
            }
            for path in [&folder, &socket] {
                let error = attach(path);
                assert!(matches!(error, AttachError::NotPermitted { .. }), "{error:?}");
                let text = format!("{error:?}");
                assert!(
                    text.contains("may not use") && text.contains("ermission denied"),
                    "{text}"
                );
            }
        });
        assert_eq!(other.wait().code(), Some(0));
    };
    closed(0o000);
    if Uid::effective().is_root() {
        closed(0o755);
    }
    std::fs::set_permissions(&folder, PermissionsExt::from_mode(0o700)).unwrap();
    drop(listener);
    std::fs::remove_dir_all(folder).unwrap();
}

/// An attachment, and the postmaster's end of its connection.
fn attached() -> (Attachment, ControlSocket) {
    let cells = PostmasterCells::create(4, 0).unwrap();
    let (ours, mut theirs) = ControlSocket::pair().unwrap();
    let postmaster = std::thread::spawn(move || {
        let me = Pid::this();
        let hello = theirs.recv_request().unwrap();
        assert!(matches!(hello, Received::Message { message: Request::Hello { .. }, .. }));
        let welcome = Reply::Welcome {
            protocol: PROTOCOL,
            postmaster: me,
            owner: me,
            liveness: 1,
            read_only: true,
        };
        let process = pidfd::open(me).unwrap();
        let fds = [cells.slots().region().as_fd(), process.as_fd()];
        theirs.send_reply(&welcome, &fds).unwrap();
        let functions = theirs.recv_request().unwrap();
        assert!(matches!(functions, Received::Message { message: Request::Functions { .. }, .. }));
        theirs.send_reply(&Reply::Functions(Vec::new()), &[]).unwrap();
        theirs
    });
    let attachment = Attachment::attach(ours, true, deadline()).unwrap();
    (attachment, postmaster.join().unwrap())
}

/// The postmaster does not answer. Fails when a thread that asks waits for the one that asked
/// before it, and when the late answer is taken for the answer to a later request.
fn each_thread_that_asks_keeps_its_own_deadline() {
    let (attachment, mut postmaster) = attached();
    let attachment = Arc::new(attachment);
    let first = {
        let attachment = Arc::clone(&attachment);
        std::thread::spawn(move || attachment.ask(&Request::Ping, deadline()))
    };
    let asked = postmaster.recv_request().unwrap();
    assert!(matches!(asked, Received::Message { message: Request::Ping, .. }));
    for _ in 0..2 {
        let soon = Instant::now() + Duration::from_millis(30);
        let answer = attachment.ask(&Request::Ping, Some(soon));
        assert!(matches!(answer, Err(AskError::TimedOut)), "{answer:?}");
        assert!(Instant::now() >= soon);
    }
    assert!(!first.is_finished());
    postmaster.send_reply(&Reply::Done, &[]).unwrap();
    assert_eq!(first.join().unwrap().unwrap(), Reply::Done);
    // Given up, and answered afterwards: a stopped postmaster is none that answers.
    let past = Some(Instant::now());
    assert!(matches!(attachment.ask(&Request::Reload, past), Err(AskError::TimedOut)));
    postmaster.recv_request().unwrap();
    postmaster.send_reply(&Reply::Done, &[]).unwrap();
    let soon = Some(Instant::now() + Duration::from_millis(30));
    let answer = attachment.ask(&Request::Ping, soon);
    assert!(matches!(answer, Err(AskError::TimedOut)), "{answer:?}");
}

fn a_forked_child_is_refused_before_it_asks() {
    let (attachment, postmaster) = attached();
    let mut child = fork_child(|| {
        let answer = attachment.ask(&Request::Ping, deadline());
        assert!(matches!(answer, Err(AskError::ForkedChild { .. })), "{answer:?}");
    });
    assert_eq!(child.wait().code(), Some(0));
    postmaster.set_nonblocking(true).unwrap();
    let mut postmaster = postmaster;
    wait_until("nothing was asked", LIMIT, || {
        matches!(postmaster.recv_request(), Ok(Received::WouldBlock))
    });
}

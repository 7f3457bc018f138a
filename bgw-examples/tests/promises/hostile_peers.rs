//! The promise: whatever peers do with what they share or send, and whatever lies in the runtime
//! folder, everybody else is served.
//!
//! Would catch: a loop that accepts until nobody waits, silent connections that lock others out, a
//! read of the doorbell that blocks, a descriptor that takes long to close, a pid file that follows
//! a link, a reload that ends programs.

use crate::gifts::lingering;
use crate::support::{
    Cluster, PATIENCE, connect, functions, kill, note_path, read_note, ready, simple, started,
    stopped,
};
use bgw_backend::{BackgroundWorker, ExitCause};
use bgw_postmaster::Postmaster;
use nix::fcntl::{FcntlArg, OFlag, fcntl};
use nix::sys::socket::{
    AddressFamily, ControlMessage, MsgFlags, SockFlag, SockType, UnixAddr, connect as connect_to,
    sendmsg, socket,
};
use process_test::{Child, Signal, Test, fork_child, tests, wait_until};
use std::io::IoSlice;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

pub(crate) fn tests() -> Vec<Test> {
    tests![
        a_client_that_reconnects_in_a_loop_starves_nobody => [D14],
        silent_connections_lock_nobody_out => [D14],
        a_doorbell_that_blocks_does_not_stop_the_postmaster => [D14],
        a_stolen_ring_is_heard => [D14],
        a_full_doorbell_is_heard => [D14],
        a_peer_cannot_send_descriptors => [D14],
        where_a_peer_can_send_descriptors_none_holds_anybody_up => [D14],
        a_reload_leaves_commands_alone => [D09],
        a_folder_that_others_can_write_to_is_refused,
        a_folder_whose_path_is_too_long_is_refused_and_not_created,
        a_planted_pid_file_is_replaced_and_not_followed,
    ]
}

/// A connection that says nothing. `None`: the queue is full.
fn silent(folder: &Path) -> Option<OwnedFd> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, flags, None).unwrap();
    let address = UnixAddr::new(&folder.join("control.sock")).unwrap();
    connect_to(fd.as_raw_fd(), &address).ok().map(|()| fd)
}

fn reconnect_for_ever(folder: &Path) -> Child {
    let folder = folder.to_owned();
    fork_child(move || {
        loop {
            drop(silent(&folder));
        }
    })
}

/// Fails if the loop accepts as long as connections come: no worker starts then.
fn a_client_that_reconnects_in_a_loop_starves_nobody() {
    let cluster = Cluster::new();
    let mut clients: Vec<Child> = (0..4).map(|_| reconnect_for_ever(&cluster.folder)).collect();
    for _ in 0..20 {
        let handle = cluster.backend.register(&simple("sleep")).unwrap();
        started(&handle);
        handle.terminate().unwrap();
    }
    for client in &mut clients {
        client.kill(Signal::SIGKILL);
        client.wait();
    }
    cluster.end();
}

/// Fails if a connection counts as an attached program before it has said anything.
fn silent_connections_lock_nobody_out() {
    let cluster = Cluster::with(|builder| builder.max_sessions(8));
    let crowd: Vec<OwnedFd> = (0..64).filter_map(|_| silent(&cluster.folder)).collect();
    assert!(crowd.len() > 8);
    let backend = connect(&cluster.folder);
    backend.ping().unwrap();
    cluster.backend.ping().unwrap();
    drop((backend, crowd));
    cluster.end();
}

/// This process's descriptor of the doorbell.
fn doorbell() -> BorrowedFd<'static> {
    let is_eventfd = |number: &i32| {
        let target = std::fs::read_link(format!("/proc/self/fd/{number}"));
        target.is_ok_and(|target| target.to_string_lossy().contains("eventfd"))
    };
    let number = (3..256).find(is_eventfd).unwrap();
    // SAFETY: the backend keeps it open as long as the test runs.
    unsafe { BorrowedFd::borrow_raw(number) }
}

/// Fails if the postmaster reads the doorbell with a call that may block.
fn a_doorbell_that_blocks_does_not_stop_the_postmaster() {
    let cluster = Cluster::new();
    let bell = doorbell();
    fcntl(bell, FcntlArg::F_SETFL(OFlag::O_RDWR)).unwrap();
    // Steals each ring that it can.
    let mut thief = fork_child(move || {
        let mut count = [0u8; 8];
        loop {
            nix::unistd::read(bell, &mut count).unwrap();
        }
    });
    for _ in 0..500 {
        nix::unistd::write(bell, &1u64.to_ne_bytes()).unwrap();
        cluster.backend.ping().unwrap();
    }
    thief.kill(Signal::SIGKILL);
    thief.wait();
    cluster.end();
}

/// Each change is followed by one ring, and nothing else tells the postmaster of it.
fn registers_and_terminates(cluster: &Cluster) {
    let handle = cluster.backend.register(&simple("deaf")).unwrap();
    let pid = started(&handle);
    handle.terminate().unwrap();
    // It blocks its signals: that one has come is all that it can show.
    wait_until("it was signalled", PATIENCE, || {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let pending = status.lines().find_map(|line| line.strip_prefix("ShdPnd:")).unwrap();
        u64::from_str_radix(pending.trim(), 16).unwrap() & (1 << (libc::SIGTERM - 1)) != 0
    });
    kill(pid, Signal::SIGKILL);
    stopped(&handle);
}

/// Would time out if a ring were lost that somebody has read before the postmaster looked.
fn a_stolen_ring_is_heard() {
    let cluster = Cluster::new();
    let bell = doorbell();
    let steal = || {
        let mut count = [0u8; 8];
        loop {
            // EAGAIN: there is none to steal now.
            let _ = nix::unistd::read(bell, &mut count);
        }
    };
    let mut thieves = [(); 2].map(|()| fork_child(steal));
    for _ in 0..300 {
        registers_and_terminates(&cluster);
    }
    for thief in &mut thieves {
        thief.kill(Signal::SIGKILL);
        thief.wait();
    }
    cluster.end();
}

/// Would time out if a ring were lost that finds the counter full.
fn a_full_doorbell_is_heard() {
    let cluster = Cluster::new();
    let bell = doorbell();
    for below in [0, 1, 2, 0, 1, 2] {
        kill(cluster.launched.pid(), Signal::SIGSTOP);
        // EAGAIN: it is as full already.
        let _ = nix::unistd::write(bell, &(u64::MAX - 1 - below).to_ne_bytes());
        let handle = cluster.backend.register(&simple("quick")).unwrap();
        kill(cluster.launched.pid(), Signal::SIGCONT);
        stopped(&handle);
        registers_and_terminates(&cluster);
    }
    cluster.end();
}

/// Fails if a descriptor reaches the postmaster, which would have to close it: for a socket with
/// SO_LINGER that takes as long as its other end likes.
fn a_peer_cannot_send_descriptors() {
    let cluster = Cluster::new();
    let connection = silent(&cluster.folder).unwrap();
    let sent = send_with(&connection, b"x", &connection);
    if sent.is_ok() {
        process_test::skip("the kernel passes descriptors on: before Linux 6.16");
    }
    assert_eq!(sent.unwrap_err(), nix::errno::Errno::EPERM);
    cluster.backend.ping().unwrap();
    cluster.end();
}

fn send_with(connection: &OwnedFd, text: &[u8], lent: &impl AsRawFd) -> nix::Result<usize> {
    let lent = [lent.as_raw_fd()];
    let rights = [ControlMessage::ScmRights(&lent)];
    let parts = [IoSlice::new(text)];
    sendmsg::<()>(connection.as_raw_fd(), &parts, &rights, MsgFlags::MSG_NOSIGNAL, None)
}

/// From now on the kernel is to this process, and to those that it forks, as one before Linux 6.16:
/// it knows no `SO_PASSRIGHTS`.
fn pass_descriptors_on() {
    const SO_PASSRIGHTS: u32 = 83;
    let filter = |code: u32, k, jt, jf| libc::sock_filter { code: code as u16, jt, jf, k };
    let (load, compare, end) = (
        libc::BPF_LD | libc::BPF_W | libc::BPF_ABS,
        libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K,
        libc::BPF_RET | libc::BPF_K,
    );
    // The half of the third argument that counts.
    let option = 16 + 2 * 8 + if cfg!(target_endian = "big") { 4 } else { 0 };
    let mut all = [
        filter(load, 0, 0, 0),
        filter(compare, libc::SYS_setsockopt as u32, 0, 3),
        filter(load, option, 0, 0),
        filter(compare, SO_PASSRIGHTS, 0, 1),
        filter(end, libc::SECCOMP_RET_ERRNO | libc::ENOPROTOOPT as u32, 0, 0),
        filter(end, libc::SECCOMP_RET_ALLOW, 0, 0),
    ];
    let program = libc::sock_fprog { len: all.len() as u16, filter: all.as_mut_ptr() };
    nix::sys::prctl::set_no_new_privs().unwrap();
    let mode = libc::SECCOMP_MODE_FILTER;
    // SAFETY: `program` names `all`, with its length; both are valid during the call.
    let done = unsafe { libc::prctl(libc::PR_SET_SECCOMP, mode, &raw const program) };
    if done != 0 {
        process_test::skip("this kernel has no filters of system calls");
    }
}

/// Hangs, for ten minutes each, if the postmaster takes a descriptor that it has to close: the
/// first one, one behind a message that ends the connection, or one that came before it was
/// accepted.
fn where_a_peer_can_send_descriptors_none_holds_anybody_up() {
    pass_descriptors_on();
    let cluster = Cluster::new();
    let postmaster = cluster.launched.pid();
    let mut others = Vec::new();
    let mut send = |connection: &OwnedFd| {
        let (ours, theirs) = lingering();
        send_with(connection, b"x", &ours).unwrap();
        // `ours` is on its way, so this one is not the last.
        others.push(theirs);
    };
    for stays_open in [false, true] {
        for comes_first in [false, true] {
            let connection = silent(&cluster.folder).unwrap();
            kill(postmaster, Signal::SIGSTOP);
            if !comes_first {
                nix::unistd::write(&connection, b"x").unwrap();
            }
            send(&connection);
            send(&connection);
            let connection = stays_open.then_some(connection);
            kill(postmaster, Signal::SIGCONT);
            registers_and_terminates(&cluster);
            drop(connection);
            registers_and_terminates(&cluster);
        }
    }
    let attached = connect(&cluster.folder);
    assert!(attached.ping().is_ok());
    cluster.end();
}

/// Fails if SIGHUP goes to a program, which did not ask for it and ends.
fn a_reload_leaves_commands_alone() {
    let cluster = Cluster::new();
    let (runs, hup) = (note_path("runs"), note_path("hup"));
    // Notes a SIGHUP, and ends at the SIGTERM that comes after it.
    let script = format!(
        "trap ': > {}' HUP; trap 'exit 0' TERM; : > {}; while :; do sleep 0.01; done",
        hup.display(),
        runs.display()
    );
    let worker = BackgroundWorker::builder("command").command("/bin/sh", ["-c".to_owned(), script]);
    let handle = cluster.backend.register(&worker.build().unwrap()).unwrap();
    read_note("runs");
    ready(&cluster.backend.register(&simple("reloads")).unwrap());
    cluster.backend.reload().unwrap();
    // Children are told in the order of their slots: the command would have been told first.
    read_note("reload-0");
    handle.terminate().unwrap();
    assert_eq!(stopped(&handle).cause, ExitCause::Exited(0));
    assert!(!hup.exists(), "the command got SIGHUP");
    cluster.end();
}

/// Fails if such a folder is used: what lies there can be replaced by others.
fn a_folder_that_others_can_write_to_is_refused() {
    let folder = std::env::temp_dir().join("open");
    std::fs::create_dir(&folder).unwrap();
    let built = |folder: &Path| functions(Postmaster::builder().runtime_dir(folder)).build();
    for mode in [0o777, 0o770, 0o722] {
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(mode)).unwrap();
        let text = built(&folder).unwrap_err().to_string();
        assert!(text.contains("chmod go-w") && text.contains("open"), "{text}");
    }
    std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o755)).unwrap();
    drop(built(&folder).unwrap());
    let text = built(&folder.join("a/b")).unwrap_err().to_string();
    assert!(text.contains("parent folder does not exist"), "{text}");
    let file = std::env::temp_dir().join("file");
    std::fs::write(&file, "").unwrap();
    let text = built(&file).unwrap_err().to_string();
    assert!(text.contains("is not a folder"), "{text}");
}

/// Fails if the error of a path that no socket can have says something else.
fn a_folder_whose_path_is_too_long_is_refused_and_not_created() {
    let parent = std::env::temp_dir();
    let of_length = |length: usize| parent.join("f".repeat(length - parent.as_os_str().len() - 1));
    let build = |folder: &Path| functions(Postmaster::builder().runtime_dir(folder)).build();
    let longest = build(&of_length(94)).unwrap();
    drop(longest);
    let text = build(&of_length(95)).unwrap_err().to_string();
    assert!(text.contains("more than 94 bytes") && text.contains("shorter"), "{text}");
    assert!(!of_length(95).exists());
}

/// Fails if the pid is written through a link.
fn a_planted_pid_file_is_replaced_and_not_followed() {
    let folder = std::env::temp_dir().join("cluster");
    let precious = std::env::temp_dir().join("precious");
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(&precious, "precious").unwrap();
    std::os::unix::fs::symlink(&precious, folder.join("postmaster.pid")).unwrap();
    let cluster = Cluster::new();
    let path = folder.join("postmaster.pid");
    wait_until("the pid is written", PATIENCE, || {
        std::fs::read_to_string(&path).is_ok_and(|text| text.trim() != "precious")
    });
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.trim(), cluster.launched.pid().to_string());
    assert_eq!(std::fs::read_to_string(&precious).unwrap(), "precious");
    cluster.end();
}

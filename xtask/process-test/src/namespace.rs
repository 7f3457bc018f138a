//! A pid namespace, in which a test chooses the pid of the next process. That takes root.

use crate::body::skip;
use crate::child::{Ended, fork_child};
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use nix::unistd::Pid;
use std::fs;

const LAST_PID: &str = "/proc/sys/kernel/ns_last_pid";
/// Exit code of a first process that may not choose pids.
const NOT_ALLOWED: i32 = 78;

/// Runs `test` as the first process of a new pid namespace; skips the test where that is not
/// allowed. `/proc` shows the pids of the namespace outside all the same.
///
/// # Panics
/// When `test` fails.
#[track_caller]
pub fn in_pid_namespace(test: impl FnOnce()) {
    if let Err(errno) = unshare(CloneFlags::CLONE_NEWPID) {
        skip(format!("making a pid namespace failed ({errno}); it takes root"));
    }
    let mut first = fork_child(|| {
        if fs::write(LAST_PID, "100").is_err() {
            crate::sys::exit_now(NOT_ALLOWED);
        }
        test();
    });
    match first.wait() {
        Ended::Code(NOT_ALLOWED) => skip(format!("writing {LAST_PID} failed; it takes root")),
        ended => assert_eq!(ended, Ended::Code(0), "the first process of the namespace"),
    }
}

/// In a namespace of [`in_pid_namespace`]: from here on `/proc` shows the pids of the namespace, to
/// this process and its children alone.
///
/// # Panics
/// When the kernel refuses.
#[allow(clippy::expect_used, reason = "a panic is how a test fails")]
pub fn mount_own_proc() {
    let nothing: Option<&str> = None;
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace of one's own");
    let private = MsFlags::MS_REC | MsFlags::MS_PRIVATE;
    mount(nothing, "/", nothing, private, nothing).expect("mounts that nobody else sees");
    mount(Some("proc"), "/proc", Some("proc"), MsFlags::empty(), nothing).expect("a /proc");
}

/// Gives `pid` to the next process of the caller's pid namespace, unless another process has it.
///
/// # Panics
/// When the caller is in no namespace of [`in_pid_namespace`].
#[allow(clippy::expect_used, reason = "a panic is how a test fails")]
pub fn choose_next_pid(pid: Pid) {
    let before = pid.as_raw() - 1;
    fs::write(LAST_PID, before.to_string()).expect("the pid of the next process can be chosen");
}

//! The promise: a wall clock that is set back or forward changes no delay.
//!
//! This program has its own wall clock: its `clock_gettime` comes before the C library's, and the
//! postmaster is a fork of it. Would catch: a `SystemTime` in any rule of the postmaster.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod support;

use bgw_backend::WorkerStatus;
use process_test::{Signal, tests, wait_until};
use std::process::ExitCode;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{Duration, SystemTime};
use support::{Cluster, PATIENCE, kill, ready, restarting, stopped};

/// How many seconds the wall clock is off; in memory that forked processes share.
static WRONG_BY: OnceLock<&'static AtomicI64> = OnceLock::new();

/// The C library's function, for everything in this program.
///
/// # Safety
/// As for the C library's.
#[unsafe(no_mangle)]
unsafe extern "C" fn clock_gettime(
    clock: libc::clockid_t,
    time: *mut libc::timespec,
) -> libc::c_int {
    // SAFETY: the caller's pointer is passed on as it is.
    let done = unsafe { libc::syscall(libc::SYS_clock_gettime, clock, time) };
    if done == 0
        && clock == libc::CLOCK_REALTIME
        && let Some(seconds) = WRONG_BY.get()
    {
        // SAFETY: the call has succeeded, so it points to a time.
        unsafe { (*time).tv_sec += seconds.load(Ordering::Relaxed) };
    }
    done as libc::c_int
}

fn main() -> ExitCode {
    process_test::main(tests![a_wall_clock_that_is_set_delays_no_restart => [R22, P10]])
}

fn shared_clock() -> &'static AtomicI64 {
    WRONG_BY.get_or_init(|| {
        let length = std::num::NonZeroUsize::new(4096).unwrap();
        let (access, flags) = (
            nix::sys::mman::ProtFlags::PROT_READ | nix::sys::mman::ProtFlags::PROT_WRITE,
            nix::sys::mman::MapFlags::MAP_SHARED,
        );
        // SAFETY: a new mapping, nowhere in particular.
        let page = unsafe { nix::sys::mman::mmap_anonymous(None, length, access, flags) }.unwrap();
        // SAFETY: a zeroed page that is never unmapped.
        unsafe { page.cast::<AtomicI64>().as_ref() }
    })
}

/// Would fail if a restart were due by the wall clock: a day late when it is set back, an hour
/// early when it is set forward.
fn a_wall_clock_that_is_set_delays_no_restart() {
    let clock = shared_clock();
    let day = 86_400;
    let cluster = Cluster::new();
    let (soon, pid) = cluster.start(&restarting("sleep", Duration::from_millis(200)));
    let (late, other) = cluster.start(&restarting("sleep", Duration::from_secs(3600)));
    ready(&soon);
    ready(&late);
    kill(pid, Signal::SIGKILL);
    kill(other, Signal::SIGKILL);
    stopped(&soon);
    stopped(&late);
    let before = SystemTime::now();
    clock.store(-day, Ordering::Relaxed);
    assert!(SystemTime::now() < before, "this program's wall clock was set back");
    wait_until(
        "it runs again",
        PATIENCE,
        || matches!(soon.status(), WorkerStatus::Started(now) if now != pid),
    );
    clock.store(day, Ordering::Relaxed);
    cluster.backend.ping().unwrap();
    assert!(matches!(late.status(), WorkerStatus::Stopped(_)), "its hour is not over");
    cluster.end();
}

//! Does a thread sleep in a wait? A test that ends a wait proves something only when the waiter was
//! asleep before.
//!
//! State `S` alone does not say so: a process that polls for a condition sleeps most of the time,
//! too. So the system call counts as well: the kernel names it in `/proc/TID/syscall` while the
//! thread is blocked in it, and says `running` otherwise.

use crate::tree::Process;
use crate::until::wait_until;
use nix::unistd::Pid;
use std::fs;
use std::time::Duration;

/// The system calls of a wait: for a futex, or for descriptors.
const WAITS: &[i64] = &[
    libc::SYS_futex,
    libc::SYS_futex_waitv,
    libc::SYS_ppoll,
    libc::SYS_epoll_pwait,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_poll,
    #[cfg(target_arch = "x86_64")]
    libc::SYS_epoll_wait,
];

const LIMIT: Duration = Duration::from_secs(30);

/// Does this thread sleep in a wait for a futex or for descriptors? A process is its main thread.
///
/// # Panics
/// When the kernel does not say: only a process that may be traced can be asked, that is one of the
/// same user, and under Yama a descendant.
#[must_use]
#[allow(clippy::panic, reason = "a panic is how a test fails")]
pub fn asleep(thread: Pid) -> bool {
    if Process::read(thread.as_raw()).is_none_or(|process| process.state != 'S') {
        return false;
    }
    match fs::read_to_string(format!("/proc/{thread}/syscall")) {
        Ok(line) => line.split(' ').next().is_some_and(is_wait),
        // It has ended since.
        Err(_) if Process::read(thread.as_raw()).is_none() => false,
        Err(error) => panic!("/proc/{thread}/syscall cannot be read: {error}"),
    }
}

fn is_wait(number: &str) -> bool {
    number.parse().is_ok_and(|number: i64| WAITS.contains(&number))
}

/// Waits until this thread [sleeps](asleep) in a wait.
///
/// # Panics
/// When it does not within 30 seconds.
#[track_caller]
pub fn wait_until_asleep(thread: Pid) {
    wait_until(&format!("{thread} is asleep in a wait"), LIMIT, || asleep(thread));
}

/// Waits until the process has `count` threads and each of them [sleeps](asleep) in a wait.
///
/// # Panics
/// When that does not come within 30 seconds.
#[track_caller]
pub fn wait_until_all_asleep(process: Pid, count: usize) {
    let what = format!("{count} threads of {process} are asleep in their waits");
    wait_until(&what, LIMIT, || {
        let threads = threads(process);
        threads.len() == count && threads.into_iter().all(asleep)
    });
}

fn threads(process: Pid) -> Vec<Pid> {
    let Ok(entries) = fs::read_dir(format!("/proc/{process}/task")) else { return Vec::new() };
    entries
        .filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
        .map(Pid::from_raw)
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{asleep, is_wait, threads, wait_until_asleep};
    use nix::unistd::{Pid, gettid};
    use std::sync::mpsc::channel;
    use std::thread;
    use std::time::Duration;

    #[test]
    fn a_thread_in_a_futex_is_asleep_and_one_that_naps_or_spins_is_not() {
        let (tell, told) = channel();
        let (end, ended) = channel::<()>();
        let waiting = {
            let tell = tell.clone();
            thread::spawn(move || {
                tell.send(gettid()).unwrap();
                ended.recv().unwrap_err();
            })
        };
        let waiter = told.recv().unwrap();
        wait_until_asleep(waiter);
        assert!(threads(Pid::this()).contains(&waiter));
        let napping = thread::spawn(move || {
            tell.send(gettid()).unwrap();
            thread::sleep(Duration::from_millis(100));
        });
        let napper = told.recv().unwrap();
        while !napping.is_finished() {
            assert!(!asleep(napper), "a nap is no wait");
        }
        assert!(!asleep(gettid()), "this one runs");
        drop(end);
        waiting.join().unwrap();
        napping.join().unwrap();
    }

    #[test]
    fn only_the_calls_of_a_wait_count() {
        assert!(is_wait(&libc::SYS_futex_waitv.to_string()));
        for other in ["running", "-1", "", &libc::SYS_clock_nanosleep.to_string()] {
            assert!(!is_wait(other), "{other}");
        }
    }
}

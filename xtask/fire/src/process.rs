//! What `/proc` says about a process.

use nix::unistd::{SysconfVar, sysconf};
use std::fs;
use std::time::Duration;

/// The fields of `/proc/PID/stat` from the state on, or `None` if it has ended and was reaped.
fn stat(pid: i32) -> Option<Vec<String>> {
    let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    let (_, fields) = text.rsplit_once(')')?;
    Some(fields.split_whitespace().map(str::to_owned).collect())
}

/// True unless it has ended.
pub(crate) fn is_alive(pid: i32) -> bool {
    stat(pid).is_some_and(|fields| fields.first().is_some_and(|state| state != "Z"))
}

/// True if it lives and is a child of `parent`.
pub(crate) fn is_child_of(pid: i32, parent: i32) -> bool {
    stat(pid).is_some_and(|fields| {
        fields.first().is_some_and(|state| state != "Z")
            && fields.get(1).is_some_and(|ppid| *ppid == parent.to_string())
    })
}

/// The CPU time that it has used, in steps of 10 ms.
pub(crate) fn cpu(pid: i32) -> Option<Duration> {
    let fields = stat(pid)?;
    let ticks = |index: usize| fields.get(index)?.parse::<u64>().ok();
    let per_second = u64::try_from(sysconf(SysconfVar::CLK_TCK).ok()??).ok()?;
    Some(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / per_second))
}

/// The memory that it has for itself, in bytes: what a leak adds to.
pub(crate) fn anonymous_memory(pid: i32) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix("RssAnon:"))?;
    let kib: u64 = line.trim().strip_suffix("kB")?.trim().parse().ok()?;
    Some(kib * 1024)
}

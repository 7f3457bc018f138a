//! What `/proc` says about processes, by numbers of this process's pid namespace.

use std::io;
use std::os::fd::{AsFd, AsRawFd};

/// The parent of process `pid`; `None` if there is no such process.
pub(crate) fn parent_of(pid: u32) -> io::Result<Option<u32>> {
    let stat = match std::fs::read(format!("/proc/{pid}/stat")) {
        Ok(stat) => stat,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    // The name in parentheses may hold any character; the state and the parent follow the last one.
    let end = stat.iter().rposition(|&byte| byte == b')').unwrap_or(0);
    let fields = String::from_utf8_lossy(stat.get(end..).unwrap_or_default()).into_owned();
    Ok(fields.split_whitespace().nth(2).and_then(|parent| parent.parse().ok()))
}

/// The pid of a process that has ended.
pub(crate) const ENDED: i64 = -1;

/// The pid of the process of `pidfd` in the pid namespace of `/proc`: 0 if it is not in there,
/// [`ENDED`] if it has been reaped.
pub(crate) fn pid_of(pidfd: impl AsFd) -> io::Result<i64> {
    let number = pidfd.as_fd().as_raw_fd();
    let info = std::fs::read_to_string(format!("/proc/self/fdinfo/{number}"))?;
    let pid = info.lines().find_map(|line| line.strip_prefix("Pid:")?.trim().parse().ok());
    pid.ok_or_else(|| io::ErrorKind::InvalidData.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_process_has_a_parent_and_a_pidfd_leads_to_it() {
        let me = std::process::id();
        assert_eq!(parent_of(me).unwrap(), Some(std::os::unix::process::parent_id()));
        assert_eq!(parent_of(u32::MAX).unwrap(), None);
        let pidfd = super::super::pidfd::open(me as i32).unwrap();
        assert_eq!(pid_of(&pidfd).unwrap(), i64::from(me));
    }
}

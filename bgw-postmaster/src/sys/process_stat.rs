//! `/proc/PID/stat`: a line of text about a process that may end while it is read.

use bgw_core::Pid;
use std::{fs, io};

/// What the guardian must know of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    pub(crate) pid: Pid,
    /// Its process group. 0: a group of another pid namespace.
    pub(crate) group: u32,
    /// Its session, by the number of the leader. 0: a session of another pid namespace.
    pub(crate) session: u32,
    /// True if a signal has stopped it.
    pub(crate) stopped: bool,
    /// When it was created, in clock ticks since the system started. The low half: it suffices to
    /// compare two moments that are less than a year apart.
    pub(crate) created: u32,
}

impl ProcessStat {
    /// `None` if there is no such process, or it may not be looked at.
    ///
    /// # Errors
    /// There is no descriptor or memory to look with.
    pub(crate) fn of(pid: Pid) -> io::Result<Option<Self>> {
        match fs::read(format!("/proc/{pid}/stat")) {
            Err(error) if is_shortage(&error) => Err(error),
            read => Ok(read.ok().and_then(|line| Self::parse(&line))),
        }
    }

    /// See proc_pid_stat(5). The second field is the command in parentheses, which may hold
    /// anything.
    fn parse(line: &[u8]) -> Option<Self> {
        let end = line.iter().rposition(|&byte| byte == b')')?;
        let (before, after) = (line.get(..end)?, line.get(end + 1..)?);
        let pid =
            before.split(|&byte| byte == b' ').next().and_then(|pid| std::str::from_utf8(pid).ok());
        let after = std::str::from_utf8(after).ok()?;
        // The first of these is field 3.
        let mut fields = after.split_ascii_whitespace();
        let state = fields.next()?;
        let group = fields.nth(1)?.parse().ok()?;
        let session = fields.next()?.parse().ok()?;
        let created: u64 = fields.nth(15)?.parse().ok()?;
        Some(Self {
            pid: Pid::new(pid?.parse().ok()?)?,
            group,
            session,
            stopped: state == "T",
            created: created as u32,
        })
    }
}

/// True if the call may succeed when others have given something back.
pub(crate) fn is_shortage(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::EMFILE | libc::ENFILE | libc::ENOMEM))
}

/// True if another process traces `pid`, a process that is not reaped. False where that cannot be
/// read.
pub(crate) fn is_traced(pid: Pid) -> bool {
    let status = fs::read(format!("/proc/{pid}/status")).unwrap_or_default();
    let tracer =
        status.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(b"TracerPid:"));
    tracer.is_some_and(|tracer| tracer.trim_ascii() != b"0")
}

/// True if `/proc` shows the processes of this process's pid namespace, by their numbers here.
pub(crate) fn is_own_proc() -> bool {
    let own = fs::read_link("/proc/self").ok();
    own.is_some_and(|own| own.to_str() == Some(std::process::id().to_string().as_str()))
}

/// The processes that there are now.
pub(crate) fn all_processes() -> io::Result<impl Iterator<Item = Pid>> {
    let entries = fs::read_dir("/proc")?;
    Ok(entries.filter_map(|entry| Pid::new(entry.ok()?.file_name().to_str()?.parse().ok()?)))
}

#[cfg(test)]
mod tests {
    use super::*;

    const LINE: &str =
        "77 (a) R 1 (b) T 5 70 60 0 -1 4194560 1 2 3 4 5 6 7 8 20 0 1 0 4294967299 9 9";

    /// Breaks if a field is counted from the wrong end of a name with spaces and parentheses.
    #[test]
    fn a_line_is_read_by_its_fields_whatever_the_name() {
        let read = ProcessStat::parse(LINE.as_bytes()).unwrap();
        let pid = Pid::new(77).unwrap();
        assert_eq!(read, ProcessStat { pid, group: 70, session: 60, stopped: true, created: 3 });
        let bytes = [b"77 (\xff) \xfe) ".as_slice(), &LINE.as_bytes()[12..]].concat();
        assert_eq!(ProcessStat::parse(&bytes), Some(read));
    }

    /// Breaks if a line that was cut short is a panic or a process.
    #[test]
    fn a_broken_line_is_no_process() {
        for length in 0..LINE.len() - "4294967299 9 9".len() {
            assert_eq!(ProcessStat::parse(&LINE.as_bytes()[..length]), None, "{length}");
        }
        for line in ["0 (x) S 1 1 1", "-1 (x) S 1 1 1 0", ") (", "x (x) S 1 1 1 0 0 0 0 0 0 0 0 0"]
        {
            assert_eq!(ProcessStat::parse(line.as_bytes()), None, "{line}");
        }
    }

    /// Breaks if a number of field is wrong: the kernel's own line of this process.
    #[test]
    fn this_process_is_listed_and_found() {
        let me = Pid::this();
        assert!(is_own_proc());
        assert!(all_processes().unwrap().any(|pid| pid == me));
        let stat = ProcessStat::of(me).unwrap().unwrap();
        assert_eq!(stat.pid, me);
        assert_eq!(stat.session, nix::unistd::getsid(None).unwrap().as_raw().unsigned_abs());
        assert_eq!(stat.group, nix::unistd::getpgrp().as_raw().unsigned_abs());
        assert!(!stat.stopped);
    }
}

//! With whose rights another process acts now.

use super::process_stat::is_own_proc;
use bgw_core::Pid;
use std::{fs, io};

const ROOT: u32 = 0;

/// True if process `pid` acts as this process's user, or as root. One that has ended and is not
/// reaped counts as it was; one that is gone cannot be asked, and counts as ours.
pub(crate) fn acts_for_our_user(pid: Pid) -> bool {
    let ours = nix::unistd::geteuid().as_raw();
    let acts = match fs::read(format!("/proc/{pid}/status")) {
        Ok(status) => effective_user(&status).is_some_and(|found| found == ours || found == ROOT),
        Err(error) => is_gone(&error),
    };
    // Without a `/proc` of our pid namespace it was a stranger's status.
    acts || !is_own_proc()
}

fn is_gone(error: &io::Error) -> bool {
    matches!(error.raw_os_error(), Some(libc::ENOENT | libc::ESRCH))
}

/// See proc_pid_status(5). The first line has the name, which the process chooses: any bytes, but
/// no end of a line.
fn effective_user(status: &[u8]) -> Option<u32> {
    let mut lines = status.split(|&byte| byte == b'\n');
    let users = lines.find_map(|line| line.strip_prefix(b"Uid:"))?;
    std::str::from_utf8(users).ok()?.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a name could pass for the line of the users, or another of the four ids counted.
    #[test]
    fn the_effective_user_is_the_second_of_the_line() {
        let status = b"Name:\tUid: 0\xff\\n\nUmask:\t0022\nUid:\t1\t2\t3\t4\nGid:\t5\t6\t7\t8\n";
        assert_eq!(effective_user(status), Some(2));
        assert_eq!(effective_user(b"Name:\tx\n"), None);
        assert_eq!(effective_user(b"Uid:\t\xff"), None);
    }

    #[test]
    fn this_process_acts_for_its_user_and_so_does_one_that_is_gone() {
        assert!(acts_for_our_user(Pid::this()));
        assert!(acts_for_our_user(Pid::new(4_194_303).unwrap()));
    }
}

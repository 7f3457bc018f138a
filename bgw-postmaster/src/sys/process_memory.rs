//! How much memory a process uses.

use bgw_core::Pid;
use std::fs;

/// The resident bytes of `pid` that belong to no file and are not shared: `RssAnon` of
/// proc_pid_status(5). `None` for a process that has ended, or that may not be looked at.
pub(crate) fn anonymous_bytes(pid: Pid) -> Option<u64> {
    parse(&fs::read(format!("/proc/{pid}/status")).ok()?, b"RssAnon:")?.checked_mul(1024)
}

/// How many KiB of this process's memory it has written to, and shares with no other process.
/// `None` where the kernel does not say.
pub(crate) fn own_kib() -> Option<u64> {
    parse(&fs::read("/proc/self/smaps_rollup").ok()?, b"Private_Dirty:")
}

fn parse(text: &[u8], name: &[u8]) -> Option<u64> {
    let line = text.split(|&byte| byte == b'\n').find_map(|line| line.strip_prefix(name));
    let kib = std::str::from_utf8(line?).ok()?.trim().strip_suffix("kB")?;
    kib.trim_end().parse::<u64>().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_line_is_found_by_its_name_and_anything_else_is_no_number() {
        let status =
            "Name:\tRssAnon: 7 kB\nVmRSS:\t  99 kB\nRssAnon:\t     123 kB\nRssFile:\t 5 kB\n";
        assert_eq!(parse(status.as_bytes(), b"RssAnon:"), Some(123));
        // A zombie has no such line.
        for status in ["", "RssAnon:", "RssAnon:\t-1 kB", "RssAnon:\t1 MB", "Name:\tx\nState:\tZ\n"]
        {
            assert_eq!(parse(status.as_bytes(), b"RssAnon:"), None, "{status}");
        }
        assert_eq!(parse(b"RssAnon:\t18446744073709551616 kB", b"RssAnon:"), None);
    }

    /// Breaks if the kernel's own file reads otherwise.
    #[test]
    fn what_this_process_fills_counts() {
        let counts = || {
            let before = anonymous_bytes(Pid::this()).unwrap();
            let filled = std::hint::black_box(vec![1u8; 64 << 20]);
            let after = anonymous_bytes(Pid::this()).unwrap();
            drop(filled);
            after >= before + (60 << 20)
        };
        // Other tests of this process may free memory meanwhile, but not each time.
        assert!((0..20).any(|_| counts()));
    }
}

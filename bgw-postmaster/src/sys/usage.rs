//! What this process has used.

use std::time::Duration;

/// CPU time and memory of this process since it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    pub(crate) user_time: Duration,
    pub(crate) system_time: Duration,
    /// The largest resident size.
    pub(crate) max_rss_kib: u64,
}

impl Usage {
    /// Of this process, without its children.
    pub(crate) fn read() -> Self {
        // SAFETY: all-zero bytes are a valid `rusage`: plain integers.
        let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
        // SAFETY: `usage` is valid for writing during the call. It fails for no other reason than a
        // wrong argument, and then there are zeros.
        let _ = unsafe { libc::getrusage(libc::RUSAGE_SELF, &raw mut usage) };
        Self {
            user_time: super::wait::duration(usage.ru_utime),
            system_time: super::wait::duration(usage.ru_stime),
            max_rss_kib: u64::try_from(usage.ru_maxrss).unwrap_or(0),
        }
    }

    /// What was used since `before`. The memory is that of the whole time.
    pub(crate) const fn since(self, before: Self) -> Self {
        Self {
            user_time: self.user_time.saturating_sub(before.user_time),
            system_time: self.system_time.saturating_sub(before.system_time),
            max_rss_kib: self.max_rss_kib,
        }
    }
}

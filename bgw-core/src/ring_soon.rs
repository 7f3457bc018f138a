//! The alarm of an attachment: has the postmaster look a moment later.

use crate::attachment::Attachment;
use crate::sys::alarm;
use std::io;
use std::os::fd::OwnedFd;
use std::sync::Arc;

impl Attachment {
    /// The same with the alarm of the postmaster.
    #[must_use]
    pub fn with_alarm(mut self, alarm: Arc<OwnedFd>) -> Self {
        self.alarm = Some(alarm);
        self
    }

    /// True if the postmaster can be made to look a moment later.
    #[must_use]
    pub const fn has_alarm(&self) -> bool {
        self.alarm.is_some()
    }

    /// Sets the alarm: the postmaster looks for what has changed within [`alarm::PERIOD`]. One
    /// system call; wakes nobody now.
    ///
    /// # Errors
    /// `PermissionDenied` for an attachment without an alarm, else the error of `timerfd_settime`.
    pub fn ring_soon(&self) -> io::Result<()> {
        match &self.alarm {
            Some(alarm) => alarm::set(alarm),
            None => Err(io::ErrorKind::PermissionDenied.into()),
        }
    }
}

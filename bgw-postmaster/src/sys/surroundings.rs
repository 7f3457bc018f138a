//! What a worker may change of its process and that is put back after it: umask, working folder,
//! nice value, environment, locale, and the clocks that send signals.

use nix::sys::stat::{Mode, umask};
use rustix::fs::{CWD, OFlags};
use std::ffi::{CStr, CString, OsString};
use std::io;
use std::os::fd::OwnedFd;

/// What a process began with.
#[derive(Debug)]
pub(crate) struct Surroundings {
    umask: Mode,
    /// The working folder.
    folder: OwnedFd,
    nice: i32,
    environment: Vec<(OsString, OsString)>,
    locale: Option<CString>,
}

impl Surroundings {
    /// Those of this process, which has one thread. Keeps a descriptor.
    pub(crate) fn read() -> io::Result<Self> {
        let mask = umask(Mode::empty());
        umask(mask);
        let folder = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self {
            umask: mask,
            folder: rustix::fs::openat(CWD, ".", folder, rustix::fs::Mode::empty())?,
            nice: rustix::process::getpriority_process(None)?,
            environment: std::env::vars_os().collect(),
            locale: locale(),
        })
    }

    /// Makes them those of this process again, which has one thread.
    ///
    /// # Errors
    /// Something cannot be put back.
    pub(crate) fn restore(&self) -> io::Result<()> {
        umask(self.umask);
        rustix::process::fchdir(&self.folder)?;
        if rustix::process::getpriority_process(None)? != self.nice {
            rustix::process::setpriority_process(None, self.nice)?;
        }
        stop_interval_timers()?;
        if has_timers() {
            return Err(io::Error::other("it has left a timer"));
        }
        self.restore_environment();
        self.restore_locale()
    }

    fn restore_environment(&self) {
        if std::env::vars_os().eq(self.environment.iter().cloned()) {
            return;
        }
        let now: Vec<_> = std::env::vars_os().map(|(name, _)| name).collect();
        for name in now {
            // SAFETY: this process has one thread.
            unsafe { std::env::remove_var(name) };
        }
        for (name, value) in &self.environment {
            // SAFETY: as above.
            unsafe { std::env::set_var(name, value) };
        }
    }

    fn restore_locale(&self) -> io::Result<()> {
        let was = self.locale.as_deref();
        if locale().as_deref() == was {
            return Ok(());
        }
        let was = was.unwrap_or(c"C");
        // SAFETY: a string that ends with a zero, in a process with one thread.
        let set = unsafe { libc::setlocale(libc::LC_ALL, was.as_ptr()) };
        if set.is_null() { Err(io::Error::other("its locale cannot be put back")) } else { Ok(()) }
    }
}

fn locale() -> Option<CString> {
    // SAFETY: only asks, in a process with one thread.
    let name = unsafe { libc::setlocale(libc::LC_ALL, std::ptr::null()) };
    // SAFETY: null, or a string of the C library's that stays until the next call.
    (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) }.to_owned())
}

/// Stops the clocks of `setitimer` and `alarm`.
fn stop_interval_timers() -> io::Result<()> {
    // SAFETY: all-zero bytes are a valid `itimerval`: plain integers. Zero stops a clock.
    let off: libc::itimerval = unsafe { std::mem::zeroed() };
    for clock in [libc::ITIMER_REAL, libc::ITIMER_VIRTUAL, libc::ITIMER_PROF] {
        // SAFETY: `off` is valid for reading during the call, and the old value is not asked for.
        if unsafe { libc::setitimer(clock, &raw const off, std::ptr::null_mut()) } != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(())
}

/// True if a timer of `timer_create` is left. False where the kernel does not list them.
fn has_timers() -> bool {
    std::fs::read("/proc/self/timers").is_ok_and(|list| !list.is_empty())
}

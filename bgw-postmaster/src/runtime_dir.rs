//! The runtime folder: lock, control socket, pid file.
//!
//! The lock is an `flock` on a descriptor that the guardian and every function inherit. So the
//! kernel keeps it until the postmaster is gone *and* its guardian has found nothing left of the
//! cluster. A second postmaster on the same folder is refused for that long. No pid is compared,
//! and nothing stale has to be recognised.

use crate::error::BuildError;
use crate::folder::{self, Unfit};
use bgw_core::{CONTROL_SOCKET, ControlSocket};
use rustix::fs::{FlockOperation, Mode, OFlags};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

const LOCK: &str = "postmaster.lock";
const PID: &str = "postmaster.pid";
/// The socket, before it takes connections. No longer than its name.
const UNNAMED: &str = "control.new";
/// The longest path of a folder, in bytes: that of its control socket fits into an address.
const LONGEST: usize = 107 - (1 + CONTROL_SOCKET.len());
const TOO_LONG: &str = "has a path of more than 94 bytes, too long for the address of a socket in \
                        it; choose a shorter one";
const _: () = assert!(LONGEST == 94, "the text above says so");
/// How often a held lock is tried, and what lies between: a fifth of a second in all.
const LOCK_ATTEMPTS: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(10);

/// A runtime folder that this postmaster holds.
#[derive(Debug)]
pub(crate) struct RuntimeDir {
    path: PathBuf,
    /// Holding it open holds the lock. Functions inherit it, and the guardian.
    lock: Arc<OwnedFd>,
}

fn failed(step: &'static str, path: &Path) -> impl FnOnce(io::Error) -> BuildError {
    move |source| BuildError::RuntimeDir { step, path: path.to_owned(), source }
}

/// True if this process has the lock now. A lock that a guardian holds becomes free a moment after
/// the last process of its cluster has ended: a program that starts a postmaster anew gets that
/// moment.
fn take_lock(lock: &OwnedFd) -> io::Result<bool> {
    for _ in 0..LOCK_ATTEMPTS {
        match rustix::fs::flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(rustix::io::Errno::WOULDBLOCK) => std::thread::sleep(LOCK_PAUSE),
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(false)
}

impl RuntimeDir {
    /// Creates the folder if it is missing (0700; its parent must exist), takes its lock, and
    /// listens on its socket (0600). A folder that another user can write to is refused: whatever
    /// we create there could be replaced.
    pub(crate) fn take(path: &Path) -> Result<(Self, ControlSocket), BuildError> {
        let refused = |why| BuildError::RuntimeDirRefused { path: path.to_owned(), why };
        if path.as_os_str().len() > LONGEST {
            return Err(refused(TOO_LONG));
        }
        folder::create(path).map_err(|unfit| match unfit {
            Unfit::Refused(why) => refused(why),
            Unfit::Failed(step, source) => failed(step, path)(source),
        })?;
        let lock_path = path.join(LOCK);
        let flags = OFlags::RDWR | OFlags::CREATE | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let lock = rustix::fs::open(&lock_path, flags, Mode::RUSR | Mode::WUSR)
            .map_err(|errno| failed("opening", &lock_path)(errno.into()))?;
        if !take_lock(&lock).map_err(failed("locking", &lock_path))? {
            return Err(BuildError::InUse { path: path.to_owned() });
        }
        // We hold the lock, so what lies there is of a postmaster that is gone.
        let (unnamed, socket_path) = (path.join(UNNAMED), path.join(CONTROL_SOCKET));
        match fs::remove_file(&unnamed) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                return Err(failed("removing", &unnamed)(error));
            }
            _ => {}
        }
        let listener = ControlSocket::listen(&unnamed).map_err(failed("listening on", &unnamed))?;
        // It has its name from when it takes connections: whoever waits for the name can connect.
        fs::rename(&unnamed, &socket_path).map_err(failed("naming", &socket_path))?;
        Ok((Self { path: path.to_owned(), lock: Arc::new(lock) }, listener))
    }

    /// The folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// The path of the control socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.path.join(CONTROL_SOCKET)
    }

    /// The descriptor that holds the lock.
    pub(crate) const fn lock(&self) -> &Arc<OwnedFd> {
        &self.lock
    }

    /// Writes the postmaster's pid, for people.
    pub(crate) fn write_pid(&self) -> io::Result<()> {
        let path = self.path.join(PID);
        // What lies there is replaced, not followed.
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(error),
            _ => {}
        }
        let mut file = OpenOptions::new().write(true).create_new(true).mode(0o644).open(path)?;
        file.write_all(format!("{}\n", std::process::id()).as_bytes())
    }

    /// Removes the socket and the pid file. The lock file stays, so that two postmasters that start
    /// at once lock the same file.
    pub(crate) fn clear(&self) {
        for name in [CONTROL_SOCKET, PID] {
            // A failure is harmless: the next postmaster removes what is left.
            let _ = fs::remove_file(self.path.join(name));
        }
    }
}

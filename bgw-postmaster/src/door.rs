//! The door: by which workers connect to the control socket.
//!
//! It is the place of the socket in the file system, opened with `O_PATH`. Whoever has that
//! descriptor can connect through it, whatever becomes of the name. Workers inherit it. So a
//! postmaster without a runtime folder has a control socket, too: one whose name is gone before
//! anybody else could use it.

use crate::runtime_dir::RuntimeDir;
use bgw_core::ControlSocket;
use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::DirBuilderExt;
use std::path::{Path, PathBuf};

/// How many names are tried for a folder.
const ATTEMPTS: u32 = 16;

/// The socket that is listened on: the `named` one of the runtime folder, or one without a name.
/// And the door to it. Without a door workers cannot ask the postmaster, and all else is well.
pub(crate) fn open(
    runtime_dir: Option<&RuntimeDir>,
    named: Option<ControlSocket>,
) -> (Option<ControlSocket>, Option<OwnedFd>) {
    let warn = |error: &io::Error| tracing::warn!("workers cannot ask the postmaster: {error}");
    match runtime_dir {
        Some(folder) => (named, door_to(&folder.socket()).inspect_err(warn).ok()),
        None => open_nameless().inspect_err(warn).ok().unzip(),
    }
}

fn door_to(socket: &Path) -> io::Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | OFlags::NOFOLLOW;
    Ok(rustix::fs::open(socket, flags, Mode::empty())?)
}

fn open_nameless() -> io::Result<(ControlSocket, OwnedFd)> {
    let folder = new_folder()?;
    let path = folder.join("s");
    let opened = ControlSocket::listen(&path).and_then(|socket| Ok((socket, door_to(&path)?)));
    // Nobody else could enter the folder.
    let _ = fs::remove_file(&path);
    let removed = fs::remove_dir(&folder);
    let opened = opened?;
    removed?;
    Ok(opened)
}

/// A new folder for this user alone.
fn new_folder() -> io::Result<PathBuf> {
    let pid = std::process::id();
    let mut last = io::Error::from(io::ErrorKind::AlreadyExists);
    for attempt in 0..ATTEMPTS {
        let path = std::env::temp_dir().join(format!(".bgw.{pid}.{attempt}"));
        match fs::DirBuilder::new().mode(0o700).create(&path) {
            Ok(()) => return Ok(path),
            Err(error) => last = error,
        }
        if last.kind() != io::ErrorKind::AlreadyExists {
            break;
        }
    }
    Err(last)
}

//! A folder that nobody but this user can write to.

use rustix::fs::{Mode, OFlags};
use std::fs;
use std::io;
use std::os::fd::OwnedFd;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::Path;

/// Why a path is not to be used.
#[derive(Debug)]
pub(crate) enum Unfit {
    /// It is not what it must be.
    Refused(&'static str),
    /// This step failed.
    Failed(&'static str, io::Error),
}

/// Why a folder cannot be used.
fn refusal(found: &fs::Metadata) -> Option<&'static str> {
    let ours = nix::unistd::geteuid().as_raw();
    if !found.is_dir() {
        Some("is not a folder; choose another path")
    } else if found.uid() != ours {
        Some("belongs to another user; choose a folder of your own")
    } else if found.mode() & 0o022 != 0 {
        Some("can be written to by its group or by everybody; take that away with chmod go-w")
    } else {
        None
    }
}

/// Creates the folder if it is missing (0700; its parent must exist). A folder that another user
/// can write to is refused: whatever we create there could be replaced.
pub(crate) fn create(path: &Path) -> Result<(), Unfit> {
    match fs::DirBuilder::new().mode(0o700).create(path) {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let why = "cannot be created: its parent folder does not exist; create that first";
            return Err(Unfit::Refused(why));
        }
        created => created.map_err(|error| Unfit::Failed("creating", error))?,
    }
    let found = fs::metadata(path).map_err(|error| Unfit::Failed("looking at", error))?;
    refusal(&found).map_or(Ok(()), |why| Err(Unfit::Refused(why)))
}

/// The same, and opens it.
pub(crate) fn open(path: &Path) -> Result<OwnedFd, Unfit> {
    create(path)?;
    let flags = OFlags::DIRECTORY | OFlags::PATH | OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, Mode::empty());
    opened.map_err(|errno| Unfit::Failed("opening", errno.into()))
}

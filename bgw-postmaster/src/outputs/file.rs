//! A file of output: whole lines only, rotated by its size, never through a link.

use super::lines::{count, fitting};
use bgw_core::OutputFile;
use rustix::fs::{Mode, OFlags};
use std::fs::File;
use std::io::{self, Write};
use std::os::fd::BorrowedFd;
use std::os::unix::fs::MetadataExt;

/// A file of output, and what it has lost.
#[derive(Debug, Default)]
pub(super) struct Sink {
    /// `None`: it could not be opened, and is tried again with the next lines.
    open: Option<(File, u64)>,
    /// Lines lost since the last one that was written, and why.
    lost: Option<(u64, i32)>,
}

/// Lines that were dropped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Dropped {
    pub(super) lines: u64,
    pub(super) errno: i32,
}

impl Sink {
    /// It has lost lines since the last one that was written.
    pub(super) const fn has_lost(&self) -> bool {
        self.lost.is_some()
    }

    /// Closes the file. It is opened again with the next lines.
    pub(super) fn close(&mut self) {
        self.open = None;
    }

    /// Appends whole lines to the file in `folder`. What cannot be written is dropped.
    pub(super) fn append(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &OutputFile,
        mut lines: &[u8],
    ) -> Option<Dropped> {
        while !lines.is_empty() {
            match self.append_some(folder, file, lines) {
                Ok(written) => lines = lines.get(written..).unwrap_or_default(),
                Err(error) => {
                    let errno = error.raw_os_error().unwrap_or(libc::EIO);
                    let lines = count(lines);
                    let before = self.lost.map_or(0, |(lines, _)| lines);
                    self.lost = Some((before.saturating_add(lines), errno));
                    return Some(Dropped { lines, errno });
                }
            }
        }
        None
    }

    /// Writes what the file has room for, and rotates it if that is nothing. Returns how many bytes
    /// it has written.
    fn append_some(
        &mut self,
        folder: BorrowedFd<'_>,
        file: &OutputFile,
        lines: &[u8],
    ) -> io::Result<usize> {
        // One that somebody has deleted is made anew.
        let is_there = |file: &File| file.metadata().is_ok_and(|found| found.nlink() > 0);
        let (mut to, mut len) = match self.open.take().filter(|(file, _)| is_there(file)) {
            Some(open) => open,
            None => open(folder, file.name())?,
        };
        if let Some((lines, errno)) = self.lost {
            let why = io::Error::from_raw_os_error(errno);
            let note = format!("[{lines} lines of output were lost: {why}]\n");
            len += write_lines(&mut to, note.as_bytes())? as u64;
            self.lost = None;
        }
        let (limit, keep) = file.rotation().unwrap_or((u64::MAX, 0));
        let fit = fitting(lines, limit.saturating_sub(len), len == 0);
        if fit == 0 {
            rotate(folder, file.name(), keep)?;
            return Ok(0);
        }
        let written = write_lines(&mut to, lines.get(..fit).unwrap_or_default())?;
        self.open = Some((to, len + written as u64));
        Ok(written)
    }
}

/// Writes as many of the lines as it can, and returns their length in bytes. An error: it could not
/// write one.
fn write_lines(to: &mut File, lines: &[u8]) -> io::Result<usize> {
    let mut written = 0;
    while let Some(rest) = lines.get(written..).filter(|rest| !rest.is_empty()) {
        match to.write(rest) {
            Ok(0) => return Err(io::Error::from_raw_os_error(libc::EIO)),
            Ok(more) => written += more,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => {
                let done = lines.get(..written).unwrap_or_default();
                let whole = done.iter().rposition(|&byte| byte == b'\n').map_or(0, |at| at + 1);
                // Takes back what was written of a line; if that fails, too, the line is torn.
                let len = to.metadata().map(|found| found.size());
                let _ =
                    len.and_then(|len| to.set_len(len.saturating_sub((written - whole) as u64)));
                return if whole > 0 { Ok(whole) } else { Err(error) };
            }
        }
    }
    Ok(written)
}

/// Opens a file to append to, and says how long it is. A link, or what is no file, is refused.
fn open(folder: BorrowedFd<'_>, name: &str) -> io::Result<(File, u64)> {
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::APPEND | OFlags::CLOEXEC;
    // Without blocking: nobody may read from what is a pipe.
    let flags = flags | OFlags::NOFOLLOW | OFlags::NONBLOCK;
    let opened = rustix::fs::openat(folder, name, flags, Mode::RUSR | Mode::WUSR)?;
    let file = File::from(opened);
    let found = file.metadata()?;
    if !found.is_file() {
        return Err(io::Error::from_raw_os_error(libc::EINVAL));
    }
    Ok((file, found.size()))
}

/// `name.1` becomes `name.2`, and so on, and `name` becomes `name.1`; the oldest goes.
fn rotate(folder: BorrowedFd<'_>, name: &str, keep: u8) -> io::Result<()> {
    if keep == 0 {
        return Ok(rustix::fs::unlinkat(folder, name, rustix::fs::AtFlags::empty())?);
    }
    for number in (1..keep).rev() {
        let (from, to) = (format!("{name}.{number}"), format!("{name}.{}", number + 1));
        match rustix::fs::renameat(folder, &from, folder, &to) {
            Ok(()) | Err(rustix::io::Errno::NOENT) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
    Ok(rustix::fs::renameat(folder, name, folder, format!("{name}.1"))?)
}

//! A descriptor that output goes to: lines are written whole, and nobody waits for long for a
//! reader that takes nothing.
//!
//! It belongs to somebody else, who may do with it what he likes while it is written to. So no
//! write relies on a flag that others can change: a socket is asked in each call not to wait, and a
//! pipe or a terminal is opened anew.

use super::file::Dropped;
use super::lines::{count, fitting};
use rustix::fs::{FileType, FsWord, Mode, OFlags};
use rustix::io::Errno;
use rustix::net::{SendFlags, SocketType, sockopt};
use std::io::{self, IsTerminal};
use std::os::fd::{AsRawFd, OwnedFd};
use std::time::{Duration, Instant};

/// The most bytes that wait for its reader.
const LIMIT: usize = 40 << 10;
/// A reader that takes nothing for so long is not waited for.
const STALL: Duration = Duration::from_secs(1);
/// What a pipe takes in one piece, whoever else writes to it.
const PIPE_BUF: usize = 4096;
/// Its file system is a program, which may take as long as it likes.
const FUSE: FsWord = 0x6573_5546;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Socket,
    /// A pipe or a terminal, opened anew: its flags are ours.
    Queue,
    File,
}

/// A destination, and what it has not taken yet.
#[derive(Debug)]
pub(super) struct Outlet {
    to: OwnedFd,
    kind: Kind,
    /// What it is, whatever descriptor leads to it: device and inode.
    same: (u64, u64),
    /// Lines; the first one may be the rest of one.
    waiting: Vec<u8>,
    /// The last write has ended within a line.
    torn: bool,
    /// Since when its reader has taken nothing of what waits.
    since: Instant,
    /// It has taken nothing for so long that nobody waits for it.
    stalled: bool,
    /// Lines lost since it was last told of them, and why.
    lost: Option<(u64, i32)>,
    /// The stream whose lines came last.
    pub(super) last: u64,
    /// The collector is told when it takes more.
    pub(super) watched: bool,
}

impl Outlet {
    /// # Errors
    /// It is nothing that lines can be written to, or could not be opened anew.
    pub(super) fn new(given: OwnedFd) -> io::Result<Self> {
        let found = rustix::fs::fstat(&given)?;
        let flags = rustix::fs::fcntl_getfl(&given)?;
        // Opening it anew must not give more than was given.
        if flags.contains(OFlags::PATH) || flags & OFlags::ACCMODE == OFlags::RDONLY {
            return Err(Errno::BADF.into());
        }
        let anew = || {
            let flags = OFlags::WRONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
            let path = format!("/proc/self/fd/{}", given.as_raw_fd());
            rustix::fs::open(path, flags, Mode::empty())
        };
        let (to, kind) = match FileType::from_raw_mode(found.st_mode) {
            FileType::Socket if sockopt::socket_type(&given)? == SocketType::STREAM => {
                (given, Kind::Socket)
            }
            FileType::Fifo => (anew()?, Kind::Queue),
            FileType::CharacterDevice if given.is_terminal() => (anew()?, Kind::Queue),
            FileType::RegularFile if rustix::fs::fstatfs(&given)?.f_type != FUSE => {
                (given, Kind::File)
            }
            _ => return Err(Errno::INVAL.into()),
        };
        Ok(Self {
            to,
            kind,
            same: (found.st_dev, found.st_ino),
            waiting: Vec::new(),
            torn: false,
            since: Instant::now(),
            stalled: false,
            lost: None,
            last: 0,
            watched: false,
        })
    }

    pub(super) const fn descriptor(&self) -> &OwnedFd {
        &self.to
    }

    /// True if both write to the same.
    pub(super) fn is_same(&self, other: &Self) -> bool {
        self.same == other.same
    }

    /// Something waits for its reader.
    pub(super) fn is_full(&self) -> bool {
        !self.waiting.is_empty()
    }

    /// The streams that go to it are to wait, too.
    pub(super) fn holds_up(&self) -> bool {
        self.is_full() && !self.stalled
    }

    /// Until when it is waited for, if it is.
    pub(super) fn waited_for(&self) -> Option<Instant> {
        self.holds_up().then(|| self.since + STALL)
    }

    /// It may have taken nothing for too long.
    pub(super) fn look(&mut self, now: Instant) {
        self.stalled |= self.waited_for().is_some_and(|until| until <= now);
    }

    /// Writes whole lines, after those that wait. What there is no room for is dropped.
    pub(super) fn append(&mut self, mut lines: &[u8]) -> Option<Dropped> {
        if let Some(dropped) = self.tell() {
            return Some(self.lose(count(lines), dropped));
        }
        while !lines.is_empty() {
            if self.waiting.is_empty() {
                self.since = Instant::now();
            }
            let room = LIMIT.saturating_sub(self.waiting.len()) as u64;
            let fit = fitting(lines, room, self.waiting.is_empty());
            let (some, rest) = lines.split_at_checked(fit).unwrap_or((lines, &[]));
            self.waiting.extend(some);
            lines = rest;
            if let Err(errno) = self.flush() {
                let lines = self.give_up() + count(lines);
                return Some(self.lose(lines, errno));
            }
            if self.is_full() && !lines.is_empty() {
                return Some(self.lose(count(lines), Errno::AGAIN));
            }
        }
        None
    }

    /// It takes more.
    pub(super) fn ready(&mut self) -> Option<Dropped> {
        match self.flush() {
            Ok(()) => {
                // What fails is tried again with the next lines.
                let _ = self.tell();
                None
            }
            Err(errno) => {
                let lines = self.give_up();
                Some(self.lose(lines, errno))
            }
        }
    }

    /// The collector ends: what waits is lost.
    pub(super) fn end(&mut self) -> Option<Dropped> {
        let lines = count(&self.waiting);
        self.waiting.clear();
        (lines > 0).then(|| self.lose(lines, Errno::AGAIN))
    }

    /// Tells its reader of the lines that it has lost, once it has all others. An error: it cannot
    /// be written to.
    fn tell(&mut self) -> Option<Errno> {
        let (lines, errno) = self.lost.filter(|_| self.waiting.is_empty())?;
        let note = format!("[{lines} lines of output were lost: {}]\n", why(errno));
        self.waiting.extend(note.bytes());
        self.since = Instant::now();
        let failed = self.flush().err();
        if failed.is_some() {
            self.give_up();
        } else {
            self.lost = None;
        }
        failed
    }

    fn lose(&mut self, lines: u64, errno: Errno) -> Dropped {
        let errno = errno.raw_os_error();
        let before = self.lost.map_or(0, |(lines, _)| lines);
        self.lost = Some((before.saturating_add(lines), errno));
        Dropped { lines, errno }
    }

    /// What waits is lost, but for the rest of a line in a file, which may have room later. Returns
    /// how many lines that is.
    fn give_up(&mut self) -> u64 {
        let rest = self.waiting.iter().position(|&byte| byte == b'\n').map_or(0, |at| at + 1);
        let kept = if self.torn && self.kind == Kind::File { rest } else { 0 };
        let lost = count(self.waiting.get(kept..).unwrap_or_default());
        self.waiting.truncate(kept);
        self.torn &= kept > 0;
        // Nobody waits for a disk.
        self.stalled = true;
        lost
    }

    /// Writes what it takes of what waits.
    fn flush(&mut self) -> rustix::io::Result<()> {
        let mut done = 0;
        let result = loop {
            let piece = piece(self.kind, self.waiting.get(done..).unwrap_or_default());
            if piece.is_empty() {
                break Ok(());
            }
            let written = match self.kind {
                Kind::Socket => {
                    let flags = SendFlags::DONTWAIT | SendFlags::NOSIGNAL;
                    rustix::net::send(&self.to, piece, flags)
                }
                // The collector has SIGPIPE blocked.
                Kind::Queue | Kind::File => rustix::io::write(&self.to, piece),
            };
            match written {
                Ok(0) => break Err(Errno::IO),
                Ok(written) => {
                    self.torn = piece.get(written - 1) != Some(&b'\n');
                    done += written;
                }
                Err(Errno::INTR) => {}
                Err(Errno::AGAIN) => break Ok(()),
                Err(errno) => break Err(errno),
            }
        };
        if done > 0 {
            self.waiting.drain(..done);
            (self.since, self.stalled) = (Instant::now(), false);
        }
        result
    }
}

/// What is written in one call: to a pipe, as many lines as it takes in one piece, or one that is
/// longer.
fn piece(kind: Kind, waiting: &[u8]) -> &[u8] {
    let fit = match kind {
        Kind::Socket | Kind::File => waiting.len(),
        Kind::Queue => fitting(waiting, PIPE_BUF as u64, true),
    };
    waiting.get(..fit).unwrap_or_default()
}

/// Why lines are lost.
pub(super) fn why(errno: i32) -> String {
    match Errno::from_raw_os_error(errno) {
        Errno::AGAIN => "their reader does not keep up".to_owned(),
        Errno::PIPE | Errno::CONNRESET => "their reader is gone".to_owned(),
        _ => io::Error::from_raw_os_error(errno).to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use nix::fcntl::{FcntlArg, fcntl};
    use std::io::{PipeReader, Read, pipe};
    use std::os::unix::net::{UnixDatagram, UnixStream};

    fn nonblocking(reader: impl Into<OwnedFd>) -> std::fs::File {
        let reader = reader.into();
        fcntl(&reader, FcntlArg::F_SETFL(nix::fcntl::OFlag::O_NONBLOCK)).unwrap();
        reader.into()
    }

    /// Breaks if a line is torn where the reader has stopped, if one is neither written nor
    /// counted, or if an append waits.
    #[test]
    fn what_a_sleeping_reader_gets_is_whole_and_what_it_does_not_get_is_counted() {
        let ((reader, writer), sockets) = (pipe().unwrap(), UnixStream::pair().unwrap());
        let ends = [
            (nonblocking(reader), OwnedFd::from(writer)),
            (nonblocking(sockets.0), sockets.1.into()),
        ];
        for (mut reader, writer) in ends {
            let mut outlet = Outlet::new(writer).unwrap();
            let mut dropped = 0;
            // Lines that a pipe takes in one piece, and longer ones.
            let line = |number: usize| format!("{number} {}\n", "x".repeat(number * 37 % 9000));
            for number in 0..500 {
                dropped += outlet.append(line(number).as_bytes()).map_or(0, |lost| lost.lines);
            }
            assert!(dropped > 0 && outlet.holds_up() && outlet.waiting.len() <= LIMIT);
            outlet.look(Instant::now() + STALL);
            assert!(outlet.is_full() && !outlet.holds_up());
            let mut text = String::new();
            while outlet.is_full() || text.is_empty() {
                let _ = reader.read_to_string(&mut text);
                assert_eq!(outlet.ready(), None);
            }
            let _ = reader.read_to_string(&mut text);
            let (mut came, mut told) = (0, 0);
            for found in text.split_inclusive('\n') {
                if let Some(note) = found.strip_prefix('[') {
                    assert!(note.ends_with("were lost: their reader does not keep up]\n"));
                    told += note.split(' ').next().unwrap().parse::<u64>().unwrap();
                    continue;
                }
                assert_eq!(found, line(found.split(' ').next().unwrap().parse().unwrap()));
                came += 1;
            }
            assert_eq!((told, came + dropped), (dropped, 500));
        }
    }

    #[test]
    fn a_reader_that_is_gone_is_not_waited_for() {
        let (reader, writer) = pipe().unwrap();
        let mut outlet = Outlet::new(writer.into()).unwrap();
        drop::<PipeReader>(reader);
        for _ in 0..3 {
            let lost = outlet.append(b"one\ntwo\n");
            assert_eq!(lost, Some(Dropped { lines: 2, errno: libc::EPIPE }));
            assert!(!outlet.is_full());
        }
    }

    /// Breaks if who may only read could have something written, or if a write could wait.
    #[test]
    fn what_lines_cannot_be_written_to_is_refused() {
        let (reader, _writer) = pipe().unwrap();
        let null = std::fs::OpenOptions::new().write(true).open("/dev/null").unwrap();
        let folder = std::fs::File::open("/").unwrap();
        let datagrams = UnixDatagram::pair().unwrap().0;
        for wrong in [OwnedFd::from(reader), null.into(), folder.into(), datagrams.into()] {
            Outlet::new(wrong).unwrap_err();
        }
    }
}

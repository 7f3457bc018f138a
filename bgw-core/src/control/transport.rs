//! Messages and descriptors over a socket.
//!
//! What comes is untrusted: a packet that is too long, or descriptors that nobody asked for, are an
//! error, and the descriptors are closed. Nothing here raises SIGPIPE.

use super::codec::{CodecError, MAX_PACKET};
use super::message::{Reply, Request};
use crate::pid::Pid;
use crate::sys::ready::wait_until_ready;
use crate::sys::{pidfd, scm};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, Backlog, SockFlag, SockType, UnixAddr, accept4, bind, connect, getsockopt,
    listen, socket, socketpair, sockopt,
};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// What a receive gave.
#[derive(Debug)]
pub enum Received<T> {
    /// A message, and the descriptors that came with it.
    Message {
        /// The message.
        message: T,
        /// Descriptors, close-on-exec.
        fds: Vec<OwnedFd>,
    },
    /// Nothing is there (yet).
    WouldBlock,
    /// The other side has closed.
    Closed,
}

/// Why what came could not be taken.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The system call failed.
    #[error("recvmsg on the control socket failed")]
    System(#[source] io::Error),
    /// It was no message.
    #[error("what came on the control socket is no message")]
    Codec(#[from] CodecError),
    /// A packet, or its descriptors, did not fit.
    #[error("a packet on the control socket was too large")]
    Truncated,
}

shmem_slots::debug_as_chain!(RecvError);

/// One end of a control connection, or a listening control socket. Close-on-exec.
#[derive(Debug)]
pub struct ControlSocket {
    fd: OwnedFd,
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for ControlSocket {
    /// A socket that came from elsewhere: one that is no control socket fails at its first use.
    fn from(fd: OwnedFd) -> Self {
        Self { fd }
    }
}

impl From<ControlSocket> for OwnedFd {
    fn from(socket: ControlSocket) -> Self {
        socket.fd
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    Ok(socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?)
}

impl ControlSocket {
    /// Two connected ends.
    ///
    /// # Errors
    /// The error of `socketpair`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, two) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((Self { fd: one }, Self { fd: two }))
    }

    /// Connects to the postmaster that listens at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or no permission.
    pub fn connect(path: &Path) -> io::Result<Self> {
        let fd = new_socket()?;
        let address = UnixAddr::new(path)?;
        loop {
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) | Err(Errno::EISCONN) => return Ok(Self { fd }),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Listens at `path`, which must be free; readable and writable by the owner alone.
    ///
    /// # Errors
    /// The path is taken or too long (107 bytes), or no permission.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let fd = new_socket()?;
        // Set before the name exists, so there is no moment with a wider mode.
        rustix::fs::fchmod(&fd, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&fd, Backlog::MAXCONN)?;
        let socket = Self { fd };
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// Takes one connection, if there is one.
    ///
    /// # Errors
    /// The error of `accept4`, for instance too many open files.
    pub fn accept_nonblocking(&self) -> io::Result<Option<Self>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        loop {
            match accept4(self.fd.as_raw_fd(), flags) {
                Ok(raw) => return Ok(Some(Self { fd: scm::adopt(raw) })),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether calls on it wait.
    ///
    /// # Errors
    /// The error of `ioctl`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// Sends a request.
    ///
    /// # Errors
    /// The other side is gone, or does not read.
    pub fn send_request(&mut self, request: &Request) -> io::Result<()> {
        scm::send(&self.fd, &request.encode(), &[])
    }

    /// Sends a reply with descriptors.
    ///
    /// # Errors
    /// The other side is gone, or does not read.
    pub fn send_reply(&mut self, reply: &Reply, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        scm::send(&self.fd, &reply.encode(), fds)
    }

    /// Receives a request; descriptors that come with it are closed.
    ///
    /// # Errors
    /// [`RecvError`]: what came is no request.
    pub fn recv_request(&mut self) -> Result<Received<Request>, RecvError> {
        Ok(match self.recv()? {
            Received::Message { message, .. } => {
                Received::Message { message: Request::decode(&message)?, fds: Vec::new() }
            }
            Received::WouldBlock => Received::WouldBlock,
            Received::Closed => Received::Closed,
        })
    }

    /// Receives a reply, and waits for it until `deadline` (monotonic; `None`: as long as it takes).
    /// `WouldBlock` when the deadline passed first.
    ///
    /// # Errors
    /// [`RecvError`]: what came is no reply.
    pub fn recv_reply(&mut self, deadline: Option<Instant>) -> Result<Received<Reply>, RecvError> {
        let readable = wait_until_ready(&self.fd, PollFlags::POLLIN, deadline);
        if !readable.map_err(RecvError::System)? {
            return Ok(Received::WouldBlock);
        }
        Ok(match self.recv()? {
            Received::Message { message, fds } => {
                Received::Message { message: Reply::decode(&message)?, fds }
            }
            Received::WouldBlock => Received::WouldBlock,
            Received::Closed => Received::Closed,
        })
    }

    fn recv(&mut self) -> Result<Received<Vec<u8>>, RecvError> {
        match scm::receive(&self.fd, MAX_PACKET) {
            Ok(scm::Packet { truncated: true, .. }) => Err(RecvError::Truncated),
            Ok(scm::Packet { bytes, .. }) if bytes.is_empty() => Ok(Received::Closed),
            Ok(scm::Packet { bytes, fds, .. }) => Ok(Received::Message { message: bytes, fds }),
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(Received::WouldBlock),
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => Ok(Received::Closed),
            Err(error) => Err(RecvError::System(error)),
        }
    }

    /// Who connected: pid, user, group, as the kernel says.
    ///
    /// # Errors
    /// The error of `getsockopt`; a peer whose process cannot be seen from here.
    pub fn peer_credentials(&self) -> io::Result<(Pid, u32, u32)> {
        let credentials = getsockopt(&self.fd, sockopt::PeerCredentials)?;
        let pid = Pid::try_from(credentials.pid()).map_err(io::Error::other)?;
        Ok((pid, credentials.uid(), credentials.gid()))
    }

    /// A pidfd of who connected. From the socket itself where the kernel can (Linux 6.5); else by its
    /// pid, which the living connection vouches for.
    ///
    /// # Errors
    /// The process is gone, or cannot be seen from here.
    pub fn peer_pidfd(&self) -> io::Result<OwnedFd> {
        match scm::peer_pidfd(&self.fd) {
            Err(error) if error.raw_os_error() == Some(Errno::ENOPROTOOPT as i32) => {
                pidfd::open(self.peer_credentials()?.0)
            }
            other => other,
        }
    }
}

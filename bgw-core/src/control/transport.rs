//! Messages and descriptors over a socket.
//!
//! What comes is untrusted: a packet that is too long, or descriptors that nobody asked for, are an
//! error, and the descriptors are closed. Nothing here raises SIGPIPE.
//!
//! Each packet begins with the number of a request: its own, or the one that it answers. A client
//! that gave up on an answer skips it when it comes after all. Number 0 answers no request: a
//! refusal of the connection itself.
//!
//! A refusal arrives even if the postmaster closes the connection at once. The kernel reports the
//! reset of a connection before it delivers what came before; a client reads on after the reset,
//! and reads before it gives up on a request that cannot be sent.

use super::codec::MAX_PACKET;
use super::message::{Refusal, Reply, Request};
use super::reader::CodecError;
use crate::pid::Pid;
use crate::sys::ready::wait_until_ready;
use crate::sys::{descriptors, pidfd, scm};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, Backlog, Shutdown, SockFlag, SockType, UnixAddr, accept4, bind, connect,
    getsockopt, listen, setsockopt, shutdown, socket, socketpair, sockopt,
};
use nix::sys::time::{TimeVal, TimeValLike};
use std::io;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::path::Path;
use std::time::Instant;

/// Bytes of the number that each packet begins with.
const NUMBER: usize = size_of::<u32>();

/// The largest number of packets of a refused peer that are read before its connection is closed.
const LAST_PACKETS: usize = 4;

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
    /// Nothing has come (yet).
    WouldBlock,
    /// The other side has closed.
    Closed,
}

/// Why a packet could not be received.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum RecvError {
    /// The system call failed.
    #[error("recvmsg on the control socket failed")]
    System(#[source] io::Error),
    /// The packet is no message.
    #[error(
        "a packet on the control socket is no message; both programs need one version of bgw-core"
    )]
    Codec(#[from] CodecError),
    /// The packet is too long, or has too many descriptors.
    #[error("a packet on the control socket is too large")]
    Truncated,
}

shmem_slots::debug_as_chain!(RecvError);

/// One end of a control connection, or a listening control socket. Close-on-exec.
///
/// A program that has launched a postmaster gets one, and passes it on to attach. What can be done
/// with it besides is for `bgw-postmaster` and `bgw-backend`.
#[derive(Debug)]
pub struct ControlSocket {
    fd: OwnedFd,
    /// The number of the last request: sent by a client, received by a postmaster.
    request: u32,
}

impl AsFd for ControlSocket {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.fd.as_fd()
    }
}

impl From<OwnedFd> for ControlSocket {
    /// A socket that came from elsewhere. One that is not a control socket fails at its first use.
    fn from(fd: OwnedFd) -> Self {
        Self { fd, request: 0 }
    }
}

impl From<ControlSocket> for OwnedFd {
    fn from(socket: ControlSocket) -> Self {
        socket.fd
    }
}

fn new_socket() -> io::Result<OwnedFd> {
    let fd = socket(AddressFamily::Unix, SockType::SeqPacket, SockFlag::SOCK_CLOEXEC, None)?;
    descriptors::above_standard(fd)
}

/// How long a connect may wait for room in the backlog; zero for ever.
fn set_connect_timeout(fd: &OwnedFd, deadline: Option<Instant>) -> io::Result<()> {
    let left = deadline.map(|end| end.saturating_duration_since(Instant::now()));
    let micros = left.map_or(0, |left| i64::try_from(left.as_micros()).unwrap_or(i64::MAX).max(1));
    Ok(setsockopt(fd, sockopt::SendTimeout, &TimeVal::microseconds(micros))?)
}

#[doc(hidden)]
impl ControlSocket {
    /// Ends the connection for everybody who has a descriptor of it. What has come can still be
    /// received; nothing more comes, and the other side learns that when it sends.
    pub fn end(&self) {
        // An error: it has ended already.
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Both);
    }

    /// Two connected ends: that of a program, and that of its postmaster.
    ///
    /// # Errors
    /// The error of `socketpair`.
    pub fn pair() -> io::Result<(Self, Self)> {
        let flags = SockFlag::SOCK_CLOEXEC;
        let (one, two) = socketpair(AddressFamily::Unix, SockType::SeqPacket, None, flags)?;
        Ok((descriptors::above_standard(one)?.into(), descriptors::above_standard(two)?.into()))
    }

    /// Connects to the postmaster that listens at `path`.
    ///
    /// # Errors
    /// Nobody listens there, or no permission; `TimedOut` if too many other connections wait to be
    /// accepted until `deadline`.
    pub fn connect(path: &Path, deadline: Option<Instant>) -> io::Result<Self> {
        let fd = new_socket()?;
        let address = UnixAddr::new(path)?;
        loop {
            set_connect_timeout(&fd, deadline)?;
            match connect(fd.as_raw_fd(), &address) {
                Ok(()) | Err(Errno::EISCONN) => break,
                // A full backlog.
                Err(Errno::EAGAIN) => return Err(io::ErrorKind::TimedOut.into()),
                Err(Errno::EINTR) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
        set_connect_timeout(&fd, None)?;
        Ok(fd.into())
    }

    /// Listens at `path`, which must be free. Only its owner can read and write the socket.
    ///
    /// # Errors
    /// The path is taken or too long (107 bytes), or no permission.
    pub fn listen(path: &Path) -> io::Result<Self> {
        let fd = new_socket()?;
        // Set before the name exists, so there is no moment with a wider mode.
        rustix::fs::fchmod(&fd, rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR)?;
        bind(fd.as_raw_fd(), &UnixAddr::new(path)?)?;
        listen(&fd, Backlog::MAXCONN)?;
        let socket = Self::from(fd);
        socket.set_nonblocking(true)?;
        Ok(socket)
    }

    /// From now on a peer cannot send descriptors with its messages: closing one could take as long
    /// as the peer likes. False before Linux 6.16: it can.
    #[must_use]
    pub fn refuse_descriptors(&self) -> bool {
        scm::refuse_descriptors(&self.fd)
    }

    /// From now on nothing is received; the other side learns that when it sends.
    pub fn only_send(&self) {
        // An error: it has ended already.
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Read);
    }

    /// Accepts one connection, if one waits. Calls on it never block.
    ///
    /// # Errors
    /// The error of `accept4`, for instance too many open files.
    pub fn accept_nonblocking(&self) -> io::Result<Option<Self>> {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        loop {
            match accept4(self.fd.as_raw_fd(), flags) {
                Ok(raw) => return Ok(Some(scm::adopt(raw).into())),
                Err(Errno::EAGAIN) => return Ok(None),
                Err(Errno::EINTR | Errno::ECONNABORTED) => {}
                Err(errno) => return Err(errno.into()),
            }
        }
    }

    /// Whether calls on it block.
    ///
    /// # Errors
    /// The error of `ioctl`.
    pub fn set_nonblocking(&self, nonblocking: bool) -> io::Result<()> {
        Ok(rustix::io::ioctl_fionbio(&self.fd, nonblocking)?)
    }

    /// Sends a request. Waits until `deadline` for a postmaster that does not read.
    ///
    /// # Errors
    /// The postmaster is gone; `TimedOut`.
    pub fn send_request(&mut self, request: &Request, deadline: Option<Instant>) -> io::Result<()> {
        // Never 0, which no request has.
        self.request = self.request.checked_add(1).unwrap_or(1);
        self.send_numbered(self.request, request, deadline)
    }

    /// Sends a request with a number of the caller's. Waits as [`ControlSocket::send_request`].
    pub(crate) fn send_numbered(
        &self,
        number: u32,
        request: &Request,
        deadline: Option<Instant>,
    ) -> io::Result<()> {
        let packet = numbered(number, request.encode());
        loop {
            match self.send_packet(&packet) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                done => return done,
            }
            if !wait_until_ready(&self.fd, PollFlags::POLLOUT, deadline)? {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }

    /// Sends a packet with its number, if there is room for it. Never blocks.
    pub(crate) fn send_packet(&self, packet: &[u8]) -> io::Result<()> {
        scm::send(&self.fd, packet, &[])
    }

    /// Sends the reply to the request that was received last, with descriptors. Never blocks.
    ///
    /// # Errors
    /// The peer is gone, or does not read.
    pub fn send_reply(&mut self, reply: &Reply, fds: &[BorrowedFd<'_>]) -> io::Result<()> {
        scm::send(&self.fd, &numbered(self.request, reply.encode()), fds)
    }

    /// The number of the request that was received last, to reply to it later.
    #[must_use]
    pub const fn request(&self) -> u32 {
        self.request
    }

    /// Sends the reply to the request of this number, which may not be the last one. Never blocks.
    ///
    /// # Errors
    /// The peer is gone, or does not read.
    pub fn send_late_reply(&self, request: u32, reply: &Reply) -> io::Result<()> {
        scm::send(&self.fd, &numbered(request, reply.encode()), &[])
    }

    /// Refuses the connection, which is to be closed once what the peer has sent is read, so that
    /// the refusal is not lost in a reset of the connection.
    pub fn refuse(&mut self, reason: Refusal, detail: String) {
        self.request = 0;
        // A peer that does not take its refusal sees the closed connection.
        let _ = self.send_reply(&Reply::Refused { reason, detail }, &[]);
        let _ = shutdown(self.fd.as_raw_fd(), Shutdown::Write);
    }

    /// Reads and drops what the peer of a refused connection has sent.
    pub fn drop_last_packets(&self) {
        if self.set_nonblocking(true).is_err() {
            return;
        }
        for _ in 0..LAST_PACKETS {
            match scm::receive(&self.fd, NUMBER + MAX_PACKET) {
                Ok(packet) if !packet.bytes.is_empty() => {}
                _ => break,
            }
        }
    }

    /// Receives a request. Descriptors that come with it are closed.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv_request(&mut self) -> Result<Received<Request>, RecvError> {
        Ok(match self.recv()? {
            Received::Message { message: (number, bytes), .. } => {
                self.request = number;
                Received::Message { message: Request::decode(&bytes)?, fds: Vec::new() }
            }
            Received::WouldBlock => Received::WouldBlock,
            Received::Closed => Received::Closed,
        })
    }

    /// Receives the reply to the request that was sent last, and waits for it until `deadline`
    /// (`None`: as long as it takes). `WouldBlock` if the deadline passed first. Replies to earlier
    /// requests are skipped.
    ///
    /// # Errors
    /// [`RecvError`].
    pub fn recv_reply(&mut self, deadline: Option<Instant>) -> Result<Received<Reply>, RecvError> {
        loop {
            match self.recv_numbered(deadline)? {
                Received::Message { message: (number, bytes), fds } => {
                    if number == self.request || number == 0 {
                        return Ok(Received::Message { message: Reply::decode(&bytes)?, fds });
                    }
                }
                Received::WouldBlock => return Ok(Received::WouldBlock),
                Received::Closed => return Ok(Received::Closed),
            }
        }
    }

    /// Like [`ControlSocket::recv_reply`], whichever request it answers.
    pub(crate) fn recv_numbered(
        &self,
        deadline: Option<Instant>,
    ) -> Result<Received<(u32, Vec<u8>)>, RecvError> {
        let readable = wait_until_ready(&self.fd, PollFlags::POLLIN, deadline);
        if readable.map_err(RecvError::System)? { self.recv() } else { Ok(Received::WouldBlock) }
    }

    /// A number, and the bytes of a message.
    fn recv(&self) -> Result<Received<(u32, Vec<u8>)>, RecvError> {
        let mut packet = scm::receive(&self.fd, NUMBER + MAX_PACKET);
        if packet.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::ConnectionReset) {
            // Reported once. What the other side sent before it closed is still to be read.
            packet = scm::receive(&self.fd, NUMBER + MAX_PACKET);
        }
        let packet = match packet {
            Ok(packet) => packet,
            Err(error) => {
                return match error.kind() {
                    io::ErrorKind::WouldBlock => Ok(Received::WouldBlock),
                    io::ErrorKind::ConnectionReset => Ok(Received::Closed),
                    _ => Err(RecvError::System(error)),
                };
            }
        };
        if packet.truncated {
            return Err(RecvError::Truncated);
        }
        if packet.bytes.is_empty() {
            return Ok(Received::Closed);
        }
        let split = packet.bytes.split_first_chunk::<NUMBER>();
        let (number, rest) = split.ok_or(CodecError::Short { field: "number" })?;
        let message = (u32::from_le_bytes(*number), rest.to_vec());
        Ok(Received::Message { message, fds: packet.fds })
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

    /// A pidfd of who connected. From the socket itself where the kernel can (Linux 6.5); else by
    /// its pid, which the living connection vouches for.
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

pub(super) fn numbered(number: u32, message: Vec<u8>) -> Vec<u8> {
    let mut packet = number.to_le_bytes().to_vec();
    packet.extend(message);
    packet
}

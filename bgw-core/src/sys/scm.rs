//! Packets with descriptors, and descriptors out of raw numbers.

use super::descriptors::above_standard;
use nix::sys::socket::{ControlMessage, MsgFlags, sendmsg};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// The largest number of descriptors in one packet: a place to wait for a slot, and an envelope for
/// each gift.
pub(crate) const MAX_FDS: usize = 17;

/// A packet as it came.
#[derive(Debug)]
pub struct Packet {
    /// The bytes. None: the other side has closed.
    pub bytes: Vec<u8>,
    /// The descriptors.
    pub fds: Vec<OwnedFd>,
    /// Its bytes or its descriptors did not fit; what did is dropped with this.
    pub truncated: bool,
}

/// Takes ownership of a descriptor that a system call has just made for the caller.
pub(crate) fn adopt(raw: RawFd) -> OwnedFd {
    // SAFETY: callers pass a number that `accept4` or `getsockopt` has just returned as a
    // new descriptor, which nobody else owns.
    unsafe { OwnedFd::from_raw_fd(raw) }
}

/// Sends one packet. Never blocks, and never raises SIGPIPE.
///
/// # Errors
/// The error of `sendmsg`.
pub fn send(socket: impl AsFd, bytes: &[u8], fds: &[BorrowedFd<'_>]) -> io::Result<()> {
    let raw: Vec<RawFd> = fds.iter().map(AsRawFd::as_raw_fd).collect();
    let rights = [ControlMessage::ScmRights(&raw)];
    let control: &[ControlMessage<'_>] = if raw.is_empty() { &[] } else { &rights };
    loop {
        let parts = [IoSlice::new(bytes)];
        let flags = MsgFlags::MSG_NOSIGNAL | MsgFlags::MSG_DONTWAIT;
        match sendmsg::<()>(socket.as_fd().as_raw_fd(), &parts, control, flags, None) {
            Ok(_) => return Ok(()),
            Err(nix::errno::Errno::EINTR) => {}
            Err(errno) => return Err(errno.into()),
        }
    }
}

/// Receives one packet of at most `limit` bytes. No bytes: the other side has closed.
///
/// A packet may bring more descriptors than fit, or than this process has room for; the kernel then
/// hands over some of them and says so. Those are taken, too, and closed with the packet: nix gives
/// no way to them, so that they would stay open for ever.
///
/// # Errors
/// The error of `recvmsg`.
pub fn receive(socket: impl AsFd, limit: usize) -> io::Result<Packet> {
    let mut bytes = vec![0u8; limit];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(MAX_FDS))];
    // Whatever is not taken out of it is closed when it goes.
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let received = loop {
        let mut parts = [IoSliceMut::new(&mut bytes)];
        match recvmsg(&socket, &mut parts, &mut control, RecvFlags::CMSG_CLOEXEC) {
            Err(rustix::io::Errno::INTR) => {}
            other => break other?,
        }
    };
    let mut fds = Vec::new();
    for message in control.drain() {
        if let RecvAncillaryMessage::ScmRights(more) = message {
            for fd in more {
                fds.push(above_standard(fd)?);
            }
        }
    }
    let cut = received.flags.intersects(ReturnFlags::TRUNC | ReturnFlags::CTRUNC);
    bytes.truncate(received.bytes);
    // The space is rounded up, so that there may be one more than it was made for.
    Ok(Packet { bytes, truncated: cut || fds.len() > MAX_FDS, fds })
}

/// The pidfd of the process at the other end, by `SO_PEERPIDFD`.
pub(crate) fn peer_pidfd(socket: impl AsFd) -> io::Result<OwnedFd> {
    const SO_PEERPIDFD: libc::c_int = 77;
    let mut raw: libc::c_int = -1;
    let mut len: libc::socklen_t = size_of::<libc::c_int>() as libc::socklen_t;
    // SAFETY: `raw` and `len` are valid for writing during the call, and `len` is the size of
    // `raw`.
    let done = unsafe {
        libc::getsockopt(
            socket.as_fd().as_raw_fd(),
            libc::SOL_SOCKET,
            SO_PEERPIDFD,
            (&raw mut raw).cast(),
            &raw mut len,
        )
    };
    if done == 0 { Ok(adopt(raw)) } else { Err(io::Error::last_os_error()) }
}

/// Has the kernel refuse messages with descriptors (`SO_PASSRIGHTS`, Linux 6.16). False: it is an
/// older one, and passes them on.
pub(crate) fn refuse_descriptors(socket: &OwnedFd) -> bool {
    const SO_PASSRIGHTS: libc::c_int = 83;
    let off: libc::c_int = 0;
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let value = (&raw const off).cast();
    let fd = socket.as_raw_fd();
    // SAFETY: `off` is valid for the call, with its length.
    unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, SO_PASSRIGHTS, value, length) == 0 }
}

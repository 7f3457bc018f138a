//! Packets with the kernel's word on who has sent them.
//!
//! Whoever sends one can send descriptors with it, and what a descriptor takes to close is up to
//! the sender: a connection with SO_LINGER takes as long as its other end likes. A packet whose
//! descriptors find no room has them closed by the receiver all the same, on its way out of the
//! call. So [`peek`] looks at a datagram and leaves it there, and one with descriptors is taken out
//! by a process that does nothing else ([`take_out`]). The kernel remembers how far was looked, and
//! corrects that when a datagram is taken out, by whichever process: those behind are seen, too,
//! and none is seen twice.

use bgw_core::Pid;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};

/// A datagram.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// The process that has sent it, by the kernel.
    pub(crate) sender: Option<Pid>,
    /// It brings descriptors.
    pub(crate) descriptors: bool,
    /// There is more of it, which the next look sees.
    pub(crate) cut: bool,
}

/// How many packets are dropped of a socket that is to be closed.
const MOST_DROPPED: usize = 64;

/// Room for one control message of 12 bytes, and for nothing behind it.
type Control = [u64; 4];

/// Room for that message, and for another one with as many descriptors as one datagram brings.
const ALL: usize = 4 + (16 + 253 * size_of::<libc::c_int>()).div_ceil(8);

/// Has the kernel say who sends, and remember how far was looked.
pub(crate) fn with_credentials(socket: OwnedFd) -> io::Result<OwnedFd> {
    setsockopt(&socket, sockopt::PassCred, &true)?;
    remember_looks(&socket, true)?;
    Ok(socket)
}

/// Whether a look begins behind the last one, or at the first datagram.
pub(crate) fn remember_looks(socket: &OwnedFd, remember: bool) -> io::Result<()> {
    let from: libc::c_int = if remember { 0 } else { -1 };
    let length = size_of::<libc::c_int>() as libc::socklen_t;
    let (fd, value) = (socket.as_raw_fd(), (&raw const from).cast());
    // SAFETY: `from` is valid for the call, with its length.
    let done = unsafe { libc::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, value, length) };
    if done == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

/// The next datagram that was not looked at, or its first `limit` bytes: the next look begins
/// behind them. It stays where it is, and none of its descriptors becomes one of this process, not
/// even for a moment.
///
/// # Errors
/// There is none, or the error of `recvmsg`.
pub(crate) fn peek(socket: &OwnedFd, limit: usize) -> io::Result<Message> {
    let mut bytes = vec![0u8; limit];
    let mut control: Control = [0; 4];
    let Received { len, flags, .. } = receive(socket, &mut bytes, &mut control, libc::MSG_PEEK)?;
    bytes.truncate(len);
    // They found no room behind the credentials, which come first.
    let descriptors = flags & libc::MSG_CTRUNC != 0;
    let cut = flags & libc::MSG_TRUNC != 0;
    Ok(Message { bytes, sender: sender(&control), descriptors, cut })
}

/// Drops the first datagram, which has brought no descriptors.
///
/// # Errors
/// As [`peek`].
pub(crate) fn drop_next(socket: &impl AsFd) -> io::Result<()> {
    receive(socket, &mut [], &mut [0; 4], 0).map(drop)
}

/// Drops the packets in a socket into which no more come. False: one of them brings descriptors,
/// and lies there still, or nobody knows.
pub(crate) fn drop_all(socket: &impl AsFd) -> bool {
    // The end of the packets has no credentials; an empty packet has.
    if setsockopt(socket, sockopt::PassCred, &true).is_err() {
        return false;
    }
    for _ in 0..MOST_DROPPED {
        match receive(socket, &mut [], &mut [0; 4], libc::MSG_PEEK) {
            Ok(received) if !received.credentials => return true,
            Ok(received) if received.flags & libc::MSG_CTRUNC != 0 => return false,
            Ok(_) if drop_next(socket).is_ok() => {}
            // Said once, when the other side has closed; what it has sent is still to be seen.
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            _ => return false,
        }
    }
    false
}

/// True if the first packet of a socket brings descriptors, or cannot be looked at.
pub(crate) fn brings_descriptors(socket: &impl AsFd) -> bool {
    for _ in 0..2 {
        match receive(socket, &mut [], &mut [], libc::MSG_PEEK) {
            Ok(received) => return received.flags & libc::MSG_CTRUNC != 0,
            Err(error) if error.kind() == io::ErrorKind::ConnectionReset => {}
            Err(error) => return error.kind() != io::ErrorKind::WouldBlock,
        }
    }
    true
}

/// Takes out the first datagram. What it brings stays open until this process ends, whose end waits
/// for no connection.
///
/// # Errors
/// As [`peek`].
pub(crate) fn take_out(socket: &OwnedFd) -> io::Result<()> {
    receive(socket, &mut [], &mut [0; ALL], libc::MSG_CMSG_CLOEXEC).map(drop)
}

/// What `recvmsg` returns.
struct Received {
    /// How many bytes fit.
    len: usize,
    flags: libc::c_int,
    /// There is a control message.
    credentials: bool,
}

fn receive(
    socket: &impl AsFd,
    bytes: &mut [u8],
    control: &mut [u64],
    flags: libc::c_int,
) -> io::Result<Received> {
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers and no lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of_val(control) as _;
    let flags = flags | libc::MSG_DONTWAIT;
    // SAFETY: the header names `part`, which names `bytes`, and `control`, with their sizes; all
    // three are valid for writing during the call.
    let len = unsafe { libc::recvmsg(socket.as_fd().as_raw_fd(), &raw mut header, flags) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    Ok(Received { len, flags: header.msg_flags, credentials: header.msg_controllen > 0 })
}

/// The pid in a control message with credentials: behind its length, its level and its type.
fn sender(control: &Control) -> Option<Pid> {
    let [_, kind, ids, _] = control.map(u64::to_ne_bytes);
    let half = |of: [u8; 8], at: usize| {
        let bytes = of.get(at..at + 4).and_then(|bytes| <[u8; 4]>::try_from(bytes).ok());
        bytes.map(u32::from_ne_bytes)
    };
    let is = |at: usize, expected: libc::c_int| half(kind, at) == Some(expected.unsigned_abs());
    let are_credentials = is(0, libc::SOL_SOCKET) && is(4, libc::SCM_CREDENTIALS);
    Pid::new(half(ids, 0).filter(|_| are_credentials)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bgw_core::internals::scm;
    use nix::fcntl::{FcntlArg, OFlag, fcntl};
    use std::io::Read;
    use std::os::unix::net::UnixDatagram;

    /// Breaks if the kernel's layout is another one, or a stranger's number could be taken for it.
    #[test]
    fn a_message_names_its_sender_and_is_seen_once_in_parts_of_the_limit() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let ours = with_credentials(ours.into()).unwrap();
        theirs.send(b"hello").unwrap();
        theirs.send(b"").unwrap();
        let parts = [(b"hel".as_slice(), true), (b"lo", false), (b"", false)];
        let looks = |expected: &[(&[u8], bool)]| {
            for &(part, more) in expected {
                let Message { bytes, sender, descriptors, cut } = peek(&ours, 3).unwrap();
                assert_eq!((bytes.as_slice(), cut), (part, more));
                assert_eq!((sender, descriptors), (Some(Pid::this()), false));
            }
        };
        looks(&parts);
        assert!(peek(&ours, 3).is_err(), "none is seen twice");
        // What was not looked at is not skipped by what is taken out.
        theirs.send(b"new").unwrap();
        drop_next(&ours).unwrap();
        drop_next(&ours).unwrap();
        looks(&[(b"new", false)]);
        drop_next(&ours).unwrap();
        theirs.send(b"hello").unwrap();
        looks(&parts[..1]);
        drop_next(&ours).unwrap();
        theirs.send(b"all").unwrap();
        looks(&[(b"all", false)]);
        drop_next(&ours).unwrap();
        let empty = [peek(&ours, 3).map(drop), drop_next(&ours), take_out(&ours)];
        assert!(empty.iter().all(|one| {
            one.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
        }));
        assert_eq!(sender(&[0; 4]), None);
    }

    /// Fails if a look closes what is there or makes it a descriptor of this process, or if what is
    /// taken out has too little room: it would be closed here.
    #[test]
    fn descriptors_are_seen_and_stay_where_they_are_until_they_are_taken_out() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let ours = with_credentials(ours.into()).unwrap();
        let (mut end, sent) = std::io::pipe().unwrap();
        let most = [sent.as_fd(); 253];
        scm::send(&theirs, b"most", &most).unwrap();
        drop(sent);
        theirs.send(b"behind").unwrap();
        for (expected, brings) in [(b"most".as_slice(), true), (b"behind", false)] {
            let Message { bytes, sender, descriptors, cut } = peek(&ours, 9).unwrap();
            assert_eq!((bytes.as_slice(), sender), (expected, Some(Pid::this())));
            assert_eq!((descriptors, cut), (brings, false));
        }
        let before = open_descriptors();
        take_out(&ours).unwrap();
        assert!(peek(&ours, 9).is_err(), "the one behind was seen");
        // Other tests of this process open and close a few meanwhile.
        assert!(open_descriptors() > before + 200);
        fcntl(&end, FcntlArg::F_SETFL(OFlag::O_NONBLOCK)).unwrap();
        let nothing = end.read(&mut [0]).unwrap_err();
        assert_eq!(nothing.kind(), io::ErrorKind::WouldBlock, "they are open");
    }

    fn open_descriptors() -> usize {
        std::fs::read_dir("/proc/self/fd").unwrap().count()
    }
}

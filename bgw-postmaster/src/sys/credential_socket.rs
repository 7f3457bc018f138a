//! Datagrams with the kernel's word on who has sent them.

use bgw_core::Pid;
use nix::sys::socket::{setsockopt, sockopt};
use std::io;
use std::os::fd::{AsRawFd, OwnedFd};

/// A datagram.
#[derive(Debug)]
pub(crate) struct Message {
    pub(crate) bytes: Vec<u8>,
    /// The process that has sent it, by the kernel.
    pub(crate) sender: Option<Pid>,
}

/// Room for one control message of 12 bytes, and for nothing behind it.
type Control = [u64; 4];

/// Has the kernel say who sends.
pub(crate) fn with_credentials(socket: OwnedFd) -> io::Result<OwnedFd> {
    setsockopt(&socket, sockopt::PassCred, &true)?;
    Ok(socket)
}

/// The next datagram, or its first `limit` bytes. Descriptors that it brings find no room behind
/// the credentials, which come first; the kernel closes them.
///
/// # Errors
/// There is none, or the error of `recvmsg`.
pub(crate) fn receive(socket: &OwnedFd, limit: usize) -> io::Result<Message> {
    let mut bytes = vec![0u8; limit];
    let mut control: Control = [0; 4];
    let mut part = libc::iovec { iov_base: bytes.as_mut_ptr().cast(), iov_len: bytes.len() };
    // SAFETY: all-zero bytes are a valid `msghdr`: null pointers and no lengths.
    let mut header: libc::msghdr = unsafe { std::mem::zeroed() };
    header.msg_iov = &raw mut part;
    header.msg_iovlen = 1;
    header.msg_control = control.as_mut_ptr().cast();
    header.msg_controllen = size_of::<Control>() as _;
    // SAFETY: the header names `part`, which names `bytes`, and `control`, with their sizes; all
    // three are valid for writing during the call.
    let len = unsafe { libc::recvmsg(socket.as_raw_fd(), &raw mut header, libc::MSG_DONTWAIT) };
    let len = usize::try_from(len).map_err(|_| io::Error::last_os_error())?;
    bytes.truncate(len);
    Ok(Message { bytes, sender: sender(&control) })
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
    use std::os::unix::net::UnixDatagram;

    /// Breaks if the kernel's layout is another one, or a stranger's number could be taken for it.
    #[test]
    fn a_message_names_its_sender_and_is_cut_at_the_limit() {
        let (ours, theirs) = UnixDatagram::pair().unwrap();
        let ours = with_credentials(ours.into()).unwrap();
        theirs.send(b"hello").unwrap();
        theirs.send(b"").unwrap();
        for expected in [b"hel".as_slice(), b""] {
            let Message { bytes, sender } = receive(&ours, 3).unwrap();
            assert_eq!((bytes.as_slice(), sender), (expected, Some(Pid::this())));
        }
        assert_eq!(receive(&ours, 3).unwrap_err().kind(), io::ErrorKind::WouldBlock);
        assert_eq!(sender(&[0; 4]), None);
    }
}

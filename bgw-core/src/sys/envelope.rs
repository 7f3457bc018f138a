//! Envelopes: a descriptor on its way that nobody has open.
//!
//! An envelope is one end of a datagram socket pair, in whose queue a descriptor waits. Whoever
//! holds the envelope can see that there is one, and keep it for as long as it likes, without
//! having it among its own descriptors. So it does not matter to the holder what the descriptor is:
//! closing a connection with SO_LINGER, or a file of a file system that is a program, can take as
//! long as somebody else likes.
//!
//! Datagrams, because an empty queue and an empty packet are not the same there. Closing an
//! envelope closes what is in it.

use super::descriptors::above_standard;
use super::scm;
use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, Shutdown, SockFlag, SockType, shutdown, socketpair};
use rustix::net::{RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, ReturnFlags, recvmsg};
use std::io::{self, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};

/// What an envelope holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Content {
    /// Nothing: nothing was put into it, or it was opened.
    Nothing,
    /// A descriptor.
    Descriptor,
    /// Something else.
    Rubbish,
}

/// An envelope, and the end through which a descriptor is put into it.
///
/// # Errors
/// The error of `socketpair`.
pub fn pair() -> io::Result<(OwnedFd, OwnedFd)> {
    let flags = SockFlag::SOCK_CLOEXEC;
    let (envelope, end) = socketpair(AddressFamily::Unix, SockType::Datagram, None, flags)?;
    Ok((above_standard(envelope)?, above_standard(end)?))
}

/// Puts a duplicate of `descriptor` into the envelope of `end`.
///
/// # Errors
/// The envelope is sealed or gone; `ETOOMANYREFS`: this user has too many descriptors on their way.
pub fn put(end: impl AsFd, descriptor: BorrowedFd<'_>) -> io::Result<()> {
    scm::send(end, &[0], &[descriptor])
}

/// From now on nothing more can be put into the envelope.
///
/// # Errors
/// The error of `shutdown`.
pub fn seal(envelope: impl AsFd) -> io::Result<()> {
    Ok(shutdown(envelope.as_fd().as_raw_fd(), Shutdown::Read)?)
}

/// What comes out of the envelope first. It stays there, and nothing of it becomes a descriptor of
/// this process, not even for a moment.
///
/// # Errors
/// The error of `recvmsg`.
pub fn content(envelope: impl AsFd) -> io::Result<Content> {
    let mut control = RecvAncillaryBuffer::default();
    Ok(match receive(envelope, &mut control, RecvFlags::PEEK)? {
        None => Content::Nothing,
        // There was no room for descriptors, and there were some.
        Some(flags) if flags.contains(ReturnFlags::CTRUNC) => Content::Descriptor,
        Some(_) => Content::Rubbish,
    })
}

/// Takes the descriptor out of the envelope, close-on-exec. `None`: there is none.
///
/// # Errors
/// The error of `recvmsg`; what is in it is not a descriptor.
pub fn open(envelope: impl AsFd) -> io::Result<Option<OwnedFd>> {
    take(envelope, RecvFlags::empty())
}

/// A duplicate of the descriptor, which stays in the envelope. `None`: there is none.
///
/// # Errors
/// As [`open`].
pub fn copy(envelope: impl AsFd) -> io::Result<Option<OwnedFd>> {
    take(envelope, RecvFlags::PEEK)
}

fn take(envelope: impl AsFd, flags: RecvFlags) -> io::Result<Option<OwnedFd>> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let flags = flags | RecvFlags::CMSG_CLOEXEC;
    if receive(envelope, &mut control, flags)?.is_none() {
        return Ok(None);
    }
    // Whatever came besides is closed when `control` goes.
    let rights = control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut all) => all.next(),
        _ => None,
    });
    let descriptor = rights.ok_or_else(|| io::Error::from(io::ErrorKind::InvalidData))?;
    above_standard(descriptor).map(Some)
}

/// The first packet. `None`: there is none.
fn receive(
    envelope: impl AsFd,
    control: &mut RecvAncillaryBuffer<'_>,
    flags: RecvFlags,
) -> io::Result<Option<ReturnFlags>> {
    // Whoever has the other end can have an error reported, once each time it connects elsewhere.
    let mut resets = 3;
    loop {
        let mut byte = [0u8; 1];
        let mut parts = [IoSliceMut::new(&mut byte)];
        let received = recvmsg(&envelope, &mut parts, control, flags | RecvFlags::DONTWAIT);
        match received.map_err(|error| Errno::from_raw(error.raw_os_error())) {
            Ok(received) => return Ok(Some(received.flags)),
            Err(Errno::EAGAIN) => return Ok(None),
            Err(Errno::EINTR) => {}
            Err(Errno::ECONNRESET) if resets > 0 => resets -= 1,
            Err(errno) => return Err(errno.into()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::os::unix::net::UnixStream;

    /// Fails if a look leaves open what is there: its end would not be seen. Or if a copy takes it
    /// out, or something is put in behind the seal.
    #[test]
    fn a_descriptor_waits_in_its_envelope_until_it_is_opened_once() {
        let (envelope, end) = pair().unwrap();
        assert_eq!(content(&envelope).unwrap(), Content::Nothing);
        assert!(open(&envelope).unwrap().is_none() && copy(&envelope).unwrap().is_none());
        let (mut ours, theirs) = UnixStream::pair().unwrap();
        put(&end, theirs.as_fd()).unwrap();
        seal(&envelope).unwrap();
        assert_eq!(put(&end, theirs.as_fd()).unwrap_err().raw_os_error(), Some(libc::EPIPE));
        drop((theirs, end));
        assert_eq!(content(&envelope).unwrap(), Content::Descriptor);
        assert_eq!(content(&envelope).unwrap(), Content::Descriptor);
        let copied = copy(&envelope).unwrap().unwrap();
        drop(copied);
        let mut opened = UnixStream::from(open(&envelope).unwrap().unwrap());
        assert!(open(&envelope).unwrap().is_none() && copy(&envelope).unwrap().is_none());
        assert_eq!(content(&envelope).unwrap(), Content::Nothing);
        opened.write_all(b"hello").unwrap();
        drop(opened);
        let mut text = String::new();
        ours.read_to_string(&mut text).unwrap();
        assert_eq!(text, "hello", "nobody else has it open: its end is seen");
    }

    /// Fails if a packet without a descriptor, or without bytes, passes for a gift or for nothing.
    #[test]
    fn a_packet_without_a_descriptor_is_rubbish() {
        let (envelope, end) = pair().unwrap();
        scm::send(&end, &[], &[]).unwrap();
        scm::send(&end, &[1, 2, 3], &[]).unwrap();
        for _ in 0..2 {
            assert_eq!(content(&envelope).unwrap(), Content::Rubbish);
            let error = open(&envelope).unwrap_err();
            assert_eq!(error.kind(), io::ErrorKind::InvalidData);
        }
        assert_eq!(content(&envelope).unwrap(), Content::Nothing);
        // More than one: the first is taken, the others are closed.
        let pairs = [(); 2].map(|()| UnixStream::pair().unwrap());
        let [(ours, theirs), (others, second)] = pairs;
        scm::send(&end, &[0], &[theirs.as_fd(), second.as_fd()]).unwrap();
        drop((theirs, second));
        assert_eq!(content(&envelope).unwrap(), Content::Descriptor);
        let first = open(&envelope).unwrap().unwrap();
        assert_eq!((&others).read(&mut [0]).unwrap(), 0, "it was closed");
        drop(first);
        assert_eq!((&ours).read(&mut [0]).unwrap(), 0);
    }
}

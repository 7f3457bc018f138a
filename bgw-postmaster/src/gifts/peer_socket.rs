//! A control socket whose other end others have.
//!
//! Since Linux 6.16 the kernel refuses what brings descriptors. Before, others can send some, and
//! closing one can take as long as its sender likes. So each packet is looked at before it is
//! taken, and one that brings descriptors is never taken: a child closes the socket, with all that
//! is in it.

use super::envelope::Office;
use crate::sys::credential_socket::{brings_descriptors, drop_all};
use bgw_core::{ControlSocket, Refusal};
use std::ops::{Deref, DerefMut};
use std::os::fd::{AsFd, AsRawFd};
use std::rc::Rc;

/// Such a socket.
#[derive(Debug)]
pub(crate) struct PeerSocket {
    socket: ControlSocket,
    /// `None`: the kernel refuses descriptors.
    office: Option<Rc<Office>>,
}

impl PeerSocket {
    /// From a socket that lies where no child asks for a number.
    pub(crate) fn new(socket: ControlSocket, office: &Rc<Office>) -> Self {
        let office = (!socket.refuse_descriptors()).then(|| Rc::clone(office));
        Self { socket, office }
    }

    /// True if what comes next must not be taken: it brings descriptors.
    pub(crate) fn brings_descriptors(&self) -> bool {
        self.office.is_some() && brings_descriptors(&self.socket)
    }

    /// Refuses the connection, and closes it.
    pub(crate) fn refuse(mut self, reason: Refusal, detail: String) {
        self.socket.refuse(reason, detail);
        if self.office.is_none() {
            self.socket.drop_last_packets();
        }
    }
}

impl Deref for PeerSocket {
    type Target = ControlSocket;

    fn deref(&self) -> &ControlSocket {
        &self.socket
    }
}

impl DerefMut for PeerSocket {
    fn deref_mut(&mut self) -> &mut ControlSocket {
        &mut self.socket
    }
}

/// A child never drops one.
impl Drop for PeerSocket {
    fn drop(&mut self) {
        let Some(office) = &self.office else { return };
        self.socket.end();
        if drop_all(&self.socket) {
            return;
        }
        office.forget(&self.socket);
        // Without a number left it is closed here: whoever opens sessions has seen to it that there
        // are some.
        let number = self.socket.as_fd().as_raw_fd();
        if let Ok(file) = rustix::io::fcntl_dupfd_cloexec(&self.socket, number) {
            office.condemn_file(file);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bgw_core::internals::scm;
    use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
    use std::io::Read;
    use std::os::fd::OwnedFd;
    use std::os::unix::net::UnixStream;

    /// Our end, as on a kernel that passes descriptors on, and the other end.
    fn pair(office: &Rc<Office>) -> (PeerSocket, ControlSocket) {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        (PeerSocket { socket: ours, office: Some(Rc::clone(office)) }, theirs)
    }

    /// Fails if a descriptor is closed here, or a socket without one costs a child.
    #[test]
    fn what_brings_descriptors_is_left_to_a_child_and_all_else_is_dropped() {
        let office = Office::new(64);
        let (mut sent, lent) = UnixStream::pair().unwrap();
        sent.set_nonblocking(true).unwrap();
        // What comes: bytes, and whether a descriptor comes with them.
        let cases: [&[(&[u8], bool)]; 6] = [
            &[],
            &[(b"a", false), (b"b", false)],
            &[(b"", false), (b"a", false)],
            &[(b"a", true)],
            &[(b"a", false), (b"", false), (b"", true)],
            &[(b"a".as_slice(), false); 65],
        ];
        for closed in [false, true] {
            for packets in cases {
                let (ours, theirs) = pair(&office);
                for &(bytes, brings) in packets {
                    let lent = [lent.as_fd()];
                    scm::send(&theirs, bytes, if brings { &lent } else { &[] }).unwrap();
                }
                let first = packets.first().is_some_and(|first| first.1);
                let theirs = (!closed).then_some(theirs);
                assert_eq!(ours.brings_descriptors(), first, "{packets:?}");
                drop(ours);
                let condemned = office.take_condemned();
                let left = packets.iter().any(|packet| packet.1) || packets.len() > 64;
                assert_eq!(condemned.len(), usize::from(left), "{packets:?}, closed: {closed}");
                drop(theirs);
            }
        }
        // Nothing else has it.
        drop(lent);
        assert_eq!(sent.read(&mut [0]).unwrap(), 0);
    }

    /// Fails if the loop still looks at a socket that a closer has: each look opens it for a
    /// moment, and so the last to close it may be the postmaster.
    #[test]
    fn what_a_closer_has_is_watched_no_more() {
        let office = Office::new(64);
        let epoll = Rc::new(Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).unwrap());
        office.set_watcher(&epoll);
        let (_sent, lent) = UnixStream::pair().unwrap();
        let readable =
            |epoll: &Epoll| epoll.wait(&mut [EpollEvent::empty()], EpollTimeout::ZERO).unwrap();
        let (ours, theirs) = pair(&office);
        epoll.add(&*ours, EpollEvent::new(EpollFlags::EPOLLIN, 1)).unwrap();
        scm::send(&theirs, b"a", &[lent.as_fd()]).unwrap();
        assert_eq!(readable(&epoll), 1);
        drop(ours);
        assert!(office.has_condemned());
        assert_eq!(readable(&epoll), 0);
        // The same of one that is condemned itself.
        let (ours, theirs) = ControlSocket::pair().unwrap();
        epoll.add(&ours, EpollEvent::new(EpollFlags::EPOLLIN, 1)).unwrap();
        scm::send(&theirs, b"a", &[lent.as_fd()]).unwrap();
        let ours = OwnedFd::from(ours);
        let other = ours.try_clone().unwrap();
        office.condemn_file(ours);
        drop(office.take_condemned());
        assert_eq!(readable(&epoll), 0);
        drop(other);
    }
}

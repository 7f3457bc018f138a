//! The line to a child that a template has forked: by it come the descriptors of its worker, once
//! the worker is known. The child has none of those that the postmaster has opened since.
//!
//! Each packet has the purpose of each of its descriptors: the number that it gets, or that it is
//! the next envelope (`gifts/envelope.rs`).

use super::launch::RunSetup;
use crate::sys::descriptors::{duplicate_clear, duplicate_number, place_descriptor};
use bgw_core::internals::scm;
use std::io;
use std::os::fd::{AsFd, AsRawFd, IntoRawFd, OwnedFd, RawFd};

/// How many descriptors go into a packet.
const IN_A_PACKET: usize = 16;
/// In the place of a number: it is an envelope.
const ENVELOPE: RawFd = -1;

/// In the postmaster: sends what a run gets. Returns the number of packets.
pub(crate) fn send(line: &OwnedFd, setup: &RunSetup) -> io::Result<usize> {
    let envelopes = setup.envelopes.iter().map(|&number| (number, ENVELOPE));
    let all: Vec<(RawFd, RawFd)> = envelopes.chain(setup.placements.moved()).collect();
    let packets = all.chunks(IN_A_PACKET);
    let count = packets.len();
    for packet in packets {
        let duplicate = |&(number, _): &(RawFd, RawFd)| duplicate_number(number);
        let descriptors: Vec<OwnedFd> = packet.iter().map(duplicate).collect::<io::Result<_>>()?;
        let borrowed: Vec<_> = descriptors.iter().map(AsFd::as_fd).collect();
        let purposes: Vec<u8> = packet.iter().flat_map(|(_, to)| to.to_le_bytes()).collect();
        scm::send(line, &purposes, &borrowed)?;
    }
    Ok(count)
}

/// In the child: takes what comes in `packets` packets, which are there.
pub(crate) fn receive(line: OwnedFd, packets: u64) -> io::Result<RunSetup> {
    let mut setup = RunSetup::default();
    let mut placed = Vec::new();
    for _ in 0..packets {
        let packet = scm::receive(&line, IN_A_PACKET * size_of::<RawFd>())?;
        if packet.bytes.is_empty() || packet.truncated {
            return Err(io::Error::other("the descriptors of the worker have not come"));
        }
        for (descriptor, purpose) in packet.fds.into_iter().zip(packet.bytes.chunks(4)) {
            let purpose = purpose.try_into().map(RawFd::from_le_bytes).unwrap_or(ENVELOPE);
            // Out of the way of those that are placed.
            let clear = duplicate_clear(&descriptor)?;
            match purpose {
                ENVELOPE => setup.envelopes.push(clear.into_raw_fd()),
                number => placed.push((clear, number)),
            }
        }
    }
    // Their numbers may be those of the line, or of what came by it.
    drop(line);
    for (descriptor, number) in placed {
        place_descriptor(descriptor.as_raw_fd(), number)?;
    }
    Ok(setup)
}

#[cfg(test)]
mod tests {
    use super::*;
    use bgw_core::ControlSocket;
    use shmem_slots::Segment;
    use std::fs::File;
    use std::os::linux::fs::MetadataExt;

    #[test]
    fn envelopes_keep_their_order_and_what_is_placed_gets_its_number() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        let (ours, theirs) = (OwnedFd::from(ours), OwnedFd::from(theirs));
        let files: Vec<File> = (0..19).map(|_| Segment::create_file(8).unwrap().into()).collect();
        let mut setup = RunSetup::default();
        let (streams, envelopes) = files.split_at(1);
        // A number that is free, and that no other test of this process places.
        setup.placements.add(streams[0].as_raw_fd(), 60);
        for envelope in envelopes {
            setup.placements.add(envelope.as_raw_fd(), envelope.as_raw_fd());
            setup.envelopes.push(envelope.as_raw_fd());
        }
        let packets = send(&ours, &setup).unwrap();
        assert_eq!(packets, 2);
        let received = receive(theirs, packets as u64).unwrap();
        let inode =
            |number: RawFd| std::fs::metadata(format!("/proc/self/fd/{number}")).unwrap().st_ino();
        assert_eq!(inode(60), inode(streams[0].as_raw_fd()));
        let expected: Vec<_> = envelopes.iter().map(|file| inode(file.as_raw_fd())).collect();
        let found: Vec<_> = received.envelopes.iter().map(|&number| inode(number)).collect();
        assert_eq!(found, expected);
        assert!(received.envelopes.iter().all(|&number| number > 63));
    }

    #[test]
    fn packets_that_do_not_come_are_an_error_and_no_hang() {
        let (ours, theirs) = ControlSocket::pair().unwrap();
        drop(ours);
        assert!(receive(theirs.into(), 1).is_err());
    }
}

//! The packets of an invitation as bytes. Pure.
//!
//! The first one has the header and the descriptors of the cluster. The program's own descriptors
//! follow, some in each packet. Names are in a file of their own: there may be many.

use crate::berth::Berth;
use crate::control::PROTOCOL;
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::shared::{LAYOUT_TAG, WorkerRecord};

/// What a first packet begins with.
pub(super) const MAGIC: [u8; 8] = *b"bgwinvit";

/// The first packet.
#[derive(Clone, Debug)]
pub(super) struct Header {
    pub(super) handle: WorkerHandle,
    pub(super) berth: Berth,
    pub(super) restarts: u32,
    pub(super) postmaster: Pid,
    /// The events are among the descriptors.
    pub(super) has_events: bool,
    /// The way to the control socket comes last.
    pub(super) has_door: bool,
    pub(super) record: Box<WorkerRecord>,
}

/// Why a first packet is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Misfit {
    /// Of another version of this crate.
    Version,
    /// Cut, or too long.
    Length,
    /// No pid.
    Postmaster,
}

const FIXED: usize = 8 + 4 + 8 + 4 + 8 + 4 + 4 + 4 + 4 + 1;

/// How long a first packet is.
pub(super) const HEADER_LEN: usize = FIXED + size_of::<WorkerRecord>();

impl Header {
    pub(super) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(HEADER_LEN);
        bytes.extend(MAGIC);
        bytes.extend(PROTOCOL.to_le_bytes());
        bytes.extend(LAYOUT_TAG.to_le_bytes());
        bytes.extend(self.handle.slot().to_le_bytes());
        bytes.extend(self.handle.generation().to_le_bytes());
        bytes.extend(self.handle.incarnation().to_le_bytes());
        bytes.extend(self.berth.index.to_le_bytes());
        bytes.extend(self.restarts.to_le_bytes());
        bytes.extend(self.postmaster.get().to_le_bytes());
        let bits = u8::from(self.has_events) | u8::from(self.has_door) << 1;
        let bits = bits | u8::from(self.berth.beside) << 2;
        bytes.push(bits);
        bytes.extend(self.record.bytes());
        bytes
    }

    pub(super) fn decode(bytes: &[u8]) -> Result<Self, Misfit> {
        let mut rest = bytes;
        let mut take = |count: usize| {
            let (head, tail) = rest.split_at_checked(count).ok_or(Misfit::Length)?;
            rest = tail;
            Ok(head)
        };
        let same = take(8)? == MAGIC && take(4)? == PROTOCOL.to_le_bytes();
        if !same || take(8)? != LAYOUT_TAG.to_le_bytes() {
            return Err(Misfit::Version);
        }
        let slot = word(take(4)?);
        let generation = take(8)?.iter().rev().fold(0, |sum, &byte| sum << 8 | u64::from(byte));
        let handle = WorkerHandle::new(slot, generation, word(take(4)?));
        let berth = word(take(4)?);
        let restarts = word(take(4)?);
        let postmaster = Pid::new(word(take(4)?)).ok_or(Misfit::Postmaster)?;
        let bits = take(1)?.iter().fold(0, |_, &bits| bits);
        let (has_events, has_door) = (bits & 1 != 0, bits & 2 != 0);
        let berth = Berth { index: berth, beside: bits & 4 != 0 };
        if rest.len() != size_of::<WorkerRecord>() {
            return Err(Misfit::Length);
        }
        let record = Box::new(bytemuck::pod_read_unaligned(rest));
        Ok(Self { handle, berth, restarts, postmaster, has_events, has_door, record })
    }
}

/// Of four bytes.
fn word(bytes: &[u8]) -> u32 {
    bytes.iter().rev().fold(0, |sum, &byte| sum << 8 | u32::from(byte))
}

/// The names of functions, then those of descriptors: each ends with a NUL, and each list with
/// another one.
pub(super) fn encode_names<'a>(
    functions: impl Iterator<Item = &'a str>,
    descriptors: impl Iterator<Item = &'a str>,
) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut put = |names: &mut dyn Iterator<Item = &'a str>| {
        names.for_each(|name| bytes.extend(name.bytes().chain([0])));
        bytes.push(0);
    };
    put(&mut { functions });
    put(&mut { descriptors });
    bytes
}

/// The names of functions, and those of descriptors.
pub(super) fn decode_names(bytes: &[u8]) -> Option<[Vec<String>; 2]> {
    let text = std::str::from_utf8(bytes).ok()?;
    let mut rest = text;
    let mut list = || {
        let mut names = Vec::new();
        loop {
            let (name, after) = rest.split_once('\0')?;
            rest = after;
            if name.is_empty() {
                return Some(names);
            }
            names.push(name.to_owned());
        }
    };
    let both = [list()?, list()?];
    rest.is_empty().then_some(both)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::BackgroundWorker;

    #[test]
    fn a_header_comes_back_and_no_shorter_or_longer_one_does() {
        let worker = BackgroundWorker::builder("w").command("true", [""; 0]).build().unwrap();
        let handle = WorkerHandle::new(1, u64::MAX - 2, 3);
        let record = Box::new(WorkerRecord::encode(&worker, Pid::this()));
        let header = Header {
            handle,
            berth: Berth { index: 9, beside: true },
            restarts: 7,
            postmaster: Pid::this(),
            has_events: false,
            has_door: true,
            record,
        };
        let bytes = header.encode();
        assert_eq!(bytes.len(), HEADER_LEN);
        let back = Header::decode(&bytes).unwrap();
        assert_eq!((back.handle, back.berth, back.restarts), (handle, header.berth, 7));
        assert_eq!((back.has_events, back.has_door), (false, true));
        assert_eq!((back.postmaster, back.record.decode()), (Pid::this(), Ok(worker)));
        for len in 0..bytes.len() {
            assert_eq!(Header::decode(&bytes[..len]).unwrap_err(), Misfit::Length, "{len}");
        }
        assert_eq!(Header::decode(&[bytes.as_slice(), &[0]].concat()).unwrap_err(), Misfit::Length);
        for at in [0, 7, 8, 12, 19] {
            let mut other = bytes.clone();
            other[at] ^= 1;
            assert_eq!(Header::decode(&other).unwrap_err(), Misfit::Version, "{at}");
        }
        let mut nobody = bytes.clone();
        nobody[FIXED - 5..FIXED - 1].fill(0);
        assert_eq!(Header::decode(&nobody).unwrap_err(), Misfit::Postmaster);
    }

    #[test]
    fn names_come_back() {
        for (functions, descriptors) in
            [(vec![], vec![]), (vec!["one", "two"], vec![]), (vec!["ä b"], vec!["socket"; 300])]
        {
            let bytes = encode_names(functions.iter().copied(), descriptors.iter().copied());
            let [one, two] = decode_names(&bytes).unwrap();
            assert_eq!(
                (one, two.len()),
                (functions.into_iter().map(str::to_owned).collect(), descriptors.len())
            );
            assert!((0..bytes.len()).all(|len| decode_names(&bytes[..len]).is_none()));
        }
        assert!(decode_names(b"\0\0\0").is_none() && decode_names(b"\xff\0\0").is_none());
    }
}

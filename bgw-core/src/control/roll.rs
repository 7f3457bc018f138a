//! A roll and its answer, as bytes.

use super::codec::MAX_PACKET;
use super::reader::{CodecError, Reader};
use crate::roll::{RollOutcome, RollPart, RollRequest};
use shmem_slots::Segment;
use std::io;
use std::os::fd::OwnedFd;

impl RollPart {
    pub(super) fn encode(&self, mut bytes: Vec<u8>) -> Vec<u8> {
        bytes.extend(self.list.to_le_bytes());
        for worker in self.workers.iter().take(Self::IN_A_PACKET) {
            bytes.extend(worker.slot().to_le_bytes());
            bytes.extend(worker.generation().to_le_bytes());
            bytes.extend(worker.incarnation().to_le_bytes());
        }
        bytes
    }

    #[inline(never)]
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let list = reader.word("list")?;
        let mut workers = Vec::new();
        while !reader.is_empty() {
            workers.push(reader.handle()?);
        }
        Ok(Self { list, workers })
    }
}

impl RollRequest {
    pub(super) fn encode(&self, request: u8) -> Vec<u8> {
        let mut bytes = vec![request];
        for word in [self.at_once, self.ready_within, self.before] {
            bytes.extend(word.to_le_bytes());
        }
        bytes.push(u8::from(self.stop_first));
        self.last.encode(bytes)
    }

    #[inline(never)]
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            at_once: reader.word("at once")?,
            ready_within: reader.word("ready within")?,
            before: reader.word("before")?,
            stop_first: match reader.byte("stop first")? {
                0 => false,
                1 => true,
                found => {
                    let found = found.into();
                    return Err(CodecError::Unknown { field: "stop first", found });
                }
            },
            last: RollPart::take(reader)?,
        })
    }
}

impl RollOutcome {
    /// How many fit into one reply. More come in a file.
    pub const IN_A_PACKET: usize = MAX_PACKET - 1;

    pub(super) fn encode_all(reply: u8, all: &[Self]) -> Vec<u8> {
        let codes = all.iter().map(|outcome| outcome.code());
        [reply].into_iter().chain(codes.take(Self::IN_A_PACKET)).collect()
    }

    #[inline(never)]
    pub(super) fn take_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, CodecError> {
        let mut all = Vec::new();
        while !reader.is_empty() {
            all.push(Self::take(reader)?);
        }
        Ok(all)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (field, code) = ("outcome", reader.byte("outcome")?);
        Self::from_code(code).ok_or(CodecError::Unknown { field, found: code.into() })
    }

    /// A sealed file with these outcomes.
    ///
    /// # Errors
    /// A failing system call.
    pub fn to_file(all: &[Self]) -> io::Result<OwnedFd> {
        let file =
            std::fs::File::from(Segment::create_file(all.len() as u64).map_err(io::Error::other)?);
        let codes: Vec<u8> = all.iter().map(|outcome| outcome.code()).collect();
        std::os::unix::fs::FileExt::write_all_at(&file, &codes, 0)?;
        Ok(file.into())
    }

    /// The first `count` outcomes of such a file.
    ///
    /// # Errors
    /// A file that is not sealed, is too short, or holds something else.
    pub fn from_file(file: OwnedFd, count: usize) -> io::Result<Vec<Self>> {
        let segment = Segment::attach(file).map_err(io::Error::other)?;
        if segment.len() < count {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let mut codes = vec![0; count];
        segment.read(0, &mut codes).map_err(io::Error::other)?;
        Self::take_all(&mut Reader::new(&codes)).map_err(io::Error::other)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_come_back_from_a_file_and_nothing_else_does() {
        let all: Vec<_> =
            (0..10_000).filter_map(|at| RollOutcome::from_code(at as u8 % 6)).collect();
        assert_eq!(
            RollOutcome::from_file(RollOutcome::to_file(&all).unwrap(), all.len()).unwrap(),
            all
        );
        let file = || RollOutcome::to_file(&all).unwrap();
        let too_many = RollOutcome::from_file(file(), 10_001).unwrap_err();
        assert_eq!(too_many.kind(), io::ErrorKind::UnexpectedEof);
        let scribbled = std::fs::File::from(file());
        std::os::unix::fs::FileExt::write_all_at(&scribbled, &[6], 9).unwrap();
        assert!(RollOutcome::from_file(scribbled.into(), 10).is_err());
        let (not_sealed, _) = std::os::unix::net::UnixStream::pair().unwrap();
        assert!(RollOutcome::from_file(not_sealed.into(), 0).is_err());
    }
}

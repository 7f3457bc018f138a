//! Who is left of a shutdown, as bytes.

use super::codec::MAX_PACKET;
use super::message::Left;
use super::reader::{CodecError, Reader};

impl Left {
    const SIZE: usize = 36;
    /// How many fit into one reply.
    pub const IN_A_PACKET: usize = (MAX_PACKET - 1) / Self::SIZE;

    pub(super) fn put(&self, bytes: &mut Vec<u8>) {
        bytes.extend(self.worker.slot().to_le_bytes());
        bytes.extend(self.worker.generation().to_le_bytes());
        bytes.extend(self.worker.incarnation().to_le_bytes());
        bytes.extend(self.pid.to_le_bytes());
        bytes.extend(self.told_for.to_le_bytes());
        bytes.extend(self.killed_in.to_le_bytes());
    }

    #[inline(never)]
    pub(super) fn take_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, CodecError> {
        let mut all = Vec::new();
        // What is behind them does not belong to the message.
        while !reader.is_empty() && all.len() < Self::IN_A_PACKET {
            all.push(Self::take(reader)?);
        }
        Ok(all)
    }

    fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        Ok(Self {
            worker: reader.handle()?,
            pid: reader.word("pid")?,
            told_for: reader.long("told for")?,
            killed_in: reader.long("killed in")?,
        })
    }
}

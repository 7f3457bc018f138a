//! A roll and its answer, as bytes.

use super::reader::{CodecError, Reader};
use crate::roll::{MAX_ROLLED, RollOutcome, RollRequest};

impl RollRequest {
    pub(super) fn encode(&self, request: u8) -> Vec<u8> {
        let mut bytes = vec![request];
        bytes.extend(self.at_once.to_le_bytes());
        bytes.extend(self.ready_within.to_le_bytes());
        for worker in self.workers.iter().take(MAX_ROLLED) {
            bytes.extend(worker.slot().to_le_bytes());
            bytes.extend(worker.generation().to_le_bytes());
            bytes.extend(worker.incarnation().to_le_bytes());
        }
        bytes
    }

    #[inline(never)]
    pub(super) fn take(reader: &mut Reader<'_>) -> Result<Self, CodecError> {
        let (at_once, ready_within) = (reader.word("at once")?, reader.word("ready within")?);
        let mut workers = Vec::new();
        while !reader.is_empty() {
            workers.push(reader.handle()?);
        }
        Ok(Self { at_once, ready_within, workers })
    }
}

impl RollOutcome {
    pub(super) fn encode_all(reply: u8, all: &[Self]) -> Vec<u8> {
        let codes = all.iter().map(|outcome| outcome.code());
        [reply].into_iter().chain(codes.take(MAX_ROLLED)).collect()
    }

    #[inline(never)]
    pub(super) fn take_all(reader: &mut Reader<'_>) -> Result<Vec<Self>, CodecError> {
        let mut all = Vec::new();
        while !reader.is_empty() {
            let (field, code) = ("outcome", reader.byte("outcome")?);
            let unknown = CodecError::Unknown { field, found: code.into() };
            all.push(Self::from_code(code).ok_or(unknown)?);
        }
        Ok(all)
    }
}

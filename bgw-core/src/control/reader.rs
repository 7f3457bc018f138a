//! The fields of a message, one after the other. Pure.

use crate::handle::WorkerHandle;
use crate::pid::Pid;

/// Bytes that are no message.
#[derive(Clone, Copy, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum CodecError {
    /// It ends too early.
    #[error("the message is cut off in its field {field}")]
    Short {
        /// In which field.
        field: &'static str,
    },
    /// Bytes follow after its end.
    #[error("the message has {extra} bytes too many")]
    Long {
        /// The number of bytes that follow.
        extra: usize,
    },
    /// A value that means nothing.
    #[error("the message's field {field} is {found}, which means nothing")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// The value that was found.
        found: u64,
    },
    /// A text that is not UTF-8.
    #[error("the message's text is not UTF-8")]
    Text,
}

shmem_slots::debug_as_chain!(CodecError);

pub(super) struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    pub(super) const fn new(bytes: &'a [u8]) -> Self {
        Self(bytes)
    }

    #[inline]
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Short { field })?;
        self.0 = rest;
        Ok(*head)
    }

    #[inline]
    pub(super) fn byte(&mut self, field: &'static str) -> Result<u8, CodecError> {
        Ok(self.take::<1>(field)?[0])
    }

    #[inline]
    pub(super) fn word(&mut self, field: &'static str) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.take(field)?))
    }

    #[inline]
    pub(super) fn long(&mut self, field: &'static str) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.take(field)?))
    }

    #[inline]
    pub(super) fn handle(&mut self) -> Result<WorkerHandle, CodecError> {
        let (slot, generation) = (self.word("slot")?, self.long("generation")?);
        Ok(WorkerHandle::new(slot, generation, self.word("incarnation")?))
    }

    #[inline]
    pub(super) fn flag(&mut self, field: &'static str) -> Result<bool, CodecError> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(CodecError::Unknown { field, found: other.into() }),
        }
    }

    #[inline]
    pub(super) fn pid(&mut self, field: &'static str) -> Result<Pid, CodecError> {
        let found = self.word(field)?;
        Pid::new(found).ok_or(CodecError::Unknown { field, found: found.into() })
    }

    #[inline(never)]
    pub(super) fn text(&mut self) -> Result<String, CodecError> {
        let text = std::str::from_utf8(self.0).map_err(|_| CodecError::Text)?.to_owned();
        self.0 = &[];
        Ok(text)
    }

    /// A text of as many bytes as the byte before it says.
    #[inline(never)]
    pub(super) fn name(&mut self, field: &'static str) -> Result<String, CodecError> {
        let len = usize::from(self.byte(field)?);
        let (text, rest) = self.0.split_at_checked(len).ok_or(CodecError::Short { field })?;
        self.0 = rest;
        Ok(std::str::from_utf8(text).map_err(|_| CodecError::Text)?.to_owned())
    }

    pub(super) const fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    #[inline]
    pub(super) fn end<T>(self, message: T) -> Result<T, CodecError> {
        if self.0.is_empty() { Ok(message) } else { Err(CodecError::Long { extra: self.0.len() }) }
    }
}

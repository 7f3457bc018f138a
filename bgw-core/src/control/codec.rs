//! Messages as bytes. Pure: any bytes give a message or an error.
//!
//! Little endian. The first byte says which message it is, fixed fields follow; a text is the rest of
//! the packet.

use super::message::{Refusal, Reply, Request, ShutdownMode};
use crate::pid::Pid;
use crate::worker::StartTime;

/// The longest packet.
pub(super) const MAX_PACKET: usize = 512;
/// The longest text in a message, in bytes; longer ones are cut.
pub(super) const MAX_DETAIL: usize = 200;

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
        /// How many.
        extra: usize,
    },
    /// A value that means nothing.
    #[error("the message's field {field} is {found}, which means nothing")]
    Unknown {
        /// Which field.
        field: &'static str,
        /// What was found.
        found: u64,
    },
    /// A text that is not UTF-8.
    #[error("the message's text is not UTF-8")]
    Text,
}

shmem_slots::debug_as_chain!(CodecError);

struct Reader<'a>(&'a [u8]);

impl<'a> Reader<'a> {
    fn take<const N: usize>(&mut self, field: &'static str) -> Result<[u8; N], CodecError> {
        let (head, rest) = self.0.split_first_chunk::<N>().ok_or(CodecError::Short { field })?;
        self.0 = rest;
        Ok(*head)
    }

    fn byte(&mut self, field: &'static str) -> Result<u8, CodecError> {
        Ok(self.take::<1>(field)?[0])
    }

    fn word(&mut self, field: &'static str) -> Result<u32, CodecError> {
        Ok(u32::from_le_bytes(self.take(field)?))
    }

    fn long(&mut self, field: &'static str) -> Result<u64, CodecError> {
        Ok(u64::from_le_bytes(self.take(field)?))
    }

    fn flag(&mut self, field: &'static str) -> Result<bool, CodecError> {
        match self.byte(field)? {
            0 => Ok(false),
            1 => Ok(true),
            other => Err(CodecError::Unknown { field, found: other.into() }),
        }
    }

    fn pid(&mut self, field: &'static str) -> Result<Pid, CodecError> {
        let found = self.word(field)?;
        Pid::new(found).ok_or(CodecError::Unknown { field, found: found.into() })
    }

    fn text(&mut self) -> Result<String, CodecError> {
        let text = std::str::from_utf8(self.0).map_err(|_| CodecError::Text)?.to_owned();
        self.0 = &[];
        Ok(text)
    }

    fn end<T>(self, message: T) -> Result<T, CodecError> {
        if self.0.is_empty() { Ok(message) } else { Err(CodecError::Long { extra: self.0.len() }) }
    }
}

fn unknown<T>(field: &'static str, found: u8) -> Result<T, CodecError> {
    Err(CodecError::Unknown { field, found: found.into() })
}

impl Request {
    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Hello { protocol, layout_tag, read_only } => {
                let mut bytes = vec![1];
                bytes.extend(protocol.to_le_bytes());
                bytes.extend(layout_tag.to_le_bytes());
                bytes.push(u8::from(*read_only));
                bytes
            }
            Self::Shutdown(mode) => vec![
                2,
                match mode {
                    ShutdownMode::Smart => 0,
                    ShutdownMode::Fast => 1,
                    ShutdownMode::Immediate => 2,
                },
            ],
            // Codes are below 256.
            Self::Advance(phase) => vec![3, phase.code() as u8],
            Self::Reload => vec![4],
            Self::Ping => vec![5],
            Self::Functions { from } => {
                let mut bytes = vec![6];
                bytes.extend(from.to_le_bytes());
                bytes
            }
        }
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CodecError`]: bytes that are no request.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader(bytes);
        let message = match reader.byte("request")? {
            1 => Self::Hello {
                protocol: reader.word("protocol")?,
                layout_tag: reader.long("layout tag")?,
                read_only: reader.flag("read only")?,
            },
            2 => Self::Shutdown(match reader.byte("mode")? {
                0 => ShutdownMode::Smart,
                1 => ShutdownMode::Fast,
                2 => ShutdownMode::Immediate,
                other => return unknown("mode", other),
            }),
            3 => {
                let code = reader.byte("phase")?;
                match StartTime::from_code(code.into()) {
                    Some(phase) => Self::Advance(phase),
                    None => return unknown("phase", code),
                }
            }
            4 => Self::Reload,
            5 => Self::Ping,
            6 => Self::Functions { from: reader.word("from")? },
            other => return unknown("request", other),
        };
        reader.end(message)
    }
}

impl Reply {
    /// The names from number `from` on. As many as may fit into a packet: the rest would be copied in
    /// vain.
    #[must_use]
    pub fn functions(all: &[String], from: u32) -> Self {
        let rest = usize::try_from(from).ok().and_then(|from| all.get(from..)).unwrap_or(&[]);
        Self::Functions(rest.iter().take(MAX_PACKET / 2).cloned().collect())
    }

    /// As bytes.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        match self {
            Self::Welcome { protocol, postmaster, owner, liveness, read_only } => {
                let mut bytes = vec![1];
                for word in [*protocol, postmaster.get(), owner.get(), *liveness] {
                    bytes.extend(word.to_le_bytes());
                }
                bytes.push(u8::from(*read_only));
                bytes
            }
            Self::Done => vec![2],
            Self::Functions(names) => {
                let mut bytes = vec![4];
                for name in names {
                    if bytes.len() + name.len() + 1 > MAX_PACKET {
                        break;
                    }
                    bytes.extend(name.bytes());
                    bytes.push(0);
                }
                bytes
            }
            Self::Refused { reason, detail } => {
                let reason = match reason {
                    Refusal::Protocol => 0,
                    Refusal::Layout => 1,
                    Refusal::NotAllowed => 2,
                    Refusal::ShuttingDown => 3,
                    Refusal::TooManyPeers => 4,
                    Refusal::Malformed => 5,
                    Refusal::NotAttached => 6,
                };
                let mut bytes = vec![3, reason];
                let end = (0..=detail.len().min(MAX_DETAIL))
                    .rev()
                    .find(|&at| detail.is_char_boundary(at));
                bytes.extend(detail.bytes().take(end.unwrap_or(0)));
                bytes
            }
        }
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CodecError`]: bytes that are no reply.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader(bytes);
        let message = match reader.byte("reply")? {
            1 => Self::Welcome {
                protocol: reader.word("protocol")?,
                postmaster: reader.pid("postmaster")?,
                owner: reader.pid("owner")?,
                liveness: reader.word("liveness")?,
                read_only: reader.flag("read only")?,
            },
            2 => Self::Done,
            3 => {
                let reason = match reader.byte("reason")? {
                    0 => Refusal::Protocol,
                    1 => Refusal::Layout,
                    2 => Refusal::NotAllowed,
                    3 => Refusal::ShuttingDown,
                    4 => Refusal::TooManyPeers,
                    5 => Refusal::Malformed,
                    6 => Refusal::NotAttached,
                    other => return unknown("reason", other),
                };
                Self::Refused { reason, detail: reader.text()? }
            }
            4 => {
                let text = reader.text()?;
                Self::Functions(text.split_terminator('\0').map(str::to_owned).collect())
            }
            other => return unknown("reply", other),
        };
        reader.end(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn requests() -> Vec<Request> {
        vec![
            Request::Hello { protocol: 7, layout_tag: u64::MAX, read_only: true },
            Request::Shutdown(ShutdownMode::Smart),
            Request::Shutdown(ShutdownMode::Immediate),
            Request::Advance(StartTime::ConsistentState),
            Request::Reload,
            Request::Ping,
            Request::Functions { from: 300 },
        ]
    }

    fn replies() -> Vec<Reply> {
        let pid = Pid::this();
        vec![
            Reply::Welcome {
                protocol: 1,
                postmaster: pid,
                owner: pid,
                liveness: 9,
                read_only: false,
            },
            Reply::Done,
            Reply::Functions(Vec::new()),
            Reply::Functions(vec!["one".to_owned(), "two".to_owned()]),
            Reply::Refused { reason: Refusal::NotAttached, detail: "say hello".to_owned() },
        ]
    }

    #[test]
    fn every_message_comes_back_and_no_shorter_or_longer_one_does() {
        for request in requests() {
            let mut bytes = request.encode();
            assert_eq!(Request::decode(&bytes), Ok(request));
            assert!(Request::decode(&bytes[..bytes.len() - 1]).is_err());
            bytes.push(0);
            assert!(Request::decode(&bytes).is_err());
        }
        for reply in replies() {
            assert_eq!(Reply::decode(&reply.encode()), Ok(reply));
        }
    }

    #[test]
    fn names_that_do_not_fit_are_left_for_the_next_packet() {
        let names: Vec<String> = (0..40).map(|number| format!("{number:090}")).collect();
        let bytes = Reply::Functions(names.clone()).encode();
        assert!(bytes.len() <= MAX_PACKET);
        let Ok(Reply::Functions(some)) = Reply::decode(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(some, names[..5]);
    }

    #[test]
    fn a_long_text_is_cut_between_characters() {
        let detail = "ä".repeat(MAX_DETAIL);
        let bytes = Reply::Refused { reason: Refusal::Layout, detail }.encode();
        assert!(bytes.len() <= MAX_DETAIL + 2);
        let Ok(Reply::Refused { detail, .. }) = Reply::decode(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(detail, "ä".repeat(MAX_DETAIL / 2));
    }

    #[test]
    fn no_two_bytes_make_a_decoder_panic() {
        for first in 0..=u8::MAX {
            for second in 0..=u8::MAX {
                for len in 0..24 {
                    let mut bytes = vec![second; len];
                    bytes.insert(0, first);
                    let _ = (Request::decode(&bytes), Reply::decode(&bytes));
                }
            }
        }
    }
}

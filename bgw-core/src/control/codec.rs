//! Messages as bytes. Pure: any bytes give a message or an error.
//!
//! Little endian. The first byte says which message it is, fixed fields follow; a text is the rest
//! of the packet.

use super::message::{Left, Refusal, Reply, Request};
use super::reader::{CodecError, Reader};
use super::segment::SegmentRequest;
use crate::handle::WorkerHandle;
use crate::roll::{RollOutcome, RollPart, RollRequest};
use crate::segment::SegmentHandle;
use crate::shutdown_mode::ShutdownMode;
use crate::worker::StartTime;

/// The longest packet.
pub(super) const MAX_PACKET: usize = 4096;
/// The longest text in a message, in bytes; longer ones are cut.
pub(super) const MAX_DETAIL: usize = 200;

fn unknown<T>(field: &'static str, found: u8) -> Result<T, CodecError> {
    Err(CodecError::Unknown { field, found: found.into() })
}

impl Request {
    /// Encodes the message as bytes.
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
            Self::Shutdown(mode) => vec![2, mode.code()],
            // Codes are below 256.
            Self::Advance(phase) => vec![3, phase.code() as u8],
            Self::Reload => vec![4],
            Self::Ping => vec![5],
            Self::Functions { from } => from_number(6, *from),
            Self::RestartNow(worker) => about(7, *worker),
            Self::Kill(worker) => about(8, *worker),
            Self::LastLines(worker) => about(9, *worker),
            Self::Queue { waits, gifts } => vec![10, u8::from(*waits), *gifts],
            Self::Left { from } => from_number(11, *from),
            Self::Roll(roll) => roll.encode(12),
            Self::Segment(request) => request.encode(13),
            Self::ToRoll(part) => part.encode(vec![15]),
            Self::Refork(name) => {
                let name = cut(name, MAX_DETAIL);
                // At most 200 bytes.
                let mut bytes = vec![14, name.len() as u8];
                bytes.extend(name);
                bytes
            }
        }
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CodecError`]: bytes that are no request.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
        let message = match reader.byte("request")? {
            1 => Self::Hello {
                protocol: reader.word("protocol")?,
                layout_tag: reader.long("layout tag")?,
                read_only: reader.flag("read only")?,
            },
            2 => {
                let code = reader.byte("mode")?;
                match ShutdownMode::from_code(code) {
                    Some(mode) => Self::Shutdown(mode),
                    None => return unknown("mode", code),
                }
            }
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
            7 => Self::RestartNow(reader.handle()?),
            8 => Self::Kill(reader.handle()?),
            9 => Self::LastLines(reader.handle()?),
            10 => Self::Queue { waits: reader.flag("waits")?, gifts: reader.byte("gifts")? },
            11 => Self::Left { from: reader.word("from")? },
            12 => Self::Roll(Box::new(RollRequest::take(&mut reader)?)),
            13 => Self::Segment(SegmentRequest::take(&mut reader)?),
            14 => Self::Refork(reader.name("template")?),
            15 => Self::ToRoll(Box::new(RollPart::take(&mut reader)?)),
            other => return unknown("request", other),
        };
        reader.end(message)
    }
}

/// What fits of a text: no character is cut.
fn cut(text: &str, limit: usize) -> &[u8] {
    let end = (0..=text.len().min(limit)).rev().find(|&at| text.is_char_boundary(at));
    text.as_bytes().get(..end.unwrap_or(0)).unwrap_or_default()
}

/// A request for what comes from a number on.
fn from_number(request: u8, from: u32) -> Vec<u8> {
    let mut bytes = vec![request];
    bytes.extend(from.to_le_bytes());
    bytes
}

/// A message about one worker.
fn about(request: u8, worker: WorkerHandle) -> Vec<u8> {
    let mut bytes = vec![request];
    bytes.extend(worker.slot().to_le_bytes());
    bytes.extend(worker.generation().to_le_bytes());
    bytes.extend(worker.incarnation().to_le_bytes());
    bytes
}

impl Reply {
    /// The names from number `from` on. As many as may fit into a packet: the rest would be copied
    /// in vain.
    #[must_use]
    pub fn functions(all: &[String], from: u32) -> Self {
        let rest = usize::try_from(from).ok().and_then(|from| all.get(from..)).unwrap_or(&[]);
        Self::Functions(rest.iter().take(MAX_PACKET / 2).cloned().collect())
    }

    /// Encodes the message as bytes.
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
            Self::Rolled(outcomes) => RollOutcome::encode_all(9, outcomes),
            Self::RolledIn { count } => from_number(11, *count),
            Self::Segment { segment, bytes: size } => {
                let mut bytes = vec![10];
                bytes.extend(segment.to_bits().to_le_bytes());
                bytes.extend(size.to_le_bytes());
                bytes
            }
            Self::LastLines(text) => {
                let mut bytes = vec![5];
                bytes.extend(cut(text, MAX_PACKET - 1));
                bytes
            }
            Self::Queue => vec![6],
            Self::Left(all) => {
                let mut bytes = vec![8];
                all.iter().take(Left::IN_A_PACKET).for_each(|left| left.put(&mut bytes));
                bytes
            }
            Self::Granted(worker) => about(7, *worker),
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
                    Refusal::QueueFull => 7,
                    Refusal::ClusterReset => 8,
                    Refusal::NoFreeSlot => 9,
                    Refusal::TooManyDescriptors => 10,
                    Refusal::NoSegment => 11,
                    Refusal::TooManySegments => 12,
                    Refusal::TemplateFailed => 13,
                    Refusal::NotRegistered => 14,
                };
                let mut bytes = vec![3, reason];
                bytes.extend(cut(detail, MAX_DETAIL));
                bytes
            }
        }
    }

    /// From bytes.
    ///
    /// # Errors
    /// [`CodecError`]: bytes that are no reply.
    pub fn decode(bytes: &[u8]) -> Result<Self, CodecError> {
        let mut reader = Reader::new(bytes);
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
                    7 => Refusal::QueueFull,
                    8 => Refusal::ClusterReset,
                    9 => Refusal::NoFreeSlot,
                    10 => Refusal::TooManyDescriptors,
                    11 => Refusal::NoSegment,
                    12 => Refusal::TooManySegments,
                    13 => Refusal::TemplateFailed,
                    14 => Refusal::NotRegistered,
                    other => return unknown("reason", other),
                };
                Self::Refused { reason, detail: reader.text()? }
            }
            4 => {
                let text = reader.text()?;
                Self::Functions(text.split_terminator('\0').map(str::to_owned).collect())
            }
            5 => Self::LastLines(reader.text()?),
            6 => Self::Queue,
            7 => Self::Granted(reader.handle()?),
            8 => Self::Left(Left::take_all(&mut reader)?),
            9 => Self::Rolled(RollOutcome::take_all(&mut reader)?),
            11 => Self::RolledIn { count: reader.word("count")? },
            10 => Self::Segment {
                segment: SegmentHandle::from_bits(reader.long("segment")?),
                bytes: reader.long("bytes")?,
            },
            other => return unknown("reply", other),
        };
        reader.end(message)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::pid::Pid;

    fn requests() -> Vec<Request> {
        let workers = vec![WorkerHandle::new(1, 2, 3); RollPart::IN_A_PACKET];
        let part = RollPart { list: 4, workers };
        vec![
            Request::Hello { protocol: 7, layout_tag: u64::MAX, read_only: true },
            Request::Shutdown(ShutdownMode::Smart),
            Request::Shutdown(ShutdownMode::Immediate),
            Request::Advance(StartTime::ConsistentState),
            Request::Reload,
            Request::Ping,
            Request::Functions { from: 300 },
            Request::RestartNow(WorkerHandle::new(u32::MAX, u64::MAX, 1)),
            Request::Kill(WorkerHandle::new(1, 2, u32::MAX)),
            Request::LastLines(WorkerHandle::new(1, 2, 3)),
            Request::Queue { waits: true, gifts: 0 },
            Request::Queue { waits: false, gifts: 16 },
            Request::Left { from: 9 },
            Request::Refork("models".to_owned()),
            Request::Segment(SegmentRequest::Create { bytes: u64::MAX }),
            Request::Segment(SegmentRequest::Map(SegmentHandle::from_bits(1))),
            Request::Segment(SegmentRequest::Drop(SegmentHandle::from_bits(2))),
            Request::Segment(SegmentRequest::Cache {
                segment: SegmentHandle::from_bits(4),
                cell: u32::MAX,
            }),
            Request::Segment(SegmentRequest::Pass {
                segment: SegmentHandle::from_bits(u64::MAX),
                to: Pid::this(),
            }),
            Request::Roll(Box::new(RollRequest {
                at_once: 2,
                ready_within: 86_400_000,
                stop_first: true,
                before: 9,
                last: part.clone(),
            })),
            Request::ToRoll(Box::new(part)),
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
            Reply::LastLines("one\ntwo".to_owned()),
            Reply::Rolled(vec![RollOutcome::Done; RollOutcome::IN_A_PACKET]),
            Reply::Rolled((0..=5).filter_map(RollOutcome::from_code).collect()),
            Reply::RolledIn { count: u32::MAX },
            Reply::Functions(vec!["one".to_owned(), "two".to_owned()]),
            Reply::Queue,
            Reply::Left(Vec::new()),
            Reply::Left(vec![
                Left {
                    worker: WorkerHandle::new(1, 2, 3),
                    pid: 4,
                    told_for: u64::MAX,
                    killed_in: 5
                };
                Left::IN_A_PACKET
            ]),
            Reply::Segment { segment: SegmentHandle::from_bits(9), bytes: u64::MAX },
            Reply::Granted(WorkerHandle::new(3, u64::MAX, 7)),
            Reply::Refused { reason: Refusal::QueueFull, detail: String::new() },
            Reply::Refused { reason: Refusal::NotAttached, detail: "say hello".to_owned() },
        ]
    }

    #[test]
    fn every_message_comes_back_and_no_shorter_or_longer_one_does() {
        for request in requests() {
            let mut bytes = request.encode();
            assert!(bytes.len() <= MAX_PACKET, "{request:?}");
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
        let names: Vec<String> = (0..100).map(|number| format!("{number:090}")).collect();
        let bytes = Reply::Functions(names.clone()).encode();
        assert!(bytes.len() <= MAX_PACKET);
        let Ok(Reply::Functions(some)) = Reply::decode(&bytes) else { panic!("{bytes:?}") };
        assert_eq!(some, names[..45]);
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

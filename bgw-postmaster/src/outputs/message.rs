//! What the postmaster and its output collector say to each other, one packet each.

use bgw_core::OutputFile;
use shmem_slots::Key;

/// The longest packet: a report with lines.
pub(super) const MAX_PACKET: usize = 9 + MAX_TEXT;
/// The largest number of bytes of last lines.
pub(super) const MAX_TEXT: usize = 4000;

/// From the postmaster to the collector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Order {
    /// Collect a stream. Comes with the pipe.
    Collect(Collect),
    /// Answer the question of this number: the last lines of a worker.
    LastLines(u64, Key),
    /// Write what has come so far, and end.
    Finish,
}

/// A stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Collect {
    pub(super) stream: u64,
    pub(super) key: Key,
    /// How many lines to remember.
    pub(super) last_lines: u8,
    pub(super) to: Destination,
}

/// Where the lines of a stream go.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Destination {
    Nowhere,
    File(OutputFile),
    Descriptor(Brought),
}

/// A descriptor that lines go to, which comes with the pipe.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Brought {
    /// It comes in an envelope.
    pub(super) in_envelope: bool,
    /// Lines that its reader has no room for are dropped at once.
    pub(super) drops: bool,
}

/// From the collector to the postmaster.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Report {
    /// Nobody writes to this stream any more, and all of it is written.
    Closed(u64),
    /// So many lines of this stream were lost since the last report, the last with this `errno`.
    Lost(u64, u64, i32),
    /// The answer to the question of this number.
    LastLines(u64, Vec<u8>),
}

const COLLECT: u8 = 1;
const LAST_LINES: u8 = 2;
const FINISH: u8 = 3;
const CLOSED: u8 = 1;
const LOST: u8 = 2;
const ANSWER: u8 = 3;

const TO_NOWHERE: u8 = 0;
const TO_FILE: u8 = 1;
const TO_ROTATED_FILE: u8 = 2;
const TO_DESCRIPTOR: u8 = 4;
/// Bits of that.
const IN_ENVELOPE: u8 = 1;
const DROPS: u8 = 2;

fn long(bytes: &[u8]) -> Option<(u64, &[u8])> {
    let (head, rest) = bytes.split_first_chunk::<8>()?;
    Some((u64::from_le_bytes(*head), rest))
}

fn join(kind: u8, numbers: &[u64], rest: &[u8]) -> Vec<u8> {
    let mut bytes = vec![kind];
    numbers.iter().for_each(|number| bytes.extend(number.to_le_bytes()));
    bytes.extend(rest);
    bytes
}

fn key(index: u64, generation: u64) -> Option<Key> {
    Some(Key { index: u32::try_from(index).ok()?, generation })
}

impl Order {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Collect(Collect { stream, key, last_lines, to }) => {
                let file = match to {
                    Destination::File(file) => Some(file),
                    _ => None,
                };
                let rotation = file.and_then(OutputFile::rotation);
                let (size, keep) = rotation.unwrap_or_default();
                let to = match to {
                    Destination::Nowhere => TO_NOWHERE,
                    Destination::File(_) if rotation.is_some() => TO_ROTATED_FILE,
                    Destination::File(_) => TO_FILE,
                    Destination::Descriptor(brought) => {
                        let bit = |is: bool, bit| if is { bit } else { 0 };
                        let how = bit(brought.in_envelope, IN_ENVELOPE) | bit(brought.drops, DROPS);
                        TO_DESCRIPTOR | how
                    }
                };
                let mut rest = vec![to, keep, *last_lines];
                rest.extend(file.iter().flat_map(|file| file.name().bytes()));
                join(COLLECT, &[*stream, key.index.into(), key.generation, size], &rest)
            }
            Self::LastLines(question, key) => {
                join(LAST_LINES, &[*question, key.index.into(), key.generation], &[])
            }
            Self::Finish => vec![FINISH],
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        if kind == FINISH {
            return Some(Self::Finish);
        }
        let (number, rest) = long(rest)?;
        let (index, rest) = long(rest)?;
        let (generation, rest) = long(rest)?;
        let key = key(index, generation)?;
        if kind == LAST_LINES {
            return Some(Self::LastLines(number, key));
        }
        let (size, rest) = long(rest)?;
        let (&[to, keep, last_lines], name) = rest.split_first_chunk::<3>()?;
        let file = OutputFile::new(std::str::from_utf8(name).ok()?);
        let to = match to {
            TO_NOWHERE => Destination::Nowhere,
            TO_FILE => Destination::File(file),
            TO_ROTATED_FILE => Destination::File(file.rotate(size, keep)),
            how if how & !(IN_ENVELOPE | DROPS) == TO_DESCRIPTOR => {
                let (in_envelope, drops) = (how & IN_ENVELOPE != 0, how & DROPS != 0);
                Destination::Descriptor(Brought { in_envelope, drops })
            }
            _ => return None,
        };
        let collect = Collect { stream: number, key, last_lines, to };
        (kind == COLLECT).then_some(Self::Collect(collect))
    }
}

impl Report {
    pub(super) fn encode(&self) -> Vec<u8> {
        match self {
            Self::Closed(stream) => join(CLOSED, &[*stream], &[]),
            Self::Lost(stream, lines, errno) => {
                join(LOST, &[*stream, *lines, errno.unsigned_abs().into()], &[])
            }
            Self::LastLines(question, text) => join(ANSWER, &[*question], text),
        }
    }

    pub(super) fn decode(bytes: &[u8]) -> Option<Self> {
        let (&kind, rest) = bytes.split_first()?;
        let (number, rest) = long(rest)?;
        match kind {
            CLOSED => Some(Self::Closed(number)),
            LOST => {
                let (lines, rest) = long(rest)?;
                Some(Self::Lost(number, lines, i32::try_from(long(rest)?.0).ok()?))
            }
            ANSWER => Some(Self::LastLines(number, rest.to_vec())),
            _ => None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_comes_back_and_fits() {
        let file = OutputFile::new("a name of thirty-one bytes, abc");
        let key = Key { index: u32::MAX, generation: u64::MAX };
        let collect = |to| Order::Collect(Collect { stream: 7, key, last_lines: 100, to });
        let orders = [
            collect(Destination::Nowhere),
            collect(Destination::File(file.clone())),
            collect(Destination::File(file.rotate(u64::MAX, 99))),
            collect(Destination::Descriptor(Brought { in_envelope: false, drops: true })),
            collect(Destination::Descriptor(Brought { in_envelope: true, drops: false })),
            Order::LastLines(u64::MAX, key),
            Order::Finish,
        ];
        for order in orders {
            assert!(order.encode().len() <= MAX_PACKET);
            assert_eq!(Order::decode(&order.encode()), Some(order));
        }
        let text = vec![b'x'; MAX_TEXT];
        let lost = Report::Lost(u64::MAX, u64::MAX, i32::MAX);
        for report in [Report::Closed(7), lost, Report::LastLines(1, text)] {
            assert!(report.encode().len() <= MAX_PACKET);
            assert_eq!(Report::decode(&report.encode()), Some(report));
        }
        assert_eq!((Order::decode(&[]), Report::decode(&[9; 30])), (None, None));
    }
}

//! An event as it lies in the ring of events.
//!
//! Trust. Decoding takes any bytes: it gives an event, or an error that names the field.

use super::corrupt::CorruptRecord;
use super::report::{decode_cause, encode_cause};
use crate::event::{Event, EventKind};
use crate::handle::WorkerHandle;
use crate::pid::Pid;
use crate::shutdown_mode::ShutdownMode;
use crate::worker::StartTime;
use bytemuck::{Pod, Zeroable};
use shmem_slots::ring::Ring;
use std::time::{Duration, UNIX_EPOCH};

/// What a ring of events says that it holds.
pub const EVENTS_TAG: u64 = u64::from_be_bytes(*b"bgw-ev01");

/// The ring of events.
pub type EventRing = Ring<EventRecord>;

const NAME: usize = 31;
/// No delay.
const NO_DELAY: u64 = u64::MAX;

/// The bytes of one event. Its number is the ring's.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Pod, Zeroable)]
#[repr(C)]
pub struct EventRecord {
    wall_nanos: u64,
    monotonic_nanos: u64,
    delay_nanos: u64,
    generation: u64,
    slot: u32,
    /// 0 if it is about no worker.
    incarnation: u32,
    kind: u32,
    /// The phase, or the shutdown mode.
    detail: u32,
    /// 0: none.
    pid: u32,
    count: u32,
    /// 0: none.
    cause_kind: u32,
    cause_value: i32,
    name: [u8; NAME + 1],
}

/// Without 128 bits, which take longer.
fn nanos(time: Duration) -> u64 {
    time.as_secs().saturating_mul(1_000_000_000).saturating_add(time.subsec_nanos().into())
}

/// The name of a worker as events show it. A worker has many events: its name is made once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventName([u8; NAME + 1]);

impl EventName {
    /// No name.
    pub const NONE: Self = Self([0; NAME + 1]);

    /// A name without control characters, cut to the length that fits.
    #[must_use]
    pub fn of(name: &str) -> Self {
        let mut bytes = [0; NAME + 1];
        for (to, from) in bytes.iter_mut().zip(clean(name).bytes()) {
            *to = from;
        }
        Self(bytes)
    }
}

/// As it is shown: without control characters, and short.
fn clean(name: &str) -> String {
    let mut cleaned = String::with_capacity(NAME);
    for c in name.chars().map(|c| if c.is_control() { '?' } else { c }) {
        if cleaned.len() + c.len_utf8() > NAME {
            break;
        }
        cleaned.push(c);
    }
    cleaned
}

const fn encode_kind(kind: EventKind) -> (u32, u32) {
    match kind {
        EventKind::Registered => (1, 0),
        EventKind::Started => (2, 0),
        EventKind::Ready => (3, 0),
        EventKind::Told => (4, 0),
        EventKind::Silent => (20, 0),
        EventKind::Killed => (5, 0),
        EventKind::Exited => (6, 0),
        EventKind::Restarting => (7, 0),
        EventKind::GivenUp => (8, 0),
        EventKind::Unregistered => (9, 0),
        EventKind::Phase(phase) => (10, phase.code()),
        EventKind::Reset => (11, 0),
        EventKind::Shutdown(mode) => (12, mode.code() as u32),
        EventKind::OutputLost => (13, 0),
        EventKind::Recycling => (14, 0),
        EventKind::HandedOver => (15, 0),
    }
}

fn wrong(field: &'static str, found: impl Into<i64>) -> CorruptRecord {
    CorruptRecord::Number { field, found: found.into() }
}

fn decode_kind(kind: u32, detail: u32) -> Result<EventKind, CorruptRecord> {
    Ok(match (kind, detail) {
        (1, 0) => EventKind::Registered,
        (2, 0) => EventKind::Started,
        (3, 0) => EventKind::Ready,
        (4, 0) => EventKind::Told,
        (20, 0) => EventKind::Silent,
        (5, 0) => EventKind::Killed,
        (6, 0) => EventKind::Exited,
        (7, 0) => EventKind::Restarting,
        (8, 0) => EventKind::GivenUp,
        (9, 0) => EventKind::Unregistered,
        (10, code) => {
            let phase = StartTime::from_code(code);
            EventKind::Phase(phase.ok_or_else(|| wrong("phase", code))?)
        }
        (11, 0) => EventKind::Reset,
        (12, code) => {
            let mode = u8::try_from(code).ok().and_then(ShutdownMode::from_code);
            EventKind::Shutdown(mode.ok_or_else(|| wrong("shutdown mode", code))?)
        }
        (13, 0) => EventKind::OutputLost,
        (14, 0) => EventKind::Recycling,
        (15, 0) => EventKind::HandedOver,
        (1..=15, detail) => return Err(wrong("detail of an event", detail)),
        (kind, _) => return Err(wrong("kind of an event", kind)),
    })
}

impl EventRecord {
    /// The bytes of `event`, without its number.
    #[must_use]
    pub fn encode(event: &Event) -> Self {
        Self::with_name(event, EventName::of(&event.name))
    }

    /// The same, but with a name that was made before, not the event's.
    #[must_use]
    pub fn with_name(event: &Event, EventName(name): EventName) -> Self {
        let (kind, detail) = encode_kind(event.kind);
        let (cause_kind, cause_value) = event.cause.map_or((0, 0), encode_cause);
        Self {
            wall_nanos: nanos(event.wall.duration_since(UNIX_EPOCH).unwrap_or_default()),
            monotonic_nanos: nanos(event.monotonic),
            delay_nanos: event.delay.map_or(NO_DELAY, nanos),
            generation: event.handle.map_or(0, WorkerHandle::generation),
            slot: event.handle.map_or(0, WorkerHandle::slot),
            incarnation: event.handle.map_or(0, WorkerHandle::incarnation),
            kind,
            detail,
            pid: event.pid.map_or(0, Pid::get),
            count: event.count,
            cause_kind,
            cause_value,
            name,
        }
    }

    /// The event with number `seq`, checked.
    ///
    /// # Errors
    /// [`CorruptRecord`], for bytes that no encoder would have written.
    pub fn decode(&self, seq: u64) -> Result<Event, CorruptRecord> {
        let pid = match self.pid {
            0 => None,
            number => Some(Pid::new(number).ok_or_else(|| wrong("pid", number))?),
        };
        if self.generation > shmem_slots::MAX_GENERATION {
            return Err(wrong("generation", self.generation as i64));
        }
        let handle = WorkerHandle::new(self.slot, self.generation, self.incarnation);
        let cause = match self.cause_kind {
            0 => None,
            kind => Some(decode_cause(kind, self.cause_value)?),
        };
        let end = self.name.iter().position(|&byte| byte == 0).unwrap_or(NAME);
        let name = std::str::from_utf8(self.name.get(..end).unwrap_or_default());
        let name = name.map_err(|_| CorruptRecord::Text { field: "name" })?;
        // A duration of 64 bits of nanoseconds is no more than 585 years.
        let wall = UNIX_EPOCH.checked_add(Duration::from_nanos(self.wall_nanos));
        let delay = Some(self.delay_nanos).filter(|&nanos| nanos != NO_DELAY);
        Ok(Event {
            seq,
            wall: wall.unwrap_or(UNIX_EPOCH),
            monotonic: Duration::from_nanos(self.monotonic_nanos),
            kind: decode_kind(self.kind, self.detail)?,
            handle: (self.incarnation != 0).then_some(handle),
            pid,
            name: clean(name),
            cause,
            delay: delay.map(Duration::from_nanos),
            count: self.count,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::exit::ExitCause;

    fn kinds() -> Vec<EventKind> {
        vec![
            EventKind::Registered,
            EventKind::Started,
            EventKind::Ready,
            EventKind::Silent,
            EventKind::Told,
            EventKind::Killed,
            EventKind::Exited,
            EventKind::Restarting,
            EventKind::GivenUp,
            EventKind::Unregistered,
            EventKind::Phase(StartTime::PostmasterStart),
            EventKind::Phase(StartTime::RecoveryFinished),
            EventKind::Reset,
            EventKind::OutputLost,
            EventKind::Shutdown(ShutdownMode::Smart),
            EventKind::Shutdown(ShutdownMode::Fast),
            EventKind::Shutdown(ShutdownMode::Immediate),
            EventKind::Recycling,
            EventKind::HandedOver,
        ]
    }

    fn event(kind: EventKind) -> Event {
        let wall = UNIX_EPOCH + Duration::from_nanos(1_700_000_000_123_456_789);
        Event {
            seq: 7,
            handle: Some(WorkerHandle::new(3, shmem_slots::MAX_GENERATION, 9)),
            pid: Pid::new(Pid::MAX),
            name: "tidy up".to_owned(),
            cause: Some(ExitCause::Signaled { signal: 9, core_dumped: true }),
            delay: Some(Duration::from_millis(1500)),
            count: u32::MAX,
            ..Event::new(kind, wall, Duration::from_nanos(1))
        }
    }

    #[test]
    fn every_event_comes_back() {
        for kind in kinds() {
            for event in [event(kind), Event::new(kind, UNIX_EPOCH, Duration::ZERO)] {
                let seq = event.seq;
                assert_eq!(EventRecord::encode(&event).decode(seq), Ok(event));
            }
        }
    }

    #[test]
    fn a_name_is_cut_between_characters_and_holds_no_control_character() {
        let table = [
            ("a\nb\u{1b}[0m", "a?b?[0m".to_owned()),
            (&*"x".repeat(40), "x".repeat(31)),
            (&*"ä".repeat(16), "ä".repeat(15)),
        ];
        for (name, shown) in table {
            let event = Event { name: name.to_owned(), ..event(EventKind::Registered) };
            assert_eq!(EventRecord::encode(&event).decode(0).unwrap().name, shown);
        }
    }

    #[test]
    fn bytes_that_no_encoder_writes_are_an_error_that_names_the_field() {
        type Spoil = fn(&mut EventRecord);
        let table: [(&str, Spoil); 8] = [
            ("kind of an event", |record| record.kind = 0),
            ("kind of an event", |record| record.kind = 99),
            ("detail of an event", |record| record.detail = 1),
            ("phase", |record| (record.kind, record.detail) = (10, 3)),
            ("pid", |record| record.pid = Pid::MAX + 1),
            ("generation", |record| record.generation = u64::MAX),
            ("exit kind", |record| record.cause_kind = 99),
            ("name", |record| record.name = [0xff; NAME + 1]),
        ];
        for (field, spoil) in table {
            let mut record = EventRecord::encode(&event(EventKind::Started));
            spoil(&mut record);
            let error = record.decode(0).unwrap_err().to_string();
            assert!(error.starts_with(field), "{field}: {error}");
        }
    }

    #[test]
    fn any_bytes_are_an_event_or_an_error() {
        let mut state = 1_u64;
        for _ in 0..20_000 {
            let mut record = EventRecord::encode(&event(EventKind::Started));
            let bytes = bytemuck::bytes_of_mut(&mut record);
            for _ in 0..8 {
                state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                let place = (state >> 33) as usize % bytes.len();
                bytes[place] = (state >> 24) as u8;
            }
            if let Ok(event) = record.decode(0) {
                assert!(event.name.len() <= NAME && !event.name.contains(char::is_control));
                assert!(event.handle.is_none_or(|h| h.incarnation() != 0));
            }
        }
    }
}

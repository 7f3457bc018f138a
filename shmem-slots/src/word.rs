//! The word of one slot. Pure: no memory, no clock.
//!
//! ```text
//!           claim              publish             free, or end of an unkept one
//!   Free ────────────▶ Reserved ──────▶ Published ──────────────────▶ Free
//!    ▲  generation + 1   │  │             ↺ update, flags, release      (or Retired, if the
//!    │    owner is dead  │  │ reset       │                              generations are used up)
//!    ├───────────────────┘  ▼             │ end of a kept one
//!    ├─────────────────── Revoked         ▼
//!    │    owner let go, or is dead      Ended ────▶ Reserved   (claim, when no slot is free)
//!    └────────────────────────────────────┘
//!            release, or keeper is dead
//! ```
//!
//! The manager may also claim a published slot in the swap that ends its tenancy.
//!
//! Bits, high to low: generation 35, flags 4, kept 1, state 2, pid 22 (a Linux pid needs no more).
//!
//! | state | kept | pid is | generation is |
//! |---|---|---|---|
//! | `Free` | 0 | 0 | the last tenant's |
//! | `Ended` (free, kept) | 1 | the keeper; 0: waiters alone hold it | the last tenant's |
//! | `Reserved` | 0 | the owner of the claim | the tenant's |
//! | `Revoked` (reserved, kept) | 1 | the owner of the claim | newer than the claim's |
//! | `Published` | 1 while somebody keeps it | the upper layer's | the tenant's |
//! | `Retired` | any | any | any |
//!
//! Everything that a waiter waits for lies in the low half, together with the low bits of the
//! generation. The low half changes at each visible change and serves as the futex. A word of zeros
//! is `Free` with generation 0, so fresh memory needs no touching.

const PID_BITS: u32 = 22;
const STATE_SHIFT: u32 = PID_BITS;
const KEPT_SHIFT: u32 = STATE_SHIFT + 2;
const FLAGS_SHIFT: u32 = KEPT_SHIFT + 1;
const GENERATION_SHIFT: u32 = FLAGS_SHIFT + 4;

/// The last generation of a slot. When it is used up, the slot is retired.
pub const MAX_GENERATION: u64 = (1 << (64 - GENERATION_SHIFT)) - 1;
/// The largest pid (or other number of an owner) that a word can hold.
pub const MAX_PID: u32 = (1 << PID_BITS) - 1;
/// All flag bits.
pub const MAX_FLAGS: u8 = 15;

/// Where a slot is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum State {
    /// Vacant. Its generation is the last tenant's.
    Free,
    /// A process is filling it; the pid names that owner.
    Reserved,
    /// Readable. It belongs to the manager; flags and pid are the upper layer's.
    Published,
    /// Its generations are used up. It is never used again, unless the manager revives it.
    Retired,
    /// Its tenant has ended and somebody is to read the report: the keeper (the pid), or if that is
    /// 0, waiters. A claim takes it only when no slot is free, the oldest first.
    Ended,
    /// A reset took it away from the owner of a claim, which may still be writing to it. It becomes
    /// free when the owner lets go, or is dead.
    Revoked,
}

/// One tenancy of one slot: plain data, to store and pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Key {
    /// Which slot.
    pub index: u32,
    /// Which use of it.
    pub generation: u64,
}

/// The word of one slot, read once.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
pub struct Snapshot(u64);

impl Snapshot {
    /// A word out of its bits. Any bits are a word.
    #[inline]
    #[must_use]
    pub const fn from_bits(bits: u64) -> Self {
        Self(bits)
    }

    /// The bits.
    #[inline]
    #[must_use]
    pub const fn bits(self) -> u64 {
        self.0
    }

    const fn build(generation: u64, flags: u8, state: State, kept: bool, pid: u32) -> Self {
        let (state, kept) = match state {
            State::Free => (0, kept),
            State::Reserved => (1, kept),
            State::Published => (2, kept),
            State::Retired => (3, false),
            State::Ended => (0, true),
            State::Revoked => (1, true),
        };
        Self(
            generation << GENERATION_SHIFT
                | (flags as u64) << FLAGS_SHIFT
                | (kept as u64) << KEPT_SHIFT
                | state << STATE_SHIFT
                | pid as u64,
        )
    }

    /// Which use of the slot this is.
    #[inline]
    #[must_use]
    pub const fn generation(self) -> u64 {
        self.0 >> GENERATION_SHIFT
    }

    /// The four flag bits.
    #[inline]
    #[must_use]
    pub const fn flags(self) -> u8 {
        (self.0 >> FLAGS_SHIFT) as u8 & MAX_FLAGS
    }

    /// Where the slot is in its life.
    #[inline]
    #[must_use]
    pub const fn state(self) -> State {
        match (self.0 >> STATE_SHIFT & 3, self.is_kept()) {
            (0, false) => State::Free,
            (0, true) => State::Ended,
            (1, false) => State::Reserved,
            (1, true) => State::Revoked,
            (2, _) => State::Published,
            _ => State::Retired,
        }
    }

    /// True in a published slot whose end somebody wants to read, and in an ended one whose report
    /// nobody has read yet.
    #[inline]
    #[must_use]
    pub const fn is_kept(self) -> bool {
        self.0 >> KEPT_SHIFT & 1 != 0
    }

    /// The owner of a reserved or revoked slot, the keeper of an ended one, and what the manager
    /// wrote into a published one.
    #[inline]
    #[must_use]
    pub const fn pid(self) -> u32 {
        self.0 as u32 & MAX_PID
    }

    /// The half that a futex waits on.
    #[inline]
    #[must_use]
    pub const fn low(self) -> u32 {
        self.0 as u32
    }

    /// The other half: the generation without its lowest bits.
    #[inline]
    #[must_use]
    pub const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Edge `Free | Ended → Reserved`, with the next generation. `None` in any other state, when
    /// the generations are used up, or when `owner` is 0 or too large.
    #[must_use]
    pub const fn reserved_by(self, owner: u32) -> Option<Self> {
        let takeable = matches!(self.state(), State::Free | State::Ended);
        let last = self.generation() == MAX_GENERATION;
        if !takeable || last || owner == 0 || owner > MAX_PID {
            return None;
        }
        Some(Self::build(self.generation() + 1, 0, State::Reserved, false, owner))
    }

    /// Edge `Reserved → Published`. `None` in any other state, or when `flags` has other bits.
    #[must_use]
    pub const fn published(self, flags: u8, kept: bool) -> Option<Self> {
        if !matches!(self.state(), State::Reserved) || flags > MAX_FLAGS {
            return None;
        }
        Some(Self::build(self.generation(), flags, State::Published, kept, 0))
    }

    /// The same published word with other content. `None` in any other state, or when a value does
    /// not fit.
    #[must_use]
    pub const fn updated(self, pid: u32, flags: u8) -> Option<Self> {
        if !matches!(self.state(), State::Published) {
            return None;
        }
        Self::managed(self.generation(), pid, flags, self.is_kept())
    }

    /// The same published word with more flags.
    #[must_use]
    pub const fn with_flags(self, flags: u8) -> Option<Self> {
        self.updated(self.pid(), self.flags() | flags)
    }

    /// The word without its keeper: `Ended → Free`, or a published word that nobody keeps. `None`
    /// when nobody keeps it.
    #[must_use]
    pub const fn released(self) -> Option<Self> {
        match self.state() {
            State::Ended => Some(Self::vacant(self.generation())),
            State::Published if self.is_kept() => Some(Self(self.0 & !(1 << KEPT_SHIFT))),
            _ => None,
        }
    }

    /// Edge `Reserved | Revoked → Free`: the claim is given back. `None` in any other state.
    #[must_use]
    pub const fn given_back(self) -> Option<Self> {
        match self.state() {
            State::Reserved | State::Revoked => Some(Self::vacant(self.generation())),
            _ => None,
        }
    }

    /// The word after a reset, which no key from before it names: `Reserved → Revoked`, anything
    /// else → `Free`.
    #[must_use]
    pub const fn reset(self) -> Self {
        let next =
            if self.generation() < MAX_GENERATION { self.generation() + 1 } else { MAX_GENERATION };
        match self.state() {
            State::Reserved | State::Revoked => {
                Self::build(next, 0, State::Revoked, true, self.pid())
            }
            State::Retired => Self::vacant(MAX_GENERATION),
            State::Free | State::Published | State::Ended => Self::vacant(next),
        }
    }

    /// Edge `Retired → Free`: as if its last tenant had had `generation`. `None` in any other
    /// state, or when that is the last generation or beyond.
    #[must_use]
    pub const fn revived(self, generation: u64) -> Option<Self> {
        if !matches!(self.state(), State::Retired) || generation >= MAX_GENERATION {
            return None;
        }
        Some(Self::vacant(generation))
    }

    /// The word of a vacant slot whose last tenant had `generation`: `Free`, or `Retired` if that
    /// was the last generation.
    #[must_use]
    pub const fn vacant(generation: u64) -> Self {
        if generation >= MAX_GENERATION {
            return Self::build(MAX_GENERATION, 0, State::Retired, false, 0);
        }
        Self::build(generation, 0, State::Free, false, 0)
    }

    /// The word of a slot whose tenant of `generation` has ended and that `keeper` keeps, or, if
    /// that is 0, that waiters may hold. `None` when a value does not fit.
    #[must_use]
    pub const fn ended(generation: u64, keeper: u32) -> Option<Self> {
        if generation > MAX_GENERATION || keeper > MAX_PID {
            return None;
        }
        Some(Self::build(generation, 0, State::Ended, true, keeper))
    }

    /// The published word that the manager writes, whatever the slot holds: its own list is the
    /// truth. `None` when a value does not fit.
    #[must_use]
    pub const fn managed(generation: u64, pid: u32, flags: u8, kept: bool) -> Option<Self> {
        if generation > MAX_GENERATION || pid > MAX_PID || flags > MAX_FLAGS {
            return None;
        }
        Some(Self::build(generation, flags, State::Published, kept, pid))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation())
            .field("flags", &self.flags())
            .field("state", &self.state())
            .field("kept", &self.is_kept())
            .field("pid", &self.pid())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::State::{Ended, Free, Published, Reserved, Retired, Revoked};
    use super::*;

    fn word(generation: u64, flags: u8, state: State, kept: bool, pid: u32) -> Snapshot {
        Snapshot::build(generation, flags, state, kept, pid)
    }

    #[test]
    fn every_field_comes_back_from_every_state() {
        let states = [
            (Free, false),
            (Ended, true),
            (Reserved, false),
            (Revoked, true),
            (Published, false),
            (Published, true),
            (Retired, false),
        ];
        for (state, kept) in states {
            for generation in [0, 1, 15, 16, MAX_GENERATION] {
                for (flags, pid) in [(0, 0), (5, 1), (MAX_FLAGS, MAX_PID)] {
                    let word = word(generation, flags, state, kept, pid);
                    assert_eq!(word.generation(), generation);
                    assert_eq!(word.flags(), flags);
                    assert_eq!((word.state(), word.is_kept()), (state, kept));
                    assert_eq!(word.pid(), pid);
                    assert_eq!(Snapshot::from_bits(word.bits()), word);
                }
            }
        }
    }

    #[test]
    fn zeros_are_free() {
        assert_eq!(Snapshot::from_bits(0), word(0, 0, Free, false, 0));
    }

    #[test]
    fn the_edges_are_those_of_the_table_and_no_others() {
        let free = Some(word(7, 0, Free, false, 0));
        let reserved = Some(word(8, 0, Reserved, false, 4));
        let published = |kept| Some(word(7, 3, Published, kept, 0));
        let updated = |kept| Some(word(7, 3, Published, kept, 9));
        let revoked = word(8, 0, Revoked, true, 4);
        let next = word(8, 0, Free, false, 0);
        let retired = word(MAX_GENERATION, 0, Retired, false, 0);
        // from -> reserved_by(4), published(3, true), updated(9, 3), released, given_back, reset
        let table = [
            (word(7, 0, Free, false, 0), reserved, None, None, None, None, next),
            (word(7, 0, Ended, true, 5), reserved, None, None, free, None, next),
            (word(7, 0, Reserved, false, 4), None, published(true), None, None, free, revoked),
            (word(7, 0, Revoked, true, 4), None, None, None, None, free, revoked),
            (word(7, 1, Published, false, 5), None, None, updated(false), None, None, next),
            (
                word(7, 1, Published, true, 5),
                None,
                None,
                updated(true),
                Some(word(7, 1, Published, false, 5)),
                None,
                next,
            ),
            (word(7, 0, Retired, false, 0), None, None, None, None, None, retired),
        ];
        for (from, reserved, published, updated, released, given_back, reset) in table {
            assert_eq!(from.reserved_by(4), reserved, "{from:?}");
            assert_eq!(from.published(3, true), published, "{from:?}");
            assert_eq!(from.updated(9, 3), updated, "{from:?}");
            assert_eq!(from.released(), released, "{from:?}");
            assert_eq!(from.given_back(), given_back, "{from:?}");
            assert_eq!(from.reset(), reset, "{from:?}");
        }
    }

    #[test]
    fn the_last_generation_is_retired_and_never_wraps() {
        assert_eq!(Snapshot::vacant(MAX_GENERATION).state(), Retired);
        let ended = word(MAX_GENERATION, 0, Ended, true, 1);
        assert_eq!(ended.reserved_by(1), None);
        assert_eq!(ended.released().map(Snapshot::state), Some(Retired));
        assert_eq!(word(MAX_GENERATION, 0, Free, false, 0).reserved_by(1), None);
        let before = word(MAX_GENERATION - 1, 0, Free, false, 0);
        assert_eq!(before.reserved_by(1).map(Snapshot::generation), Some(MAX_GENERATION));
        let last = word(MAX_GENERATION, 0, Reserved, false, 1).reset();
        assert_eq!((last.generation(), last.state()), (MAX_GENERATION, Revoked));
    }

    #[test]
    fn retired_slots_alone_are_revived() {
        let retired = Snapshot::from_bits(u64::MAX);
        assert_eq!(retired.revived(40), Some(word(40, 0, Free, false, 0)));
        assert_eq!(retired.revived(MAX_GENERATION), None);
        let others = [Free, Reserved, Published].map(|state| word(7, 0, state, false, 4));
        assert_eq!(others.map(|word| word.revived(40)), [None; 3]);
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        let free = word(7, 0, Free, false, 0);
        assert_eq!((free.reserved_by(0), free.reserved_by(MAX_PID + 1)), (None, None));
        assert_eq!(word(7, 0, Reserved, false, 1).published(16, false), None);
        assert_eq!(word(7, 0, Published, false, 1).updated(MAX_PID + 1, 0), None);
        assert_eq!(Snapshot::ended(7, MAX_PID + 1), None);
        assert_eq!(Snapshot::managed(7, 0, 16, false), None);
    }
}

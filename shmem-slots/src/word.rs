//! The word of one slot. Pure: no memory, no clock.
//!
//! ```text
//!            claim            publish             free
//!   Free ───────────▶ Reserved ───────▶ Published ─────▶ Free    (the same generation)
//!    ▲   generation+1    │  owner dead     ↺ update        or, with the last generation: Retired
//!    └───────────────────┘
//! ```
//!
//! Bits, high to low: generation 36, flags 4, state 2, pid 22 (a Linux pid needs no more).
//!
//! The low half holds everything that a waiter waits for (and the low bits of the generation), so it
//! changes at each visible change and serves as the futex. A word of zeros is `Free` with
//! generation 0, so fresh memory needs no touching.
//!
//! A freed slot keeps its generation until it is claimed again: whoever has the last tenant's key
//! can still read how it ended.

const PID_BITS: u32 = 22;
const STATE_SHIFT: u32 = PID_BITS;
const FLAGS_SHIFT: u32 = STATE_SHIFT + 2;
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
    /// Nobody has it. Its generation is the last tenant's.
    Free,
    /// A process fills it; the pid names that owner.
    Reserved,
    /// It can be read, and belongs to the manager. Flags and pid are the upper layer's.
    Published,
    /// Its generations are used up; it is never used again.
    Retired,
}

/// One tenancy of one slot: plain data, to be kept and passed on.
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
    /// Any bits are a word.
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

    const fn build(generation: u64, flags: u8, state: State, pid: u32) -> Self {
        let state = match state {
            State::Free => 0,
            State::Reserved => 1,
            State::Published => 2,
            State::Retired => 3,
        };
        Self(
            generation << GENERATION_SHIFT
                | (flags as u64) << FLAGS_SHIFT
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
        match self.0 >> STATE_SHIFT & 3 {
            0 => State::Free,
            1 => State::Reserved,
            2 => State::Published,
            _ => State::Retired,
        }
    }

    /// The owner of a reserved slot; what the manager wrote in a published one.
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

    /// The other half: the generation but for its lowest bits.
    #[inline]
    #[must_use]
    pub const fn high(self) -> u32 {
        (self.0 >> 32) as u32
    }

    /// Edge `Free → Reserved`, with the next generation. `None` when the slot is not free, its
    /// generations are used up, or `owner` is 0 or too large.
    #[must_use]
    pub const fn reserved_by(self, owner: u32) -> Option<Self> {
        let last = self.generation() == MAX_GENERATION;
        if !matches!(self.state(), State::Free) || last || owner == 0 || owner > MAX_PID {
            return None;
        }
        Some(Self::build(self.generation() + 1, 0, State::Reserved, owner))
    }

    /// Edge `Reserved → Published`. `None` in any other state, or when `flags` has other bits.
    #[must_use]
    pub const fn published(self, flags: u8) -> Option<Self> {
        if !matches!(self.state(), State::Reserved) || flags > MAX_FLAGS {
            return None;
        }
        Some(Self::build(self.generation(), flags, State::Published, 0))
    }

    /// Edge `Published → Published` with another content. `None` in any other state, or when a
    /// value does not fit.
    #[must_use]
    pub const fn updated(self, pid: u32, flags: u8) -> Option<Self> {
        if !matches!(self.state(), State::Published) || pid > MAX_PID || flags > MAX_FLAGS {
            return None;
        }
        Some(Self::build(self.generation(), flags, State::Published, pid))
    }

    /// The same published word with more flags.
    #[must_use]
    pub const fn with_flags(self, flags: u8) -> Option<Self> {
        self.updated(self.pid(), self.flags() | flags)
    }

    /// Edge `Reserved | Published → Free`, or `Retired` with the last generation.
    #[must_use]
    pub const fn freed(self) -> Option<Self> {
        match self.state() {
            State::Reserved | State::Published => Some(Self::vacant(self.generation())),
            State::Free | State::Retired => None,
        }
    }

    /// The word of an empty slot whose last tenant had `generation`.
    #[must_use]
    pub const fn vacant(generation: u64) -> Self {
        if generation >= MAX_GENERATION {
            return Self::build(MAX_GENERATION, 0, State::Retired, 0);
        }
        Self::build(generation, 0, State::Free, 0)
    }

    /// The word that the manager writes, whatever stood there before: its own list is the truth.
    #[must_use]
    pub const fn manager(generation: u64, pid: u32, flags: u8) -> Option<Self> {
        if generation > MAX_GENERATION || pid > MAX_PID || flags > MAX_FLAGS {
            return None;
        }
        Some(Self::build(generation, flags, State::Published, pid))
    }
}

impl std::fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Snapshot")
            .field("generation", &self.generation())
            .field("flags", &self.flags())
            .field("state", &self.state())
            .field("pid", &self.pid())
            .finish()
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;

    fn word(generation: u64, flags: u8, state: State, pid: u32) -> Snapshot {
        Snapshot::build(generation, flags, state, pid)
    }

    #[test]
    fn every_field_comes_back_from_every_state() {
        for state in [State::Free, State::Reserved, State::Published, State::Retired] {
            for generation in [0, 1, 15, 16, MAX_GENERATION] {
                for (flags, pid) in [(0, 0), (5, 1), (MAX_FLAGS, MAX_PID)] {
                    let word = word(generation, flags, state, pid);
                    assert_eq!(word.generation(), generation);
                    assert_eq!(word.flags(), flags);
                    assert_eq!(word.state(), state);
                    assert_eq!(word.pid(), pid);
                    assert_eq!(Snapshot::from_bits(word.bits()), word);
                }
            }
        }
    }

    #[test]
    fn zeros_are_free() {
        assert_eq!(Snapshot::from_bits(0), word(0, 0, State::Free, 0));
    }

    #[test]
    fn the_edges_are_those_of_the_table_and_no_others() {
        use State::{Free, Published, Reserved, Retired};
        let (r, p) = (word(8, 0, Reserved, 4), word(7, 3, Published, 9));
        // from -> reserved_by(4), published(3), updated(9, 3), freed()
        let table = [
            (word(7, 0, Free, 0), Some(r), None, None, None),
            (
                word(7, 0, Reserved, 4),
                None,
                Some(word(7, 3, Published, 0)),
                None,
                Some(word(7, 0, Free, 0)),
            ),
            (word(7, 1, Published, 5), None, None, Some(p), Some(word(7, 0, Free, 0))),
            (word(7, 0, Retired, 0), None, None, None, None),
        ];
        for (from, reserved, published, updated, freed) in table {
            assert_eq!(from.reserved_by(4), reserved, "{from:?}");
            assert_eq!(from.published(3), published, "{from:?}");
            assert_eq!(from.updated(9, 3), updated, "{from:?}");
            assert_eq!(from.freed(), freed, "{from:?}");
        }
    }

    #[test]
    fn the_last_generation_is_retired_and_never_wraps() {
        let last = word(MAX_GENERATION, 0, State::Published, 1);
        assert_eq!(last.freed().map(Snapshot::state), Some(State::Retired));
        assert_eq!(word(MAX_GENERATION, 0, State::Free, 0).reserved_by(1), None);
        let before = word(MAX_GENERATION - 1, 0, State::Free, 0);
        assert_eq!(before.reserved_by(1).map(Snapshot::generation), Some(MAX_GENERATION));
    }

    #[test]
    fn values_that_do_not_fit_are_refused() {
        assert_eq!(word(7, 0, State::Free, 0).reserved_by(0), None);
        assert_eq!(word(7, 0, State::Free, 0).reserved_by(MAX_PID + 1), None);
        assert_eq!(word(7, 0, State::Reserved, 1).published(16), None);
        assert_eq!(word(7, 0, State::Published, 1).updated(MAX_PID + 1, 0), None);
    }
}

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
/// What a published word has in the place of a pid while it is offered: no process of an upper
/// layer is the first of its pid namespace.
pub(crate) const OFFER_MARK: u32 = 1;

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

    /// True if the slot is published and has all of `flags`: one comparison.
    #[inline]
    #[must_use]
    pub const fn is_published_with(self, flags: u8) -> bool {
        let mask = 3 << STATE_SHIFT | ((flags & MAX_FLAGS) as u64) << FLAGS_SHIFT;
        self.0 & mask == Self::build(0, flags & MAX_FLAGS, State::Published, false, 0).0
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

    /// Like [`Snapshot::published`], kept, without flags, and *offered*: see
    /// [`Claim::offer`](crate::Claim::offer).
    #[must_use]
    pub const fn offered(self) -> Option<Self> {
        if !matches!(self.state(), State::Reserved) {
            return None;
        }
        Some(Self::build(self.generation(), 0, State::Published, true, OFFER_MARK))
    }

    /// True for a published word that is offered, whatever its flags.
    #[inline]
    #[must_use]
    pub const fn is_offered(self) -> bool {
        matches!(self.state(), State::Published) && self.pid() == OFFER_MARK
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
mod tests;

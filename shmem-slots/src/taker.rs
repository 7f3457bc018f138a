//! Cells by which a process is given a slot that is [offered](crate::Claim::offer), by whoever
//! offers it.
//!
//! A *taker* sleeps. Two words say what it is about:
//!
//! | word | lies where | written by |
//! |---|---|---|
//! | [`TakerCell`] | in the region: anybody may write to it, so it proves nothing | givers, manager |
//! | [`TakerWord`] | in memory of the manager and of the taker alone | these two |
//!
//! ```text
//!  TakerCell   CLOSED ──open──▶ IDLE ──give: one swap──▶ GIVEN(key)     any ──close──▶ CLOSED
//!
//!  TakerWord   CLOSED ◀──close, open──▶ OPEN ──begin──▶ BEGUN(key) ──run──▶ RUNS(key)
//!                                        ▲                  │
//!                                        └────step_back─────┘
//! ```
//!
//! The taker wakes for its cell, begins by one swap of its own word, accepts the offer by one swap
//! of the slot's word, and runs. The manager closes the taker's word first, then takes the cell
//! back, which yields a key to look after. Where it comes too late to close the word it withdraws
//! the offer: either that succeeds, and the taker's acceptance fails, or the taker was faster, and
//! the manager takes the run on. So once all words are closed, nothing begins.
//!
//! Ordering. `BEGUN` is written before the slot's word is swapped, by swaps with release and
//! acquire: who finds the slot's word accepted finds the taker's word no older than `BEGUN`.
//!
//! Crash. A giver killed before `give` has offered a slot that no cell names, one killed after it
//! may have woken nobody: the manager has to look at the slot in both cases, and finds it by its
//! mark of change. A taker killed after `begin` leaves its word, which the manager reads.

use crate::cell::CellRef;
use crate::fault;
use crate::futex::{self, Half, Watch};
use crate::primitive::{AtomicU64, Ordering};
use crate::word::{Key, MAX_GENERATION};

const STATE_BITS: u32 = 2;
const INDEX_BITS: u32 = 22;
const STATE: u64 = (1 << STATE_BITS) - 1;
const INDEX: u64 = (1 << INDEX_BITS) - 1;

const CLOSED: u64 = 0;
/// `IDLE` of a cell, `OPEN` of a word.
const OPEN: u64 = 1;
/// `GIVEN` of a cell, `BEGUN` of a word.
const GIVEN: u64 = 2;
const RUNS: u64 = 3;

/// `None` if the index does not fit.
const fn encode(state: u64, key: Key) -> Option<u64> {
    if key.index as u64 > INDEX || key.generation > MAX_GENERATION {
        return None;
    }
    Some(key.generation << (STATE_BITS + INDEX_BITS) | (key.index as u64) << STATE_BITS | state)
}

const fn key_of(bits: u64) -> Key {
    Key {
        index: (bits >> STATE_BITS & INDEX) as u32,
        generation: bits >> (STATE_BITS + INDEX_BITS) & MAX_GENERATION,
    }
}

fn swap(cell: &AtomicU64, seen: u64, new: u64) -> Result<u64, u64> {
    cell.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Acquire)
}

/// Where a taker is given a slot.
#[derive(Clone, Copy, Debug)]
pub struct TakerCell<'a>(&'a AtomicU64);

impl<'a> TakerCell<'a> {
    /// The one in `cell`. A cell of zero is closed.
    #[must_use]
    pub const fn new(cell: &'a AtomicU64) -> Self {
        Self(cell)
    }

    /// In the manager, while the taker sleeps: it may be given a slot.
    pub fn open(self) {
        self.0.store(OPEN, Ordering::Release);
    }

    /// In the manager: nobody gives it a slot any more. Returns what it was given since it was
    /// opened, which is to be looked after.
    #[must_use = "the slot is to be looked after"]
    pub fn close(self) -> Option<Key> {
        let before = self.0.swap(CLOSED, Ordering::AcqRel);
        (before & STATE == GIVEN).then(|| key_of(before))
    }

    /// Gives the taker an offered slot and wakes it. False: it was given another one, or is closed.
    #[must_use = "the slot is to be given to another one, or the manager to be told"]
    pub fn give(self, key: Key) -> bool {
        let Some(given) = encode(GIVEN, key) else { return false };
        fault::point("give:before_swap");
        if swap(self.0, OPEN, given).is_err() {
            return false;
        }
        fault::point("give:before_wake");
        futex::wake_all(self.0);
        true
    }

    /// What it was given, if it was.
    #[must_use]
    pub fn given(self) -> Option<Key> {
        let now = self.0.load(Ordering::Acquire);
        (now & STATE == GIVEN).then(|| key_of(now))
    }

    /// What it was given, and a watch that ends a wait when that changes.
    #[must_use]
    pub fn watch(self) -> (Option<Key>, [Watch<'a>; 2]) {
        let now = self.0.load(Ordering::Acquire);
        let cell = CellRef::from(self.0);
        let watch = |half, seen| Watch { cell, half, seen };
        let watches = [watch(Half::Low, now as u32), watch(Half::High, (now >> 32) as u32)];
        ((now & STATE == GIVEN).then(|| key_of(now)), watches)
    }
}

/// What a taker says of itself to the manager, and the manager of it.
#[derive(Clone, Copy, Debug)]
pub struct TakerWord<'a>(&'a AtomicU64);

/// How far a taker is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taking {
    /// It may not begin.
    Closed,
    /// It may begin.
    Open,
    /// It is about to accept the offer of this slot, or has.
    Begun(Key),
    /// It has accepted it.
    Runs(Key),
}

impl Taking {
    /// The slot that it is about.
    #[must_use]
    pub const fn key(self) -> Option<Key> {
        match self {
            Self::Begun(key) | Self::Runs(key) => Some(key),
            Self::Closed | Self::Open => None,
        }
    }
}

impl<'a> TakerWord<'a> {
    /// The one in `cell`, which only the manager and the taker can write to. Zero is closed.
    #[must_use]
    pub const fn new(cell: &'a AtomicU64) -> Self {
        Self(cell)
    }

    /// How far the taker is.
    #[must_use]
    pub fn look(self) -> Taking {
        let bits = self.0.load(Ordering::Acquire);
        match bits & STATE {
            CLOSED => Taking::Closed,
            OPEN => Taking::Open,
            GIVEN => Taking::Begun(key_of(bits)),
            _ => Taking::Runs(key_of(bits)),
        }
    }

    /// In the manager, while the taker has begun nothing: it may begin.
    pub fn open(self) {
        self.0.store(OPEN, Ordering::Release);
    }

    /// In the manager: the taker begins nothing any more, or has begun already.
    pub fn close(self) -> Taking {
        for _ in 0..2 {
            if swap(self.0, OPEN, CLOSED).is_ok() {
                return Taking::Closed;
            }
            // It may have stepped back in between; then it sleeps before it begins again.
            let now = self.look();
            if now != Taking::Open {
                return now;
            }
        }
        self.look()
    }

    /// In the manager, when the taker is known to sleep, or is another process: as a new one.
    pub fn reset(self) {
        self.0.store(CLOSED, Ordering::Release);
    }

    /// In the taker: it is about to accept the offer of `key`. False: it may not.
    #[must_use = "without it the taker goes on sleeping"]
    pub fn begin(self, key: Key) -> bool {
        encode(GIVEN, key).is_some_and(|begun| swap(self.0, OPEN, begun).is_ok())
    }

    /// In the taker, which has begun: the offer of `key` was none, and it sleeps on.
    pub fn step_back(self, key: Key) {
        if let Some(begun) = encode(GIVEN, key) {
            let _ = swap(self.0, begun, OPEN);
        }
    }

    /// In the taker, which has accepted the offer of `key`.
    pub fn run(self, key: Key) {
        if let Some((begun, runs)) = encode(GIVEN, key).zip(encode(RUNS, key)) {
            let _ = swap(self.0, begun, runs);
        }
    }
}

#[cfg(all(test, not(loom)))]
mod tests {
    use super::*;
    use crate::options::MAX_CAPACITY;

    const KEYS: [Key; 3] = [
        Key { index: 0, generation: 0 },
        Key { index: 7, generation: 9 },
        Key { index: MAX_CAPACITY - 1, generation: MAX_GENERATION },
    ];

    #[test]
    fn a_cell_gives_back_the_key_that_it_was_given_once() {
        for key in KEYS {
            let cell = AtomicU64::new(0);
            let cell = TakerCell::new(&cell);
            assert!(!cell.give(key), "closed");
            cell.open();
            assert_eq!((cell.given(), cell.give(key), cell.give(key)), (None, true, false));
            assert_eq!((cell.given(), cell.watch().0), (Some(key), Some(key)));
            assert_eq!((cell.close(), cell.close(), cell.given()), (Some(key), None, None));
        }
    }

    #[test]
    fn a_taker_begins_only_while_it_may_and_runs_what_it_has_begun() {
        for key in KEYS {
            let word = AtomicU64::new(0);
            let word = TakerWord::new(&word);
            assert!(!word.begin(key), "closed");
            word.open();
            assert_eq!((word.close(), word.begin(key)), (Taking::Closed, false));
            word.open();
            assert!(word.begin(key) && !word.begin(key));
            assert_eq!(word.close(), Taking::Begun(key));
            word.step_back(key);
            assert_eq!(word.look(), Taking::Open);
            assert!(word.begin(key));
            word.run(key);
            word.step_back(key);
            assert_eq!((word.look(), word.close()), (Taking::Runs(key), Taking::Runs(key)));
            assert_eq!(word.look().key(), Some(key));
            word.reset();
            assert_eq!(word.look(), Taking::Closed);
        }
    }

    #[test]
    fn any_bits_are_a_cell_and_a_word() {
        for bits in [u64::MAX, u64::MAX - 1, 1 << 63, 0xdead_beef_dead_beef] {
            let cell = AtomicU64::new(bits);
            let _ = (TakerCell::new(&cell).given(), TakerWord::new(&cell).look());
            assert!(!TakerWord::new(&cell).begin(KEYS[1]) || bits & STATE == OPEN);
            let _ = TakerCell::new(&cell).close();
            assert_eq!(TakerCell::new(&cell).given(), None);
        }
    }

    #[test]
    fn a_key_that_does_not_fit_is_never_given() {
        let cell = AtomicU64::new(OPEN);
        let key = Key { index: u32::MAX, generation: 1 };
        assert!(!TakerCell::new(&cell).give(key) && !TakerWord::new(&cell).begin(key));
    }
}

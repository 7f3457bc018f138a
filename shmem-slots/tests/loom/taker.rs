//! A slot that is given to a taker by whoever offers it, while the manager closes the gate.

use crate::{Small, slots};
use loom::sync::Arc;
use loom::sync::atomic::{AtomicU64, Ordering};
use loom::thread;
use shmem_slots::taker::{TakerCell, TakerWord, Taking};
use shmem_slots::{Key, Offer};

const TAKER: u32 = 9;
const STARTED: u8 = 4;

struct World {
    slots: Small,
    /// In the region, and in the page of manager and taker.
    cell: AtomicU64,
    word: AtomicU64,
    /// How many times the slot's worker was started, by anybody.
    starts: AtomicU64,
}

impl World {
    /// A taker that sleeps, and may be given a slot.
    fn open() -> Arc<Self> {
        let [cell, word, starts] = [(); 3].map(|()| AtomicU64::new(0));
        TakerCell::new(&cell).open();
        TakerWord::new(&word).open();
        Arc::new(Self { slots: slots(1), cell, word, starts })
    }

    /// The registrant. True: it has given the slot, else it rings the manager.
    fn register(&self) -> (Key, bool) {
        let mut claim = self.slots.claim(2).unwrap();
        claim.write(&[7; 2]).unwrap();
        let key = claim.offer(false).unwrap();
        (key, TakerCell::new(&self.cell).give(key))
    }

    /// One wake-up of the taker.
    fn wake_up(&self) {
        let Some(key) = TakerCell::new(&self.cell).given() else { return };
        let word = TakerWord::new(&self.word);
        if !word.begin(key) {
            return;
        }
        assert_eq!(self.slots.read(key), Ok([7; 2]));
        if self.slots.accept_offer(key, TAKER, STARTED, || {}).unwrap() {
            word.run(key);
            self.starts.fetch_add(1, Ordering::Relaxed);
        } else {
            word.step_back(key);
        }
    }

    /// The manager closes the gate. Returns the slot that it is to look after, and the run that it
    /// takes on.
    fn close(&self) -> (Option<Key>, Option<Key>) {
        let begun = TakerWord::new(&self.word).close();
        let given = TakerCell::new(&self.cell).close();
        let Some(key) = begun.key().or(given) else { return (None, None) };
        match self.slots.withdraw_offer(key) {
            Offer::Withdrawn(_) => (Some(key), None),
            Offer::Accepted(word) => {
                assert_eq!(word.pid(), TAKER);
                assert_eq!(begun.key(), Some(key), "its word is no older than the slot's");
                (None, Some(key))
            }
            Offer::Over => panic!("nobody ends it"),
        }
    }

    /// The manager starts what nobody has started.
    fn attend(&self, key: Key) {
        if let Offer::Withdrawn(word) = self.slots.withdraw_offer(key) {
            assert_eq!(word.pid(), 0);
            self.slots.update(key, 3, STARTED).unwrap();
            self.starts.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Fails when the acceptance or the withdrawal is no swap of the word as it was offered, when the
/// taker begins after it has accepted, or when the cell is closed before the word.
#[test]
fn a_slot_is_started_once_whoever_was_quicker() {
    loom::model(|| {
        let world = World::open();
        let (taker, registrant) = (Arc::clone(&world), Arc::clone(&world));
        let taker = thread::spawn(move || taker.wake_up());
        let registrant = thread::spawn(move || registrant.register());
        let (to_attend, taken_on) = world.close();
        if let Some(key) = to_attend {
            world.attend(key);
        }
        let (key, given) = registrant.join().unwrap();
        taker.join().unwrap();
        if !given {
            // Its ring.
            assert_eq!((to_attend, taken_on), (None, None));
            world.attend(key);
        }
        assert_eq!(world.starts.load(Ordering::Relaxed), 1, "once, and nobody lost");
    });
}

/// Fails when the taker's word is not looked at by a swap, or the manager does not withdraw.
#[test]
fn nothing_starts_once_the_gate_is_closed() {
    loom::model(|| {
        let world = World::open();
        let (key, given) = world.register();
        assert!(given);
        let taker = Arc::clone(&world);
        let taker = thread::spawn(move || taker.wake_up());
        let (to_attend, taken_on) = world.close();
        taker.join().unwrap();
        let runs = TakerWord::new(&world.word).look() == Taking::Runs(key);
        assert_eq!((runs, taken_on.is_some()), (taken_on.is_some(), to_attend.is_none()));
        assert_eq!(world.starts.load(Ordering::Relaxed), u64::from(runs));
    });
}

/// Fails when the acceptance overlooks a flag.
#[test]
fn a_request_that_came_before_leaves_the_slot_to_the_manager() {
    loom::model(|| {
        let world = World::open();
        let (key, _) = world.register();
        let taker = Arc::clone(&world);
        let taker = thread::spawn(move || taker.wake_up());
        let before = world.slots.set_flags(key, 1).unwrap();
        taker.join().unwrap();
        let word = world.slots.look(key).unwrap();
        let started = world.starts.load(Ordering::Relaxed) == 1;
        assert_eq!(started, before.pid() == TAKER, "{before:?}, {word:?}");
        assert_eq!(word.flags() & 1, 1);
        assert_eq!(word.is_offered(), !started);
    });
}

/// Fails when a taker accepts what another one has accepted.
#[test]
fn two_takers_do_not_start_one_slot() {
    loom::model(|| {
        let world = World::open();
        let (key, _) = world.register();
        let accept = |pid| {
            let world = Arc::clone(&world);
            thread::spawn(move || world.slots.accept_offer(key, pid, STARTED, || {}).unwrap())
        };
        let takers = [accept(TAKER), accept(TAKER + 1)];
        let accepted = takers.map(|taker| taker.join().unwrap());
        assert_ne!(accepted[0], accepted[1]);
    });
}

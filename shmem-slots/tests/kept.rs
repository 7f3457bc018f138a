//! The promise: no end is lost. The report of a kept slot stays, however many other slots come and
//! go, until its keeper has released it, or is dead; only when every slot is taken or kept, the
//! oldest end is overwritten, and its reader is told so.
//!
//! Would catch: a kept slot that is claimed while another one is free, one that is never given
//! back, a report that is overwritten without a word, a slot that is kept by a dead process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[macro_use]
mod support;

use shmem_slots::{After, ClaimError, Key, Memory, Options, ReportError, State};
use support::{Array, NOBODY, free_slots, kept, options, published};

const ME: u32 = 7;

suite! {
    a_kept_end_is_read_after_any_number_of_other_ends
    a_slot_that_nobody_keeps_is_free_at_its_end
    a_release_before_the_end_gives_the_slot_up
    an_update_changes_nothing_about_who_keeps_a_slot
    the_ends_of_dead_keepers_are_swept_and_those_of_living_ones_are_not
    the_oldest_end_is_overwritten_when_no_slot_is_free_and_its_reader_is_told
    a_claim_in_a_range_overwrites_no_end_outside_of_it
    a_lasting_end_gives_way_to_nobody_and_is_free_once_it_is_released
    a_key_that_never_was_is_told_from_one_that_was_overwritten
    ends_are_not_counted_as_in_use
    a_slot_that_is_passed_on_goes_to_nobody_else_and_keeps_the_report
}

/// Takes a slot through its life, with a report of `value`.
fn end<M: Memory>(slots: &Array<M>, key: Key, value: u64, keeper: u32) {
    slots.write_report(key, &[value; 4]).unwrap();
    slots.end(key, keeper).unwrap();
}

fn a_kept_end_is_read_after_any_number_of_other_ends<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(3));
    let key = kept(&slots, 1);
    end(&slots, key, 10, ME);
    let word = slots.look(key).unwrap();
    assert_eq!((word.state(), word.pid(), word.is_kept()), (State::Ended, ME, true));
    for value in 0..100 {
        let other = if value % 2 == 0 { published(&slots, value) } else { kept(&slots, value) };
        end(&slots, other, value, ME);
        slots.release(other);
    }
    assert_eq!(slots.read_report(key), Ok([10; 4]));
    assert_eq!(slots.read(key), Ok(support::request(1)));
    assert!(slots.release(key));
    assert!(!slots.release(key), "once");
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
    assert_eq!(slots.read_report(key), Ok([10; 4]), "until the slot is used again");
    assert_eq!(free_slots(&slots), 3);
}

fn a_slot_that_nobody_keeps_is_free_at_its_end<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = published(&slots, 1);
    end(&slots, key, 1, ME);
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
    // Kept, but the manager knows that its keeper is gone.
    let key = kept(&slots, 1);
    end(&slots, key, 1, 0);
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
    let key = kept(&slots, 1);
    slots.free(key).unwrap();
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
}

fn a_release_before_the_end_gives_the_slot_up<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(1));
    let key = kept(&slots, 1);
    assert!(slots.look(key).unwrap().is_kept());
    assert!(slots.release(key));
    assert!(!slots.release(key));
    let word = slots.look(key).unwrap();
    assert_eq!((word.state(), word.is_kept()), (State::Published, false));
    end(&slots, key, 1, ME);
    assert_eq!(slots.look(key).unwrap().state(), State::Free);
}

/// Would fail if the manager's swaps lost the mark, or restored one that was released.
fn an_update_changes_nothing_about_who_keeps_a_slot<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    let key = slots.claim(1).unwrap().publish_kept(3).unwrap();
    slots.set_flags(key, 4).unwrap();
    assert!(slots.look(key).unwrap().is_kept());
    slots.update(key, 42, 1).unwrap();
    assert!(slots.look(key).unwrap().is_kept());
    slots.release(key);
    let word = slots.look(key).unwrap();
    assert_eq!((word.pid(), word.flags(), word.is_kept()), (42, 1, false));
    slots.update(key, 43, 2).unwrap();
    slots.set_flags(key, 4).unwrap();
    assert!(!slots.look(key).unwrap().is_kept());
}

fn the_ends_of_dead_keepers_are_swept_and_those_of_living_ones_are_not<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(70));
    let keys: Vec<_> = (0..70).map(|value| kept(&slots, value)).collect();
    for (at, &key) in keys.iter().enumerate() {
        end(&slots, key, 1, if at % 2 == 0 { NOBODY } else { ME });
    }
    slots.release(keys[0]);
    assert_eq!(slots.sweep(|_| false), 0);
    assert_eq!(slots.sweep(|keeper| keeper == NOBODY), 34);
    assert_eq!(slots.sweep(|keeper| keeper == NOBODY), 0);
    for (at, &key) in keys.iter().enumerate() {
        let state = if at % 2 == 0 { State::Free } else { State::Ended };
        assert_eq!(slots.look(key).unwrap().state(), state, "{at}");
    }
    assert_eq!(slots.sweep(|_| true), 35);
    assert_eq!(free_slots(&slots), 70);
}

fn the_oldest_end_is_overwritten_when_no_slot_is_free_and_its_reader_is_told<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(4));
    let keys: Vec<_> = (0..4).map(|value| kept(&slots, value)).collect();
    let order = [2, 0, 3];
    for at in order {
        end(&slots, keys[at], at as u64, ME);
    }
    for (round, at) in order.into_iter().enumerate() {
        let next = published(&slots, 9);
        assert_eq!(next.index, keys[at].index, "the oldest end first");
        assert_eq!(slots.look(keys[at]), None);
        assert_eq!(slots.read_report(keys[at]), Ok([at as u64; 4]), "not overwritten yet");
        slots.write_report(next, &[9; 4]).unwrap();
        slots.write_report(next, &[9; 4]).unwrap();
        assert_eq!(slots.read_report(keys[at]), Err(ReportError::Overwritten));
        assert!(!slots.release(keys[at]), "the slot has another tenant");
        for &unread in order.iter().skip(round + 1) {
            assert_eq!(slots.read_report(keys[unread]), Ok([unread as u64; 4]));
        }
    }
    let full = slots.claim(1).map(|claim| claim.key());
    assert_eq!(full, Err(ClaimError::Full { capacity: 4, in_use: 4 }));
}

/// Would fail if the mark of a lasting slot were lost at its end or in a reset, outlived its
/// tenant, or counted as a part of its payload.
fn a_lasting_end_gives_way_to_nobody_and_is_free_once_it_is_released<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(2));
    for round in 0..3 {
        let mut claim = slots.claim(ME).unwrap();
        claim.write(&support::request(3)).unwrap();
        let lasting = claim.publish_lasting(0).unwrap();
        assert_eq!(slots.read(lasting), Ok(support::request(3)));
        if round < 2 {
            end(&slots, lasting, 5, ME);
        }
        let other = kept(&slots, 6);
        end(&slots, other, 6, ME);
        if round > 0 {
            slots.write_report(lasting, &[5; 4]).unwrap();
            slots.reset_each(ME, |_, _| After::Ended(ME)).unwrap();
        }
        for value in 7..12 {
            let next = kept(&slots, value);
            assert_eq!(next.index, other.index, "{round}: the other end, though it is younger");
            end(&slots, next, value, ME);
        }
        let holder = published(&slots, 9);
        let full = slots.claim(1).map(|claim| claim.key());
        assert_eq!(full, Err(ClaimError::Full { capacity: 2, in_use: 2 }), "{round}");
        assert_eq!(slots.read_report(lasting), Ok([5; 4]));
        assert!(slots.release(lasting));
        let next = kept(&slots, 9);
        assert_eq!(next.index, lasting.index);
        end(&slots, next, 9, ME);
        assert_eq!(kept(&slots, 9).index, lasting.index, "{round}: its next tenant is not lasting");
        slots.free(holder).unwrap();
        slots.reset_all().unwrap();
    }
}

fn a_claim_in_a_range_overwrites_no_end_outside_of_it<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(4));
    let keys: Vec<_> = (0..4).map(|value| kept(&slots, value)).collect();
    keys.iter().for_each(|&key| end(&slots, key, 1, ME));
    let claim = slots.claim_in(2..4, 1).unwrap();
    assert_eq!(claim.key().index, 2);
    let other = slots.claim_in(2..4, 1).unwrap();
    assert_eq!(other.key().index, 3);
    let full = slots.claim_in(2..4, 1).map(|claim| claim.key());
    assert_eq!(full, Err(ClaimError::Full { capacity: 2, in_use: 2 }));
    assert!(keys[..2].iter().all(|&key| slots.look(key).unwrap().state() == State::Ended));
}

fn a_key_that_never_was_is_told_from_one_that_was_overwritten<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    let key = kept(&slots, 1);
    assert_eq!(slots.read_report(key), Err(ReportError::NotYet));
    end(&slots, key, 1, ME);
    let never = Key { generation: key.generation + 1, ..key };
    assert_eq!(slots.read_report(never), Err(ReportError::Unknown));
    assert_eq!(slots.read_report(Key { index: 1, ..key }), Err(ReportError::Unknown));
    for value in 0..2 {
        let next = kept(&slots, value);
        end(&slots, next, value, ME);
    }
    assert_eq!(slots.read_report(key), Err(ReportError::Overwritten));
}

fn ends_are_not_counted_as_in_use<M: Memory>(make: impl Fn(&Options) -> Array<M>) {
    let slots = make(&options(3));
    let key = kept(&slots, 1);
    let running = published(&slots, 2);
    assert_eq!(slots.in_use(), 2);
    end(&slots, key, 1, ME);
    assert_eq!(slots.in_use(), 1);
    let occupied: Vec<_> = slots.occupied().map(|(index, _)| index).collect();
    assert_eq!(occupied, [running.index]);
}

/// Would fail if the slot were free for an instant, or if the report of the tenant went with it.
fn a_slot_that_is_passed_on_goes_to_nobody_else_and_keeps_the_report<M: Memory>(
    make: impl Fn(&Options) -> Array<M>,
) {
    let slots = make(&options(1));
    let first = kept(&slots, 1);
    slots.write_report(first, &[5; 4]).unwrap();
    let claim = slots.end_and_claim(first, 9, || assert!(slots.claim(8).is_err())).unwrap();
    assert!(slots.claim(8).is_err());
    assert!(!slots.release(first), "nobody keeps it any more");
    assert_eq!(slots.read_report(first), Ok([5; 4]));
    let second = claim.publish(0).unwrap();
    assert_eq!((second.index, second.generation), (first.index, first.generation + 1));
    assert!(slots.end_and_claim(second, 0, || ()).is_err(), "that is no pid");
    assert!(slots.claim(8).is_err(), "nothing has changed");
}

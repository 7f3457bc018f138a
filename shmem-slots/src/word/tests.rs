//! What a word holds, and the tables of its transitions.

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
                for asked in 0..=MAX_FLAGS {
                    let has = state == Published && flags & asked == asked;
                    assert_eq!(word.is_published_with(asked), has);
                }
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

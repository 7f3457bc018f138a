//! Each property finds the mistake that it is there for. A property without such a test may hold for
//! the wrong reason.

use crate::model::{Broken, Config};
use crate::{properties, sizes};
use stateright::{Checker, Model};

/// Checks the sizes one by one until `name` is violated.
fn is_violated(broken: Broken, name: &'static str) {
    let violated = sizes::ALL.iter().any(|size| {
        let broken = Config { broken, ..*size };
        // Ends at the first violation of anything, or when there is none.
        let checker = broken.checker().target_state_count(400_000).spawn_bfs().join();
        checker.discovery(name).is_some()
    });
    assert!(violated, "{broken:?} violates {name:?} in no size of the model");
}

#[test]
fn a_mark_that_is_cleared_after_the_look_loses_a_change() {
    is_violated(Broken::MarkClearedLast, properties::CHANGE_LOST);
}

#[test]
fn a_postmaster_that_does_not_ask_its_list_starts_twice() {
    is_violated(Broken::ListNotAsked, properties::STARTED_TWICE);
}

#[test]
fn a_claim_that_takes_unread_ends_first_loses_one() {
    is_violated(Broken::UnreadIsFree, properties::END_LOST);
}

#[test]
fn a_report_that_comes_after_the_word_is_lost() {
    is_violated(Broken::ReportLast, properties::END_LOST);
}

#[test]
fn a_reader_that_does_not_compare_generations_gets_another_report() {
    is_violated(Broken::AnyReport, properties::WRONG_REPORT);
}

#[test]
fn a_wake_that_comes_before_the_word_leaves_a_waiter_asleep() {
    is_violated(Broken::WakeFirst, properties::WAIT_HANGS);
}

#[test]
fn a_reset_that_swaps_once_gives_a_generation_out_twice() {
    is_violated(Broken::ResetSwapsOnce, properties::REUSED);
}

#[test]
fn a_claim_that_is_marked_after_its_swap_is_never_swept() {
    is_violated(Broken::MarkAfterSwap, properties::DEAD_HOLDS);
}

#[test]
fn an_end_that_is_kept_for_a_dead_registrant_is_held_for_ever() {
    is_violated(Broken::UnreadKeptForDead, properties::DEAD_HOLDS);
}

#[test]
fn without_a_mistake_nothing_is_violated() {
    for size in sizes::ALL.iter().filter(|size| size.crashes > 0) {
        let checker = size.checker().target_state_count(400_000).spawn_bfs().join();
        for property in size.properties() {
            let found = checker.discovery(property.name);
            let violated = property.expectation.discovery_is_failure() && found.is_some();
            assert!(!violated, "{}: {}", size.name, property.name);
        }
    }
}

//! Each property finds the mistake that it is there for. A property without such a test may hold
//! for the wrong reason.
#![allow(clippy::expect_used)]

use crate::config::{Broken, Config};
use crate::{properties, sizes};
use stateright::{Checker, HasDiscoveries, Model};

/// Checks one size until anything is violated.
#[track_caller]
fn is_violated(broken: Broken, name: &'static str, size: &str) {
    let size = sizes::ALL.iter().find(|known| known.name == size).expect("there is such a size");
    let model = Config { broken, ..*size };
    let checker = model.checker().finish_when(HasDiscoveries::AnyFailures).spawn_bfs().join();
    let found: Vec<&str> = checker.discoveries().into_keys().collect();
    assert!(
        found.contains(&name),
        "{broken:?} should violate {name:?} in {size:?}, found {found:?}"
    );
}

#[test]
fn a_mark_that_is_cleared_after_the_look_loses_a_change() {
    is_violated(Broken::MarkClearedLast, properties::CHANGE_LOST, "asked to end");
}

#[test]
fn a_postmaster_that_does_not_ask_its_list_starts_twice() {
    is_violated(Broken::ListNotAsked, properties::STARTED_TWICE, "one slot, two that want it");
}

#[test]
fn a_claim_that_takes_ended_slots_first_loses_an_end() {
    is_violated(Broken::EndedIsFree, properties::END_LOST, "more registrations than slots");
}

#[test]
fn a_report_that_comes_after_the_word_is_lost() {
    is_violated(Broken::ReportLast, properties::END_LOST, "dropped handles");
}

#[test]
fn a_reader_that_does_not_compare_generations_gets_another_report() {
    is_violated(Broken::AnyReport, properties::WRONG_REPORT, "reset and a next tenant");
}

#[test]
fn a_wake_that_comes_before_the_word_leaves_a_waiter_asleep() {
    is_violated(Broken::WakeFirst, properties::WAIT_HANGS, "dropped handles");
}

#[test]
fn a_reset_that_stores_without_comparing_gives_a_generation_out_twice() {
    is_violated(Broken::ResetStores, properties::REUSED, "reset and a next tenant");
}

#[test]
fn a_claim_that_is_marked_after_its_swap_is_never_swept() {
    is_violated(Broken::MarkAfterSwap, properties::HELD, "one slot, two that want it");
}

#[test]
fn an_end_that_is_kept_for_a_dead_registrant_is_held_for_ever() {
    is_violated(Broken::EndKeptForDead, properties::HELD, "one slot, two that want it");
}

#[test]
fn a_reset_that_frees_claims_lets_two_write_into_one_slot() {
    is_violated(Broken::ResetFreesClaims, properties::TORN, "reset and a next tenant");
}

#[test]
fn a_reset_that_frees_unread_ends_loses_them() {
    is_violated(Broken::ResetFreesEnds, properties::END_LOST, "reset and a next tenant");
}

#[test]
fn a_waiter_that_holds_nothing_loses_the_end() {
    is_violated(Broken::WaiterHoldsNothing, properties::END_LOST, "a waiter that runs late");
}

#[test]
fn a_hold_of_a_dead_waiter_that_is_not_given_back_holds_the_slot_for_ever() {
    is_violated(Broken::HoldKeptForDead, properties::HELD, "a waiter that runs late");
}

#[test]
fn an_end_that_is_kept_after_its_release_is_held_for_ever() {
    is_violated(Broken::ReleaseIgnored, properties::HELD, "dropped handles");
}

#[test]
fn without_a_mistake_nothing_is_violated() {
    let small = ["reset and a next tenant", "a waiter that runs late"];
    for size in sizes::ALL.iter().filter(|size| small.contains(&size.name)) {
        let checker = size.checker().spawn_bfs().join();
        for property in size.properties() {
            let found = checker.discovery(property.name);
            let violated = property.expectation.discovery_is_failure() && found.is_some();
            assert!(!violated, "{}: {}", size.name, property.name);
        }
    }
}

#[test]
fn a_spare_that_accepts_without_comparing_starts_a_worker_twice() {
    is_violated(Broken::AcceptStores, properties::STARTED_TWICE, "a spare is killed");
}

#[test]
fn a_spare_that_accepts_any_tenant_takes_a_stranger_s_slot() {
    is_violated(Broken::AcceptAnyTenant, properties::STRANGER, "a spare is stopped");
}

#[test]
fn an_offer_that_stands_after_the_intake_is_accepted_a_second_time() {
    is_violated(Broken::OfferStands, properties::STARTED_TWICE, "given to a spare");
}

#[test]
fn a_gate_that_is_not_closed_lets_a_spare_begin_behind_it() {
    is_violated(Broken::GateLeftOpen, properties::BEHIND_THE_GATE, "given while a shutdown begins");
}

#[test]
fn a_reset_that_leaves_the_gate_open_lets_a_spare_begin_in_it() {
    is_violated(Broken::GateLeftOpen, properties::BEHIND_THE_GATE, "reset while given");
}

#[test]
fn a_reset_that_overlooks_what_has_begun_starts_a_worker_twice() {
    is_violated(Broken::BegunIgnored, properties::STARTED_TWICE, "reset while given");
}

#[test]
fn a_reset_that_leaves_the_words_open_starts_a_worker_twice() {
    is_violated(Broken::WordLeftOpen, properties::STARTED_TWICE, "reset while given");
}

#[test]
fn a_gate_that_opens_before_the_reset_is_over_lets_a_spare_begin_in_it() {
    is_violated(Broken::OpenInReset, properties::BEHIND_THE_GATE, "reset while given");
}

#[test]
fn a_process_that_outlives_a_reset_remembers_what_was_before() {
    let size = "reset, and the spare has served";
    is_violated(Broken::UsedOutliveReset, properties::REMEMBERS, size);
}

#[test]
fn a_gate_that_closes_without_a_look_at_what_has_begun_starts_a_worker_twice() {
    is_violated(Broken::BegunIgnored, properties::STARTED_TWICE, "given while a shutdown begins");
}

#[test]
fn a_gate_that_leaves_the_words_open_starts_a_worker_twice() {
    is_violated(Broken::WordLeftOpen, properties::STARTED_TWICE, "given while a shutdown begins");
}

#[test]
fn a_slot_that_is_forgotten_when_its_cell_is_closed_is_lost() {
    is_violated(Broken::GivenForgotten, properties::CHANGE_LOST, "a spare is killed");
}

#[test]
fn what_a_dead_spare_has_begun_is_started_twice_if_nobody_looks() {
    is_violated(Broken::DeadSpareForgotten, properties::STARTED_TWICE, "a spare is killed");
}

#[test]
fn a_spare_that_does_not_wake_is_not_waited_for() {
    is_violated(Broken::Patient, properties::WAIT_HANGS, "a spare is stopped");
}

#[test]
fn a_slot_that_a_late_spare_no_longer_has_is_not_lost() {
    is_violated(Broken::LateForgotten, properties::CHANGE_LOST, "scribbled cells of spares");
}

#[test]
fn what_another_spare_runs_is_not_taken_in() {
    is_violated(Broken::OthersRunIgnored, properties::STARTED_TWICE, "scribbled cells of spares");
}

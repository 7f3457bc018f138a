//! What tests prove that cannot say so themselves: plain `#[test]` functions.
//!
//! A test under `process_test` names its rows where it is listed (`tests![name => [B05, B10]]`),
//! and its program prints them with `--list`. A function of libtest has no place for that, so it
//! stands here.

/// Package, test program, test, rows.
type Claim = (&'static str, &'static str, &'static str, &'static [&'static str]);

const CLAIMS: &[Claim] = &[
    loom("latch::an_owner_sees_what_each_setter_did_and_never_sleeps_on_a_set_latch", &["R25"]),
    loom("latch::the_owner_sees_a_set_before_it_polls_or_the_setter_sees_the_poll", &["R25"]),
    loom("kept::a_keeper_that_sees_the_end_reads_the_report", &["D01"]),
    loom("kept::an_end_is_readable_until_a_claim_has_taken_its_slot", &["D01"]),
    loom("payload::a_copy_never_mixes_two_tenants", &["D17"]),
    loom("payload::a_report_and_its_annex_are_of_one_and_the_same_end", &["D17", "J06"]),
    loom("payload::a_report_is_one_of_those_written_and_whole", &["D17"]),
    loom("reset::a_claimer_that_a_reset_overtook_writes_into_no_later_tenant", &["D17"]),
    core(
        "shared::tests::restart::each_refusal_names_field_value_and_limit_from_the_builder_and_from_a_slot",
        &["P01"],
    ),
    core(
        "shared::tests::restart::what_is_just_inside_the_limits_is_taken_and_comes_back_from_a_slot",
        &["P01"],
    ),
    core("shared::tests::surroundings::each_refusal_names_field_value_and_limit", &["P01"]),
    core(
        "worker::schedule::tests::each_delay_is_that_of_the_schedule_up_to_the_thousandth",
        &["P04"],
    ),
    core(
        "worker::schedule::tests::a_pause_is_never_below_its_delay_nor_above_it_and_its_jitter",
        &["P05"],
    ),
    rules("rules::tests::verdict::each_cell_holds_for_an_end_that_nobody_asked_for", &["P02"]),
    rules("rules::tests::verdict::each_cell_holds_for_an_end_during_a_reset", &["P02"]),
    rules("rules::tests::verdict::each_cell_holds_for_an_end_that_was_asked_for", &["P02", "P22"]),
    rules("rules::tests::verdict::each_cell_holds_for_an_end_by_recycling", &["P02"]),
    core("worker::recycle::tests::the_limits_of_runs_differ_and_never_exceed_the_limit", &["P42"]),
    rules(
        "rules::tests::roll::a_roll_stops_at_its_first_failure_and_sees_those_in_hand_through",
        &["P47"],
    ),
    rules("rules::tests::recycle::recycling_leaves_failures_and_restarts_as_they_are", &["P43"]),
    rules(
        "rules::tests::overlap::the_next_run_starts_is_ready_serves_and_only_then_the_former_is_told",
        &["P44"],
    ),
    rules("slot_table::berths::tests::no_two_processes_have_one_berth_and_none_is_lost", &["P45"]),
    rules(
        "rules::tests::overlap::no_more_than_the_overlap_of_the_cluster_have_a_second_process_and_turns_are_in_order",
        &["P46"],
    ),
    rules(
        "rules::tests::overlap::when_the_old_run_ends_the_next_one_follows_if_any_is_to",
        &["P46"],
    ),
    rules("rules::tests::overlap::no_third_process_starts_while_the_former_run_lives", &["P46"]),
    rules("rules::tests::overlap_roll::during_a_roll_no_fewer_are_ready_than_before", &["P48"]),
    rules(
        "rules::tests::patience::a_next_run_without_a_start_timeout_has_a_minute_and_more_if_it_asks",
        &["P46"],
    ),
    rules("rules::tests::patience::the_time_of_a_roll_is_that_of_its_next_runs", &["P48"]),
    rules("rules::tests::verdict::a_final_code_is_final_and_no_other_end_is", &["P02"]),
    rules("rules::tests::streak::the_pauses_are_those_of_the_schedule", &["P03", "P04"]),
    rules(
        "rules::tests::streak::a_worker_that_fails_at_once_is_restarted_five_times_at_once_and_14_times_in_a_minute",
        &["P06"],
    ),
    rules(
        "rules::tests::streak::a_missing_program_has_the_same_pauses_and_its_report_says_so",
        &["P07"],
    ),
    rules(
        "rules::tests::streak::a_good_run_makes_the_next_pause_the_first_one_and_a_millisecond_less_does_not",
        &["P08"],
    ),
    rules("rules::tests::streak::time_before_a_declared_readiness_makes_no_good_run", &["P09"]),
    rules("rules::tests::streak::one_failure_more_than_granted_within_the_time_gives_up", &["P11"]),
    rules("rules::tests::streak::a_restart_exactly_as_old_as_the_time_counts_no_more", &["P11"]),
    rules(
        "rules::tests::streak::a_worker_that_was_never_ready_is_given_up_after_its_attempts_and_one_ready_run_voids_them",
        &["P13"],
    ),
    rules("rules::tests::streak::failed_forks_lengthen_pauses_and_never_give_up", &["P14"]),
    rules(
        "rules::tests::streak::a_requested_restart_ends_the_pause_and_clears_streak_and_window",
        &["P15"],
    ),
    rules(
        "rules::tests::streak::a_worker_that_always_runs_comes_back_after_its_first_delay_with_its_streak",
        &["P16"],
    ),
    rules("rules::tests::streak::the_pause_is_longer_by_the_random_share_of_the_jitter", &["P05"]),
    rules("rules::tests::streak::ten_thousand_pauses_are_one_deadline", &["P17"]),
    rules(
        "rules::tests::culprit::a_worker_that_causes_six_resets_in_a_row_waits_and_the_others_do_not",
        &["P67"],
    ),
    rules(
        "rules::tests::lateness::a_late_worker_is_stopped_and_its_start_has_timed_out_however_it_exits",
        &["P29"],
    ),
    rules("rules::tests::verdict::each_cell_holds_for_a_start_that_timed_out", &["P02"]),
    rules("rules::tests::supervision::a_member_s_end_concerns_whom_the_strategy_says", &["P49"]),
    rules(
        "rules::tests::supervision::a_crash_that_leaves_shared_state_in_doubt_resets_the_cluster_and_starts_in_order",
        &["P49"],
    ),
    rules(
        "rules::tests::supervision::members_start_one_by_one_each_when_the_one_before_is_ready",
        &["P49"],
    ),
    rules(
        "rules::tests::supervision::a_failure_while_the_round_starts_stops_those_again_that_it_concerns",
        &["P49"],
    ),
    rules("rules::tests::supervision::ends_while_the_round_stops_belong_to_it", &["P49"]),
    rules(
        "rules::tests::supervision::siblings_that_never_restart_are_stopped_and_unregistered",
        &["P49"],
    ),
    rules(
        "rules::tests::intensity::one_failure_more_than_the_intensity_allows_ends_the_group",
        &["P50"],
    ),
    rules(
        "rules::tests::intensity::a_restart_that_is_as_old_as_the_window_counts_no_more",
        &["P50"],
    ),
    rules(
        "rules::tests::supervision::a_terminated_member_leaves_the_others_wherever_the_round_is",
        &["P51"],
    ),
    rules("rules::tests::after::a_worker_starts_once_all_its_conditions_hold_at_once", &["P52"]),
    rules(
        "rules::tests::after::a_target_that_ends_for_good_ends_the_whole_chain_that_waits",
        &["P53"],
    ),
    rules(
        "rules::tests::after::a_second_unique_worker_of_a_name_is_refused_until_the_first_has_ended",
        &["P55"],
    ),
    rules(
        "rules::stop_order::tests::dependents_end_before_their_targets_and_later_members_before_earlier_ones",
        &["P25"],
    ),
    rules("rules::tests::heartbeat::who_beats_once_per_interval_is_never_silent", &["P30"]),
    rules(
        "rules::tests::heartbeat::who_stops_is_aborted_within_one_and_a_half_intervals_and_not_within_one",
        &["P30"],
    ),
    rules(
        "rules::tests::heartbeat::without_a_heartbeat_there_is_no_deadline_and_ten_thousand_that_beat_have_one",
        &["P31"],
    ),
    rules(
        "rules::tests::heartbeat::a_postmaster_that_was_stopped_for_an_hour_takes_nobody_for_silent",
        &["P32"],
    ),
    rules("rules::tests::grace::immediate_shutdown_knows_no_grace_time", &["P24"]),
    rules("rules::tests::grace::a_stricter_request_keeps_running_clocks", &["P26"]),
    backend("outcome::tests::each_end_has_the_outcome_of_the_table", &["J01"]),
    backend(
        "calls::schema::tests::copies_of_a_type_are_alike_and_any_change_of_it_shows",
        &["J14"],
    ),
    backend("calls::types::tests::a_call_has_a_tag_of_both_its_types_and_of_their_order", &["J14"]),
    backend("calls::format::tests::a_value_comes_back_and_what_is_none_is_an_error", &["J13"]),
    backend("outcome::tests::it_says_how_many_processes_ran", &["J02"]),
];

/// A model of the slots.
const fn loom(name: &'static str, ids: &'static [&'static str]) -> Claim {
    ("shmem-slots", "loom", name, ids)
}

/// A unit test of bgw-core.
const fn core(name: &'static str, ids: &'static [&'static str]) -> Claim {
    ("bgw-core", "bgw_core", name, ids)
}

/// A table of the postmaster's rules.
const fn rules(name: &'static str, ids: &'static [&'static str]) -> Claim {
    ("bgw-postmaster", "bgw_postmaster", name, ids)
}

/// A unit test of bgw-backend.
const fn backend(name: &'static str, ids: &'static [&'static str]) -> Claim {
    ("bgw-backend", "bgw_backend", name, ids)
}

/// The rows that this test proves according to the table.
pub(crate) fn of(package: &str, program: &str, name: &str) -> Vec<String> {
    CLAIMS
        .iter()
        .filter(|(p, t, n, _)| (*p, *t, *n) == (package, program, name))
        .flat_map(|(.., ids)| ids.iter().map(|id| (*id).to_owned()))
        .collect()
}

/// The entries of the table that no test of `found` (package, program, name) stands for.
pub(crate) fn stray<'a>(
    found: impl Iterator<Item = (&'a str, &'a str, &'a str)> + Clone,
) -> Vec<String> {
    CLAIMS
        .iter()
        .filter(|(p, t, n, _)| !found.clone().any(|test| test == (*p, *t, *n)))
        .map(|(package, program, name, _)| format!("{package}/{program}: {name}"))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::{CLAIMS, of, stray};

    #[test]
    fn an_entry_is_found_by_all_three_names_and_missed_when_its_test_is_gone() {
        let (package, program, name, ids) = CLAIMS[0];
        assert_eq!(of(package, program, name), ids);
        assert!(of(package, program, "other").is_empty());
        assert!(of("other", program, name).is_empty());
        let all = CLAIMS.iter().map(|(p, t, n, _)| (*p, *t, *n));
        assert!(stray(all.clone()).is_empty());
        assert_eq!(stray(all.skip(1)), [format!("{package}/{program}: {name}")]);
    }
}

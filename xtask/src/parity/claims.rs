//! What tests prove that cannot say so themselves: plain `#[test]` functions.
//!
//! A test under `process_test` names its rows where it is listed (`tests![name => [B05, B10]]`), and
//! its program prints them with `--list`. A function of libtest has no place for that, so it stands
//! here.

/// Package, test program, test, rows.
type Claim = (&'static str, &'static str, &'static str, &'static [&'static str]);

const CLAIMS: &[Claim] = &[
    loom("latch::an_owner_sees_what_each_setter_did_and_never_sleeps_on_a_set_latch", &["R25"]),
    loom("latch::the_owner_sees_a_set_before_it_polls_or_the_setter_sees_the_poll", &["R25"]),
    loom("kept::a_keeper_that_sees_the_end_reads_the_report", &["D01"]),
    loom("kept::an_end_is_readable_until_a_claim_has_taken_its_slot", &["D01"]),
    loom("payload::a_copy_never_mixes_two_tenants", &["D17"]),
    loom("payload::a_report_is_one_of_those_written_and_whole", &["D17"]),
    loom("reset::a_claimer_that_a_reset_overtook_writes_into_no_later_tenant", &["D17"]),
];

/// A model of the slots.
const fn loom(name: &'static str, ids: &'static [&'static str]) -> Claim {
    ("shmem-slots", "loom", name, ids)
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

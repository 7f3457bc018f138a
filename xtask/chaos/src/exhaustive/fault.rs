//! The fault points, and in whom each is armed.

/// What happens at a point.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Kill,
    StopAndGoOn,
}

/// Who carries the fault. The points of the slots lie in whoever uses them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Party {
    /// The postmaster and its workers.
    Cluster,
    /// The program that registers.
    Registrant,
    /// The program that waits for a worker of another one.
    Waiter,
}

/// A point, and in whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) point: &'static str,
    pub(crate) party: Party,
    pub(crate) action: Action,
}

impl Fault {
    pub(super) fn name(&self) -> String {
        match self.party {
            Party::Cluster => self.point.to_owned(),
            Party::Registrant => format!("registrant/{}", self.point),
            Party::Waiter => format!("waiter/{}", self.point),
        }
    }
}

/// Whom a point may meet.
fn parties(point: &str) -> &'static [Party] {
    use Party::{Cluster, Registrant, Waiter};
    let (operation, step) = point.split_once(':').unwrap_or((point, ""));
    match (operation, step) {
        ("claim" | "publish" | "abandon" | "set_flags" | "release", _) => &[Cluster, Registrant],
        ("settle" | "vacate", _) => &[Cluster, Registrant, Waiter],
        ("hold", _) => &[Waiter],
        ("give" | "submit" | "collect", _) => &[Registrant],
        // Of a pool; the others are of a template.
        ("order", "before_submit" | "submitted" | "launching" | "registered") => &[Registrant],
        ("order", "launched" | "answered" | "collected") => &[Registrant],
        ("sweep", "swept") => &[Registrant],
        ("ticket", "asked" | "sent" | "over") => &[Registrant],
        _ => &[Cluster],
    }
}

/// All points, each in each party that may reach it.
pub(super) fn points() -> Vec<(&'static str, Party)> {
    let upper = bgw_postmaster::fault::POINTS.iter().chain(bgw_backend::fault::POINTS);
    let all = upper.chain(shmem_slots::fault::POINTS).chain(shmem_slots::fault::TAKER_POINTS);
    let all = all.chain(shmem_slots::fault::JOB_POINTS).chain(bgw_backend::fault::POOL_POINTS);
    all.flat_map(|&point| parties(point).iter().map(move |&party| (point, party))).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A fault names its point alone, so a name stands for one place.
    #[test]
    fn no_two_crates_have_a_point_of_the_same_name() {
        let mut names: Vec<_> = points()
            .into_iter()
            .map(|(point, party)| Fault { point, party, action: Action::Kill }.name())
            .collect();
        let all = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), all);
    }
}

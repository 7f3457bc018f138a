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
}

/// A point, and in whom.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Fault {
    pub(crate) variable: &'static str,
    pub(crate) point: &'static str,
    pub(crate) party: Party,
    pub(crate) action: Action,
}

impl Fault {
    pub(super) fn name(&self) -> String {
        match (self.variable, self.party) {
            (CORE, _) => self.point.to_owned(),
            (_, Party::Cluster) => format!("slots/{}", self.point),
            (_, Party::Registrant) => format!("registrant/{}", self.point),
        }
    }
}

pub(super) const CORE: &str = "BGW_FAULT";
pub(super) const SLOTS: &str = "SHMEM_SLOTS_FAULT";

/// The operations of the slots that a program which registers uses; the others are the manager's.
const OF_REGISTRANTS: [&str; 4] = ["claim", "publish", "abandon", "set_flags"];

fn operation(point: &str) -> &str {
    point.split(':').next().unwrap_or(point)
}

/// All points, each in each party that may reach it.
pub(super) fn points() -> Vec<(&'static str, &'static str, Party)> {
    let core = bgw_postmaster::fault::POINTS.iter().chain(bgw_backend::fault::POINTS);
    let mut points: Vec<_> = core.map(|&point| (CORE, point, Party::Cluster)).collect();
    let slots = shmem_slots::fault::POINTS.iter();
    points.extend(slots.clone().map(|&point| (SLOTS, point, Party::Cluster)));
    let registrants = slots.filter(|point| OF_REGISTRANTS.contains(&operation(point)));
    points.extend(registrants.map(|&point| (SLOTS, point, Party::Registrant)));
    points
}

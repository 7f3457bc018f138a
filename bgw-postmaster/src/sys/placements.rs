//! Descriptors of the postmaster that a child gets under numbers of the child's choice.
//!
//! Everything is worked out before the fork, since the child of a command may not allocate.
//!
//! A number that a child gets may be that of a descriptor which is still to be placed. So the
//! standard streams come first, and whatever gets another number comes from above
//! [`HIGHEST_NUMBER`] (`DescriptorFloor::move_clear`).

use std::os::fd::RawFd;

/// The highest number that a child may ask for.
pub(crate) const HIGHEST_NUMBER: RawFd = 63;

/// The descriptors of one child.
#[derive(Clone, Debug, Default)]
pub(crate) struct Placements {
    /// Number here, number there; in the order of the latter.
    all: Vec<(RawFd, RawFd)>,
}

impl Placements {
    /// The child gets descriptor `from` as `to`.
    pub(crate) fn add(&mut self, from: RawFd, to: RawFd) {
        let at = self.all.partition_point(|&(_, other)| other <= to);
        self.all.insert(at, (from, to));
    }

    /// Those that get another number than they have here: number here, number there.
    pub(crate) fn moved(&self) -> impl Iterator<Item = (RawFd, RawFd)> {
        self.all.iter().copied().filter(|&(from, to)| from != to)
    }

    /// `None`: the child gets none.
    pub(super) fn steps(&self, lowest: RawFd) -> Option<Steps> {
        let highest = self.all.iter().map(|&(from, _)| from).max()?;
        let targets = self.all.iter().map(|&(_, to)| to).filter(|&to| to >= lowest);
        Some(Steps {
            unshare_above: highest.max(lowest - 1),
            place: self.all.clone(),
            close: gaps(lowest, targets),
        })
    }
}

/// How a child, which shares the table of descriptors at first, gets there.
#[derive(Debug)]
pub(super) struct Steps {
    /// The table is unshared, and copied up to this number.
    pub(super) unshare_above: RawFd,
    /// Then each gets its number; the same one means that it stays where it is.
    pub(super) place: Vec<(RawFd, RawFd)>,
    /// Then these are closed.
    pub(super) close: Vec<(RawFd, RawFd)>,
}

/// The numbers from `lowest` on without `kept`, which come in their order.
fn gaps(lowest: RawFd, kept: impl Iterator<Item = RawFd>) -> Vec<(RawFd, RawFd)> {
    let mut gaps = Vec::new();
    let mut next = lowest;
    for number in kept {
        if next < number {
            gaps.push((next, number - 1));
        }
        next = next.max(number.saturating_add(1));
    }
    gaps.push((next, RawFd::MAX));
    gaps
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Breaks if a source could be overwritten before it is placed, or what a child gets is closed.
    #[test]
    fn streams_come_first_and_what_is_placed_is_not_closed() {
        let mut placements = Placements::default();
        assert!(placements.steps(5).is_none());
        for (from, to) in [(90, 90), (70, 20), (20, 1), (20, 2), (80, 4)] {
            placements.add(from, to);
        }
        let steps = placements.steps(5).unwrap();
        assert_eq!(steps.unshare_above, 90);
        assert_eq!(steps.place, [(20, 1), (20, 2), (80, 4), (70, 20), (90, 90)]);
        assert_eq!(steps.close, [(5, 19), (21, 89), (91, RawFd::MAX)]);
    }

    #[test]
    fn gaps_are_what_is_left() {
        let of = |lowest, kept: &[RawFd]| gaps(lowest, kept.iter().copied());
        assert_eq!(of(3, &[]), [(3, RawFd::MAX)]);
        assert_eq!(of(3, &[3, 4, 4, 6]), [(5, 5), (7, RawFd::MAX)]);
        assert_eq!(of(3, &[RawFd::MAX]), [(3, RawFd::MAX - 1), (RawFd::MAX, RawFd::MAX)]);
    }

    /// Below the floor nothing is closed: it is the program's own.
    #[test]
    fn a_descriptor_from_below_the_floor_leaves_the_others_there() {
        let mut placements = Placements::default();
        placements.add(4, 1);
        let steps = placements.steps(9).unwrap();
        assert_eq!((steps.unshare_above, steps.close), (8, vec![(9, RawFd::MAX)]));
    }
}

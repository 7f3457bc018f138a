//! Whose turn it is: which class a worker looks at first. Pure.
//!
//! A class with a reserve has as many workers that serve no other. The rest serve all classes, each
//! as often as its weight says while several have jobs: a class's credit grows by its weight with
//! each turn, and the one with the most pays for all.

/// The turns of one worker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Turns {
    /// Class, weight and credit.
    served: Vec<(u32, i64, i64)>,
}

impl Turns {
    /// Those of worker `place`, where each class has a reserve and a weight.
    pub(super) fn new(place: u32, classes: &[(u32, u32)]) -> Self {
        let mut first = 0_u32;
        for (class, &(reserve, _)) in (0..).zip(classes) {
            let end = first.saturating_add(reserve);
            if (first..end).contains(&place) {
                return Self { served: vec![(class, 1, 0)] };
            }
            first = end;
        }
        let all = (0..).zip(classes).map(|(class, &(_, weight))| (class, i64::from(weight), 0));
        Self { served: all.collect() }
    }

    /// The classes that the worker serves.
    pub(super) fn classes(&self) -> impl ExactSizeIterator<Item = u32> + Clone + '_ {
        self.served.iter().map(|&(class, _, _)| class)
    }

    /// The class to look at first, of those in which jobs wait.
    pub(super) fn next(&mut self, waits: impl Fn(u32) -> bool) -> Option<u32> {
        if let [(class, _, _)] = self.served.as_slice() {
            return Some(*class);
        }
        let mut all = 0;
        let mut best: Option<&mut (u32, i64, i64)> = None;
        for entry in self.served.iter_mut().filter(|&&mut (class, _, _)| waits(class)) {
            let (_, weight, credit) = entry;
            *credit = credit.saturating_add(*weight);
            all += *weight;
            if best.as_ref().is_none_or(|best| best.2 < entry.2) {
                best = Some(entry);
            }
        }
        let (class, _, credit) = best?;
        *credit -= all;
        Some(*class)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reserve_is_as_many_workers_that_serve_no_other_class() {
        let classes = [(2, 1), (0, 1), (1, 1)];
        let served = |place| Turns::new(place, &classes).classes().collect::<Vec<_>>();
        let served: Vec<_> = (0..5).map(served).collect();
        assert_eq!(served, [vec![0], vec![0], vec![2], vec![0, 1, 2], vec![0, 1, 2]]);
        let endless = Turns::new(u32::MAX - 1, &[(u32::MAX, 1), (u32::MAX, 1)]);
        assert!(endless.classes().eq([0]));
    }

    #[test]
    fn classes_take_turns_as_their_weights_say_and_one_alone_has_them_all() {
        let mut turns = Turns::new(0, &[(0, 3), (0, 1)]);
        let taken: Vec<_> = (0..8).filter_map(|_| turns.next(|_| true)).collect();
        assert_eq!(taken.iter().filter(|&&class| class == 0).count(), 6, "{taken:?}");
        assert!(!taken.windows(4).any(|four| four == [0; 4]), "{taken:?}");
        // Nothing is saved up while nothing waits.
        for _ in 0..1_000 {
            assert_eq!(turns.next(|class| class == 0), Some(0));
        }
        let next: Vec<_> = (0..4).filter_map(|_| turns.next(|_| true)).collect();
        assert_eq!(next.iter().filter(|&&class| class == 1).count(), 1, "{next:?}");
        assert_eq!(turns.next(|_| false), None);
        assert_eq!(Turns::new(0, &[(0, 1)]).next(|_| false), Some(0));
    }
}

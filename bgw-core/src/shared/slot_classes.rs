//! Which slots whose are. Pure.
//!
//! ```text
//!  0        common               general             all
//!  │ common │ class 1 │ class 2 … │ parallel class   │
//! ```
//!
//! A worker of no class has a common slot. One of a class has a slot of its class, or else a common
//! one. One of the parallel class has a slot of that class. So what is reserved is a range of
//! slots: there is no count that a process could leave half changed when it dies, and a claim of a
//! common slot costs the same whether anything is reserved or not.

use crate::worker::BackgroundWorker;
use crate::worker::limits::CLASS_LIMIT;
use std::ops::Range;

/// How many classes may have slots reserved.
pub(crate) const MOST_CLASSES: usize = 8;

/// What kind of slot a slot is, and a worker wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SlotClass {
    /// For everybody but the parallel class.
    Common,
    /// Reserved for the class of this number.
    Reserved(u8),
    /// Of the parallel class.
    Parallel,
}

/// The classes of a cluster.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SlotClasses {
    common: u32,
    /// Where their slots begin is where those of the one before end.
    reserved: Vec<(String, u32)>,
    parallel: u32,
}

impl SlotClasses {
    /// `general` slots that are not for the parallel class, of which so many are reserved for each
    /// of these classes, and `parallel` ones. More than the general ones are not reserved, nor are
    /// slots for more than [`MOST_CLASSES`].
    #[must_use]
    pub fn new(general: u32, parallel: u32, mut reserved: Vec<(String, u32)>) -> Self {
        reserved.truncate(MOST_CLASSES);
        let mut common = general;
        for (_, count) in &mut reserved {
            *count = common.min(*count);
            common -= *count;
        }
        Self { common, reserved, parallel }
    }

    /// The classes that slots are reserved for, with how many.
    pub fn reserved(&self) -> impl Iterator<Item = (&str, u32)> {
        self.reserved.iter().map(|(name, count)| (name.as_str(), *count))
    }

    /// How many slots are common.
    #[must_use]
    pub const fn common(&self) -> u32 {
        self.common
    }

    /// How many slots are not for the parallel class.
    #[must_use]
    pub fn general(&self) -> u32 {
        self.reserved.iter().fold(self.common, |sum, (_, count)| sum.saturating_add(*count))
    }

    /// How many slots are for the parallel class.
    #[must_use]
    pub const fn parallel(&self) -> u32 {
        self.parallel
    }

    /// Which kind of slot `worker` wants; `None` for one of an unknown class.
    #[must_use]
    pub fn of(&self, worker: &BackgroundWorker) -> Option<SlotClass> {
        match worker.class() {
            None if worker.is_parallel() => Some(SlotClass::Parallel),
            None => Some(SlotClass::Common),
            Some(class) => {
                let at = self.reserved.iter().position(|(name, _)| name == class)?;
                Some(SlotClass::Reserved(u8::try_from(at).ok()?))
            }
        }
    }

    /// The slots that a worker of `class` may have: from the first range while there is one.
    #[must_use]
    pub fn ranges(&self, class: SlotClass) -> [Range<u32>; 2] {
        match class {
            SlotClass::Common => [0..self.common, 0..0],
            SlotClass::Parallel => {
                let general = self.general();
                [general..general.saturating_add(self.parallel), 0..0]
            }
            SlotClass::Reserved(number) => {
                let before = self.reserved.iter().take(number.into());
                let start = before.fold(self.common, |sum, (_, count)| sum.saturating_add(*count));
                let own = self.reserved.get(usize::from(number)).map_or(0, |(_, count)| *count);
                [start..start.saturating_add(own), 0..self.common]
            }
        }
    }

    /// True if a worker of `class` may have slot `index`.
    #[must_use]
    pub fn may_have(&self, class: SlotClass, index: u32) -> bool {
        self.ranges(class).iter().any(|range| range.contains(&index))
    }

    /// The classes whose workers may have slot `index`.
    pub fn takers(&self, index: u32) -> impl Iterator<Item = SlotClass> + Clone + use<> {
        let is_of = |class: &SlotClass| self.may_have(*class, index);
        let all: Vec<SlotClass> = self.classes().filter(is_of).collect();
        all.into_iter()
    }

    /// All classes of slots.
    pub fn classes(&self) -> impl Iterator<Item = SlotClass> + use<> {
        // At most `MOST_CLASSES`.
        let reserved = (0..self.reserved.len() as u8).map(SlotClass::Reserved);
        [SlotClass::Common, SlotClass::Parallel].into_iter().chain(reserved)
    }

    /// How many of these workers, in their order, find a slot.
    #[must_use]
    pub fn fitting<'a>(&self, workers: impl Iterator<Item = &'a BackgroundWorker>) -> usize {
        let mut free: Vec<Range<u32>> = self
            .classes()
            .map(|class| {
                let [own, _] = self.ranges(class);
                own
            })
            .collect();
        let classes: Vec<SlotClass> = self.classes().collect();
        let mut take = |wanted: SlotClass| {
            let at = classes.iter().position(|&class| class == wanted)?;
            free.get_mut(at)?.next()
        };
        let finds = |worker: &BackgroundWorker| match self.of(worker) {
            None => false,
            Some(class @ SlotClass::Reserved(_)) => {
                take(class).or_else(|| take(SlotClass::Common)).is_some()
            }
            Some(class) => take(class).is_some(),
        };
        let mut finds = finds;
        workers.take_while(|worker| finds(worker)).count()
    }
}

/// Why slots cannot be reserved so, if so: for which class, and what is wrong.
#[must_use]
pub fn objection(general: u32, reserved: &[(String, u32)]) -> Option<(String, String)> {
    let mut sum = 0u32;
    for (at, (name, count)) in reserved.iter().enumerate() {
        sum = sum.saturating_add(*count);
        let reason = if name.is_empty() || name.len() > CLASS_LIMIT {
            format!("a name has 1 to {CLASS_LIMIT} bytes")
        } else if name.chars().any(char::is_control) {
            "the name holds a control character".to_owned()
        } else if reserved.iter().take(at).any(|(other, _)| other == name) {
            "there are two of this name".to_owned()
        } else if *count == 0 {
            "a class has at least 1 slot".to_owned()
        } else if at >= MOST_CLASSES {
            format!("the limit is {MOST_CLASSES} classes")
        } else if sum > general {
            format!("{sum} slots are reserved so far; max_workers is {general}")
        } else {
            continue;
        };
        return Some((name.escape_debug().to_string(), reason));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::WorkerFlags;

    fn classes(reserved: &[(&str, u32)]) -> SlotClasses {
        let reserved = reserved.iter().map(|&(name, count)| (name.to_owned(), count)).collect();
        SlotClasses::new(10, 4, reserved)
    }

    fn worker(class: Option<&str>) -> BackgroundWorker {
        let builder = BackgroundWorker::builder("w").function("f");
        class.map_or(builder.clone(), |name| builder.class(name)).build().unwrap()
    }

    #[test]
    fn each_slot_is_of_one_class_and_those_of_a_class_may_have_common_ones_too() {
        let some = classes(&[("a", 2), ("b", 3)]);
        assert_eq!((some.common(), some.general(), some.parallel()), (5, 10, 4));
        let (common, a, b) = (SlotClass::Common, SlotClass::Reserved(0), SlotClass::Reserved(1));
        assert_eq!(some.ranges(common), [0..5, 0..0]);
        assert_eq!(some.ranges(a), [5..7, 0..5]);
        assert_eq!(some.ranges(b), [7..10, 0..5]);
        assert_eq!(some.ranges(SlotClass::Parallel), [10..14, 0..0]);
        assert_eq!(some.ranges(SlotClass::Reserved(2)), [10..10, 0..5]);
        let takers = |index| some.takers(index).collect::<Vec<_>>();
        assert_eq!(takers(4), [common, a, b]);
        assert_eq!((takers(5), takers(9)), (vec![a], vec![b]));
        assert_eq!((takers(13), takers(14)), (vec![SlotClass::Parallel], vec![]));
        let parallel = BackgroundWorker::builder("p").function("f");
        let parallel = parallel.flags(WorkerFlags::CLASS_PARALLEL).build().unwrap();
        assert_eq!(some.of(&parallel), Some(SlotClass::Parallel));
        assert_eq!((some.of(&worker(None)), some.of(&worker(Some("b")))), (Some(common), Some(b)));
        assert_eq!(some.of(&worker(Some("c"))), None);
    }

    /// Whatever a region says.
    #[test]
    fn no_numbers_reach_beyond_the_general_slots() {
        let many = SlotClasses::new(10, u32::MAX, vec![("a".to_owned(), u32::MAX); 20]);
        assert_eq!((many.common(), many.general(), many.reserved().count()), (0, 10, 8));
        assert_eq!(many.ranges(SlotClass::Reserved(0)), [0..10, 0..0]);
        assert_eq!(many.ranges(SlotClass::Reserved(7)), [10..10, 0..0]);
        assert_eq!(many.ranges(SlotClass::Reserved(255))[0], 10..10);
        assert_eq!(many.ranges(SlotClass::Parallel)[0], 10..u32::MAX);
    }

    #[test]
    fn as_many_workers_fit_as_there_are_slots_for_each() {
        let some = classes(&[("a", 2)]);
        let fitting = |list: &[Option<&str>]| {
            let all: Vec<BackgroundWorker> = list.iter().map(|&class| worker(class)).collect();
            some.fitting(all.iter())
        };
        assert_eq!(fitting(&[None; 9]), 8, "the reserved ones are not for them");
        assert_eq!(fitting(&[Some("a"); 11]), 10);
        assert_eq!(fitting(&[[Some("a"); 3].as_slice(), &[None; 8]].concat()), 10);
        assert_eq!(fitting(&[Some("b")]), 0);
    }

    #[test]
    fn what_cannot_be_reserved_is_named() {
        let said = |reserved: &[(&str, u32)]| {
            let all: Vec<_> = reserved.iter().map(|&(name, n)| (name.to_owned(), n)).collect();
            objection(10, &all).map(|(name, reason)| format!("{name}: {reason}"))
        };
        assert_eq!(said(&[("a", 4), ("b", 6)]), None);
        for (reserved, part) in [
            (&[("a", 4), ("b", 7)][..], "b: 11 slots"),
            (&[("a", 0)], "a: a class has at least 1 slot"),
            (&[("", 1)], "1 to 31 bytes"),
            (&[("a\n", 1)], "a\\n: the name holds a control character"),
            (&[("a", 1), ("a", 1)], "a: there are two"),
            (&[("this name has thirty-two bytes..", 1)], "1 to 31 bytes"),
        ] {
            assert!(said(reserved).is_some_and(|said| said.contains(part)), "{:?}", said(reserved));
        }
        let names = ["1", "2", "3", "4", "5", "6", "7", "8", "9"];
        let nine = names.map(|name| (name, 1));
        assert!(said(&nine).is_some_and(|said| said.contains("9: the limit is 8 classes")));
    }
}

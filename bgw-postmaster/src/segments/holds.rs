//! Who holds which segment, and how much there may be. Pure.
//!
//! A session may hold a segment several times. A segment may also be passed to it: then it holds
//! the segment until it maps it, which takes that hold over, or is gone.
//!
//! A worker may cache a segment that it does not use, in a place that says whether it does. What is
//! only cached is held by nobody: it is asked back, place by place.

use bgw_core::internals::CachedCell;
use std::collections::{BTreeSet, HashMap};

/// The largest number of segments.
pub(super) const MOST: u64 = 1024;

/// What one session has of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hold {
    count: u64,
    passed: bool,
    /// Where its process says whether it uses what it holds.
    cached: Option<CachedCell>,
}

/// A segment: `F` is what is kept of it.
#[derive(Debug)]
struct Held<F> {
    file: F,
    bytes: u64,
    by_session: HashMap<u64, Hold>,
}

/// Why there is no further segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Full {
    /// So many segments there may be.
    Segments(u64),
    /// So many bytes there may be in them, and so many are left.
    Bytes { budget: u64, left: u64 },
}

/// All segments, by number, and their holders.
#[derive(Debug)]
pub(super) struct Holds<F> {
    segments: HashMap<u64, Held<F>>,
    /// Session and segment.
    of_session: BTreeSet<(u64, u64)>,
    used: u64,
    budget: u64,
    most: u64,
}

impl<F> Holds<F> {
    pub(super) fn new(budget: u64, most: u64) -> Self {
        Self { segments: HashMap::new(), of_session: BTreeSet::new(), used: 0, budget, most }
    }

    /// Which limit keeps anybody from another segment of this size.
    pub(super) fn limit(&self, bytes: u64) -> Option<Full> {
        if self.segments.len() as u64 >= self.most {
            return Some(Full::Segments(self.most));
        }
        let (budget, left) = (self.budget, self.budget.saturating_sub(self.used));
        (bytes > left).then_some(Full::Bytes { budget, left })
    }

    /// A new segment, held by its maker once.
    pub(super) fn add(&mut self, number: u64, session: u64, bytes: u64, file: F) {
        self.used = self.used.saturating_add(bytes);
        let by_session = HashMap::from([(session, Hold { count: 1, ..Hold::default() })]);
        self.segments.insert(number, Held { file, bytes, by_session });
        self.of_session.insert((session, number));
    }

    pub(super) fn get(&self, number: u64) -> Option<(&F, u64)> {
        self.segments.get(&number).map(|held| (&held.file, held.bytes))
    }

    /// `session` holds the segment once more; if it was passed the segment, that becomes this hold.
    /// False: there is none.
    pub(super) fn hold(&mut self, number: u64, session: u64) -> bool {
        let Some(held) = self.segments.get_mut(&number) else { return false };
        let hold = held.by_session.entry(session).or_default();
        hold.passed = false;
        hold.count = hold.count.saturating_add(1);
        self.of_session.insert((session, number));
        true
    }

    /// `session` gets the segment passed. False: there is none. It may cache the segment in a
    /// place; it is to map it anew, so that place is asked back by `take`.
    pub(super) fn pass(
        &mut self,
        number: u64,
        session: u64,
        take: impl FnOnce(CachedCell) -> bool,
    ) -> bool {
        let Some(held) = self.segments.get_mut(&number) else { return false };
        let hold = held.by_session.entry(session).or_default();
        hold.passed = true;
        if hold.cached.take().is_some_and(take) {
            hold.count = hold.count.saturating_sub(1);
        }
        self.of_session.insert((session, number));
        true
    }

    /// `session`, which holds the segment, says in `place` whether it uses it.
    pub(super) fn cache(&mut self, number: u64, session: u64, place: CachedCell) {
        let held = self.segments.get_mut(&number);
        if let Some(hold) = held.and_then(|held| held.by_session.get_mut(&session)) {
            hold.cached = Some(place);
        }
    }

    /// If nobody holds the segment but those who only cache it, it is asked back from each place by
    /// `take`, which says whether it came back. Returns what was kept of it if that was all.
    pub(super) fn recall(
        &mut self,
        number: u64,
        mut take: impl FnMut(CachedCell) -> bool,
    ) -> Option<(F, u64)> {
        let held = self.segments.get(&number)?;
        let is_only_cached = |hold: &Hold| hold.count == 1 && !hold.passed && hold.cached.is_some();
        if !held.by_session.values().all(is_only_cached) {
            return None;
        }
        let cached =
            held.by_session.iter().filter_map(|(&session, hold)| Some((session, hold.cached?)));
        let back: Vec<u64> =
            cached.filter(|&(_, place)| take(place)).map(|(session, _)| session).collect();
        back.into_iter().filter_map(|session| self.release(number, session)).last()
    }

    /// `session` holds the segment once less. Returns what was kept of it if that was the last
    /// hold.
    pub(super) fn drop_one(&mut self, number: u64, session: u64) -> Option<(F, u64)> {
        let hold = self.segments.get_mut(&number)?.by_session.get_mut(&session)?;
        hold.count = hold.count.saturating_sub(1);
        if hold.count > 0 || hold.passed {
            return None;
        }
        self.release(number, session)
    }

    /// What a session holds.
    pub(super) fn of_session(&self, session: u64) -> Vec<u64> {
        let of_it = self.of_session.range((session, 0)..=(session, u64::MAX));
        of_it.map(|&(_, number)| number).collect()
    }

    /// `session` does not hold the segment any more. Returns what was kept of it if nobody does.
    pub(super) fn release(&mut self, number: u64, session: u64) -> Option<(F, u64)> {
        self.of_session.remove(&(session, number));
        let held = self.segments.get_mut(&number)?;
        held.by_session.remove(&session);
        if !held.by_session.is_empty() {
            return None;
        }
        let Held { file, bytes, .. } = self.segments.remove(&number)?;
        self.used = self.used.saturating_sub(bytes);
        Some((file, bytes))
    }
}

#[cfg(test)]
mod tests {
    use super::{Full, Holds};
    use bgw_core::internals::CachedCell;

    fn with(sizes: &[u64]) -> Holds<&'static str> {
        let mut holds = Holds::new(100, 3);
        for (number, &bytes) in (1..).zip(sizes) {
            assert_eq!(holds.limit(bytes), None);
            holds.add(number, 7, bytes, "file");
        }
        holds
    }

    fn close_session(holds: &mut Holds<&'static str>, session: u64) -> Vec<(&'static str, u64)> {
        let of_it = holds.of_session(session);
        of_it.into_iter().filter_map(|number| holds.release(number, session)).collect()
    }

    const fn place(berth: u32) -> CachedCell {
        CachedCell { berth, number: 0 }
    }

    #[test]
    fn what_is_only_cached_comes_back_and_what_is_used_does_not() {
        // Two workers cache it, and one of them uses it; its maker goes.
        let mut holds = with(&[40]);
        assert!(holds.hold(1, 8) && holds.hold(1, 9));
        holds.cache(1, 8, place(8));
        holds.cache(1, 9, place(9));
        let asked = |holds: &mut Holds<_>| holds.recall(1, |place| place.berth == 8);
        assert_eq!(asked(&mut holds), None, "its maker holds it");
        assert_eq!(holds.drop_one(1, 7), None);
        assert_eq!(asked(&mut holds), None, "the other one uses it");
        assert_eq!(holds.of_session(8), []);
        assert_eq!(holds.get(1), Some((&"file", 40)));
        // That one drops it for real.
        assert_eq!(holds.drop_one(1, 9), Some(("file", 40)));
        assert_eq!((holds.recall(1, |_| true), holds.used), (None, 0));
    }

    #[test]
    fn a_hold_beside_the_one_that_is_cached_is_a_hold() {
        let mut holds = with(&[40]);
        assert!(holds.hold(1, 8) && holds.hold(1, 8));
        holds.cache(1, 8, place(8));
        holds.cache(1, 9, place(9));
        holds.cache(2, 8, place(8));
        assert_eq!(holds.drop_one(1, 7), None);
        assert_eq!(holds.recall(1, |_| unreachable!()), None);
        assert_eq!(holds.drop_one(1, 8), None);
        assert_eq!(holds.recall(1, |_| true), Some(("file", 40)));
        assert!(holds.of_session.is_empty() && holds.recall(1, |_| true).is_none());
    }

    #[test]
    fn a_segment_that_was_passed_to_who_caches_it_is_mapped_anew() {
        for came_back in [true, false] {
            let mut holds = with(&[40]);
            assert!(holds.hold(1, 8));
            holds.cache(1, 8, place(8));
            assert!(holds.pass(1, 8, |_| came_back));
            assert_eq!(holds.drop_one(1, 7), None);
            assert_eq!(holds.recall(1, |_| true), None);
            // Who was told, or finds its place empty, drops it for real.
            assert_eq!(holds.drop_one(1, 8), None, "it was passed");
            assert!(holds.hold(1, 8));
            assert_eq!(holds.drop_one(1, 8), Some(("file", 40)));
        }
    }

    #[test]
    fn a_segment_is_gone_with_its_last_hold_and_not_before() {
        let mut holds = with(&[40]);
        assert!(holds.hold(1, 7) && holds.hold(1, 8) && !holds.hold(2, 8));
        assert_eq!(holds.drop_one(1, 7), None);
        assert_eq!(holds.drop_one(1, 7), None, "its maker has gone");
        assert_eq!(holds.drop_one(1, 7), None, "it held it no more");
        assert_eq!(holds.get(1), Some((&"file", 40)));
        assert_eq!(holds.drop_one(1, 8), Some(("file", 40)));
        assert_eq!((holds.get(1), holds.used), (None, 0));
        assert!(holds.of_session.is_empty() && !holds.hold(1, 7) && !holds.pass(1, 7, |_| true));
    }

    #[test]
    fn a_segment_that_was_passed_is_held_once_until_it_is_mapped_and_dropped() {
        let mut holds = with(&[40]);
        assert!(holds.pass(1, 8, |_| true) && holds.pass(1, 8, |_| true));
        assert_eq!(holds.drop_one(1, 7), None);
        assert!(holds.hold(1, 8));
        assert_eq!(holds.drop_one(1, 8), Some(("file", 40)), "the two passes are one hold");
        let mut holds = with(&[40]);
        assert!(holds.hold(1, 8) && holds.pass(1, 8, |_| true));
        assert_eq!((holds.drop_one(1, 7), holds.drop_one(1, 8)), (None, None));
        assert_eq!(close_session(&mut holds, 8), [("file", 40)]);
    }

    #[test]
    fn a_session_that_closes_holds_nothing() {
        let mut holds = with(&[40, 30, 20]);
        assert!(holds.hold(2, 8));
        assert_eq!(close_session(&mut holds, 9), []);
        let mut gone = close_session(&mut holds, 7);
        gone.sort_unstable();
        assert_eq!(gone, [("file", 20), ("file", 40)]);
        assert_eq!(close_session(&mut holds, 8), [("file", 30)]);
        assert!(holds.segments.is_empty() && holds.of_session.is_empty());
    }

    #[test]
    fn there_are_so_many_segments_and_bytes_and_no_more() {
        let mut holds = with(&[40]);
        assert_eq!(holds.limit(60), None);
        assert_eq!(holds.limit(61), Some(Full::Bytes { budget: 100, left: 60 }));
        assert_eq!(holds.limit(u64::MAX), Some(Full::Bytes { budget: 100, left: 60 }));
        holds.add(2, 7, 60, "file");
        assert_eq!(holds.limit(1), Some(Full::Bytes { budget: 100, left: 0 }));
        holds.add(3, 7, 0, "file");
        assert_eq!(holds.limit(0), Some(Full::Segments(3)));
        close_session(&mut holds, 7);
        assert_eq!(holds.limit(100), None);
    }
}

//! Who holds which segment, and how much there may be. Pure.
//!
//! A session may hold a segment several times. A segment may also be passed to it: then it holds
//! the segment until it maps it, which takes that hold over, or is gone.

use std::collections::{BTreeSet, HashMap};

/// The most segments.
pub(super) const MOST: u64 = 1024;

/// What one session has of one segment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Hold {
    count: u64,
    passed: bool,
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
        let by_session = HashMap::from([(session, Hold { count: 1, passed: false })]);
        self.segments.insert(number, Held { file, bytes, by_session });
        self.of_session.insert((session, number));
    }

    pub(super) fn get(&self, number: u64) -> Option<(&F, u64)> {
        self.segments.get(&number).map(|held| (&held.file, held.bytes))
    }

    /// `session` holds the segment once more, or in place of having been passed it. False: there is
    /// none.
    pub(super) fn hold(&mut self, number: u64, session: u64) -> bool {
        let Some(held) = self.segments.get_mut(&number) else { return false };
        let hold = held.by_session.entry(session).or_default();
        hold.passed = false;
        hold.count = hold.count.saturating_add(1);
        self.of_session.insert((session, number));
        true
    }

    /// `session` gets the segment passed. False: there is none.
    pub(super) fn pass(&mut self, number: u64, session: u64) -> bool {
        let Some(held) = self.segments.get_mut(&number) else { return false };
        held.by_session.entry(session).or_default().passed = true;
        self.of_session.insert((session, number));
        true
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

    /// A session has closed. Returns what was kept of those that nobody holds any more.
    pub(super) fn close_session(&mut self, session: u64) -> Vec<(F, u64)> {
        let of_it = self.of_session.range((session, 0)..=(session, u64::MAX));
        let of_it: Vec<u64> = of_it.map(|&(_, number)| number).collect();
        of_it.into_iter().filter_map(|number| self.release(number, session)).collect()
    }

    fn release(&mut self, number: u64, session: u64) -> Option<(F, u64)> {
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

    fn with(sizes: &[u64]) -> Holds<&'static str> {
        let mut holds = Holds::new(100, 3);
        for (number, &bytes) in (1..).zip(sizes) {
            assert_eq!(holds.limit(bytes), None);
            holds.add(number, 7, bytes, "file");
        }
        holds
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
        assert!(holds.of_session.is_empty() && !holds.hold(1, 7) && !holds.pass(1, 7));
    }

    #[test]
    fn a_segment_that_was_passed_is_held_once_until_it_is_mapped_and_dropped() {
        let mut holds = with(&[40]);
        assert!(holds.pass(1, 8) && holds.pass(1, 8));
        assert_eq!(holds.drop_one(1, 7), None);
        assert!(holds.hold(1, 8));
        assert_eq!(holds.drop_one(1, 8), Some(("file", 40)), "the two passes are one hold");
        let mut holds = with(&[40]);
        assert!(holds.hold(1, 8) && holds.pass(1, 8));
        assert_eq!((holds.drop_one(1, 7), holds.drop_one(1, 8)), (None, None));
        assert_eq!(holds.close_session(8), [("file", 40)]);
    }

    #[test]
    fn a_session_that_closes_holds_nothing() {
        let mut holds = with(&[40, 30, 20]);
        assert!(holds.hold(2, 8));
        assert_eq!(holds.close_session(9), []);
        let mut gone = holds.close_session(7);
        gone.sort_unstable();
        assert_eq!(gone, [("file", 20), ("file", 40)]);
        assert_eq!(holds.close_session(8), [("file", 30)]);
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
        holds.close_session(7);
        assert_eq!(holds.limit(100), None);
    }
}

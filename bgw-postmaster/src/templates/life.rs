//! When a template is loaded, and what a failure leads to. Pure.
//!
//! ```text
//!  Idle ─ wanted ─▶ due ─▶ loading ─ loaded ─▶ ready ─ died ─▶ due, at once or after a pause
//!                              │ failed            │ refork
//!                              ▼                   └─▶ due, while the one before goes on
//!                 refused until the pause is over
//! ```

use std::time::{Duration, Instant};

/// The pause after the first failure; each further one doubles it.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);
/// A template that was ready for so long ends a streak of failures.
const GOOD_LIFE: Duration = Duration::from_secs(1);

/// Whoever waits is told after so many failures in a row.
const MANY: u32 = 3;

/// What a worker that needs the template is to do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Want {
    /// Wait for a child of it.
    Wait,
    /// Not start: it has failed, and is not loaded again yet.
    Refused,
}

/// How far one template is.
#[derive(Clone, Debug)]
pub(super) struct Life {
    load_timeout: Duration,
    /// When the next load is to begin.
    due: Option<Instant>,
    /// Until when the load under way may take.
    loading: Option<Instant>,
    /// Since when there is one that forks.
    ready: Option<Instant>,
    /// No worker has it loaded before.
    refused_until: Option<Instant>,
    /// The failures in a row.
    failures: u32,
}

impl Life {
    /// With `now`, it is loaded then; without, on first use.
    pub(super) const fn new(load_timeout: Duration, now: Option<Instant>) -> Self {
        Self {
            load_timeout,
            due: now,
            loading: None,
            ready: None,
            refused_until: None,
            failures: 0,
        }
    }

    #[cfg(test)]
    pub(super) const fn is_ready(&self) -> bool {
        self.ready.is_some()
    }

    /// When there is something to do next: a load to begin, or one to end.
    pub(super) fn next(&self) -> Option<Instant> {
        self.due.into_iter().chain(self.loading).min()
    }

    /// When the load under way is late.
    pub(super) const fn deadline(&self) -> Option<Instant> {
        self.loading
    }

    /// A worker needs it.
    pub(super) fn want(&mut self, now: Instant) -> Want {
        if self.ready.is_some() || self.loading.is_some() || self.due.is_some() {
            return Want::Wait;
        }
        if self.refused_until.is_some_and(|until| now < until) {
            return Want::Refused;
        }
        self.due = Some(now);
        Want::Wait
    }

    /// True if a load is to begin now.
    pub(super) fn begin(&mut self, now: Instant) -> bool {
        if self.loading.is_some() || self.due.is_none_or(|due| now < due) {
            return false;
        }
        self.due = None;
        self.loading = Some(now.checked_add(self.load_timeout).unwrap_or(now));
        true
    }

    /// True if the load under way takes too long. Asked again, it has as long again.
    pub(super) fn is_late(&mut self, now: Instant) -> bool {
        let late = self.loading.is_some_and(|deadline| deadline <= now);
        if late {
            self.loading = now.checked_add(self.load_timeout.max(FIRST_PAUSE));
        }
        late
    }

    /// The load under way has come to an end.
    pub(super) const fn loaded(&mut self, now: Instant) {
        self.loading = None;
        self.ready = Some(now);
        self.refused_until = None;
    }

    /// The load under way has failed. True: who waits is to be told, since there is none that
    /// forks.
    pub(super) fn load_failed(&mut self, now: Instant) -> bool {
        self.loading = None;
        if self.ready.is_some() {
            return false;
        }
        self.refused_until = Some(self.after_pause(now));
        true
    }

    /// The one that forked has died. Another one is loaded. True: it is one of many in a row that
    /// died young, and who waits is to be told.
    pub(super) fn died(&mut self, now: Instant) -> bool {
        let Some(since) = self.ready.take() else { return false };
        let good = now.saturating_duration_since(since) >= GOOD_LIFE;
        let at = if good {
            self.failures = 0;
            now
        } else {
            self.after_pause(now)
        };
        if self.loading.is_none() {
            self.due = Some(self.due.map_or(at, |due| due.min(at)));
        }
        self.failures >= MANY
    }

    /// A worker has begun in a child of it.
    pub(super) const fn served(&mut self) {
        self.failures = 0;
    }

    /// Another one is to be loaded now. False: one is being loaded already.
    pub(super) const fn refork(&mut self, now: Instant) -> bool {
        if self.loading.is_some() {
            return false;
        }
        self.due = Some(now);
        true
    }

    fn after_pause(&mut self, now: Instant) -> Instant {
        self.failures = self.failures.saturating_add(1);
        now.checked_add(pause(self.failures)).unwrap_or(now)
    }
}

/// The pause after so many failures in a row.
pub(super) fn pause(failures: u32) -> Duration {
    let doublings = failures.saturating_sub(1).min(16);
    FIRST_PAUSE.saturating_mul(1 << doublings).min(LONGEST_PAUSE)
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn one_that_loads_at_the_start_is_due_at_once_and_the_other_when_it_is_wanted() {
        let t = Instant::now();
        let mut at_start = Life::new(LIMIT, Some(t));
        assert_eq!(at_start.next(), Some(t));
        assert!(at_start.begin(t) && !at_start.begin(t), "one load at a time");
        assert_eq!(at_start.next(), Some(t + LIMIT));
        let mut lazy = Life::new(LIMIT, None);
        assert_eq!((lazy.next(), lazy.begin(t)), (None, false));
        assert_eq!(lazy.want(t), Want::Wait);
        assert!(lazy.begin(t));
        assert_eq!(lazy.want(t), Want::Wait);
        lazy.loaded(t);
        assert!(lazy.is_ready() && lazy.next().is_none());
    }

    #[test]
    fn failed_loads_are_braked_and_whoever_comes_in_the_pause_is_refused() {
        let mut now = Instant::now();
        let mut life = Life::new(LIMIT, Some(now));
        for expected in [100, 200, 400, 800] {
            assert!(life.begin(now));
            assert!(life.load_failed(now), "who waits is told");
            assert_eq!(life.want(now + ms(expected - 1)), Want::Refused);
            assert_eq!(life.next(), None, "nobody waits: it is not loaded");
            now += ms(expected);
            assert_eq!(life.want(now), Want::Wait);
        }
        assert_eq!((pause(10), pause(11), pause(u32::MAX)), (ms(51_200), ms(60_000), ms(60_000)));
    }

    #[test]
    fn a_successor_is_loaded_at_once_unless_the_one_before_was_young() {
        let t = Instant::now();
        let mut life = Life::new(LIMIT, Some(t));
        assert!(life.begin(t));
        life.loaded(t);
        life.died(t + ms(999));
        assert_eq!(life.next(), Some(t + ms(1099)));
        assert_eq!(life.want(t + ms(1000)), Want::Wait, "it starts from the successor");
        assert!(!life.begin(t + ms(1098)) && life.begin(t + ms(1099)));
        life.loaded(t + ms(1099));
        life.died(t + ms(2099));
        assert_eq!(life.next(), Some(t + ms(2099)));
    }

    #[test]
    fn who_waits_is_told_when_many_in_a_row_have_died_young() {
        let mut now = Instant::now();
        let mut life = Life::new(LIMIT, Some(now));
        let told = [999, 999, 999, 999, 1000, 999].map(|lived| {
            assert!(life.begin(now));
            life.loaded(now);
            let told = life.died(now + ms(lived));
            now = life.next().unwrap();
            told
        });
        assert_eq!(told, [false, false, true, true, false, false]);
        let served = [(); 4].map(|()| {
            assert!(life.begin(now));
            life.loaded(now);
            life.served();
            let told = life.died(now);
            assert_eq!(life.next(), Some(now + ms(100)), "it is braked all the same");
            now = life.next().unwrap();
            told
        });
        assert_eq!(served, [false; 4]);
    }

    #[test]
    fn a_refork_loads_beside_the_one_that_forks_and_its_failure_leaves_that_one() {
        let t = Instant::now();
        let mut life = Life::new(LIMIT, Some(t));
        assert!(life.begin(t));
        assert!(!life.refork(t), "one is being loaded");
        life.loaded(t);
        assert!(life.refork(t) && life.begin(t) && life.is_ready());
        assert!(!life.load_failed(t), "who waits has one that forks");
        assert!(life.is_ready() && life.refork(t) && life.begin(t));
        life.died(t);
        assert_eq!(life.next(), Some(t + LIMIT), "the one that is being loaded is the successor");
        assert!(life.load_failed(t));
        assert_eq!(life.want(t), Want::Refused);
        assert!(life.refork(t) && life.begin(t), "who asks for one ends the pause");
    }

    #[test]
    fn a_load_that_takes_too_long_is_late_once_for_each_limit() {
        let t = Instant::now();
        let mut life = Life::new(LIMIT, Some(t));
        assert!(life.begin(t) && !life.is_late(t + LIMIT - ms(1)));
        assert!(life.is_late(t + LIMIT) && !life.is_late(t + LIMIT));
        assert_eq!(life.next(), Some(t + LIMIT + LIMIT));
    }
}

//! What the present run of a worker may use, and whose memory is looked at when.

use super::timers::OrdKey;
use std::collections::BTreeSet;
use std::time::{Duration, Instant};

/// How long after one look at the memory of all workers the next one follows.
pub(super) const LOOK_EVERY: Duration = Duration::from_secs(5);
/// How long after its start a worker is looked at for the first time.
pub(super) const FIRST_LOOK: Duration = Duration::from_secs(1);
/// How soon a worker that grows fast is looked at again.
pub(super) const SOONEST_LOOK: Duration = Duration::from_millis(100);
/// How soon a worker is looked at again when its beats are.
pub(super) const WITH_BEATS: Duration = Duration::from_millis(500);
/// Which part of the time that a worker has left, if it grows on as it has, passes before it is
/// looked at again. It may grow faster than it has: it may have begun just before the look.
const PART_OF_TIME_LEFT: u32 = 4;

/// What one run may use.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RunLimits {
    /// When its lifetime is over.
    pub(super) lifetime: Option<Instant>,
    pub(super) memory: Option<MemoryLimit>,
}

/// The memory that one run may use.
#[derive(Clone, Copy, Debug)]
pub(super) struct MemoryLimit {
    pub(super) bytes: u64,
    /// When it was looked at last, or began, and what it had then.
    seen: (Instant, u64),
    /// When it is looked at apart from all others.
    pub(super) soon: Option<Instant>,
}

impl MemoryLimit {
    /// That of a run which begins.
    pub(super) const fn new(bytes: u64, now: Instant) -> Self {
        Self { bytes, seen: (now, 0), soon: None }
    }

    /// True if the last look is so old that one goes with the look at the worker's beats.
    pub(super) fn goes_with_beats(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.seen.0) >= WITH_BEATS
    }

    /// A look has found `bytes`, below the limit. How soon the next one is due, if that is sooner
    /// than [`LOOK_EVERY`].
    pub(super) fn seen(&mut self, bytes: u64, now: Instant) -> Option<Duration> {
        let (at, before) = std::mem::replace(&mut self.seen, (now, bytes));
        let grown = bytes.checked_sub(before).filter(|&grown| grown > 0)?;
        let nanos = now.saturating_duration_since(at).as_nanos();
        let left = nanos.checked_mul(u128::from(self.bytes.saturating_sub(bytes)))?;
        let left = Duration::from_nanos(u64::try_from(left / u128::from(grown)).ok()?);
        let soon = (left / PART_OF_TIME_LEFT).max(SOONEST_LOOK);
        (soon < LOOK_EVERY).then_some(soon)
    }
}

/// The runs whose memory is looked at.
#[derive(Debug, Default)]
pub(super) struct Watched {
    pub(super) keys: BTreeSet<OrdKey>,
    /// When all are looked at next, while there are any.
    pub(super) all_at: Option<Instant>,
    /// The last one that this look has come to.
    pub(super) last: Option<OrdKey>,
    /// The runs that are looked at sooner than all others, and when.
    pub(super) soon: BTreeSet<(Instant, OrdKey)>,
    /// The deadline that stands for all of these.
    pub(super) due: Option<Instant>,
}

impl Watched {
    /// When the next look is due.
    pub(super) fn next(&self) -> Option<Instant> {
        let soon = self.soon.first().map(|&(at, _)| at);
        self.all_at.into_iter().chain(soon).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MIB: u64 = 1 << 20;

    /// Breaks if a look comes when the limit is passed by far, or a worker that keeps its size is
    /// looked at more often than all.
    #[test]
    fn the_next_look_is_as_soon_as_the_growth_asks_for() {
        let start = Instant::now();
        let millis = Duration::from_millis;
        // The limit is 100 MiB. After this time, this much; how soon the next look is due.
        for (rows, what) in [
            (&[(1_000, 4, None), (5_000, 4, None), (5_000, 3, None)][..], "no growth"),
            (&[(1_000, 4, None), (5_000, 5, None), (5_000, 6, None)][..], "slow growth"),
            (&[(5_000, 20, None), (5_000, 60, Some(1_250)), (1_250, 80, Some(312))][..], "fast"),
            (&[(1_000, 99, Some(100)), (100, 99, None)][..], "large from the start"),
            (&[(0, 4, Some(100)), (0, 4, None)][..], "no time between"),
        ] {
            let (mut limit, mut now) = (MemoryLimit::new(100 * MIB, start), start);
            for &(after, mib, soon) in rows {
                now += millis(after);
                let found = limit.seen(mib * MIB, now);
                let found = found.map(|soon| soon.as_millis() as u64);
                assert_eq!(found, soon, "{what}: {mib} MiB");
            }
        }
        let mut limit = MemoryLimit::new(u64::MAX, start);
        let day = Duration::from_secs(86_400);
        assert_eq!(limit.seen(1, start + 1_000 * day), None, "no overflow");
    }
}

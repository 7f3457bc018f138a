//! How a pool is, and what it has done.

use super::cells::{BUCKETS, Count, PoolCells, end_of};
use super::shared::Shared;
use std::time::Duration;

/// The state of a pool, and what it has done for all processes since it was made. It is read
/// without a lock, so some numbers may be those of a moment later than others.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct PoolStats {
    /// Jobs that wait for a worker, approximately: a cancelled job may count until its turn would
    /// come.
    pub queued: u64,
    /// Jobs that run.
    pub running: u64,
    /// Workers, started or about to be.
    pub workers: u64,
    /// Jobs that gave back a value.
    pub outputs: u64,
    /// Jobs that gave back an error, including those that were cancelled meanwhile.
    pub failed: u64,
    /// Jobs whose submitter has learnt that their worker died, by a panic or otherwise.
    pub died: u64,
    /// Jobs whose submitter has learnt that its cancel has ended them.
    pub cancelled: u64,
    /// Jobs that never ran since all workers were given up.
    pub not_started: u64,
    /// Jobs that never ran since their submitter had gone.
    pub given_up: u64,
    /// How long jobs waited for a worker, of those that a worker has ended.
    pub waited: Histogram,
    /// How long they ran.
    pub ran: Histogram,
}

impl PoolStats {
    pub(super) fn of(shared: &Shared) -> Self {
        let cells = shared.cells();
        let count = |what| cells.total(what);
        // A worker that has ended for good counts until somebody has seen to its place.
        for worker in 0..shared.settings.max {
            shared.look_after(worker);
        }
        Self {
            queued: (0..shared.jobs.options().classes)
                .map(|class| u64::from(shared.jobs.queued(class)))
                .sum(),
            running: busy(cells, shared.settings.max),
            workers: cells.load(super::cells::WORKERS),
            outputs: count(Count::Output),
            failed: count(Count::Failed),
            died: count(Count::Died),
            cancelled: count(Count::Cancelled),
            not_started: count(Count::NotStarted),
            given_up: count(Count::GivenUp),
            waited: Histogram(cells.waited()),
            ran: Histogram(cells.ran()),
        }
    }
}

fn busy(cells: PoolCells<'_>, workers: u32) -> u64 {
    (0..workers).map(|worker| u64::from(cells.is_busy(worker))).sum()
}

/// How many jobs took how long: under 1,024 ns, under twice that, and so on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Histogram(pub(super) [u64; BUCKETS]);

impl Histogram {
    /// How many jobs there were.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.0.iter().fold(0, |all, &count| all.wrapping_add(count))
    }

    /// Each bucket, the shortest times first: how many jobs took less than its end and not less
    /// than that of the one before. The last has no end.
    pub fn buckets(&self) -> impl Iterator<Item = (Option<Duration>, u64)> + '_ {
        self.0.iter().enumerate().map(|(number, &count)| (end_of(number), count))
    }

    /// The end of the bucket in which the job lies that `share` of the jobs, 0 to 1, were not
    /// slower than: at most twice as long as that job took. `None` without jobs, or if it took
    /// longer than 4 s.
    #[must_use]
    pub fn quantile(&self, share: f64) -> Option<Duration> {
        let wanted = (share.clamp(0.0, 1.0) * self.count() as f64).ceil().max(1.0) as u64;
        let mut below = 0_u64;
        self.buckets().find_map(|(end, count)| {
            below = below.saturating_add(count);
            (below >= wanted).then_some(end)
        })?
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_quantile_is_the_end_of_the_bucket_in_which_it_lies() {
        let mut counts = [0; BUCKETS];
        assert_eq!(Histogram(counts).quantile(0.5), None);
        counts[0] = 90;
        counts[3] = 9;
        counts[BUCKETS - 1] = 1;
        let histogram = Histogram(counts);
        assert_eq!(histogram.count(), 100);
        let quantiles = [0.0, 0.5, 0.9, 0.95, 1.0].map(|share| histogram.quantile(share));
        let [short, long] = [1024, 8192].map(|nanos| Some(Duration::from_nanos(nanos)));
        assert_eq!(quantiles, [short, short, short, long, None]);
    }
}

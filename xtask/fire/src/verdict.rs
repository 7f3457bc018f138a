//! What became of the requests of one phase; pure.

use crate::request::{Fate, Request};
use std::collections::BTreeMap;
use std::time::Duration;

/// The death of a worker that was not asked to end.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Death {
    /// When it was killed, or at the latest when it was last seen alive.
    pub(crate) at: Duration,
    /// When it was first seen dead: until then its connections are open.
    pub(crate) seen: Option<Duration>,
    pub(crate) pid: i32,
}

/// True if `request` broke because its worker was killed: it was under way then, and its connection
/// was not known to be another worker's.
pub(crate) fn is_cut(request: &Request, deaths: &[Death]) -> bool {
    request.fate.is_broken()
        && deaths.iter().any(|death| {
            death.seen.is_none_or(|seen| request.begin <= seen)
                && request.end >= death.at
                && request.worker.is_none_or(|worker| worker == death.pid)
        })
}

/// The figures of some requests.
#[derive(Clone, Debug, Default)]
pub(crate) struct Figures {
    pub(crate) requests: usize,
    /// Cut with their worker, over new and over kept connections.
    pub(crate) cut: [usize; 2],
    /// Those that failed otherwise, by how.
    pub(crate) failed: BTreeMap<Fate, usize>,
    /// The latencies of those that were answered, over new and over kept connections, sorted.
    pub(crate) latencies: [Vec<Duration>; 2],
    /// The share of the requests over kept connections that the busiest worker answered.
    pub(crate) busiest: Option<f64>,
}

impl Figures {
    pub(crate) fn of<'a>(
        requests: impl IntoIterator<Item = &'a Request>,
        deaths: &[Death],
    ) -> Self {
        let mut figures = Self::default();
        let mut by_worker = BTreeMap::<i32, usize>::new();
        for request in requests {
            figures.requests += 1;
            if request.fate == Fate::Answered {
                figures.latencies[usize::from(request.kept)].push(request.latency());
                if let (true, Some(worker)) = (request.kept, request.worker) {
                    *by_worker.entry(worker).or_default() += 1;
                }
            } else if is_cut(request, deaths) {
                figures.cut[usize::from(request.kept)] += 1;
            } else {
                *figures.failed.entry(request.fate).or_default() += 1;
            }
        }
        figures.latencies.iter_mut().for_each(|latencies| latencies.sort_unstable());
        let all: usize = by_worker.values().sum();
        let most = by_worker.values().max();
        figures.busiest = most.map(|most| *most as f64 / all as f64);
        figures
    }

    pub(crate) fn failures(&self) -> usize {
        self.failed.values().sum()
    }

    pub(crate) fn worst(&self) -> Option<Duration> {
        self.latencies.iter().filter_map(|latencies| latencies.last()).max().copied()
    }

    /// The 99th percentile over new, or over kept connections.
    pub(crate) fn p99(&self, kept: bool) -> Option<Duration> {
        let latencies = &self.latencies[usize::from(kept)];
        latencies.get(latencies.len() * 99 / 100).copied()
    }
}

#[cfg(test)]
mod tests {
    use super::{Death, Figures, is_cut};
    use crate::request::{Fate, Request};
    use std::time::Duration;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    fn request(begin: u64, end: u64, fate: Fate, worker: Option<i32>) -> Request {
        Request { begin: ms(begin), end: ms(end), fate, kept: false, worker }
    }

    #[test]
    fn a_request_is_cut_only_by_the_death_of_its_own_worker() {
        let deaths = [Death { at: ms(1000), seen: Some(ms(1050)), pid: 7 }];
        for (begin, end, fate, worker, cut) in [
            (999, 1001, Fate::Reset, Some(7), true),
            (999, 1001, Fate::Closed, None, true),
            (999, 1001, Fate::Torn, Some(8), false),
            (999, 1001, Fate::Late, Some(7), false),
            (999, 1001, Fate::Refused, None, false),
            (990, 999, Fate::Reset, Some(7), false),
            (1020, 1021, Fate::Reset, Some(7), true),
            (1051, 1052, Fate::Reset, Some(7), false),
        ] {
            let request = request(begin, end, fate, worker);
            assert_eq!(is_cut(&request, &deaths), cut, "{request:?}");
        }
        assert!(!is_cut(&request(999, 1001, Fate::Reset, Some(7)), &[]));
    }

    #[test]
    fn each_request_is_counted_once() {
        let deaths = [Death { at: ms(10), seen: None, pid: 7 }];
        let mut kept = request(0, 5, Fate::Answered, Some(8));
        kept.kept = true;
        let requests = [
            request(0, 3, Fate::Answered, Some(7)),
            request(9, 11, Fate::Reset, None),
            request(0, 5000, Fate::Late, None),
            kept,
        ];
        let figures = Figures::of(&requests, &deaths);
        assert_eq!((figures.requests, figures.cut, figures.failures()), (4, [1, 0], 1));
        assert_eq!(figures.failed.get(&Fate::Late), Some(&1));
        assert_eq!((figures.worst(), figures.p99(false)), (Some(ms(5)), Some(ms(3))));
        assert_eq!(figures.busiest, Some(1.0), "of the kept ones alone");
    }
}

//! What the metrics of all workers say.

use crate::backend::Backend;
use bgw_core::internals::{ClusterCells, MetricPlan, SlotClass, bank_of, flag};
use bgw_core::{Metric, MetricKind};
use std::collections::BTreeMap;

/// What a metric says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum MetricValue {
    /// Of a counter.
    Counter(u64),
    /// Of a gauge.
    Gauge(i64),
}

impl MetricValue {
    const fn zero(kind: MetricKind) -> Self {
        match kind {
            MetricKind::Gauge => Self::Gauge(0),
            _ => Self::Counter(0),
        }
    }

    /// Both together, as far as there are numbers.
    const fn and(self, other: Self) -> Self {
        match (self, other) {
            (Self::Counter(a), Self::Counter(b)) => Self::Counter(a.saturating_add(b)),
            (Self::Gauge(a), Self::Gauge(b)) => Self::Gauge(a.saturating_add(b)),
            _ => self,
        }
    }
}

/// One metric, with its sums.
#[derive(Clone, Debug)]
pub struct MetricReading {
    metric: Metric,
    by_class: BTreeMap<String, MetricValue>,
}

impl MetricReading {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        self.metric.name()
    }

    /// What it says, in a few words.
    #[must_use]
    pub fn help(&self) -> &str {
        self.metric.help()
    }

    /// Whether it only rises.
    #[must_use]
    pub const fn kind(&self) -> MetricKind {
        self.metric.kind()
    }

    /// The sum over all workers.
    #[must_use]
    pub fn total(&self) -> MetricValue {
        let zero = MetricValue::zero(self.metric.kind());
        self.by_class.values().fold(zero, |sum, &value| sum.and(value))
    }

    /// The sum over the workers of each class: of the classes that slots are reserved for; of
    /// `parallel`, the parallel class; and of `common`, all others.
    pub fn classes(&self) -> impl Iterator<Item = (&str, MetricValue)> {
        self.by_class.iter().map(|(class, &value)| (class.as_str(), value))
    }
}

/// Which berth the run of each slot has. Each of the others has a worker's second process, or
/// gauges that are 0.
struct Berths {
    of_slots: Vec<u32>,
    others: Vec<u32>,
}

impl Berths {
    /// One look: a run that moves meanwhile counts once.
    fn look(cells: ClusterCells<'_>, slots: u32) -> Self {
        let of_slots: Vec<u32> = (0..slots).map(|slot| cells.berth_of(slot)).collect();
        let mut is_other = vec![true; (slots + cells.overlap()) as usize];
        for &berth in &of_slots {
            if let Some(is_other) = is_other.get_mut(berth as usize) {
                *is_other = false;
            }
        }
        let others = (0..).zip(is_other).filter_map(|(berth, is)| is.then_some(berth)).collect();
        Self { of_slots, others }
    }
}

/// What the metrics of all workers say; from [`Backend::metrics`].
#[derive(Clone, Debug)]
pub struct Metrics {
    readings: Vec<MetricReading>,
}

impl Metrics {
    /// All metrics, in the order in which they were declared.
    pub fn iter(&self) -> impl Iterator<Item = &MetricReading> {
        self.readings.iter()
    }

    /// The sum of a counter over all workers; `None` if there is no such counter.
    #[must_use]
    pub fn counter(&self, name: &str) -> Option<u64> {
        match self.total(name)? {
            MetricValue::Counter(sum) => Some(sum),
            MetricValue::Gauge(_) => None,
        }
    }

    /// The sum of a gauge over the workers that run; `None` if there is no such gauge.
    #[must_use]
    pub fn gauge(&self, name: &str) -> Option<i64> {
        match self.total(name)? {
            MetricValue::Gauge(sum) => Some(sum),
            MetricValue::Counter(_) => None,
        }
    }

    fn total(&self, name: &str) -> Option<MetricValue> {
        self.readings.iter().find(|reading| reading.name() == name).map(MetricReading::total)
    }
}

impl Backend {
    /// What the counters and gauges of all workers say now. Any backend reads them, also one that
    /// has attached read-only, and after the postmaster has died.
    ///
    /// A counter is the sum over the living and the dead: it never falls while the postmaster
    /// lives, whether workers are restarted, recycled, reused, killed or reset. A gauge is the sum
    /// over the workers that run; one that has two runs, since one takes the place of the other,
    /// counts with both. A call looks at two cells for each slot, class and counter; it asks
    /// nobody, and waits for nobody.
    ///
    /// Cells lie in shared memory, so a member that writes where it should not can change what a
    /// counter says: by more, up to 2^53 for each slot; or by less, until the end of the run, which
    /// takes from that run alone. What ended runs have counted the postmaster remembers by itself,
    /// and writes again at the end of a run in that slot, in a crash reset, and when it finds the
    /// region overwritten.
    ///
    /// ```no_run
    /// # let backend = bgw_backend::Backend::connect("/run/my-service")?;
    /// let metrics = backend.metrics();
    /// println!("{:?} images in all", metrics.counter("images_resized"));
    /// for metric in metrics.iter() {
    ///     for (class, value) in metric.classes() {
    ///         println!("{} of class {class}: {value:?}", metric.name());
    ///     }
    /// }
    /// # Ok::<(), bgw_backend::AttachError>(())
    /// ```
    #[must_use]
    pub fn metrics(&self) -> Metrics {
        let cells = self.attachment.cells();
        let plan = cells.metric_plan();
        let berths = Berths::look(cells, self.attachment.slots().capacity());
        let all = (0..).zip(cells.metrics());
        let known = all.filter_map(|(number, metric)| Some((number, metric?)));
        let readings = known.map(|(number, metric)| MetricReading {
            by_class: self.by_class(cells, &berths, plan, number, metric.kind()),
            metric,
        });
        Metrics { readings: readings.collect() }
    }

    fn by_class(
        &self,
        cells: ClusterCells<'_>,
        berths: &Berths,
        plan: MetricPlan,
        metric: u32,
        kind: MetricKind,
    ) -> BTreeMap<String, MetricValue> {
        let classes = cells.slot_classes();
        let mut sums = BTreeMap::new();
        for class in classes.classes() {
            let name = match class {
                SlotClass::Common => "common",
                SlotClass::Parallel => "parallel",
                SlotClass::Reserved(number) => {
                    classes.reserved().nth(number.into()).map_or("", |(name, _)| name)
                }
            };
            let bank = bank_of(class);
            let slots = classes.ranges(class).into_iter().flatten();
            let slots = slots.take_while(|&slot| slot < self.attachment.slots().capacity());
            let gauge = |berth| MetricValue::Gauge(cells.gauge(plan, berth, bank, metric));
            let value = |slot: u32| match kind {
                MetricKind::Gauge if !self.runs(slot) => MetricValue::Gauge(0),
                MetricKind::Gauge => {
                    gauge(berths.of_slots.get(slot as usize).copied().unwrap_or(slot))
                }
                _ => MetricValue::Counter(cells.counter(plan, slot, bank, metric)),
            };
            let mut sum = slots.map(value).fold(MetricValue::zero(kind), MetricValue::and);
            // A parallel worker never has a second process.
            if kind == MetricKind::Gauge && class != SlotClass::Parallel {
                sum = berths.others.iter().map(|&berth| gauge(berth)).fold(sum, MetricValue::and);
            }
            // A class may be called like one of ours: then it counts with that.
            sums.entry(name.to_owned())
                .and_modify(|value: &mut MetricValue| *value = value.and(sum))
                .or_insert(sum);
        }
        sums
    }

    /// True if a worker runs in this slot.
    fn runs(&self, slot: u32) -> bool {
        let word = self.attachment.slots().snapshot(slot);
        word.is_some_and(|word| word.flags() & flag::STARTED != 0)
    }
}

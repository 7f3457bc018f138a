//! The counters and gauges that workers keep.

use super::PostmasterBuilder;
use bgw_core::{Metric, MetricKind};

impl PostmasterBuilder {
    /// Declares a counter that workers keep: any of them adds to it (`Worker::counter`), and any
    /// backend reads the sum over all workers, living and ended (`Backend::metrics`). There are 64
    /// metrics at most.
    ///
    /// `name` is as Prometheus wants it: letters, digits, `_` and `:`, up to 63 bytes, without the
    /// `_total` that the text for Prometheus adds. `help` says what is counted, in up to 127 bytes.
    ///
    /// All metrics together cost a cache line of shared memory for each slot, and one more for what
    /// its ended workers have counted, for each 8 metrics; as often again for each
    /// [reserved](Self::reserve) class. Each of the [overlap](Self::overlap) costs one.
    ///
    /// ```
    /// use bgw_postmaster::Postmaster;
    ///
    /// let builder = Postmaster::builder()
    ///     .counter("jobs_done", "Jobs that were done")
    ///     .gauge("files_open", "Files that are open now");
    /// # let _ = builder.build()?;
    /// # Ok::<(), Box<dyn std::error::Error>>(())
    /// ```
    pub fn counter(mut self, name: impl Into<String>, help: impl Into<String>) -> Self {
        self.metrics.push(Metric::new(name, help, MetricKind::Counter));
        self
    }

    /// Declares a gauge that workers keep: each sets its own (`Worker::gauge`), any backend reads
    /// the sum over the workers that run. One that has two runs, since one takes the place of the
    /// other, counts with both. Names and cost are as for
    /// [`counter`](PostmasterBuilder::counter).
    pub fn gauge(mut self, name: impl Into<String>, help: impl Into<String>) -> Self {
        self.metrics.push(Metric::new(name, help, MetricKind::Gauge));
        self
    }
}

//! The text that Prometheus reads, by its own client library.

use super::reading::{MetricReading, MetricValue, Metrics};
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::ConstCounter;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;
use std::fmt;

/// Of [`Metrics::prometheus`].
#[derive(Debug)]
struct All(Metrics);

impl Collector for All {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|reading| encode(reading, &mut encoder))
    }
}

fn encode(reading: &MetricReading, encoder: &mut DescriptorEncoder<'_>) -> fmt::Result {
    let kind = match reading.total() {
        MetricValue::Counter(_) => MetricType::Counter,
        MetricValue::Gauge(_) => MetricType::Gauge,
    };
    let mut metric = encoder.encode_descriptor(reading.name(), reading.help(), None, kind)?;
    for (class, value) in reading.classes() {
        let labels = [("class", class)];
        let one = metric.encode_family(&labels)?;
        match value {
            MetricValue::Counter(value) => ConstCounter::new(value).encode(one)?,
            MetricValue::Gauge(value) => ConstGauge::new(value).encode(one)?,
        }
    }
    Ok(())
}

impl Metrics {
    /// The text that Prometheus reads (OpenMetrics 1.0), with the class of the workers as a label.
    /// Serve it as `application/openmetrics-text; version=1.0.0; charset=utf-8`. Feature
    /// `prometheus`.
    ///
    /// ```text
    /// # HELP images_resized Images that were resized
    /// # TYPE images_resized counter
    /// images_resized_total{class="common"} 1204
    /// # EOF
    /// ```
    #[must_use]
    pub fn prometheus(&self) -> String {
        let mut registry = Registry::default();
        registry.register_collector(Box::new(All(self.clone())));
        let mut text = String::new();
        // Writing into a string does not fail.
        let _ = text::encode(&mut text, &registry);
        text
    }
}

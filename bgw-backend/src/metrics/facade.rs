//! Hands what was read on to the `metrics` crate.

use super::reading::{MetricValue, Metrics};

impl Metrics {
    /// Hands all sums on to the recorder that this program has installed for the `metrics` crate,
    /// with the class of the workers as label `class`; does nothing without one. Call it as often
    /// as the recorder is to be up to date. Feature `metrics`.
    pub fn record(&self) {
        for reading in self.iter() {
            let name = reading.name().to_owned();
            for (class, value) in reading.classes() {
                let (name, class) = (name.clone(), class.to_owned());
                match value {
                    MetricValue::Counter(value) => {
                        metrics::describe_counter!(name.clone(), reading.help().to_owned());
                        metrics::counter!(name, "class" => class).absolute(value);
                    }
                    MetricValue::Gauge(value) => {
                        metrics::describe_gauge!(name.clone(), reading.help().to_owned());
                        // Beyond 2^53 a float is not exact, which is what the crate wants.
                        metrics::gauge!(name, "class" => class).set(value as f64);
                    }
                }
            }
        }
    }
}

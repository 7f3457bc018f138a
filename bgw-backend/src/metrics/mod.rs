//! Counters and gauges of workers: what a worker keeps, and what everybody reads.
//!
//! They are declared at the postmaster's builder. A worker adds to a cell of its own slot
//! (`cells.rs`); whoever wants to know adds up all slots (`reading.rs`).

mod cells;
mod error;
#[cfg(feature = "metrics")]
mod facade;
#[cfg(feature = "prometheus")]
mod prometheus;
mod reading;

pub use cells::{Counter, Gauge};
pub use error::MetricError;
pub use reading::{MetricReading, MetricValue, Metrics};

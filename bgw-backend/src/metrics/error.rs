//! Why a worker gets no counter or gauge.

use bgw_core::{MetricKind, debug_as_chain};

/// Why a worker gets no counter or gauge.
#[derive(thiserror::Error)]
#[non_exhaustive]
pub enum MetricError {
    /// None of this name is declared.
    #[error(
        "no metric \"{name}\" is declared, declared are: {declared}; declare it at the postmaster's builder"
    )]
    Unknown {
        /// The name.
        name: String,
        /// The names that are declared.
        declared: String,
    },
    /// It is declared as something else.
    #[error("metric \"{name}\" is a {kind}")]
    OtherKind {
        /// The name.
        name: String,
        /// The kind that it was declared as.
        kind: MetricKind,
    },
}

debug_as_chain!(MetricError);

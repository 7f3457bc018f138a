//! In which order a shutdown stops the workers.

/// In which order a smart or fast shutdown tells workers to end.
///
/// In both, a worker that starts [after](bgw_core::BackgroundWorkerBuilder::after) others ends
/// before them, and a later member of a group before the earlier ones: each is told when those that
/// come before it are gone, and its grace begins then. An immediate shutdown has no order.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ShutdownOrder {
    /// Only that: workers that do not depend on each other are told at once.
    #[default]
    Dependents,
    /// One by one, the one that was registered last first.
    Registration,
}

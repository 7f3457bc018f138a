//! How strictly a worker is told to end.

/// How strictly a worker is told to end. A stricter level is greater.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum StopLevel {
    /// The stop signal: end in order.
    Terminate,
    /// SIGABRT, to the process alone: it is silent.
    Abort,
    /// SIGQUIT: end at once, touch nothing.
    Quit,
    /// SIGKILL.
    Kill,
}

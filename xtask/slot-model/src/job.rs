//! What names a registration.

/// A registration: which registrant, and its how-manieth.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct Job {
    /// Place of the registrant.
    pub(crate) registrant: u8,
    /// Counted from 0.
    pub(crate) number: u8,
}

//! What the looks at beating workers remember.

use super::timers::OrdKey;
use shmem_slots::Key;
use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

/// What the looks at one run have found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Pulse {
    /// The count of beats.
    pub(super) seen: u64,
    /// The last look found no new one.
    pub(super) missed: bool,
    pub(super) looked: Instant,
    /// When a look last found a new one.
    pub(super) heard: Instant,
}

/// Why the beats of workers are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// They have just become ready.
    First,
    /// A look is due.
    Regular {
        /// It comes too late to miss anything.
        late: bool,
    },
    /// Nothing new was found twice.
    Last,
}

/// What was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Beats {
    pub(crate) key: Key,
    pub(crate) count: u64,
    /// Somebody traces the process. Asked at the last look alone.
    pub(crate) traced: bool,
}

/// The workers that beat, by their interval.
#[derive(Debug, Default)]
pub(super) struct Rhythms(pub(super) BTreeMap<Duration, Rhythm>);

/// Those with one interval.
#[derive(Debug)]
pub(super) struct Rhythm {
    /// When they are looked at next.
    pub(super) due: Instant,
    pub(super) keys: BTreeSet<OrdKey>,
}

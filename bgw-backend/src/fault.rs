//! Named fault points in the steps of backends, for tests. Without the feature `fault` they compile
//! to nothing. With it `shmem_slots::fault` says what happens where.

/// All points: those of a worker, in the order in which it passes them (`result:` if it sets a
/// result), and those of whoever waits for a slot.
#[cfg(feature = "fault")]
pub const POINTS: &[&str] = &[
    "worker:before_unblock",
    "worker:unblocked",
    "worker:before_ready",
    "worker:said_ready",
    "worker:ready",
    "result:before_write",
    "result:written",
    "result:set",
    "result:passed",
    "ticket:asked",
    "ticket:sent",
    "ticket:over",
];

/// The points of a pool: those of a process that submits (`order:`, the launch of a worker among
/// them), and those of a worker that takes jobs (`pool:`), each in the order in which it passes
/// them. Between them lie those of the cells themselves, `shmem_slots::fault::JOB_POINTS`.
#[cfg(feature = "fault")]
pub const POOL_POINTS: &[&str] = &[
    "order:before_submit",
    "order:submitted",
    "order:launching",
    "order:registered",
    "order:launched",
    "order:answered",
    "order:collected",
    "pool:before_join",
    "pool:joined",
    "pool:taken",
    "pool:begun",
    "pool:answered",
    "pool:ended",
    "pool:leaving",
];

/// The members of [`POINTS`] whose step can be made to fail.
#[cfg(feature = "fault")]
pub const FALLIBLE: &[&str] = &["worker:before_unblock"];

#[cfg(not(feature = "fault"))]
pub(crate) use absent::*;
#[cfg(feature = "fault")]
pub(crate) use armed::*;

#[cfg(not(feature = "fault"))]
mod absent {
    use std::io;

    /// A point between two steps.
    #[inline]
    pub(crate) const fn point(_name: &str) {}

    /// A point before a step that may fail.
    #[inline]
    pub(crate) const fn step(_name: &str) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "fault")]
mod armed {
    use std::io;

    pub(crate) fn point(name: &str) {
        let mut points = super::POINTS.iter().chain(super::POOL_POINTS);
        debug_assert!(points.any(|&point| point == name), "{name} is not in a list");
        let _: io::Result<()> = shmem_slots::fault::step(name);
    }

    pub(crate) fn step(name: &str) -> io::Result<()> {
        debug_assert!(super::FALLIBLE.contains(&name), "{name} is not in the list");
        shmem_slots::fault::step(name)
    }
}

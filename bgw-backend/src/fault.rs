//! Named fault points in a worker's own steps, for tests. Without the feature `fault` they compile to
//! nothing. With it the postmaster's environment selects what happens where (see
//! `bgw_core::fault`).

/// All points, in the order in which a worker passes them.
#[cfg(feature = "fault")]
pub const POINTS: &[&str] =
    &["worker:before_unblock", "worker:unblocked", "worker:before_ready", "worker:ready"];

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
        debug_assert!(super::POINTS.contains(&name), "{name} is not in the list");
        bgw_core::fault::point(name);
    }

    pub(crate) fn step(name: &str) -> io::Result<()> {
        debug_assert!(super::FALLIBLE.contains(&name), "{name} is not in the list");
        bgw_core::fault::step(name)
    }
}

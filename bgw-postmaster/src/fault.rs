//! Named fault points of the postmaster and of a worker's start, for tests.
//!
//! Without the feature `fault` they compile to nothing. With it the environment arms them
//! (`bgw_core::fault`). A leaf: every layer may name it, also `sys/`.

/// All points: those of the postmaster in the order of a worker's life, then those of the worker
/// process itself (`child:`; `waking:` in a spare that becomes a worker).
#[cfg(feature = "fault")]
pub const POINTS: &[&str] = &[
    "begin:before_liveness",
    "begin:before_publish",
    "begin:before_listen",
    "begin:before_static",
    "begin:done",
    "intake:before_look",
    "intake:drained",
    "intake:copied",
    "start:before_fork",
    "start:forked",
    "start:watched",
    "spare:before_give",
    "spare:given",
    "spare:kept",
    "report:before_word",
    "report:after_word",
    "report:before_notify",
    "report:after_notify",
    "stop:before_signal",
    "stop:after_signal",
    "exit:before_peek",
    "exit:seen",
    "exit:swept",
    "exit:before_report",
    "exit:before_word",
    "free:before",
    "free:after",
    "exit:before_notify",
    "exit:after_notify",
    "exit:before_reap",
    "exit:reaped",
    "reset:before",
    "reset:new_life",
    "reset:freed",
    "reset:before_place",
    "reset:rebuilt",
    "end:before_clear",
    "end:cleared",
    "child:forked",
    "child:closed",
    "child:before_death_signal",
    "child:before_title",
    "waking:woken",
    "waking:taken",
    "waking:before_death_signal",
    "child:before_exec",
    "child:before_signals",
    "child:before_mark",
    "child:before_entry",
    "child:after_main",
    "child:mark_cleared",
    "child:before_exit",
];

/// The [`POINTS`] that can make a step fail.
#[cfg(feature = "fault")]
pub const FALLIBLE: &[&str] = &[
    "start:before_fork",
    "start:forked",
    "exit:before_peek",
    "exit:before_reap",
    "child:forked",
    "child:closed",
    "child:before_death_signal",
    "waking:before_death_signal",
    "child:before_exec",
    "child:before_signals",
    "child:before_entry",
];

#[cfg(not(feature = "fault"))]
pub(crate) use absent::*;
#[cfg(feature = "fault")]
pub(crate) use armed::*;

#[cfg(not(feature = "fault"))]
mod absent {
    use std::io;

    /// In the postmaster, when it begins: reads the environment.
    #[inline]
    pub(crate) const fn arm() {}

    /// In a worker process, when it begins.
    #[inline]
    pub(crate) const fn this_is(_worker: &str) {}

    /// A point between two steps.
    #[inline]
    pub(crate) const fn point(_name: &str) {}

    /// A point before a step that may fail.
    #[inline]
    pub(crate) const fn step(_name: &str) -> io::Result<()> {
        Ok(())
    }

    /// As `step`, in a process that runs in the postmaster's memory.
    #[inline]
    pub(crate) const fn step_of(_worker: &str, _name: &str) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(feature = "fault")]
mod armed {
    pub(crate) use bgw_core::fault::{arm, this_is};
    use std::io;

    pub(crate) fn point(name: &str) {
        debug_assert!(super::POINTS.contains(&name), "{name} is not in the list");
        bgw_core::fault::point(name);
    }

    pub(crate) fn step(name: &str) -> io::Result<()> {
        debug_assert!(super::FALLIBLE.contains(&name), "{name} is not in the list");
        bgw_core::fault::step(name)
    }

    pub(crate) fn step_of(worker: &str, name: &str) -> io::Result<()> {
        bgw_core::fault::step_of(Some(worker), name)
    }
}

//! Named fault points of the postmaster and of a worker's start, for tests.
//!
//! Without the feature `fault` they compile to nothing. With it the environment arms them
//! (`shmem_slots::fault`). A leaf: every layer may name it, also `sys/`.

/// All points: those of the postmaster in the order of a worker's life, those of its output
/// collector, then those of the worker process itself (`child:`; `words:` if it fails; `waking:` in
/// a spare that becomes a worker, `rest:` in a worker that becomes a spare). `template:` is in a
/// template, `sleeper:` in what it has forked.
#[cfg(feature = "fault")]
pub const POINTS: &[&str] = &[
    "begin:before_liveness",
    "begin:before_publish",
    "begin:before_listen",
    "begin:before_static",
    "begin:done",
    "loop:before_wait",
    "intake:before_look",
    "intake:drained",
    "intake:copied",
    "ticket:opened",
    "ticket:waits",
    "ticket:published",
    "ticket:granted",
    "start:before_fork",
    "start:forked",
    "start:watched",
    "spare:before_give",
    "spare:given",
    "spare:kept",
    "direct:listed",
    "life:seen",
    "life:swept",
    "life:published",
    "life:released",
    "report:before_word",
    "report:after_word",
    "report:before_notify",
    "report:after_notify",
    "hand_over:before_berth",
    "hand_over:before_word",
    "hand_over:after_word",
    "hand_over:done",
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
    "reset:set_aside",
    "reset:new_life",
    "reset:freed",
    "reset:before_place",
    "reset:rebuilt",
    "end:before_clear",
    "end:cleared",
    "order:before",
    "order:sent",
    "order:heard",
    "order:adopted",
    "collector:begun",
    "collector:ordered",
    "collector:read",
    "collector:written",
    "collector:closed",
    "template:forked",
    "template:before_loaded",
    "template:loaded",
    "template:ordered",
    "template:before_fork",
    "template:forked_child",
    "template:reported",
    "sleeper:forked",
    "sleeper:settled",
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
    "words:before_write",
    "words:written",
    "words:said",
    "child:before_exit",
    "rest:before_look",
    "rest:over",
    "rest:told",
    "rest:released",
    "rest:restored",
    "rest:done",
];

/// The [`POINTS`] that can make a step fail.
#[cfg(feature = "fault")]
pub const FALLIBLE: &[&str] = &[
    "loop:before_wait",
    "start:before_fork",
    "start:forked",
    "direct:listed",
    "exit:before_peek",
    "exit:before_reap",
    "order:before",
    "template:forked",
    "template:before_fork",
    "sleeper:forked",
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

    /// In the postmaster, when it begins.
    #[inline]
    pub(crate) const fn arm_by_environment() {}

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
    pub(crate) use shmem_slots::fault::{arm_by_environment, this_is};
    use std::io;

    pub(crate) fn point(name: &str) {
        debug_assert!(super::POINTS.contains(&name), "{name} is not in the list");
        let _: io::Result<()> = shmem_slots::fault::step(name);
    }

    pub(crate) fn step(name: &str) -> io::Result<()> {
        debug_assert!(super::FALLIBLE.contains(&name), "{name} is not in the list");
        shmem_slots::fault::step(name)
    }

    pub(crate) fn step_of(worker: &str, name: &str) -> io::Result<()> {
        shmem_slots::fault::step_of(Some(worker), name)
    }
}

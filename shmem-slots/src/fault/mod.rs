//! Fault points, for tests: named places between two steps, where a process may be made to die, to
//! stop, or to fail. Each crate lists its own; what happens there is said in one language, which is
//! read here, for all of them. Without the feature `fault` nothing of this is compiled.
//!
//! ```text
//! FAULTS = FAULT [";" FAULT ...]
//! FAULT  = POINT ["(" NAME ")"] "=" ("kill" | "stop" | "error") ["@" N]
//! ```
//!
//! `kill` and `stop` send SIGKILL or SIGSTOP to the process that has reached the point; `error`
//! makes the step there fail as if the system had refused it (`EAGAIN`). With a name, only a
//! process acts that is called so. Each fault acts once, at the `N`th time (the first, if nothing
//! is said) that *any* process reaches it: the one that was armed, or one forked from it since.
//!
//! What cannot be read is left out: a test finds that its point was never reached.

/// All points of the slots, in the order of the protocol.
#[cfg(feature = "fault")]
pub const POINTS: &[&str] = &[
    "claim:before_mark",
    "claim:before_swap",
    "claim:after_swap",
    "claim:after_hint",
    "claim:payload_written",
    "publish:before_swap",
    "publish:after_swap",
    "abandon:before_swap",
    "release:before_swap",
    "vacate:before_hint",
    "set_flags:before_swap",
    "set_flags:before_mark",
    "update:before_wake",
    "report:half_written",
    "report:before_number",
    "hold:before_swap",
    "hold:after_swap",
    "hold:given_back",
    "settle:before_swap",
    "end:before_settle",
    "free:before_mark",
    "free:before_swap",
    "free:before_hint",
    "free:before_wake",
    "sweep:before_swap",
    "sweep:before_release",
];

/// The points of [`crate::queue`], in the same order.
#[cfg(feature = "fault")]
pub const QUEUE_POINTS: &[&str] = &[
    "queue:attached",
    "send:copied",
    "send:published",
    "send:before_wake",
    "send:announced",
    "receive:copied",
    "receive:published",
    "receive:before_wake",
    "receive:announced",
    "detach:before_swap",
    "detach:before_wake",
];

/// The points of [`crate::jobs`], in the same order.
#[cfg(feature = "fault")]
pub const JOB_POINTS: &[&str] = &[
    "submit:claimed",
    "submit:written",
    "submit:queued",
    "submit:before_push",
    "submit:pushed",
    "submit:before_wake",
    "submit:woken",
    "sleep:announced",
    "take:before_swap",
    "take:taken",
    "take:before_pass",
    "take:passed",
    "end:written",
    "end:ended",
    "close:closing",
    "close:written",
    "collect:read",
    "sweep:swept",
];

/// The points of [`crate::taker`] and of offers, in the same order.
#[cfg(feature = "fault")]
pub const TAKER_POINTS: &[&str] = &[
    "give:before_swap",
    "give:before_wake",
    "accept:before_swap",
    "accept:after_swap",
    "accept:before_wake",
    "withdraw:before_swap",
];

#[cfg(all(feature = "fault", not(loom)))]
mod armed;

#[cfg(all(feature = "fault", not(loom)))]
pub use armed::{Traces, arm, arm_by_environment, step, step_of, this_is};

/// A point between two steps of the slots, which cannot fail.
#[cfg(all(feature = "fault", not(loom)))]
pub(crate) fn point(name: &str) {
    let mut points = POINTS.iter().chain(QUEUE_POINTS).chain(JOB_POINTS).chain(TAKER_POINTS);
    debug_assert!(points.any(|&point| point == name), "{name} is not in a list");
    let _: std::io::Result<()> = step(name);
}

#[cfg(not(all(feature = "fault", not(loom))))]
#[inline]
pub(crate) const fn point(_name: &str) {}

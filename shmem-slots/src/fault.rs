//! Named crash points for tests: places between two steps of a protocol where a process can be made
//! to die. Without the feature `fault` nothing of this is compiled.
//!
//! `SHMEM_SLOTS_FAULT=claim:after_swap=kill` in the environment, read once, makes the process kill
//! itself when it first reaches that point. `stop` stops it (SIGSTOP) instead, and `@3` acts the third
//! time.

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

/// Does what the environment requests at the point called `name`.
#[cfg(not(feature = "fault"))]
#[inline]
pub(crate) const fn point(_name: &str) {}

#[cfg(feature = "fault")]
pub(crate) use armed::point;

#[cfg(feature = "fault")]
mod armed {
    use crate::primitive::private::{AtomicU32, Ordering};
    use std::sync::OnceLock;

    struct Armed {
        point: String,
        signal: libc::c_int,
        left: AtomicU32,
    }

    static ARMED: OnceLock<Option<Armed>> = OnceLock::new();

    fn read() -> Option<Armed> {
        let text = std::env::var("SHMEM_SLOTS_FAULT").ok()?;
        let (point, action) = text.split_once('=')?;
        let (action, times) = action.split_once('@').unwrap_or((action, "1"));
        let signal = match action {
            "kill" => libc::SIGKILL,
            "stop" => libc::SIGSTOP,
            _ => return None,
        };
        let left = AtomicU32::new(times.parse().ok()?);
        Some(Armed { point: point.to_owned(), signal, left })
    }

    pub(crate) fn point(name: &str) {
        let mut points = super::POINTS.iter().chain(super::QUEUE_POINTS);
        debug_assert!(points.any(|&point| point == name), "{name} is not in a list");
        let Some(armed) = ARMED.get_or_init(read) else { return };
        if armed.point == name && armed.left.fetch_sub(1, Ordering::Relaxed) == 1 {
            // Fails only for a bad signal or pid.
            let _ = nix::sys::signal::kill(
                nix::unistd::Pid::this(),
                nix::sys::signal::Signal::try_from(armed.signal).ok(),
            );
        }
    }
}

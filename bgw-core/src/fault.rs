//! Fault points, for tests: named places between two steps, where a process of the cluster may be made
//! to die, to stop, or to fail. The machinery; which points there are stands in the crates that have
//! them. Only with the feature `fault`.
//!
//! The environment of the postmaster, read once as it begins and inherited by its workers, says what
//! is to happen where:
//!
//! ```text
//! BGW_FAULT = FAULT [";" FAULT ...]
//! FAULT     = POINT ["(" NAME ")"] "=" ("kill" | "stop" | "error") ["@" N]
//! ```
//!
//! `kill` and `stop` send SIGKILL or SIGSTOP to the process that has reached the point; `error` makes
//! the step there fail as if the system had refused it (`EAGAIN`). With a name, only a worker of that
//! name acts. Each fault acts once, at the `N`th time (the first, if nothing is said) that *any*
//! process of the cluster reaches it: a worker that is started again passes.
//!
//! What cannot be read is left out: a test finds that its point was never reached.

use crate::sys::shared_count;
use nix::sys::signal::Signal;
use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

/// The environment variable.
pub const VARIABLE: &str = "BGW_FAULT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Kill,
    Stop,
    Fail,
}

#[derive(Debug, PartialEq, Eq)]
struct Fault {
    point: String,
    worker: Option<String>,
    action: Do,
    at: u32,
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (place, action) = text.trim().split_once('=')?;
        let (point, worker) = match place.split_once('(') {
            Some((point, rest)) => (point, Some(rest.strip_suffix(')')?.to_owned())),
            None => (place, None),
        };
        let (action, at) = action.split_once('@').unwrap_or((action, "1"));
        let action = match action {
            "kill" => Do::Kill,
            "stop" => Do::Stop,
            "error" => Do::Fail,
            _ => return None,
        };
        let at = at.parse().ok().filter(|&at| at > 0)?;
        Some(Self { point: point.to_owned(), worker, action, at })
    }
}

struct Armed {
    fault: Fault,
    /// How often the point is still to be reached; shared by the cluster, since it is forked.
    left: &'static AtomicU32,
}

static ARMED: OnceLock<Vec<Armed>> = OnceLock::new();
static WORKER: OnceLock<String> = OnceLock::new();

/// For the postmaster, as it begins: reads the environment. Later calls in the process, and in those
/// forked from it, change nothing.
pub fn arm() {
    ARMED.get_or_init(|| {
        let text = std::env::var(VARIABLE).unwrap_or_default();
        let faults = text.split(';').filter_map(Fault::parse);
        faults
            .filter_map(|fault| Some(Armed { left: shared_count::new(fault.at).ok()?, fault }))
            .collect()
    });
}

/// For a worker, as it begins: says its name, for faults that concern it alone.
pub fn this_is(worker: &str) {
    WORKER.get_or_init(|| worker.to_owned());
}

/// A point between two steps that cannot fail: `error` is passed over.
pub fn point(name: &str) {
    let _: io::Result<()> = step(name);
}

/// A point before a step that may fail.
///
/// # Errors
/// `EAGAIN`, if that was asked for.
pub fn step(name: &str) -> io::Result<()> {
    step_of(WORKER.get().map(String::as_str), name)
}

/// The same in a process that is the worker `worker` and cannot say so by [`this_is`], since it runs in
/// the postmaster's memory. Allocates nothing.
///
/// # Errors
/// `EAGAIN`, if that was asked for.
pub fn step_of(worker: Option<&str>, name: &str) -> io::Result<()> {
    let armed = ARMED.get().into_iter().flatten().filter(|armed| {
        let concerned = armed.fault.worker.as_deref();
        armed.fault.point == name && (concerned.is_none() || concerned == worker)
    });
    // All are counted, also those behind one that fails.
    let mut done = Ok(());
    for armed in armed.filter(|armed| armed.left.fetch_sub(1, Ordering::AcqRel) == 1) {
        done = done.and(act(armed.fault.action));
    }
    done
}

fn act(action: Do) -> io::Result<()> {
    let signal = match action {
        Do::Kill => Signal::SIGKILL,
        Do::Stop => Signal::SIGSTOP,
        Do::Fail => return Err(io::Error::from_raw_os_error(libc::EAGAIN)),
    };
    // To oneself: there is always such a process, and it may.
    Ok(nix::sys::signal::kill(nix::unistd::Pid::this(), signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_written_and_anything_else_is_none() {
        let fault = |point: &str, worker: Option<&str>, action, at| {
            Some(Fault { point: point.into(), worker: worker.map(Into::into), action, at })
        };
        assert_eq!(Fault::parse("a:b=kill"), fault("a:b", None, Do::Kill, 1));
        assert_eq!(Fault::parse(" a(the one)=stop@3"), fault("a", Some("the one"), Do::Stop, 3));
        assert_eq!(Fault::parse("a=error@2"), fault("a", None, Do::Fail, 2));
        for text in ["", "a", "a=", "a=die", "a(b=kill", "a=kill@", "a=kill@0", "a=kill@x"] {
            assert_eq!(Fault::parse(text), None, "{text}");
        }
    }
}

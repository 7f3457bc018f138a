//! What is to happen at which point, and when it is reached.

use crate::primitive::private::{AtomicU32, Ordering};
use crate::sys::shared_count;
use nix::sys::signal::Signal;
use std::io;
use std::sync::{PoisonError, RwLock};

/// The environment variable.
const VARIABLE: &str = "BGW_FAULT";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Do {
    Kill,
    Stop,
    Fail,
}

#[derive(Debug, PartialEq, Eq)]
struct Fault {
    point: String,
    whose: Option<String>,
    action: Do,
    at: u32,
}

impl Fault {
    fn parse(text: &str) -> Option<Self> {
        let (place, action) = text.trim().split_once('=')?;
        let (point, whose) = match place.split_once('(') {
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
        Some(Self { point: point.to_owned(), whose, action, at })
    }
}

struct Armed {
    fault: Fault,
    /// How often the point is still to be reached; shared with the processes forked from here on.
    left: &'static AtomicU32,
}

impl Armed {
    fn has_acted(&self) -> bool {
        // Below 0 it wraps.
        let left = self.left.load(Ordering::Acquire);
        left == 0 || left > self.fault.at
    }
}

/// The faults of this process. Never freed: a step may be in the middle of the list.
static ARMED: RwLock<&[Armed]> = RwLock::new(&[]);
/// Never freed, either.
static NAME: RwLock<Option<&str>> = RwLock::new(None);

/// What became of faults that were armed.
#[derive(Clone, Copy)]
pub struct Traces(&'static [Armed]);

impl Traces {
    /// True if one of them has acted, in whatever process.
    #[must_use]
    pub fn any(self) -> bool {
        self.0.iter().any(|armed| armed.has_acted())
    }
}

/// From here on this process meets `faults`, and no others; so do those that are forked from it.
pub fn arm(faults: &str) -> Traces {
    let faults = faults.split(';').filter_map(Fault::parse);
    let armed: Vec<Armed> = faults
        .filter_map(|fault| Some(Armed { left: shared_count::new(fault.at).ok()?, fault }))
        .collect();
    let armed: &[Armed] = armed.leak();
    *ARMED.write().unwrap_or_else(PoisonError::into_inner) = armed;
    Traces(armed)
}

/// The same with the faults in `BGW_FAULT`. Without any there this process keeps those that it has.
pub fn arm_by_environment() {
    if let Some(faults) = std::env::var(VARIABLE).ok().filter(|faults| !faults.is_empty()) {
        arm(&faults);
    }
}

/// Says what this process is called from here on, for faults that concern it alone.
pub fn this_is(name: &str) {
    let name: &str = name.to_owned().leak();
    *NAME.write().unwrap_or_else(PoisonError::into_inner) = Some(name);
}

/// A point before a step. If that cannot fail, `error` is passed over.
///
/// # Errors
/// `EAGAIN`, if that was asked for.
pub fn step(point: &str) -> io::Result<()> {
    let name = *NAME.read().unwrap_or_else(PoisonError::into_inner);
    step_of(name, point)
}

/// The same in a process that is called `name` and cannot say so by [`this_is`], since it runs in
/// another one's memory. Allocates nothing.
///
/// # Errors
/// `EAGAIN`, if that was asked for.
pub fn step_of(name: Option<&str>, point: &str) -> io::Result<()> {
    let all = *ARMED.read().unwrap_or_else(PoisonError::into_inner);
    // All are counted, also those behind one that fails.
    let mut done = Ok(());
    for armed in all {
        let whose = armed.fault.whose.as_deref();
        let meant = armed.fault.point == point && (whose.is_none() || whose == name);
        if meant && armed.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            done = done.and(act(armed.fault.action));
        }
    }
    done
}

fn act(action: Do) -> io::Result<()> {
    let signal = match action {
        Do::Kill => Signal::SIGKILL,
        Do::Stop => Signal::SIGSTOP,
        Do::Fail => return Err(io::Error::from_raw_os_error(libc::EAGAIN)),
    };
    // A process may always signal itself, and it exists.
    Ok(nix::sys::signal::kill(nix::unistd::Pid::this(), signal)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn faults_are_read_as_written_and_anything_else_is_none() {
        let fault = |point: &str, whose: Option<&str>, action, at| {
            Some(Fault { point: point.into(), whose: whose.map(Into::into), action, at })
        };
        assert_eq!(Fault::parse("a:b=kill"), fault("a:b", None, Do::Kill, 1));
        assert_eq!(Fault::parse(" a(the one)=stop@3"), fault("a", Some("the one"), Do::Stop, 3));
        assert_eq!(Fault::parse("a=error@2"), fault("a", None, Do::Fail, 2));
        for text in ["", "a", "a=", "a=die", "a(b=kill", "a=kill@", "a=kill@0", "a=kill@x"] {
            assert_eq!(Fault::parse(text), None, "{text}");
        }
    }

    /// Breaks if a fault acts at another time than its own, in a process of another name, or after
    /// others were armed.
    #[test]
    fn a_fault_acts_once_at_its_time_where_it_is_meant() {
        let fails = |name, point| step_of(name, point).is_err();
        let traces = arm("a=error@2;b(me)=error;nonsense;a=error@3");
        assert!(!fails(None, "a") && !traces.any());
        let at_a: Vec<bool> = (0..3).map(|_| fails(None, "a")).collect();
        assert_eq!(at_a, [true, true, false]);
        assert!(traces.any());
        assert!(!fails(None, "b") && !fails(Some("you"), "b"));
        assert!(fails(Some("me"), "b") && !fails(Some("me"), "b"));
        arm("c=error");
        arm_by_environment();
        assert!(fails(None, "c"), "there is nothing in the environment");
        arm("c=error");
        arm("");
        assert!(!fails(None, "c"));
    }
}

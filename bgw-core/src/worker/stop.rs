//! How a worker is asked to end, and how long it may take.

use nix::sys::signal::Signal;
use std::fmt;
use std::str::FromStr;
use std::time::Duration;

/// The signal that asks a worker to end: at a terminate request, and in a smart or fast shutdown.
///
/// A function hears each of them alike: `Worker::should_stop` is true, its waits end. So a function
/// whose stop signal is SIGHUP hears of no reload, and one whose stop signal is SIGINT ends where
/// another cancels its statement. SIGTERM has its usual meaning beside them. A command does with it
/// what it likes; the signals in the second half of the list are for commands alone.
///
/// ```
/// use bgw_core::{BackgroundWorker, Grace, StopSignal};
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// // nginx finishes its requests on SIGQUIT, and gets a minute for them.
/// let nginx = BackgroundWorker::builder("nginx")
///     .command("nginx", ["-g", "daemon off;"])
///     .stop(StopSignal::Quit)
///     .grace(Grace::After(Duration::from_secs(60)))
///     .build()?;
/// assert_eq!(nginx.stop().to_string(), "SIGQUIT");
///
/// let function = BackgroundWorker::builder("f").function("f").stop(StopSignal::Quit);
/// let refused = function.build().unwrap_err();
/// assert_eq!(refused.field(), "stop");
/// # Ok(())
/// # }
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum StopSignal {
    /// SIGTERM.
    #[default]
    Term,
    /// SIGINT.
    Int,
    /// SIGHUP.
    Hup,
    /// SIGUSR2.
    Usr2,
    /// SIGQUIT, for commands.
    Quit,
    /// SIGUSR1, for commands.
    Usr1,
    /// SIGWINCH, for commands. A program ignores it until it installs a handler.
    Winch,
}

/// All of them, and what each is to the system.
const ALL: [(StopSignal, Signal); 7] = [
    (StopSignal::Term, Signal::SIGTERM),
    (StopSignal::Int, Signal::SIGINT),
    (StopSignal::Hup, Signal::SIGHUP),
    (StopSignal::Usr2, Signal::SIGUSR2),
    (StopSignal::Quit, Signal::SIGQUIT),
    (StopSignal::Usr1, Signal::SIGUSR1),
    (StopSignal::Winch, Signal::SIGWINCH),
];

impl StopSignal {
    /// Its number.
    #[must_use]
    pub const fn number(self) -> i32 {
        self.signal() as i32
    }

    /// The signal.
    pub(crate) const fn signal(self) -> Signal {
        // The table of the others lies on a page that a new worker has not mapped.
        if matches!(self, Self::Term) { Signal::SIGTERM } else { self.rarer_signal() }
    }

    #[cold]
    #[inline(never)]
    const fn rarer_signal(self) -> Signal {
        match self {
            Self::Term => Signal::SIGTERM,
            Self::Int => Signal::SIGINT,
            Self::Hup => Signal::SIGHUP,
            Self::Usr2 => Signal::SIGUSR2,
            Self::Quit => Signal::SIGQUIT,
            Self::Usr1 => Signal::SIGUSR1,
            Self::Winch => Signal::SIGWINCH,
        }
    }

    /// The stop signal of a number; `None` if it is none.
    pub(crate) fn from_number(number: i32) -> Option<Self> {
        ALL.into_iter().find(|&(stop, _)| stop.number() == number).map(|(stop, _)| stop)
    }

    /// True if a worker that is a function may have it.
    #[must_use]
    pub const fn is_for_functions(self) -> bool {
        matches!(self, Self::Term | Self::Int | Self::Hup | Self::Usr2)
    }
}

impl fmt::Display for StopSignal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.signal().as_str())
    }
}

/// A text that is not a stop signal; the message shows at most 80 characters of it, escaped.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[error(
    "{0:?} is no stop signal; it is SIGTERM, SIGINT, SIGHUP or SIGUSR2, for commands also SIGQUIT, SIGUSR1 or SIGWINCH"
)]
pub struct ParseStopSignalError(String);

shmem_slots::debug_as_chain!(ParseStopSignalError);

impl FromStr for StopSignal {
    type Err = ParseStopSignalError;

    /// With or without `SIG`: `SIGINT`, `INT`.
    fn from_str(text: &str) -> Result<Self, ParseStopSignalError> {
        let found = ALL.into_iter().find(|(_, signal)| {
            let name = signal.as_str();
            text == name || name.strip_prefix("SIG") == Some(text)
        });
        let wrong = || ParseStopSignalError(text.chars().take(80).collect());
        found.map(|(stop, _)| stop).ok_or_else(wrong)
    }
}

/// How long a worker, and what it has started, may take to end after its stop signal. Then SIGKILL
/// ends it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Grace {
    /// As long as the postmaster's `terminate_grace` says.
    #[default]
    OfCluster,
    /// As long as the postmaster's `terminate_grace` says, but 60 s where that is for ever.
    Bounded,
    /// For ever, at a terminate request and in a smart or fast shutdown. Whatever else stops a
    /// worker, the end of the launching program for example, takes it for 60 s.
    Forever,
    /// This long: at most a day, in whole milliseconds. The rest is dropped. After 0 the worker
    /// gets SIGKILL right behind its stop signal.
    After(Duration),
}

#[cfg(test)]
mod tests {
    use super::{ALL, StopSignal};

    #[test]
    fn each_signal_has_one_name_and_one_number() {
        for (stop, signal) in ALL {
            assert_eq!(stop.signal(), signal);
            assert_eq!(StopSignal::from_number(signal as i32), Some(stop));
            let name = stop.to_string();
            assert_eq!(name, signal.as_str());
            assert_eq!(name.parse(), Ok(stop));
            assert_eq!(name[3..].parse(), Ok(stop));
        }
    }

    #[test]
    fn any_other_signal_is_refused_by_its_name() {
        for name in ["SIGKILL", "STOP", "SIGCHLD", "term", "", "SIG"] {
            let error = name.parse::<StopSignal>().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{name:?} is no stop signal")), "{error}");
        }
        for number in [0, -1, 9, 17, 19, 64, i32::MIN] {
            assert_eq!(StopSignal::from_number(number), None);
        }
    }
}

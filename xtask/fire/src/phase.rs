//! The list of what happens to a server.

use std::fmt;

/// One thing that happens while requests go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Phase {
    /// Nothing.
    Quiet,
    /// Each second SIGKILL for the worker that has run for the longest.
    Kill,
    /// One worker is killed, and fails at its start for ten seconds.
    Crash,
    /// One worker hangs.
    Hang,
    /// All workers hang.
    HangAll,
    /// The workers leak memory.
    Leak,
    /// All workers are replaced, one after the other.
    Roll,
    /// SIGHUP: all workers read their settings again.
    Reload,
    /// A fast shutdown.
    Stop,
    /// A server whose workers all fail at their start for ten seconds.
    NoneStarts,
}

impl Phase {
    /// In their order. Those after `Stop` have no load.
    pub(crate) const ALL: [Self; 10] = [
        Self::Quiet,
        Self::Kill,
        Self::Crash,
        Self::Hang,
        Self::HangAll,
        Self::Leak,
        Self::Roll,
        Self::Reload,
        Self::Stop,
        Self::NoneStarts,
    ];

    /// Its name among the flags.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Kill => "kill",
            Self::Crash => "crash",
            Self::Hang => "hang",
            Self::HangAll => "hang-all",
            Self::Leak => "leak",
            Self::Roll => "roll",
            Self::Reload => "reload",
            Self::Stop => "stop",
            Self::NoneStarts => "none-starts",
        }
    }

    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|phase| phase.name() == name);
        found.ok_or_else(|| format!("no phase is called `{name}`"))
    }

    /// What it is, in the table.
    pub(crate) const fn title(self) -> &'static str {
        match self {
            Self::Quiet => "quiet",
            Self::Kill => "a worker killed every second",
            Self::Crash => "one fails at its start, 10 s",
            Self::Hang => "one hangs",
            Self::HangAll => "all hang",
            Self::Leak => "all leak",
            Self::Roll => "all replaced, one by one",
            Self::Reload => "SIGHUP",
            Self::Stop => "fast stop",
            Self::NoneStarts => "none can start, 10 s",
        }
    }
}

impl fmt::Display for Phase {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(self.name())
    }
}

#[cfg(test)]
mod tests {
    use super::Phase;

    #[test]
    fn each_phase_is_found_by_its_name() {
        for phase in Phase::ALL {
            assert_eq!(Phase::parse(phase.name()), Ok(phase));
        }
        assert!(Phase::parse("noise").is_err());
    }
}

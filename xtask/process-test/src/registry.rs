//! What a test binary says about its tests. Plain values; runner and guard read the same list,
//! since both are the same binary.

use std::time::Duration;

/// One test: a name, a function, and what it asks of the harness.
#[derive(Debug, Clone)]
pub struct Test {
    pub(crate) name: &'static str,
    pub(crate) run: fn(),
    pub(crate) proves: &'static [&'static str],
    pub(crate) watchdog: Duration,
    pub(crate) alone: bool,
    pub(crate) clean_tmp: bool,
}

impl Test {
    /// A test that fails when `run` panics. Its watchdog strikes after 60 seconds.
    #[must_use]
    pub const fn new(name: &'static str, run: fn()) -> Self {
        Self {
            name,
            run,
            proves: &[],
            watchdog: Duration::from_secs(60),
            alone: false,
            clean_tmp: false,
        }
    }

    /// As [`new`](Self::new), named by the path of its function without the crate.
    #[doc(hidden)]
    #[must_use]
    pub fn at(path: &'static str, run: fn()) -> Self {
        Self::new(path.split_once("::").map_or(path, |(_, name)| name), run)
    }

    /// Names what the test proves: ids of promises, listed in brackets before its name.
    #[must_use]
    pub const fn proves(mut self, ids: &'static [&'static str]) -> Self {
        self.proves = ids;
        self
    }

    /// Kills the test and fails it when it still runs after `limit`.
    #[must_use]
    pub const fn watchdog(mut self, limit: Duration) -> Self {
        self.watchdog = limit;
        self
    }

    /// Runs this test while no other test of the same binary runs.
    #[must_use]
    pub const fn alone(mut self) -> Self {
        self.alone = true;
        self
    }

    /// Fails the test when it leaves a file in `TMPDIR`.
    #[must_use]
    pub const fn clean_tmp(mut self) -> Self {
        self.clean_tmp = true;
        self
    }

    /// The name by which the command line selects the test.
    #[must_use]
    pub const fn name(&self) -> &'static str {
        self.name
    }
}

/// The same tests, each with this [watchdog](Test::watchdog).
#[must_use]
pub fn watchdog(limit: Duration, tests: Vec<Test>) -> Vec<Test> {
    tests.into_iter().map(|test| test.watchdog(limit)).collect()
}

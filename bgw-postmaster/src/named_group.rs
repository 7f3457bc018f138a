//! The description of a group of workers.

use bgw_core::internals::GROUP_LIMIT;
use std::time::Duration;

/// The largest number of an intensity, and its longest time.
const MOST_RESTARTS: u32 = 100;
const LONGEST: Duration = Duration::from_secs(86_400);

/// Whom the restart of a member concerns.
///
/// | a member | `OneForOne` | `RestForOne` | `OneForAll` |
/// |---|---|---|---|
/// | ends for good | nobody | nobody | nobody |
/// | is to be restarted | it | it and later ones | all |
/// | fails while they start again | it | it and later ones | all |
/// | crashes with `SHMEM_ACCESS` | crash reset | crash reset | crash reset |
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
#[doc(alias = "one_for_one")]
pub enum Strategy {
    /// That member alone.
    #[default]
    OneForOne,
    /// That member and those that were registered after it.
    #[doc(alias = "rest_for_one")]
    RestForOne,
    /// Every member.
    #[doc(alias = "one_for_all")]
    OneForAll,
}

/// A named group of workers that are supervised together, as by a supervisor of Erlang/OTP. Workers
/// join it by [`group`](bgw_core::BackgroundWorkerBuilder::group) in their descriptions, in the
/// order of their registration. (What a worker has started is its *process group*, which is another
/// thing.)
///
/// A member ends for good as its own policy says: `Never` is OTP's temporary, `OnFailure` its
/// transient, `Always` its permanent child. When a member is to be restarted, the others that this
/// concerns stop one after the other, the last one first. After the pause of the failed member they
/// start again in their order, each once the one before is ready, or has started if it does not
/// [declare](bgw_core::BackgroundWorkerBuilder::ready) that it reports that. Those with `Never` are
/// stopped and do not come back. A grace of "for ever" is a minute here. A request to terminate a
/// member does not affect the others.
///
/// A failure counts as one restart, however many members it concerns. After more of them than
/// [`intensity`](Group::intensity) allows, all members stop, the last one first, and are
/// unregistered; the reports say which of them failed. For workers that are registered later the
/// group is new.
///
/// ```
/// use bgw_postmaster::{Group, Postmaster, Strategy};
/// use std::time::Duration;
///
/// let minute = Duration::from_secs(60);
/// let web = Group::new("web").strategy(Strategy::RestForOne).intensity(3, minute);
/// let builder = Postmaster::builder().group(web);
/// # let _ = builder;
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
#[must_use]
pub struct Group {
    pub(crate) name: String,
    pub(crate) strategy: Strategy,
    pub(crate) restarts: u32,
    pub(crate) within: Duration,
}

impl Group {
    /// A group of this name, at most 31 bytes, with `OneForOne` and an intensity of one restart in
    /// 5 s.
    pub fn new(name: impl Into<String>) -> Self {
        let (strategy, restarts, within) = (Strategy::default(), 1, Duration::from_secs(5));
        Self { name: name.into(), strategy, restarts, within }
    }

    /// Whom the restart of a member concerns.
    pub const fn strategy(mut self, strategy: Strategy) -> Self {
        self.strategy = strategy;
        self
    }

    /// How many restarts the group is granted within a time: 0 to 100, in 1 ms to a day. The next
    /// failure ends the group; with 0, the first one does. A restart that is exactly that long ago
    /// no longer counts.
    #[doc(alias = "MaxR")]
    #[doc(alias = "MaxT")]
    pub const fn intensity(mut self, restarts: u32, within: Duration) -> Self {
        self.restarts = restarts;
        self.within = within;
        self
    }

    /// What is wrong with it.
    pub(crate) fn objection(&self) -> Option<String> {
        let shown = |name: &str| !name.is_empty() && !name.chars().any(char::is_control);
        if !shown(&self.name) || self.name.len() > GROUP_LIMIT {
            return Some(format!("its name must be 1 to {GROUP_LIMIT} bytes of printable text"));
        }
        if self.restarts > MOST_RESTARTS {
            let restarts = self.restarts;
            return Some(format!("intensity is {restarts} restarts, the limit is {MOST_RESTARTS}"));
        }
        if self.within < Duration::from_millis(1) || self.within > LONGEST {
            return Some(format!("intensity is in {:?}, the limit is 1ms to a day", self.within));
        }
        None
    }
}

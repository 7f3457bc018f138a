//! How a template is kept: its settings, and what it loads.

use bgw_core::internals::TEMPLATE_LIMIT;
use std::any::Any;
use std::error::Error;
use std::fmt;
use std::time::Duration;

/// The longest time that a template may be given to load, and to fork.
const LONGEST: Duration = Duration::from_secs(86_400);
/// The largest number of spares of one template.
const MOST_SPARES: usize = 64;

/// What a template loads, or why it cannot.
pub(crate) type Loaded = Result<Box<dyn Any + Send + Sync>, Box<dyn Error + Send + Sync>>;

/// How a template is kept ([`template_with`](crate::PostmasterBuilder::template_with)).
///
/// ```
/// use bgw_postmaster::{Postmaster, Template};
/// use std::time::Duration;
///
/// let rarely = Template::new().on_first_use().load_timeout(Duration::from_secs(20));
/// let builder = Postmaster::builder()
///     .template_with("dictionary", rarely, || std::fs::read("/usr/share/dict/words"));
/// # let _ = builder;
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub struct Template {
    pub(crate) on_first_use: bool,
    pub(crate) load_timeout: Duration,
    pub(crate) fork_timeout: Duration,
    pub(crate) spares: usize,
    pub(crate) measure_copies: bool,
}

impl Default for Template {
    fn default() -> Self {
        Self::new()
    }
}

impl Template {
    /// It loads at the start of the postmaster, may take 5 minutes for it and 10 s for a fork, and
    /// forks nothing ahead.
    pub const fn new() -> Self {
        Self {
            on_first_use: false,
            load_timeout: Duration::from_secs(300),
            fork_timeout: Duration::from_secs(10),
            spares: 0,
            measure_copies: false,
        }
    }

    /// It loads when the first worker needs it.
    pub const fn on_first_use(mut self) -> Self {
        self.on_first_use = true;
        self
    }

    /// How long it may take to load, before it is killed: 1 ms to a day. That counts as a failure.
    pub const fn load_timeout(mut self, time: Duration) -> Self {
        self.load_timeout = time;
        self
    }

    /// How long it may take to fork a worker, before it is killed and another one is loaded: 1 ms
    /// to a day.
    pub const fn fork_timeout(mut self, time: Duration) -> Self {
        self.fork_timeout = time;
        self
    }

    /// How many workers it forks ahead, asleep until there is work for them: 0 to 64.
    pub const fn spares(mut self, count: usize) -> Self {
        self.spares = count;
        self
    }

    /// Has each worker look at its end how much of its memory is its own, for its report
    /// ([`copied_kib`](bgw_core::ExitReport::copied_kib)): `Private_Dirty` of its
    /// `/proc/self/smaps_rollup`. The kernel walks all its page tables for that: some milliseconds
    /// for each GiB in small pages. Once a template is dead, what it alone has shared with a worker
    /// counts as that worker's own.
    pub const fn measure_copies(mut self) -> Self {
        self.measure_copies = true;
        self
    }
}

/// A template that a builder was given.
pub(crate) struct NamedTemplate {
    pub(crate) name: String,
    pub(crate) settings: Template,
    pub(crate) load: Box<dyn Fn() -> Loaded>,
}

impl fmt::Debug for NamedTemplate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("NamedTemplate").field(&self.name).field(&self.settings).finish()
    }
}

impl NamedTemplate {
    /// What is wrong with it.
    pub(crate) fn objection(&self) -> Option<String> {
        let Template { load_timeout, fork_timeout, spares, .. } = self.settings;
        if self.name.is_empty()
            || self.name.len() > TEMPLATE_LIMIT
            || self.name.chars().any(char::is_control)
        {
            return Some(format!("its name must be 1 to {TEMPLATE_LIMIT} bytes of printable text"));
        }
        for (what, time) in [("load_timeout", load_timeout), ("fork_timeout", fork_timeout)] {
            if time < Duration::from_millis(1) || time > LONGEST {
                return Some(format!("{what} is {time:?}, the limit is 1ms to a day"));
            }
        }
        (spares > MOST_SPARES)
            .then(|| format!("spares is {spares}, the limit is 0 to {MOST_SPARES}"))
    }
}

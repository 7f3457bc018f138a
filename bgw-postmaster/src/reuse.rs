//! How long the process of a reusable function may serve.

use std::time::Duration;

/// How many lives a process has by default.
const LIVES: u32 = 1000;

/// For how many workers, how long and up to which size one process serves: the limits of a
/// [reusable function](crate::PostmasterBuilder::reusable_function). At the end of a worker that
/// reaches one of them its process ends, too, and the next worker has a fresh one.
///
/// ```
/// use bgw_postmaster::Reuse;
/// use std::time::Duration;
///
/// let reuse = Reuse::new().lives(10_000).lifetime(Duration::from_secs(3600)).memory(256 << 20);
/// assert_eq!(reuse.lives, 10_000);
/// ```
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Reuse {
    /// How many workers one process serves. 0 is taken for 1.
    pub lives: u32,
    /// A process that is as old as that serves no more.
    pub lifetime: Option<Duration>,
    /// Nor does one that uses as many bytes.
    pub memory: Option<u64>,
}

impl Reuse {
    /// A thousand lives, and no other limit.
    #[must_use]
    pub const fn new() -> Self {
        Self { lives: LIVES, lifetime: None, memory: None }
    }

    /// How many workers one process serves. Each costs the process some hundred bytes, which it
    /// gives back when it ends.
    #[must_use]
    pub const fn lives(self, count: u32) -> Self {
        Self { lives: count, ..self }
    }

    /// How old a process may be, counted from its fork.
    #[must_use]
    pub const fn lifetime(self, age: Duration) -> Self {
        Self { lifetime: Some(age), ..self }
    }

    /// How many bytes of memory a process may use. Only what is resident, anonymous and not shared
    /// counts: `RssAnon` in `/proc/PID/status`. Looked at after each worker; the worker's end is
    /// later by that look.
    #[must_use]
    pub const fn memory(self, bytes: u64) -> Self {
        Self { memory: Some(bytes), ..self }
    }

    /// Which limit a process has reached that has served `lives` workers, is `age` old and uses
    /// `memory`, in words. `memory` is asked only if there is a limit.
    pub(crate) fn reached(
        &self,
        lives: u32,
        age: Duration,
        memory: impl FnOnce() -> Option<u64>,
    ) -> Option<String> {
        if lives >= self.lives {
            return Some(format!("it has served {lives} workers"));
        }
        if self.lifetime.is_some_and(|limit| age >= limit) {
            return Some(format!("it is {age:?} old"));
        }
        let limit = self.memory?;
        match memory() {
            Some(bytes) if bytes < limit => None,
            Some(bytes) => Some(format!("it uses {bytes} bytes")),
            None => Some("its memory cannot be read".to_owned()),
        }
    }
}

impl Default for Reuse {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::Reuse;
    use std::time::Duration;

    #[test]
    fn each_limit_ends_a_process_that_reaches_it_and_none_that_does_not() {
        let second = Duration::from_secs(1);
        let reuse = Reuse::new().lives(3).lifetime(second).memory(100);
        let just_below = Duration::from_nanos(999_999_999);
        for (lives, age, memory, stays) in [
            (1, Duration::ZERO, Some(0), true),
            (2, just_below, Some(99), true),
            (3, Duration::ZERO, Some(0), false),
            (4, Duration::ZERO, Some(0), false),
            (1, second, Some(0), false),
            (1, Duration::ZERO, Some(100), false),
            (1, Duration::ZERO, None, false),
        ] {
            let reached = reuse.reached(lives, age, || memory);
            assert_eq!(reached.is_none(), stays, "{lives} {age:?} {memory:?}: {reached:?}");
        }
        let unlimited = Reuse::new().lives(2);
        assert_eq!(unlimited.reached(1, Duration::MAX, || None), None, "nobody asks");
        assert!(Reuse::new().lives(0).reached(1, Duration::ZERO, || None).is_some());
    }
}

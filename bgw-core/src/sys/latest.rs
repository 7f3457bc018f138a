//! A value that a process replaces now and then and never frees, so that whoever has a reference to
//! an earlier one may keep it for ever. Reading it takes no lock: signal handlers may.

use std::sync::OnceLock;
use std::sync::atomic::{AtomicPtr, Ordering};

/// The latest value. The first one lies in place, and takes no memory of its own.
#[derive(Debug)]
pub(crate) struct Latest<T> {
    first: OnceLock<T>,
    /// Null, or a value that was leaked.
    later: AtomicPtr<T>,
}

impl<T> Latest<T> {
    pub(crate) const fn new() -> Self {
        Self { first: OnceLock::new(), later: AtomicPtr::new(std::ptr::null_mut()) }
    }

    /// The latest value; `None` before the first one. Safe in a signal handler.
    pub(crate) fn get(&self) -> Option<&T> {
        let later = self.later.load(Ordering::Acquire);
        // SAFETY: null, or what `set` leaked: whole (Release, Acquire), and never freed or changed.
        unsafe { later.as_ref() }.or_else(|| self.first.get())
    }

    /// Replaces the value. The one before stays where it is.
    pub(crate) fn set(&self, value: T) {
        if let Err(value) = self.first.set(value) {
            self.later.store(Box::leak(Box::new(value)), Ordering::Release);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Latest;

    #[test]
    fn the_latest_value_is_read_and_the_earlier_ones_stay() {
        let latest = Latest::new();
        assert_eq!(latest.get(), None);
        let all = ["a", "b", "c"].map(|text| {
            latest.set(text.to_owned());
            latest.get().unwrap()
        });
        assert_eq!(latest.get().map(String::as_str), Some("c"));
        assert_eq!(all, ["a", "b", "c"]);
    }
}

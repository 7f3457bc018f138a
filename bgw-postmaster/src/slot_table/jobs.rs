//! The jobs that are terminated when the process has ended that submitted them.
//!
//! Only such jobs are listed, by their submitters. A process that has submitted none costs its end
//! one look at an empty map.

use crate::quick_map::QuickMap;
use bgw_core::Pid;
use shmem_slots::Key;
use std::collections::HashSet;

/// Jobs by submitter.
#[derive(Debug, Default)]
pub(crate) struct Jobs {
    of: QuickMap<Pid, HashSet<Key>>,
}

impl Jobs {
    /// True if there is none.
    pub(super) fn are_none(&self) -> bool {
        self.of.is_empty()
    }

    pub(super) fn add(&mut self, submitter: Pid, key: Key) {
        self.of.entry(submitter).or_default().insert(key);
    }

    pub(super) fn remove(&mut self, submitter: Pid, key: Key) {
        if let Some(keys) = self.of.get_mut(&submitter) {
            keys.remove(&key);
            if keys.is_empty() {
                self.of.remove(&submitter);
            }
        }
    }

    /// All of this submitter.
    pub(super) fn take(&mut self, submitter: Pid) -> HashSet<Key> {
        self.of.remove(&submitter).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::Jobs;
    use bgw_core::Pid;
    use shmem_slots::Key;

    #[test]
    fn each_process_has_its_own_jobs_until_they_are_over() {
        let mut jobs = Jobs::default();
        let (first, second) = (Pid::new(7).unwrap(), Pid::new(8).unwrap());
        let key = |index| Key { index, generation: 1 };
        for (of, index) in [(first, 0), (first, 1), (second, 2)] {
            jobs.add(of, key(index));
        }
        jobs.remove(first, key(0));
        jobs.remove(first, key(2));
        assert_eq!(jobs.take(first).into_iter().collect::<Vec<_>>(), [key(1)]);
        assert!(jobs.take(first).is_empty(), "once");
        jobs.remove(second, key(2));
        assert!(jobs.are_none());
    }
}

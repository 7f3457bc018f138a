//! Mailboxes of spares whose worker has ended.
//!
//! It takes the kernel longer to unmap one than to reap the process, and on one core whoever has
//! waited for the end of the worker waits for that, too. So they are unmapped a moment later, when
//! nothing happens.

use crate::child::Mailbox;
use std::time::{Duration, Instant};

/// How many are kept. While more workers end in a row, each end unmaps one.
const MOST: usize = 16;
/// How long after an end they are unmapped.
const DELAY: Duration = Duration::from_millis(1);

/// The mailboxes that are to be unmapped. In place, not on the heap: a fork leaves it out.
#[derive(Debug, Default)]
pub(crate) struct Spent {
    kept: [Option<Mailbox>; MOST],
    /// The place of the next one.
    next: usize,
    due: Option<Instant>,
}

impl Spent {
    pub(super) fn add(&mut self, mut mailbox: Mailbox) {
        mailbox.give_back_number();
        if let Some(place) = self.kept.get_mut(self.next) {
            *place = Some(mailbox);
        }
        self.next = (self.next + 1) % MOST;
        self.due = Some(Instant::now() + DELAY);
    }

    /// When they are to be unmapped.
    pub(crate) const fn due(&self) -> Option<Instant> {
        self.due
    }

    /// Nothing happens now: unmaps them, if they are due.
    pub(crate) fn unmap_due(&mut self) {
        if self.due.is_some_and(|at| at <= Instant::now()) {
            self.due = None;
            self.kept = Default::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bounded_number_is_kept_until_it_is_due() {
        let mut spent = Spent::default();
        let kept = |spent: &Spent| spent.kept.iter().flatten().count();
        for _ in 0..MOST + 3 {
            spent.add(Mailbox::new(None).unwrap());
        }
        assert_eq!(kept(&spent), MOST);
        while spent.due().is_some() {
            spent.unmap_due();
        }
        assert_eq!(kept(&spent), 0);
    }
}

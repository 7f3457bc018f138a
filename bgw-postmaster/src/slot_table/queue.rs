//! Who waits for a slot: first come, first served, over all sessions. Pure.
//!
//! A session takes a ticket, which waits from the moment that its description has come. So a peer
//! that stops in between delays nobody. All tickets that have not been given up count towards the
//! limits, also those that do not wait yet.

use bgw_core::internals::SlotClass;
use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;

/// The largest number of tickets in all.
pub(crate) const MOST: usize = 1024;
/// The largest number of tickets of one session.
pub(crate) const MOST_OF_SESSION: usize = 64;

/// What a ticket is for.
#[derive(Debug)]
struct Ticket<C, W> {
    session: u64,
    channel: C,
    /// What it waits for, once that is known: its class, its turn, and the worker.
    waits: Option<(SlotClass, u64, W)>,
}

/// A ticket whose turn it is.
#[derive(Debug)]
pub(crate) struct Turn<C, W> {
    pub(crate) channel: C,
    pub(crate) worker: W,
}

/// The queue. `C` is the way to the one that waits, `W` what it waits for.
#[derive(Debug)]
pub(crate) struct Queue<C, W> {
    tickets: HashMap<u64, Ticket<C, W>>,
    of_session: HashMap<u64, usize>,
    /// Those that wait, by class and turn.
    turns: BTreeMap<(SlotClass, u64), u64>,
    /// The next number, and the next turn.
    next: u64,
}

impl<C, W> Default for Queue<C, W> {
    fn default() -> Self {
        let (tickets, of_session) = (HashMap::new(), HashMap::new());
        Self { tickets, of_session, turns: BTreeMap::new(), next: 1 }
    }
}

impl<C, W> Queue<C, W> {
    /// True if nobody has a ticket.
    pub(crate) fn is_empty(&self) -> bool {
        self.tickets.is_empty()
    }

    /// Which limit keeps `session` from another ticket.
    pub(crate) fn limit(&self, session: u64) -> Option<usize> {
        if self.of_session.get(&session).is_some_and(|&count| count >= MOST_OF_SESSION) {
            return Some(MOST_OF_SESSION);
        }
        (self.tickets.len() >= MOST).then_some(MOST)
    }

    /// A ticket for `session`. Returns its number, which is never used again.
    pub(crate) fn open(&mut self, session: u64, channel: C) -> u64 {
        let number = self.number();
        *self.of_session.entry(session).or_default() += 1;
        self.tickets.insert(number, Ticket { session, channel, waits: None });
        number
    }

    /// The way to the one that has ticket `number`, and whether it waits already.
    pub(crate) fn get(&self, number: u64) -> Option<(&C, bool)> {
        let ticket = self.tickets.get(&number)?;
        Some((&ticket.channel, ticket.waits.is_some()))
    }

    /// From now on ticket `number` waits, behind all that wait already.
    pub(crate) fn wait(&mut self, number: u64, class: SlotClass, worker: W) {
        let turn = self.number();
        let Some(ticket) = self.tickets.get_mut(&number) else { return };
        if ticket.waits.is_none() {
            ticket.waits = Some((class, turn, worker));
            self.turns.insert((class, turn), number);
        }
    }

    /// The classes that somebody waits for, in the order of those that have waited longest.
    pub(crate) fn classes(&self) -> Vec<SlotClass> {
        let mut firsts: Vec<(u64, SlotClass)> = Vec::new();
        let mut next = self.turns.first_key_value();
        while let Some((&(class, turn), _)) = next {
            firsts.push((turn, class));
            let behind = (Bound::Excluded((class, u64::MAX)), Bound::Unbounded);
            next = self.turns.range(behind).next();
        }
        firsts.sort_unstable();
        firsts.into_iter().map(|(_, class)| class).collect()
    }

    /// The way to the one of these classes whose turn it is.
    pub(crate) fn first(&self, classes: impl Iterator<Item = SlotClass>) -> Option<&C> {
        self.tickets.get(&self.first_number(classes)?).map(|ticket| &ticket.channel)
    }

    /// Takes the ticket of these classes whose turn it is.
    pub(crate) fn next(&mut self, classes: impl Iterator<Item = SlotClass>) -> Option<Turn<C, W>> {
        let Ticket { channel, waits, .. } = self.remove(self.first_number(classes)?)?;
        waits.map(|(.., worker)| Turn { channel, worker })
    }

    fn first_number(&self, classes: impl Iterator<Item = SlotClass>) -> Option<u64> {
        let of_class = |class| self.turns.range((class, 0)..=(class, u64::MAX)).next();
        let firsts = classes.filter_map(of_class);
        firsts.min_by_key(|((_, turn), _)| *turn).map(|(_, &number)| number)
    }

    /// Ticket `number` is given up. Returns the way to the one that had it.
    pub(crate) fn give_up(&mut self, number: u64) -> Option<C> {
        Some(self.remove(number)?.channel)
    }

    /// All tickets of a session are given up.
    pub(crate) fn close_session(&mut self, session: u64) {
        if self.of_session.contains_key(&session) {
            let of_it = self.tickets.iter().filter(|(_, ticket)| ticket.session == session);
            for number in of_it.map(|(&number, _)| number).collect::<Vec<_>>() {
                self.remove(number);
            }
        }
    }

    /// All tickets are given up.
    pub(crate) fn take_all(&mut self) -> Vec<C> {
        self.turns.clear();
        self.of_session.clear();
        self.tickets.drain().map(|(_, ticket)| ticket.channel).collect()
    }

    fn number(&mut self) -> u64 {
        let number = self.next;
        self.next += 1;
        number
    }

    fn remove(&mut self, number: u64) -> Option<Ticket<C, W>> {
        let ticket = self.tickets.remove(&number)?;
        if let Some((class, turn, _)) = &ticket.waits {
            self.turns.remove(&(*class, *turn));
        }
        if let Some(count) = self.of_session.get_mut(&ticket.session) {
            *count -= 1;
            if *count == 0 {
                self.of_session.remove(&ticket.session);
            }
        }
        Some(ticket)
    }
}

#[cfg(test)]
mod tests {
    use super::{MOST, MOST_OF_SESSION, Queue};
    use bgw_core::internals::SlotClass;

    const COMMON: [SlotClass; 1] = [SlotClass::Common];
    const PARALLEL: [SlotClass; 1] = [SlotClass::Parallel];

    fn workers(queue: &mut Queue<(), u32>, classes: &[SlotClass]) -> Vec<u32> {
        let next = || queue.next(classes.iter().copied()).map(|turn| turn.worker);
        std::iter::from_fn(next).collect()
    }

    #[test]
    fn those_that_wait_are_served_in_the_order_in_which_they_began() {
        let mut queue = Queue::default();
        let numbers = [1, 2, 1, 3].map(|session| queue.open(session, ()));
        assert!(queue.first(COMMON.into_iter()).is_none(), "nobody has said what it waits for");
        for (&at, worker) in [2, 0, 3, 1].iter().zip(0..) {
            let class = if worker == 2 { SlotClass::Parallel } else { SlotClass::Common };
            queue.wait(numbers[at], class, worker);
        }
        queue.wait(numbers[2], SlotClass::Common, 9);
        assert_eq!(workers(&mut queue, &PARALLEL), [2]);
        assert_eq!(workers(&mut queue, &COMMON), [0, 1, 3]);
        assert!(queue.is_empty() && queue.of_session.is_empty() && queue.turns.is_empty());
    }

    /// Breaks if a slot that everybody may have does not go to the one that has waited longest, or
    /// if one that is reserved goes to another class.
    #[test]
    fn a_slot_goes_to_the_oldest_ticket_whose_class_may_have_it() {
        use SlotClass::{Common, Reserved};
        let mut queue = Queue::default();
        for (class, worker) in
            [(Common, 0), (Reserved(1), 1), (Reserved(0), 2), (Common, 3), (Reserved(1), 4)]
        {
            let number = queue.open(1, ());
            queue.wait(number, class, worker);
        }
        assert_eq!(queue.classes(), [Common, Reserved(1), Reserved(0)]);
        let everybody = [Common, Reserved(0), Reserved(1)];
        let mut next =
            |classes: &[SlotClass]| queue.next(classes.iter().copied()).map(|turn| turn.worker);
        assert_eq!(next(&everybody), Some(0));
        assert_eq!(next(&[Reserved(0)]), Some(2));
        assert_eq!(next(&[Reserved(0)]), None);
        assert_eq!(next(&everybody), Some(1));
        assert_eq!(next(&[Reserved(1)]), Some(4));
        assert_eq!(next(&everybody), Some(3));
        assert!(queue.classes().is_empty());
    }

    #[test]
    fn who_gives_up_is_passed_over_and_leaves_nothing() {
        let mut queue = Queue::default();
        for worker in 0..9 {
            let number = queue.open(u64::from(worker) % 3, ());
            queue.wait(number, SlotClass::Common, worker);
            if worker == 4 {
                assert!(queue.give_up(number).is_some());
                assert!(queue.give_up(number).is_none());
            }
        }
        queue.close_session(0);
        assert_eq!(workers(&mut queue, &COMMON), [1, 2, 5, 7, 8]);
        assert!(queue.is_empty() && queue.of_session.is_empty() && queue.turns.is_empty());
    }

    #[test]
    fn a_session_has_64_tickets_and_all_together_1024() {
        let mut queue: Queue<(), u32> = Queue::default();
        let mut last = 0;
        for session in 0..(MOST / MOST_OF_SESSION) as u64 {
            for _ in 0..MOST_OF_SESSION {
                assert_eq!(queue.limit(session), None);
                last = queue.open(session, ());
            }
            assert_eq!(queue.limit(session), Some(MOST_OF_SESSION));
        }
        assert_eq!(queue.limit(99), Some(MOST));
        queue.give_up(last);
        assert_eq!(queue.limit(99), None);
        assert_eq!(queue.take_all().len(), MOST - 1);
        assert_eq!(queue.limit(0), None);
    }
}

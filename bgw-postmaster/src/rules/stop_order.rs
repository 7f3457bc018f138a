//! The order in which the workers of a shutdown are told to end. Pure.
//!
//! | who | ends before |
//! |---|---|
//! | a dependent (`after`) | what it depends on |
//! | a later member of a group | each earlier one |
//! | with [`ShutdownOrder::Registration`]: whoever registered later | each that registered earlier |
//!
//! A worker is told when all that come before it are gone; so those that have nothing to do with
//! each other are told at once. Workers that would wait for each other in a circle wait for nobody.

use super::registry::Entry;
use super::shutdown_order::ShutdownOrder;
use crate::quick_map::QuickMap;
use shmem_slots::Key;
use std::collections::HashMap;

/// What the order depends on.
#[derive(Clone, Debug)]
pub(super) struct Place<'a> {
    pub(super) key: Key,
    /// Greater if it was registered later.
    pub(super) registered: u64,
    /// Its name, if that is unique.
    pub(super) name: Option<&'a str>,
    /// The unique names that it depends on.
    pub(super) after: Vec<&'a str>,
    pub(super) group: Option<&'a str>,
}

impl<'a> Place<'a> {
    pub(super) fn of(entry: &'a Entry) -> Self {
        let worker = &entry.worker;
        Self {
            key: entry.key,
            registered: entry.registered,
            name: worker.is_unique().then(|| worker.name()),
            after: worker.after().map(|(name, _)| name).collect(),
            group: worker.group(),
        }
    }
}

/// Who has still to be told, and what for.
#[derive(Debug, Default)]
pub(super) struct StopOrder {
    /// How many each waits for.
    waits_for: QuickMap<Key, usize>,
    /// Whom the end of each brings closer.
    frees: QuickMap<Key, Vec<Key>>,
}

impl StopOrder {
    /// The order among those that are left.
    pub(super) fn of(mut places: Vec<Place<'_>>, order: ShutdownOrder) -> Self {
        places.sort_by_key(|place| place.registered);
        let mut all = Self::default();
        let mut link = |first: Key, then: Key| {
            if first != then {
                all.frees.entry(first).or_default().push(then);
                *all.waits_for.entry(then).or_default() += 1;
            }
        };
        let named: HashMap<&str, Key> =
            places.iter().filter_map(|place| Some((place.name?, place.key))).collect();
        let mut last_of: HashMap<&str, Key> = HashMap::new();
        let mut before: Option<Key> = None;
        for place in &places {
            for target in place.after.iter().filter_map(|name| named.get(name)) {
                link(place.key, *target);
            }
            if let Some(earlier) = place.group.and_then(|group| last_of.insert(group, place.key)) {
                link(place.key, earlier);
            }
            if let Some(earlier) = before.replace(place.key) {
                if order == ShutdownOrder::Registration {
                    link(place.key, earlier);
                }
            }
        }
        let keys: Vec<Key> = places.iter().map(|place| place.key).collect();
        all.break_circles(&keys);
        all
    }

    /// Goes through the whole order once. A worker that is never reached is in a circle, or behind
    /// one.
    fn break_circles(&mut self, keys: &[Key]) {
        let mut left = self.waits_for.clone();
        let mut ready: Vec<Key> =
            keys.iter().copied().filter(|key| !left.contains_key(key)).collect();
        while let Some(key) = ready.pop() {
            for then in self.frees.get(&key).into_iter().flatten() {
                if let Some(count) = left.get_mut(then) {
                    *count -= 1;
                    if *count == 0 {
                        left.remove(then);
                        ready.push(*then);
                    }
                }
            }
        }
        self.waits_for.retain(|key, _| !left.contains_key(key));
    }

    /// A worker is gone. Returns whom to tell now.
    pub(super) fn gone(&mut self, key: Key) -> Vec<Key> {
        self.waits_for.remove(&key);
        let mut now = Vec::new();
        for then in self.frees.remove(&key).unwrap_or_default() {
            if let Some(count) = self.waits_for.get_mut(&then) {
                *count = count.saturating_sub(1);
                if *count == 0 {
                    self.waits_for.remove(&then);
                    now.push(then);
                }
            }
        }
        now
    }

    /// True while this one waits for others.
    pub(super) fn waits(&self, key: Key) -> bool {
        self.waits_for.contains_key(&key)
    }

    /// From now on nobody waits for anybody.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::{Place, ShutdownOrder, StopOrder};
    use shmem_slots::Key;

    fn key(index: u32) -> Key {
        Key { index, generation: 1 }
    }

    /// name, depends on, group
    type Row = (&'static str, &'static [&'static str], Option<&'static str>);

    /// In which steps they are told, if all that were told end before the next step.
    fn steps(rows: &[Row], order: ShutdownOrder) -> Vec<Vec<&'static str>> {
        let place = |(at, row): (u32, &Row)| Place {
            key: key(at),
            registered: u64::from(at),
            name: Some(row.0),
            after: row.1.to_vec(),
            group: row.2,
        };
        let mut order = StopOrder::of((0..).zip(rows).map(place).collect(), order);
        let all = (0..rows.len() as u32).map(key);
        let mut now: Vec<Key> = all.filter(|&key| !order.waits(key)).collect();
        let mut steps = Vec::new();
        while !now.is_empty() {
            let mut names: Vec<_> = now.iter().map(|key| rows[key.index as usize].0).collect();
            names.sort_unstable();
            steps.push(names);
            now = now.into_iter().flat_map(|key| order.gone(key)).collect();
        }
        steps
    }

    #[test]
    fn dependents_end_before_their_targets_and_later_members_before_earlier_ones() {
        use ShutdownOrder::{Dependents, Registration};
        let db: Row = ("db", &[], None);
        let web: Row = ("web", &["db", "cache"], None);
        let (first, second) = (("first", &[][..], Some("g")), ("second", &[][..], Some("g")));
        let third: Row = ("third", &["db"], Some("g"));
        let lone: Row = ("lone", &[], None);
        let (one, two): (Row, Row) = (("one", &["two"], None), ("two", &["one"], None));
        let behind: Row = ("behind", &[], None);
        let before: Row = ("before", &["behind", "one"], None);
        let own: Row = ("own", &["own", "gone"], None);
        type Table<'a> = Vec<(Vec<Row>, ShutdownOrder, Vec<Vec<&'a str>>)>;
        let table: Table<'_> = vec![
            (vec![], Dependents, vec![]),
            (vec![db, lone], Dependents, vec![vec!["db", "lone"]]),
            (vec![db, web], Dependents, vec![vec!["web"], vec!["db"]]),
            (
                vec![db, ("cache", &["db"], None), web, lone],
                Dependents,
                vec![vec!["lone", "web"], vec!["cache"], vec!["db"]],
            ),
            (vec![first, second], Dependents, vec![vec!["second"], vec!["first"]]),
            (vec![db, first, third], Dependents, vec![vec!["third"], vec!["db", "first"]]),
            (vec![db, lone, first], Registration, vec![vec!["first"], vec!["lone"], vec!["db"]]),
            (vec![db, web], Registration, vec![vec!["web"], vec!["db"]]),
            (vec![one, two], Dependents, vec![vec!["one", "two"]]),
            (
                vec![one, two, behind, before],
                Dependents,
                vec![vec!["before", "one", "two"], vec!["behind"]],
            ),
            (vec![own], Dependents, vec![vec!["own"]]),
        ];
        for (rows, order, expected) in table {
            assert_eq!(steps(&rows, order), expected, "{rows:?}, {order:?}");
        }
    }
}

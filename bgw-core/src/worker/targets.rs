//! Whether the unique name of a worker is free, and the workers that it starts after are there.
//! Pure: the same for a backend that registers, for static workers, and for the postmaster.

use super::description::BackgroundWorker;
use super::relations::After;
use std::collections::{HashMap, HashSet};

/// Why a valid description does not go together with the workers that are registered.
#[derive(Clone, thiserror::Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RelationError {
    /// Another unique worker has its name.
    #[error("name is \"{name}\", which is unique, and a registered worker has it")]
    NameTaken {
        /// The name.
        name: String,
    },
    /// No unique worker has the name of one that it starts after.
    #[error("after is \"{name}\", but no unique worker of this name is registered")]
    NoSuchWorker {
        /// The name.
        name: String,
    },
    /// A worker that is to be ready first does not promise to say so.
    #[error("after is Ready of \"{name}\", but that worker does not declare that it says ready")]
    NeverReady {
        /// Its name.
        name: String,
    },
    /// Each of these starts after the next one, and the last after the first.
    #[error("after goes in a circle: {}", circle(names))]
    Circle {
        /// Their names.
        names: Vec<String>,
    },
}

shmem_slots::debug_as_chain!(RelationError);

fn circle(names: &[String]) -> String {
    let all = names.iter().chain(names.first());
    all.map(|name| format!("\"{name}\"")).collect::<Vec<_>>().join(" after ")
}

/// Checks `worker` against the unique workers that are registered: `find` finds one by name. Looks
/// for a circle only if `awaited`: if a registered worker starts after one of this name.
///
/// # Errors
/// [`RelationError`].
pub fn check_targets<'a>(
    worker: &BackgroundWorker,
    awaited: bool,
    find: impl Fn(&str) -> Option<&'a BackgroundWorker>,
) -> Result<(), RelationError> {
    if worker.is_unique() && find(worker.name()).is_some() {
        return Err(RelationError::NameTaken { name: worker.name().to_owned() });
    }
    for (name, condition) in worker.after() {
        let missing = || RelationError::NoSuchWorker { name: name.to_owned() };
        let target = find(name).ok_or_else(missing)?;
        if condition == After::Ready && target.ready().is_none() {
            return Err(RelationError::NeverReady { name: name.to_owned() });
        }
    }
    // Nobody can start after a worker whose name is not unique.
    if worker.is_unique() && awaited { check_circle(worker, find) } else { Ok(()) }
}

/// A name that was free may be waited for: so `worker` can close a circle.
fn check_circle<'a>(
    worker: &BackgroundWorker,
    find: impl Fn(&str) -> Option<&'a BackgroundWorker>,
) -> Result<(), RelationError> {
    // Whom to look at, and who starts after each of those seen.
    let mut open: Vec<&str> = worker.after().map(|(name, _)| name).collect();
    let mut seen: HashMap<&str, &str> = open.iter().map(|&name| (name, worker.name())).collect();
    while let Some(name) = open.pop() {
        for (next, _) in find(name).into_iter().flat_map(BackgroundWorker::after) {
            if next == worker.name() {
                let mut names = vec![name.to_owned()];
                let mut at = name;
                while let Some(&before) = seen.get(at).filter(|before| **before != worker.name()) {
                    names.push(before.to_owned());
                    at = before;
                }
                names.push(worker.name().to_owned());
                names.reverse();
                return Err(RelationError::Circle { names });
            }
            if !seen.contains_key(next) {
                seen.insert(next, name);
                open.push(next);
            }
        }
    }
    Ok(())
}

/// The positions of `workers`, each behind those of the workers that it starts after. Workers in a
/// circle come in any order.
pub fn start_order(workers: &[&BackgroundWorker]) -> Vec<usize> {
    let unique = workers.iter().enumerate().filter(|(_, worker)| worker.is_unique());
    let places: HashMap<&str, usize> = unique.map(|(at, worker)| (worker.name(), at)).collect();
    let mut order = Vec::with_capacity(workers.len());
    let mut seen = HashSet::new();
    for first in 0..workers.len() {
        let mut open = vec![(first, false)];
        while let Some((at, targets_done)) = open.pop() {
            if targets_done {
                order.push(at);
            } else if seen.insert(at) {
                open.push((at, true));
                let targets = workers.get(at).into_iter().flat_map(|worker| worker.after());
                let targets = targets.filter_map(|(name, _)| places.get(name));
                let first = open.len();
                open.extend(targets.map(|&target| (target, false)));
                if let Some(targets) = open.get_mut(first..) {
                    targets.reverse();
                }
            }
        }
    }
    order
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::worker::policy::Ready;

    fn worker(name: &str, after: &[(&str, After)]) -> BackgroundWorker {
        let builder = BackgroundWorker::builder(name).function("f").unique();
        let builder = after.iter().fold(builder, |builder, &(name, on)| builder.after(name, on));
        builder.build().unwrap()
    }

    fn check(worker: &BackgroundWorker, registered: &[BackgroundWorker]) -> Result<(), String> {
        let find = |name: &str| registered.iter().find(|other| other.name() == name);
        check_targets(worker, true, find).map_err(|error| error.to_string())
    }

    #[test]
    fn each_refusal_names_the_worker_that_it_is_about() {
        let started = |name| (name, After::Started);
        let builder = BackgroundWorker::builder("declares").function("f").unique();
        let registered = [
            worker("a", &[started("b")]),
            worker("c", &[started("a"), ("declares", After::Ready)]),
            builder.ready(Ready::Call).build().unwrap(),
        ];
        let good = [
            worker("d", &[]),
            worker("d", &[started("c"), ("a", After::Done), ("declares", After::Ready)]),
            worker("b", &[started("declares")]),
        ];
        for worker in good {
            assert_eq!(check(&worker, &registered), Ok(()));
        }
        let bad: [(BackgroundWorker, &str); 5] = [
            (worker("a", &[]), "name is \"a\", which is unique"),
            (worker("d", &[started("c"), started("x")]), "after is \"x\", but no unique worker"),
            (worker("d", &[("a", After::Ready)]), "after is Ready of \"a\""),
            (worker("b", &[started("a")]), "circle: \"b\" after \"a\" after \"b\""),
            (worker("b", &[started("c")]), "circle: \"b\" after \"c\" after \"a\" after \"b\""),
        ];
        for (worker, text) in bad {
            let error = check(&worker, &registered).unwrap_err();
            assert!(error.contains(text), "{error}");
        }
        // Nobody starts after a worker whose name is not unique.
        let plain = BackgroundWorker::builder("b").function("f").after("a", After::Started);
        assert_eq!(check(&plain.build().unwrap(), &registered), Ok(()));
    }

    #[test]
    fn workers_are_ordered_behind_those_that_they_start_after() {
        let started = |name| (name, After::Started);
        let order = |workers: &[BackgroundWorker]| {
            let order = start_order(&workers.iter().collect::<Vec<_>>());
            order.into_iter().map(|at| workers[at].name().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(order(&[]), [""; 0]);
        let free = [worker("c", &[]), worker("a", &[]), worker("b", &[started("x")])];
        assert_eq!(order(&free), ["c", "a", "b"], "no order is asked for");
        let chain = [worker("c", &[started("b")]), worker("b", &[started("a")]), worker("a", &[])];
        assert_eq!(order(&chain), ["a", "b", "c"]);
        let circle = [worker("a", &[started("b")]), worker("b", &[started("a")])];
        assert_eq!(order(&circle).len(), 2, "each comes once");
        let names: Vec<String> = (0..100_000).map(|n| n.to_string()).collect();
        let long: Vec<_> = names
            .iter()
            .enumerate()
            .map(|(at, name)| match names.get(at + 1) {
                Some(next) => worker(name, &[started(next)]),
                None => worker(name, &[]),
            })
            .collect();
        assert_eq!(order(&long).first().map(String::as_str), Some("99999"));
    }
}

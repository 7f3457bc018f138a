//! Who belongs to the cluster: the workers that the roster lists, and what lives in their sessions.
//!
//! Each worker leads a session of its own, whose number is the worker's pid. The kernel gives that
//! number to nobody else while a process or a zombie of the session exists. A session is forgotten
//! once it is found empty, or once a stranger has its number: from then on the number may mean
//! another session.

use crate::sys::process_stat::ProcessStat;
use crate::sys::roster::Listed;
use bgw_core::Pid;
use std::collections::BTreeMap;

/// What a process of the cluster is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Role {
    /// A worker. The kernel has signalled it when the postmaster died.
    Worker,
    /// A worker that has no session of its own yet.
    NewWorker,
    /// A process that a worker has started.
    Member,
}

/// The sessions of the cluster that may still have processes, by the pids of their workers.
#[derive(Debug)]
pub(super) struct Sessions {
    by_worker: BTreeMap<u32, Listed>,
    /// The session that a worker is in before it has its own.
    postmasters: u32,
}

impl Sessions {
    pub(super) fn new(listed: Vec<Listed>, postmasters: u32) -> Self {
        let by_worker = listed.into_iter().map(|listed| (listed.pid.get(), listed)).collect();
        Self { by_worker, postmasters }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.by_worker.is_empty()
    }

    /// The workers that the sessions are named by.
    pub(super) fn workers(&self) -> impl Iterator<Item = Pid> {
        self.by_worker.values().map(|listed| listed.pid)
    }

    /// Forgets the session of a worker if `found` shows that a stranger has its number.
    pub(super) fn check_worker(&mut self, found: &ProcessStat) {
        let number = found.pid.get();
        if self.by_worker.get(&number).is_some_and(|listed| !listed.is(found)) {
            self.by_worker.remove(&number);
        }
    }

    /// What a process is to the cluster; `None` for a stranger. Call `check_worker` for each worker
    /// that exists first.
    pub(super) fn role(&self, process: &ProcessStat) -> Option<Role> {
        let number = process.pid.get();
        match self.by_worker.get(&number) {
            None => self.by_worker.contains_key(&process.session).then_some(Role::Member),
            Some(listed) if !listed.is(process) => None,
            Some(_) if process.session == number => Some(Role::Worker),
            Some(_) => (process.session == self.postmasters).then_some(Role::NewWorker),
        }
    }

    /// Forgets the sessions of workers for which `is_left` is false.
    pub(super) fn retain(&mut self, mut is_left: impl FnMut(Pid) -> bool) {
        self.by_worker.retain(|_, listed| is_left(listed.pid));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POSTMASTERS: u32 = 50;
    const STAMP: u32 = 1000;

    fn pid(number: u32) -> Pid {
        Pid::new(number).unwrap()
    }

    fn process(number: u32, session: u32, created: u32) -> ProcessStat {
        ProcessStat { pid: pid(number), group: session, session, stopped: false, created }
    }

    fn sessions() -> Sessions {
        let listed = [60, 70].map(|number| Listed { pid: pid(number), stamp: STAMP });
        Sessions::new(listed.into(), POSTMASTERS)
    }

    /// Breaks if a stranger gets a role, or a process of the cluster gets none.
    #[test]
    fn a_process_belongs_by_its_session_and_a_worker_by_its_creation_too() {
        let sessions = sessions();
        for (found, role) in [
            (process(60, 60, STAMP), Some(Role::Worker)),
            (process(60, POSTMASTERS, STAMP + 1), Some(Role::NewWorker)),
            (process(61, 60, STAMP + 5_000), Some(Role::Member)),
            (process(60, 60, STAMP - 1), None),
            (process(60, 60, STAMP + 5_000), None),
            (process(60, 55, STAMP), None),
            (process(61, POSTMASTERS, STAMP), None),
            (process(POSTMASTERS, POSTMASTERS, STAMP), None),
            (process(61, 0, STAMP), None),
        ] {
            assert_eq!(sessions.role(&found), role, "{found:?}");
        }
    }

    /// Breaks if a stranger that has the number of an ended worker hands its own session over.
    #[test]
    fn the_session_of_a_stranger_is_forgotten() {
        let mut sessions = sessions();
        sessions.check_worker(&process(60, 60, STAMP));
        sessions.check_worker(&process(70, 70, STAMP + 5_000));
        sessions.check_worker(&process(80, 80, STAMP));
        assert_eq!(sessions.workers().collect::<Vec<_>>(), [pid(60)]);
        assert_eq!(sessions.role(&process(71, 70, STAMP)), None);
        sessions.retain(|worker| worker != pid(60));
        assert!(sessions.is_empty());
        assert_eq!(sessions.role(&process(61, 60, STAMP)), None);
    }
}

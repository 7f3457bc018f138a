//! What an actor does to workers and to itself: it terminates, signals, drops, reconnects and
//! forks.

use super::Actor;
use crate::job::{QUICK, pick};
use crate::journal::{Kind, NOBODY};
use bgw_backend::{Handle, WorkerStatus};
use nix::sys::signal::Signal;
use rand::Rng;
use rustix::process::{PidfdFlags, pidfd_open, pidfd_send_signal};
use std::time::Duration;

impl Actor {
    pub(super) fn terminate_other(&mut self) {
        let back = self.random.random_range(0..64);
        let Some(id) = self.journal.recent(back) else { return };
        let Some(backend) = self.backend() else { return };
        let begin = self.journal.ticket();
        if let Err(error) = backend.handle(id).terminate() {
            self.broken_at(id, &format!("terminating failed: {error}"));
        }
        self.journal.note(begin, self.who, Kind::Terminated, id, [0; 3]);
    }

    pub(super) fn terminate_own(&mut self, place: usize) {
        let begin = self.journal.ticket();
        if let Err(error) = self.own[place].handle.terminate() {
            self.broken(place, &format!("terminating failed: {error}"));
        }
        self.own[place].terminated = true;
        let id = self.own[place].handle.id();
        self.journal.note(begin, self.who, Kind::Terminated, id, [0; 3]);
    }

    /// By a descriptor that is opened while the slot says that this process is the worker, so no
    /// stranger is hit.
    pub(super) fn signal_own(&mut self, place: usize) {
        let own = &self.own[place];
        if own.job.shares && !self.random.random_ratio(1, 60) {
            return;
        }
        let WorkerStatus::Started(pid) = own.handle.status() else { return };
        let Some(raw) = rustix::process::Pid::from_raw(pid.as_raw()) else { return };
        let Ok(pidfd) = pidfd_open(raw, PidfdFlags::empty()) else { return };
        if own.handle.status() != WorkerStatus::Started(pid) {
            return;
        }
        let signals = [
            (4, Signal::SIGKILL),
            (3, Signal::SIGTERM),
            (2, Signal::SIGABRT),
            (3, Signal::SIGSTOP),
            (1, Signal::SIGHUP),
        ];
        let signal = pick(&mut self.random, &signals);
        let begin = self.journal.ticket();
        let send = |signal: Signal| {
            let signal = rustix::process::Signal::from_named_raw(signal as i32);
            signal.is_some_and(|signal| pidfd_send_signal(&pidfd, signal).is_ok())
        };
        if send(signal) {
            let about = [u64::from(pid.get()), signal as u64, 0];
            self.journal.note(begin, self.who, Kind::Signalled, own.handle.id(), about);
        }
        if signal == Signal::SIGSTOP {
            let pause = self.random.random_range(0..20);
            std::thread::sleep(Duration::from_millis(pause));
            send(Signal::SIGCONT);
        }
    }

    /// A worker that nobody would end is asked to end first.
    pub(super) fn drop_own(&mut self, place: usize) {
        if !self.own[place].job.ends_by_itself() {
            self.terminate_own(place);
        }
        let own = self.own.swap_remove(place);
        let begin = self.journal.ticket();
        let id = own.handle.id();
        drop(own);
        self.journal.note(begin, self.who, Kind::Dropped, id, [0; 3]);
    }

    pub(super) fn reconnect(&mut self) {
        while !self.own.is_empty() {
            self.drop_own(0);
        }
        self.pool = None;
        self.backend = None;
    }

    /// A forked child holds the connection and all handles for a while; it may ask, and change
    /// nothing.
    pub(super) fn fork(&mut self) {
        if !self.alone || self.forked.len() > 2 {
            return;
        }
        let Some(backend) = self.backend() else { return };
        let pause = Duration::from_millis(self.random.random_range(0..100));
        let handles: Vec<Handle> = self.own.iter().map(|own| own.handle.clone()).collect();
        let description = QUICK.describe(None);
        let (who, journal) = (self.who, self.journal);
        self.forked.retain_mut(|child| child.try_wait().is_none());
        self.forked.push(process_test::fork_child(move || {
            for handle in &handles {
                let _ = handle.status();
            }
            if description.is_ok_and(|worker| backend.register(&worker).is_ok()) {
                // Also when the region is spoiled: it asks for its own process, not for shared
                // bytes.
                eprintln!("BROKEN: a forked child may register");
                journal.broke(who, NOBODY);
            }
            std::thread::sleep(pause);
        }));
    }
}

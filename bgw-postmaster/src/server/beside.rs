//! The second process of a worker: the next run, which starts beside the serving one, and the
//! former run, once the next one has taken its place.

use super::state::Server;
use crate::events::Details;
use crate::fault;
use crate::rules::{Action, StopLevel};
use bgw_core::{EventKind, Pid};
use shmem_slots::{Key, Wake};

impl Server {
    /// Carries out what concerns a second process.
    #[cold]
    #[inline(never)]
    pub(super) fn about_beside(&mut self, action: Action) {
        match action {
            Action::TellBesideStarted(key, pid) => {
                self.slot_table.started_beside(key);
                self.events.tell_beside(key, EventKind::Started, self.details(key, pid));
            }
            Action::HandOver { key, pid, ready } => self.hand_over(key, pid, ready),
            Action::ReportBeside(key, ending) => {
                self.slot_table.report_beside(key, &ending);
                let pid = ending.process.map(|process| process.pid);
                let details = Details { pid, cause: Some(ending.cause), ..Details::default() };
                self.events.tell_beside(key, EventKind::Exited, details);
            }
            Action::StopBeside(key, level) => {
                let Some(berth) = self.slot_table.berth_beside(key.index) else { return };
                self.children.stop(berth, level);
                let kind = match level {
                    StopLevel::Kill => EventKind::Killed,
                    StopLevel::Abort => EventKind::Silent,
                    StopLevel::Terminate | StopLevel::Quit => EventKind::Told,
                };
                let pid = self.children.pid_at(berth);
                self.events.tell_beside(key, kind, Details { pid, ..Details::default() });
            }
            Action::LookBeside(key) => {
                self.slot_table.look_beside(key, &mut self.queue);
            }
            Action::FreeBerth(key) => self.slot_table.free_berth(key.index),
            _ => {}
        }
    }

    fn details(&self, key: Key, pid: Pid) -> Details {
        let count = self.cluster.registry().get(key).map_or(0, |entry| entry.restarts);
        Details { pid: Some(pid), count, ..Details::default() }
    }

    fn hand_over(&mut self, key: Key, pid: Pid, ready: bool) {
        let events = &mut self.events;
        let published = || events.handed_over(key, pid, ready);
        let wake = self.slot_table.hand_over(key, pid, ready, published, &mut self.queue);
        if wake == Wake::Signal {
            self.children.wake(self.slot_table.berth(key.index));
        }
        fault::point("hand_over:done");
    }

    /// True if the second process of `key` lives: one that has ended since it spoke gets no place.
    pub(super) fn lives_beside(&self, key: Key) -> bool {
        let berth = self.slot_table.berth_beside(key.index);
        berth.is_some_and(|berth| self.children.lives(berth))
    }
}

//! An action is one call to one owner.
//!
//! The order of the rules is kept: the fact first, then those who wait for it. Each action costs what it
//! concerns, one slot or one process; only `ForwardReload` and `ResetSlots` walk a list.

use super::log;
use super::state::Server;
use crate::fault;
use crate::rules::{Action, News, NotifyTarget};

impl Server {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::ReportStarted(key, pid) => {
                self.queue.extend(self.slot_table.report_started(key, pid));
            }
            Action::ReportUnstarted(key) => {
                self.queue.extend(self.slot_table.report_unstarted(key));
            }
            Action::ReportStopped(key, ending) => {
                self.queue.extend(self.slot_table.report_stopped(key, &ending));
            }
            Action::ReportClearing(key, ending) => {
                self.queue.extend(self.slot_table.report_clearing(key, &ending));
            }
            Action::Unregister(key, ending) => {
                let (children, sessions) = (&self.children, &self.sessions);
                let is_here =
                    |pid| children.target(pid).is_some() || sessions.target(pid).is_some();
                self.slot_table.unregister(key, &ending, is_here);
            }
            Action::Notify(target, news) => self.notify(target, news),
            Action::Stop(key, signal) => self.children.stop(key, signal),
            Action::StopGroup(leader, signal) => self.children.stop_group(leader, signal),
            Action::ForwardReload => self.children.reload_all(),
            Action::ResetSlots => {
                let (registry, phase) = (self.cluster.registry(), self.cluster.phase());
                let is_attached = |pid| self.sessions.target(pid).is_some();
                self.queue.push_back(self.slot_table.reset(registry, phase, is_attached));
            }
            Action::PublishPhase(phase) => self.slot_table.publish_phase(phase),
            Action::Log(note) => log::log(&note),
        }
    }

    fn notify(&self, target: NotifyTarget, news: News) {
        let ended = news == News::Ended;
        fault::point(if ended { "exit:before_notify" } else { "report:before_notify" });
        match target {
            NotifyTarget::Session(number) => self.sessions.notify(number),
            NotifyTarget::Child { key, pid } => self.children.notify(key, pid),
        }
        fault::point(if ended { "exit:after_notify" } else { "report:after_notify" });
    }
}

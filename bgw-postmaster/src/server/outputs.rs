//! The output collector: forks it, passes streams on to it, hears its reports.

use super::log;
use super::poller::Token;
use super::state::Server;
use crate::events::Details;
use crate::outputs::News;
use bgw_core::internals::Reply;
use bgw_core::{EventKind, WorkerHandle};
use shmem_slots::Key;
use std::io;

impl Server {
    /// Forks a collector, if one is due, and passes new streams on to it.
    pub(super) fn serve_outputs(&mut self) {
        if self.outputs.is_due() {
            if let Err(error) = self.start_collector() {
                tracing::warn!("forking an output collector failed: {error}");
            }
        }
        self.outputs.pass_on();
        if let Some(control) = self.outputs.unsent() {
            if let Err(error) = self.poller.watch_room(control, Token::Outputs) {
                tracing::error!("watching the output collector failed: {error}");
            }
        }
    }

    #[cold]
    #[inline(never)]
    fn start_collector(&mut self) -> io::Result<()> {
        let path = self.runtime_dir.as_ref().map(|dir| dir.path().to_string_lossy());
        let title = ["bgw output collector ", path.as_deref().unwrap_or_default()];
        let spawner = &mut self.spawner;
        let (pidfd, control) =
            self.outputs.start(&title, |collect| spawner.start_companion(collect))?;
        self.poller.watch_end(pidfd, Token::Collector)?;
        self.poller.watch(control, Token::Outputs)
    }

    #[cold]
    #[inline(never)]
    pub(super) fn collector_reported(&mut self) {
        if let Some(control) = self.outputs.unsent() {
            // It has room again, or is about to be watched for that anew.
            if let Err(error) = self.poller.watch_anew(control, Token::Outputs) {
                tracing::error!("watching the output collector failed: {error}");
            }
        }
        let mut all = Vec::new();
        self.outputs.reported(&mut |news| all.push(news));
        self.tell_of_outputs(all);
    }

    pub(super) fn collector_ended(&mut self) {
        let mut all = Vec::new();
        self.outputs.ended(&mut |news| all.push(news));
        self.tell_of_outputs(all);
    }

    pub(super) fn tell_of_outputs(&mut self, all: Vec<News>) {
        for news in all {
            match news {
                News::Lost { key, lines, why, log } => {
                    let count = u32::try_from(lines).unwrap_or(u32::MAX);
                    let details = Details { count, ..Details::default() };
                    self.events.tell(key, EventKind::OutputLost, details);
                    if log {
                        log::output_lost(self.slot_table.handle(key), lines, &why);
                    }
                }
                News::LastLines { session, request, text } => {
                    self.sessions.reply_late(session, request, &Reply::LastLines(text));
                }
            }
        }
    }

    /// The collector has the lines, and may have to read some first.
    pub(super) fn ask_for_last_lines(&mut self, session: u64, worker: WorkerHandle) {
        let Some(request) = self.sessions.request(session) else { return };
        let key = Key { index: worker.slot(), generation: worker.generation() };
        // Otherwise it is of an earlier incarnation of the slots.
        let known = self.slot_table.handle(key) == worker;
        if !known || !self.outputs.ask(session, request, key) {
            self.sessions.reply_late(session, request, &Reply::LastLines(String::new()));
        }
    }
}

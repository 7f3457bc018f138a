//! What commands say of themselves.

use super::poller::Token;
use super::state::Server;
use crate::notify::Said;
use crate::rules::Event;
use shmem_slots::Key;
use std::time::Instant;

impl Server {
    /// The command in slot `index` has said something.
    pub(super) fn notified(&mut self, index: u32) {
        self.hear(index);
        self.run_queue();
    }

    /// Queues what follows from what the command in slot `index` has said. Its beats are counted.
    pub(super) fn hear(&mut self, index: u32) {
        if let Some((key, all)) = self.notices.hear(index) {
            self.heard(key, all);
        }
        if let Some(socket) = self.notices.held_up(index) {
            // An error: it is not watched already.
            let _ = self.poller.forget(socket);
        }
    }

    /// Children have taken out what commands have sent with descriptors.
    pub(super) fn go_on_hearing(&mut self) {
        for (run, taken_out) in self.closers.take_done() {
            let Some(socket) = self.notices.go_on(run, taken_out) else { continue };
            if let Err(error) = self.poller.watch_once(socket, Token::Notify(run.index)) {
                tracing::error!("the command in slot {} is not heard: {error}", run.index);
            }
        }
    }

    #[inline(never)]
    fn heard(&mut self, key: Key, all: Vec<Said>) {
        for said in all {
            match said {
                Said::Ready => {
                    self.slot_table.say_ready(key);
                    self.queue.push_back(Event::Ready(key));
                }
                Said::Status(text) => self.slot_table.set_status_text(key, &text),
                Said::Hangs => self.queue.push_back(Event::Hangs(key)),
                Said::MoreTime(time) => {
                    let until = Instant::now().checked_add(time);
                    self.queue.push_back(Event::StillStarts { key, until });
                }
                // Counted where it was heard.
                Said::Beat => {}
            }
        }
    }
}

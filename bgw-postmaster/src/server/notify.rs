//! What commands say of themselves.

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

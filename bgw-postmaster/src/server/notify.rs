//! What commands say of themselves.

use super::state::Server;
use crate::notify::Said;
use crate::rules::Event;
use shmem_slots::Key;
use std::time::Instant;

impl Server {
    /// The command in berth `berth` has said something.
    pub(super) fn notified(&mut self, berth: u32) {
        self.hear(berth);
        self.run_queue();
    }

    /// Queues what follows from what the command in berth `berth` has said. Its beats are counted.
    pub(super) fn hear(&mut self, berth: u32) {
        if let Some((key, all)) = self.notices.hear(berth) {
            self.heard(key, berth, all);
        }
    }

    #[inline(never)]
    fn heard(&mut self, key: Key, berth: u32, all: Vec<Said>) {
        for said in all {
            match said {
                Said::Ready => {
                    self.slot_table.say_ready(key);
                    self.queue.push_back(Event::Ready(key));
                }
                Said::Status(text) => self.slot_table.set_status_text(berth, &text),
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

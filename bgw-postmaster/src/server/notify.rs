//! What commands say of themselves.

use super::poller::Token;
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

    /// The process of the command in berth `berth` has ended: what it has said last.
    pub(super) fn last_words_of(&mut self, berth: u32) {
        if let Some((key, all)) = self.notices.hear_last(berth) {
            self.heard(key, berth, all);
        }
        self.run_queue();
    }

    /// Queues what follows from what the command in berth `berth` has said. Its beats are counted.
    pub(super) fn hear(&mut self, berth: u32) {
        if let Some((key, all)) = self.notices.hear(berth) {
            self.heard(key, berth, all);
        }
        if let Some(socket) = self.notices.held_up(berth) {
            // An error: it is not watched already.
            let _ = self.poller.forget(socket);
        }
    }

    /// Children have taken out what commands have sent with descriptors.
    pub(super) fn go_on_hearing(&mut self) {
        for (run, taken_out) in self.closers.take_done() {
            let Some(socket) = self.notices.go_on(run, taken_out) else { continue };
            if let Err(error) = self.poller.watch_once(socket, Token::Notify(run.berth)) {
                tracing::error!("the command in berth {} is not heard: {error}", run.berth);
            }
        }
    }

    #[inline(never)]
    fn heard(&mut self, key: Key, berth: u32, all: Vec<Said>) {
        let beside = self.slot_table.berth_beside(key.index) == Some(berth);
        for said in all {
            match said {
                Said::Ready if beside => self.queue.push_back(Event::ReadyBeside(key)),
                Said::MoreTime(time) if beside => {
                    let until = Instant::now().checked_add(time);
                    self.queue.push_back(Event::BesideStillStarts { key, until });
                }
                // Nobody watches it.
                Said::Hangs if beside => {}
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

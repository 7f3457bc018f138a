//! Ends of workers whose processes live on, as spares: the steps of `child_ended` in `ready.rs`, in
//! the same order.

use super::poller::Token;
use super::state::Server;
use crate::fault;
use crate::rules::{Event, Exit};

impl Server {
    /// Ends the workers that have said that they are over.
    pub(super) fn end_lives(&mut self) {
        while let Some(berth) = self.over.pop_front() {
            self.end_life(berth);
        }
    }

    fn end_life(&mut self, berth: u32) {
        let Some((key, end)) = self.children.life_over(berth) else { return };
        fault::point("life:seen");
        if self.slot_table.cleanup_needed(berth) {
            // Its main cannot have returned: its end is a crash, and is reported as one.
            return self.children.kill(berth);
        }
        self.process_gone(end.pid);
        fault::point("life:swept");
        let random = self.random.next();
        let exit = Exit { end, dirty: false, group_left: false, random };
        self.step(Event::ChildExited { key, exit });
        fault::point("life:published");
        let Some(spare) = self.children.release(berth, self.spares.next_number()) else { return };
        let watched = self.poller.watch_end_anew(&spare.pidfd, Token::Spare(spare.number));
        if watched.is_err() {
            return self.spares.put_away(spare);
        }
        spare.mailbox.rest();
        fault::point("life:released");
        self.spares.come_back(spare);
    }
}

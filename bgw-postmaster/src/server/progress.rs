//! Says how far a shutdown is.

use super::state::Server;
use bgw_core::Pid;
use bgw_core::internals::{Left, Reply};
use std::time::{Duration, Instant};

impl Server {
    /// Answers a session. False when it does not take the reply.
    pub(super) fn say_who_is_left(&mut self, session: u64, from: u32) -> bool {
        let left = self.cluster.left(from, Instant::now()).take(Left::IN_A_PACKET);
        let said = left.map(|left| Left {
            worker: self.slot_table.handle(left.key),
            pid: left.pid.map_or(0, Pid::get),
            told_for: millis(left.told_for),
            killed_in: millis(left.killed_in),
        });
        let reply = Reply::Left(said.collect());
        self.sessions.reply(session, &reply, &[])
    }
}

fn millis(time: Option<Duration>) -> u64 {
    time.map_or(u64::MAX, |time| u64::try_from(time.as_millis()).unwrap_or(u64::MAX - 1))
}

//! Closes what takes time to close (`gifts/closers.rs`).

use super::poller::Token;
use super::state::Server;
use std::time::Instant;

impl Server {
    /// Forks a closer, if one is due.
    pub(super) fn close_gifts(&mut self) {
        if self.closers.due().is_some_and(|due| due <= Instant::now()) {
            self.fork_closer();
        }
    }

    /// Out of line: it is seldom needed, and the frame of the loop stays small.
    #[inline(never)]
    fn fork_closer(&mut self) {
        let spawner = &mut self.spawner;
        let started = self.closers.start(|keep| spawner.start_apart(keep));
        let watched =
            started.and_then(|(number, pidfd)| self.poller.watch_end(pidfd, Token::Closer(number)));
        if let Err(error) = watched {
            tracing::warn!("closing descriptors that nobody has taken is delayed: {error}");
        }
        // One that could not be watched has been looked at.
        self.go_on_hearing();
    }
}

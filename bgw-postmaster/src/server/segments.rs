//! Requests about segments (`segments/table.rs`).

use super::state::Server;
use crate::segments::Answer;
use bgw_core::internals::SegmentRequest;

impl Server {
    /// A session wants something of a segment. False when it does not take the reply.
    #[inline(never)]
    pub(super) fn about_segment(&mut self, session: u64, request: SegmentRequest) -> bool {
        let sessions = &self.sessions;
        let berth = sessions.pid(session).and_then(|pid| self.children.berth_of(pid));
        let find = |pid| sessions.newest_of(pid);
        let cells = self.slot_table.cells();
        let answer = self.segments.answer((session, berth), request, cells, find);
        match answer {
            Answer::Nothing => true,
            Answer::Reply(reply, file) => self.sessions.reply(session, &reply, file.as_slice()),
        }
    }
}

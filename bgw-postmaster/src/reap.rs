//! The end of a child: looked at, published, told, and only then reaped.
//!
//! While the slot says that a pid runs, that number must not be given to another process. So the end
//! is read without reaping (`WNOWAIT`), the slot is written, whoever waits is told, and the zombie is
//! taken away last.

use crate::fault;
use crate::rules::Event;
use crate::server::{EndedChild, Server};
use crate::sys::end;
use bgw_core::shared::area::Area;

impl Server {
    pub(crate) fn child_ended(&mut self, index: u32) {
        let Some(Some(child)) = self.children.get(index as usize) else { return };
        let ended = match fault::step("exit:before_peek").and_then(|()| end::peek(&child.pidfd)) {
            Ok(Some(ended)) => ended,
            Ok(None) => return,
            Err(error) => {
                tracing::error!("waitid for worker process {} failed: {error}", child.pid);
                return;
            }
        };
        fault::point("exit:seen");
        let (key, pid, started) = (child.key, child.pid, child.started);
        self.ending = Some(EndedChild { key, pid, ended, ran_for: started.elapsed() });
        self.by_pid.remove(&pid);
        let dirty = Area::new(&self.slots).cleanup_needed(index);
        self.sweep(pid);
        fault::point("exit:swept");
        self.step(Event::ChildExited { key, cause: ended.cause, dirty });
        self.ending = None;
        // Only now: while the slot said that this pid runs, the number was not free to be reused.
        if let Some(child) = self.children.get_mut(index as usize).and_then(Option::take) {
            let reaped = fault::step("exit:before_reap").and_then(|()| end::reap(&child.pidfd));
            if let Err(error) = reaped {
                tracing::error!("reaping worker process {} failed: {error}", child.pid);
            }
            fault::point("exit:reaped");
        }
    }
}

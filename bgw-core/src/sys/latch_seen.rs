//! What the calling thread has seen of this worker's latch.

use shmem_slots::Seen;
use std::cell::Cell;

thread_local! {
    static SEEN: Cell<Option<Seen>> = const { Cell::new(None) };
}

/// What it saw last, if it has looked.
pub(crate) fn last() -> Option<Seen> {
    SEEN.get()
}

/// It has seen this.
pub(crate) fn remember(seen: Seen) {
    SEEN.set(Some(seen));
}

/// Its next worker has another latch.
pub(crate) fn forget() {
    SEEN.set(None);
}

//! The output of workers, line by line into files and to descriptors.
//!
//! ```text
//!  worker: stdout, stderr ──▶ pipe ──▶ collector: lines ──▶ file, file.1, …; a descriptor
//!                              │            │  ▲
//!       the postmaster has it open, too     ▼  │ a stream's pipe and file
//!                                      postmaster
//! ```
//!
//! The postmaster makes the pipe of each run, and passes the end to read from to one process of its
//! own, the output collector. Nothing that a worker writes goes through the postmaster's loop.
//!
//! | what may happen | what follows |
//! |---|---|
//! | a worker writes faster than the collector | the pipe is full, and the worker waits |
//! | the disk is full, or the file cannot be opened | lines are dropped and counted |
//! | who reads from a descriptor is slow | the stream is not read, so the pipe gets full, and the worker waits |
//! | the same, and the worker has asked for `drop_when_full` | lines are dropped and counted |
//! | it takes nothing for a second, or is gone | lines are dropped and counted |
//! | the collector is killed | the postmaster still has the pipes, so nobody gets SIGPIPE; the next collector gets them all |
//! | a worker ends and something that it has started has the pipe | the stream lasts until its last writer has ended; the end of the worker is reported at once |
//! | the cluster ends in order | the collector writes what is in the pipes, and ends |
//! | the postmaster is killed | the collector writes on until nobody has a pipe, for as long as the guardian takes to end them |
//!
//! A forked child shares the postmaster's descriptors until it takes its own, and the postmaster
//! does not learn when. So the write end stays open here until the child has ended.
//!
//! Reading order: `keeper` (the postmaster's side), `message` (what both say), `collector` (the
//! process), `stream`, `ending` (of a stream), `lines`, `file`, `outlet` (a descriptor), `outlets`,
//! `tail`.

mod collector;
mod ending;
mod file;
mod keeper;
mod lines;
mod message;
mod outlet;
mod outlets;
mod stream;
mod tail;

pub(crate) use keeper::{Given, News, Outputs};

/// Lines of `output`, read in pieces of `read` bytes, and the last `most` of them.
pub(crate) fn collected(output: &[u8], read: usize, most: u8) -> (Vec<u8>, Vec<u8>) {
    let key = shmem_slots::Key { index: 0, generation: 0 };
    let (mut lines, mut tails) = (lines::Lines::default(), tail::Tails::default());
    let (mut whole, mut all) = (Vec::new(), Vec::new());
    if most > 0 {
        tails.begin(key, most);
    }
    let mut keep = |whole: &mut Vec<u8>| {
        tails.take(key, whole);
        all.append(whole);
    };
    for bytes in output.chunks(read.max(1)) {
        lines.take(bytes, &mut whole);
        keep(&mut whole);
    }
    lines.end(&mut whole);
    keep(&mut whole);
    let last = tails.text(key, &[]);
    (all, last)
}

/// A packet as an order and as a report, written again.
pub(crate) fn packet(bytes: &[u8]) -> [Option<Vec<u8>>; 2] {
    let order = message::Order::decode(bytes).map(|order| order.encode());
    [order, message::Report::decode(bytes).map(|report| report.encode())]
}

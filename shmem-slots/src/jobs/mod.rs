//! Jobs in shared memory: any number of processes submit them, any number take them.
//!
//! A job is bytes in, and bytes and a code out. It has a cell, with a room for its bytes, from its
//! submission until its submitter has collected how it ended. The jobs of a class are taken first
//! come, first served, whichever processes submitted them. Nobody waits for anybody: a process that
//! dies, or is stopped, at any instruction holds up its own job at most.
//!
//! ```
//! use shmem_slots::jobs::{Jobs, JobsOptions};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! let options = JobsOptions {
//!     classes: 1, jobs: 64, room: 256, takers: 4, submitters: 4, shared_cells: 0, tag: 1,
//! };
//! let jobs = Jobs::create(&options)?; // shared with every child that is forked from here on
//!
//! let key = jobs.submit(0, 2, 0, b"hello", &[])?; // submitter 2, in one process
//!
//! let mut bytes = Vec::new(); // taker 3, in another
//! let taken = jobs.take(0, 3, |_| false)?.ok_or("no job")?;
//! jobs.read(taken, &mut bytes);
//! bytes.make_ascii_uppercase();
//! jobs.end(taken, 3, 7, &bytes)?;
//!
//! assert_eq!(jobs.collect(key, &mut bytes), Some(7)); // submitter 2
//! assert_eq!(bytes, b"HELLO");
//! # Ok(())
//! # }
//! ```
//!
//! | guarantee | how |
//! |---|---|
//! | a job is taken once | its word goes from queued to taken by one swap, which names the taker (T2) |
//! | nobody is held up by a process that died or was stopped | a job enters its order by one swap (T1), and leaves it by one (T3); what follows anybody does for it |
//! | a dead process's jobs are found | each word names the party that has the job |
//! | no wake-up is lost, and nobody is woken who does not sleep or has been woken already | announce, fence, look again; queue, fence, look for sleepers (T4, T5) |
//! | a stale key finds nobody | each job of a cell has a generation |
//! | any bytes in the region give a value or an error | checked, clamped, and every loop has an end |
//!
//! Life of a cell: free, filling (its submitter writes the input), queued, taken, ended, free. One
//! 64-bit word holds that, the generation and the party; each step is one swap of it.
//!
//! | from | to | by |
//! |---|---|---|
//! | free | filling | a submitter |
//! | filling | queued | the same |
//! | queued | taken | a taker |
//! | queued | free | its submitter, which cancels it; whoever sees that this one is dead |
//! | taken | ended, or free if nobody wants to know | its taker |
//! | taken | closing, and then the same | whoever follows its dead taker |
//! | taken | free | its submitter, which has seen that the taker is dead |
//! | ended | free | its submitter |
//!
//! Order. Each class has a circle of places, at least four for each cell. A place holds a round and
//! a job, or a round and nothing. (T1) A submitter swaps its job into the place at the tail, from
//! "empty in this round"; (T2) a taker swaps the word of the job at the head; (T3) the place is
//! swapped to "empty in the next round". Tail and head are stepped on after that by the same
//! process, or by the next that comes: a place that is full or in the next round says that it has
//! to be. A place whose job is not queued, or is of another generation, is passed.
//!
//! Ordering. All of these swaps are acquire and release. So who sees a job queued sees its input,
//! and who sees it ended its output. (T4) The fence of a taker that is about to sleep comes between
//! its announcement and its last look, (T5) the fence of a submitter between its push and its look
//! for sleepers: at least one of the two sees the other. Each taker has a word that says how it
//! sleeps. A submitter rings it, wakes the taker, and says in it that the taker is woken, by two
//! swaps that fail once the taker has looked: so a taker between its last look and its sleep does
//! not fall asleep, whoever comes next makes no system call, and a submitter that is late does not
//! call a taker woken that sleeps again. A ring without a wake counts as none.
//!
//! Crash. A process killed between any two steps:
//!
//! | killed | then |
//! |---|---|
//! | while it fills, or before its push | the cell is found by [`Jobs::sweep`]; nobody else saw the job |
//! | after its push, before the tail or the wake | the next process steps the tail on; takers that sleep sleep until the next submission |
//! | after it has taken a job | the job is the dead taker's: [`Jobs::close`] by its successor, [`Jobs::abandon`] by its submitter |
//! | after that, before the head | the next process steps the head on |
//! | after the end, before the wake | its submitter sleeps until it learns of the death |
//! | asleep | it is woken in vain, together with another one; once, or until [`Jobs::is_awake`] |
//!
//! Who is dead is known to the layer above. It has cells beside each taker and submitter, in which
//! it says who they are.
//!
//! Fork. A child inherits the mapping. Numbers of takers and submitters belong to one process.
//!
//! Trust. Any process that has the region may withhold jobs, change them, and answer in the place
//! of others. Give deadlines.

mod error;
mod layout;
mod order;
#[cfg(not(loom))]
mod region;
mod shared;
mod sleep;
mod sleepers;
mod submit;
mod sweep;
mod take;
mod word;

pub use error::{EndError, SubmitError, TakeError};
pub use layout::{JobsOptions, MAX_CLASSES, MAX_JOBS, MAX_ROOM, MAX_SUBMITTERS, MAX_TAKERS};
pub use shared::Jobs;
pub use submit::Cancel;
pub use take::End;
pub use word::{JobKey, JobState, JobWord};

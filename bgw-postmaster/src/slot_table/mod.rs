//! The postmaster's side of the slots in shared memory.
//!
//! Slots mirror what the postmaster has decided; its own list (`rules/registry.rs`) is the truth.
//! Whatever a backend writes there is copied once, checked, and only the copy is used.
//!
//! | file | does |
//! |---|---|
//! | `table` | the owner: what it holds, and the facts about the whole cluster |
//! | `intake` | changed slots become events |
//! | `tickets`, `queue`, `waiter` | a slot that becomes free goes to whoever waits for one |
//! | `publish` | starts, ends and reports become visible to backends |
//! | `sweep` | gives back what a process had half done when it ended |
//! | `reset` | makes all slots anew after a crash |

mod berths;
mod intake;
mod jobs;
mod publish;
mod queue;
mod reset;
mod run;
mod sweep;
mod table;
mod takers;
mod tickets;
mod waiter;

pub(crate) use table::SlotTable;
pub(crate) use waiter::Waiter;

//! Child processes of the postmaster.
//!
//! | file | does |
//! |---|---|
//! | `table` | the owner: workers that run, by slot and by pid; signals to them |
//! | `groups` | what a worker started: stopped with it, waited for after it |
//! | `end` | kills and reaps all of them: the loop has failed |
//! | `reap` | how a child ended, and when its pid is released |
//! | `spent` | mailboxes of spares whose worker has ended, unmapped a moment later |
//! | `spares` | children forked ahead, asleep until there is a worker for them |
//! | `spawner` | forks and starts programs: threads, descriptors, title |

mod end;
mod groups;
mod invitations;
mod reap;
mod spares;
mod spawner;
mod spent;
mod table;

pub(crate) use reap::process_end;
pub(crate) use spares::{DEATH_DELAY, Spare, Spares};
pub(crate) use spawner::{Spawner, SpawnerSettings};
pub(crate) use table::{Child, Children, HearsReload};
